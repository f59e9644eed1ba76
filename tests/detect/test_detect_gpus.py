"""GPU readings: formats one by one, their order of trust, and the way from a PCI id to a compute capability."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from provision.detect.identify import chip_code, identify, product_name
from provision.detect.nvidia_smi_table import read_list, read_table
from provision.detect.nvidia_smi_xml import read_xml
from provision.detect.pci import canonical_address, pci_gpus, read_pci_ids, read_sys
from provision.detect.product_names import PRODUCTS
from provision.model.chips import Chips
from provision.model.facts import Facts
from provision.model.readings import Readings

FactsOf = Callable[[Mapping[str, str]], Facts]
Real = Callable[[str], Readings]

PCI_IDS = """10de  NVIDIA Corporation
	1401  GM206 [GeForce GTX 960]
		1043 8520  STRIX
	2b85  GB202 [GeForce RTX 5090]
10df  Emulex Corporation
	1401  not NVIDIA's
"""


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("01:00.0", "0000:01:00.0"),
        ("0000:01:00.0", "0000:01:00.0"),
        ("00000000:0C:00.0", "0000:0c:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("N/A", None),
        ("01:00", None),
        ("", None),
    ],
)
def test_addresses(text: str, canonical: str | None) -> None:
    assert canonical_address(text) == canonical


# --- PCI ------------------------------------------------------------------------------------------------------------


SWITCHES = {
    "the probe's listing, by id": {
        "sys_bus_pci_devices": "0000:54:00.0 10de:1af1 068000 -\n0000:55:00.0 10de:22a3 068000 nvidia-nvswitch\n"
    },
    "the probe's listing, by name": {
        "sys_bus_pci_devices": "0000:54:00.0 10de:3fff 068000 -\n0000:55:00.0 10de:3fff 068000 -\n",
        "pci_ids": "10de  NVIDIA Corporation\n\t3fff  GX100 [X100 NVSwitch]\n",
    },
    "lspci -nn and lspci": {
        "lspci_nn": "54:00.0 Bridge [0680]: NVIDIA Corporation GA100 [A100 NVSwitch] [10de:1af1] (rev a1)\n"
        "55:00.0 Bridge [0680]: NVIDIA Corporation GA100 [A100 NVSwitch] [10de:1af1] (rev a1)\n",
        "lspci": "54:00.0 Bridge: NVIDIA Corporation GA100 [A100 NVSwitch] (rev a1)\n",
    },
}


@pytest.mark.parametrize("files", SWITCHES.values(), ids=SWITCHES)
def test_nvswitches_are_counted_once_each(files: dict[str, str], facts_of: FactsOf) -> None:
    found = facts_of(files).nvidia
    assert found is not None
    assert found.nvswitches == 2


def test_the_bridges_of_nforce_boards_are_no_nvswitches(facts_of: FactsOf) -> None:
    """Their Ethernet is a bridge of the same class and vendor."""
    files = {
        "sys_bus_pci_devices": "0000:00:07.0 10de:03ef 068000 forcedeth\n0000:02:00.0 10de:1401 030000 nvidia\n",
        "lspci_nn": "00:07.0 Bridge [0680]: NVIDIA Corporation MCP61 Ethernet [10de:03ef] (rev a2)\n",
        "pci_ids": "10de  NVIDIA Corporation\n\t03ef  MCP61 Ethernet\n",
    }
    found = facts_of(files).nvidia
    assert found is not None
    assert found.nvswitches == 0


def test_the_probes_listing_and_pci_ids() -> None:
    files = {
        "sys_bus_pci_devices": (
            "0000:01:00.0 10de:1401 030000 nouveau\n"
            "0000:01:00.1 10de:0fba 040300 snd_hda_intel\n"
            "0000:41:00.0 10de:2b85 030200 -\n"
            "0000:42:00.0 10de:1ad6 0c0330 xhci_hcd\n"
        ),
        "pci_ids": PCI_IDS,
    }
    seen = [(gpu.address, gpu.device, gpu.name, gpu.driver) for gpu in pci_gpus(Readings(files))]
    assert seen == [
        ("0000:01:00.0", 0x1401, "GM206 [GeForce GTX 960]", "nouveau"),
        ("0000:41:00.0", 0x2B85, "GB202 [GeForce RTX 5090]", None),
    ]


def test_pci_ids_of_other_vendors_are_not_read() -> None:
    assert read_pci_ids(PCI_IDS) == {0x1401: "GM206 [GeForce GTX 960]", 0x2B85: "GB202 [GeForce RTX 5090]"}


def test_a_card_that_no_table_names_is_known_by_its_id(facts_of: FactsOf) -> None:
    gpu = facts_of({"sys_bus_pci_devices": "0000:01:00.0 10de:2684 030000 -\n"}).gpus[0]
    assert (gpu.name, gpu.chip, gpu.architecture, gpu.compute_capability) == (None, None, "Ada Lovelace", "8.9")
    assert (gpu.pci_id, gpu.source) == ("10de:2684", "pci")


@pytest.mark.parametrize("line", ["", "0000:01:00.0 10de:1401 030000", "0000:01:00.0 8086:1401 030000 i915", "garbage"])
def test_lines_that_are_no_nvidia_gpu(line: str) -> None:
    assert read_sys(line + "\n") == []


def test_every_listing_of_one_card_is_one_gpu(facts_of: FactsOf) -> None:
    head = "VGA compatible controller{}: NVIDIA Corporation GM206 [GeForce GTX 960]{} (rev a1)"
    files = {
        "lspci": "01:00.0 " + head.format("", "") + "\n",
        "lspci_nn": "0000:01:00.0 " + head.format(" [0300]", " [10de:1401]") + "\n",
        "lspci_v": "01:00.0 "
        + head.format("", "")
        + " (prog-if 00 [VGA controller])\n\tKernel driver in use: nvidia\n",
        "sys_bus_pci_devices": "0000:01:00.0 10de:1401 030000 nvidia\n",
        "nvidia_smi_q.txt": "GPU 00000000:01:00.0\n    Product Name : GeForce GTX 960\n",
        "nvidia_smi.txt": "",
        "nvml.json": json.dumps({"gpus": [{"name": "NVIDIA GeForce GTX 960", "bus_id": "00000000:01:00.0"}]}),
    }
    gpus = facts_of(files).gpus
    assert len(gpus) == 1
    assert (gpus[0].name, gpus[0].pci_id, gpus[0].source) == ("NVIDIA GeForce GTX 960", "10de:1401", "nvml")


# --- order of trust -------------------------------------------------------------------------------------------------


def test_a_gpu_that_the_driver_lost_stays_listed(facts_of: FactsOf) -> None:
    files = {
        "nvidia_smi_q.txt": (
            "==============NVSMI LOG==============\nDriver Version : 580.95.05\nGPU 00000000:01:00.0\n"
            "    Product Name : NVIDIA GeForce RTX 4090\n"
        ),
        "sys_bus_pci_devices": "0000:01:00.0 10de:2684 030000 nvidia\n0000:02:00.0 10de:2684 030000 nouveau\n",
    }
    facts = facts_of(files)
    assert [(gpu.pci_address, gpu.source) for gpu in facts.gpus] == [
        ("0000:01:00.0", "nvidia-smi"),
        ("0000:02:00.0", "pci"),
    ]
    finding = next(finding for finding in facts.findings if finding.id == "gpu_not_driven")
    assert finding.severity == "warning"
    assert "0000:02:00.0" in finding.what
    assert "nouveau" in finding.why


def test_a_jetson_without_addresses_is_counted_once(facts_of: FactsOf) -> None:
    files = {
        "nvml.json": json.dumps(
            {"driver_version": "540.4.0", "gpus": [{"name": "Orin (nvgpu)", "compute_capability": [8, 7]}]}
        ),
        "nvidia_smi_L.txt": "GPU 0: Orin (nvgpu) (UUID: x)\n",
    }
    gpus = facts_of(files).gpus
    assert [(gpu.name, gpu.compute_capability, gpu.memory_mib) for gpu in gpus] == [("Orin (nvgpu)", "8.7", None)]


def test_a_cut_name_gives_way_to_a_whole_one(real: Real, facts_of: FactsOf) -> None:
    files = real("gpu-rtx2080super-610").files
    table = {"nvidia_smi.txt": files["nvidia_smi.txt"]}
    assert facts_of(table).gpus[0].name == "NVIDIA GeForce RTX 2080 ..."
    assert facts_of(table).gpus[0].compute_capability == "7.5"
    listed = {**table, "nvidia_smi_L.txt": files["nvidia_smi_L.txt"]}
    assert facts_of(listed).gpus[0].name == "NVIDIA GeForce RTX 2080 SUPER"


@pytest.mark.parametrize("only", ["nvidia_smi.txt", "nvidia_smi_q.txt", "nvidia_smi_query_gpu.csv"])
def test_each_form_alone_tells_memory_capability_and_mig(only: str, real: Real, facts_of: FactsOf) -> None:
    facts = facts_of({only: real("gpu-h100-mig-590").files[only]})
    gpu = facts.gpus[0]
    assert (facts.driver.state, facts.driver.version) == ("working", "590.48.01")
    assert (gpu.pci_address, gpu.memory_mib, gpu.compute_capability) == ("0000:00:09.0", 81559, "9.0")
    assert gpu.mig is not None
    assert gpu.mig.enabled
    assert gpu.mig.devices == (0 if only.endswith("csv") else 4)


def test_mig_devices_of_a_list_complete_a_csv(real: Real, facts_of: FactsOf) -> None:
    files = real("gpu-h100-mig-590").files
    gpu = facts_of({name: files[name] for name in ("nvidia_smi_query_gpu.csv", "nvidia_smi_L.txt")}).gpus[0]
    assert gpu.mig is not None
    assert gpu.mig.devices == 4


def test_headings_of_driver_610_one_by_one(real: Real, facts_of: FactsOf) -> None:
    for name, text in real("gpu-rtx2080super-610").files.items():
        if name not in ("nvidia_smi_L.txt", "nvidia_smi_query_gpu.csv"):
            driver = facts_of({name: text}).driver
            assert (driver.version, driver.cuda_api_version) == ("610.57.04", "13.3"), name


def test_nvml_in_full(facts_of: FactsOf) -> None:
    document = {
        "driver_version": "580.95.05",
        "cuda_api_version": 13000,
        "gpus": [
            {
                "name": "NVIDIA H100 80GB HBM3",
                "bus_id": "00000000:01:00.0",
                "pci_device_id": 0x233010DE,
                "compute_capability": [9, 0],
                "memory_bytes": 85520809984,
                "mig_mode": 1,
                "mig_devices": 7,
            },
            {"name": "NVIDIA GB10", "bus_id": "0000000F:01:00.0", "memory_bytes": None, "mig_mode": None},
        ],
    }
    first, second = facts_of({"nvml.json": json.dumps(document)}).gpus
    assert (first.pci_id, first.compute_capability, first.memory_mib, first.source) == (
        "10de:2330",
        "9.0",
        81559,
        "nvml",
    )
    assert first.mig is not None
    assert (first.mig.enabled, first.mig.devices) == (True, 7)
    assert (second.pci_address, second.memory_mib, second.mig, second.compute_capability) == (
        "000f:01:00.0", None, None, "12.1",
    )  # fmt: skip


# --- XML ------------------------------------------------------------------------------------------------------------

BOMB = (
    '<?xml version="1.0"?><!DOCTYPE nvidia_smi_log [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>'
    "<nvidia_smi_log><gpu id='00000000:01:00.0'><product_name>&d;</product_name></gpu></nvidia_smi_log>"
)
EXTERNAL = (
    '<?xml version="1.0"?><!DOCTYPE nvidia_smi_log [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<nvidia_smi_log><gpu id='00000000:01:00.0'><product_name>&x;</product_name></gpu></nvidia_smi_log>"
)


@pytest.mark.parametrize("text", [BOMB, EXTERNAL, "<nvidia_smi_log>" + "<gpu>" * 100_000])
def test_a_bomb_is_refused(text: str) -> None:
    seen = read_xml(text)
    assert seen is not None
    assert seen.broken
    assert seen.gpus == ()


def test_cut_xml_gives_way_to_another_reading(real: Real, facts_of: FactsOf) -> None:
    whole = real("gpu-rtx3080-595").files["nvidia_smi_q.xml"]
    cut = whole[: whole.index("<fb_memory_usage>")]
    facts = facts_of({"nvidia_smi_q.xml": cut, "nvidia_smi_L.txt": "GPU 0: NVIDIA GeForce RTX 3080 (UUID: x)\n"})
    assert [gpu.name for gpu in facts.gpus] == ["NVIDIA GeForce RTX 3080"]
    assert facts.driver.version == "595.58.03"
    finding = next(finding for finding in facts.findings if finding.id == "reading_cut")
    assert finding.what == "the reading nvidia_smi_q.xml is cut or damaged"


def test_xml_that_ends_after_a_whole_gpu_keeps_it(real: Real) -> None:
    whole = real("gpu-rtx3080-595").files["nvidia_smi_q.xml"]
    seen = read_xml(whole[: whole.index("</gpu>") + len("</gpu>")])
    assert seen is not None
    assert seen.broken
    assert seen.gpus[0].memory_mib == 10240


def test_an_error_message_is_no_log() -> None:
    for reader in (read_xml, read_table, read_list):
        assert reader("No devices were found\n") is None


# --- identification -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("GM206 [GeForce GTX 960]", "GM206"),
        ("TU117M [GeForce GTX 1650 Ti Mobile]", "TU117"),
        ("GA102GL [RTX A5000]", "GA102"),
        ("GK110BGL [Tesla K40m]", "GK110"),
        ("GK208B [GeForce GT 710]", "GK208"),
        ("GK20A", "GK20A"),
        ("GB20B [GB10]", "GB20B"),
        ("G98M [GeForce 9200M GS]", "G98"),
        ("Device", None),
        ("", None),
    ],
)
def test_chip_codes(name: str, code: str | None) -> None:
    assert chip_code(name) == code


def pci_rows(shared: Path) -> list[tuple[int, str]]:
    """Every GPU row of NVIDIA's block of pci.ids: a chip code and a product in brackets."""
    text = (shared / "pciids" / "nvidia_10de.ids").read_text(encoding="utf-8")
    if not text.startswith("10de"):
        text = "10de  NVIDIA Corporation\n" + text
    return [(device, name) for device, name in read_pci_ids(text).items() if re.match(r"[A-Z]{1,2}\d{2,3}\w* \[", name)]


def test_every_row_of_pci_ids_is_identified(shared: Path, chip_table: Chips) -> None:
    unknown = set()
    for device, name in pci_rows(shared):
        code = name.split(" ")[0]
        raw = next((chip for chip in chip_table.chips if re.search(chip.match, code)), None)
        found = identify(chip_table, pci_name=name, device=None, product=None)
        assert found.compute_capability == (raw.compute_capability if raw else None), name
        by_id = identify(chip_table, pci_name=None, device=device, product=None)
        if raw and by_id.compute_capability:
            assert by_id.compute_capability == raw.compute_capability, f"{device:04x} {name}"
        if raw is None:
            unknown.add(re.match(r"[A-Z]+\d+", code)[0])
    # before CUDA: NV10 to G73, and chip sets (C51 to C79)
    assert {code for code in unknown if not code.startswith(("NV", "C"))} <= {"G70", "G71", "G72", "G73", "GB120"}


def test_product_names_agree_with_every_chip_in_pci_ids(shared: Path, chip_table: Chips) -> None:
    used = set()
    for _, name in pci_rows(shared):
        product = product_name(name)
        chip = identify(chip_table, pci_name=name, device=None, product=None)
        for alternative in (product or "").split(" / "):
            found = identify(chip_table, pci_name=None, device=None, product=alternative)
            if found.compute_capability and chip.compute_capability:
                assert found.compute_capability == chip.compute_capability, name
                used.add(found.compute_capability)
    assert len(used) > 10


def test_each_product_rule_can_match() -> None:
    for match, architecture, capability in PRODUCTS:
        assert re.compile(match)
        assert architecture
        assert re.fullmatch(r"\d{1,2}\.\d", capability)


@pytest.mark.parametrize(
    "name",
    [
        "GeForce GT 730",
        "GeForce GT 1030",
        "GeForce GTX 860M",
        "NVIDIA GeForce RTX 3050 ...",
        "GeForce 840M",
        "Quadro K2000",
        "something",
    ],
)
def test_an_ambiguous_name_is_not_guessed(name: str, chip_table: Chips) -> None:
    assert identify(chip_table, pci_name=None, device=None, product=name).compute_capability is None


def test_an_unknown_gpu_is_told(facts_of: FactsOf) -> None:
    facts = facts_of({"sys_bus_pci_devices": "0000:01:00.0 10de:ffff 030000 -\n"})
    finding = next(finding for finding in facts.findings if finding.id == "gpu_not_identified")
    assert "10de:ffff" in finding.why
    assert "--compute-capability" in finding.hint
