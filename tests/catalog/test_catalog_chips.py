"""The chip table, and against the whole NVIDIA block of pci.ids where that lies beside the checkout."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.catalog import chips
from provision.catalog.rows import table

PCI_IDS = Path(__file__).resolve().parents[3] / "shared" / "pciids"
# names in pci.ids that start like a chip code but are sound, network and bridge functions
NOT_A_GPU = re.compile(r"Audio|USB|UCSI|I2C|NVSwitch|Switch|Bridge|SMU|DPU|Ethernet|Sound|HDA|NVLink|Host|Memory", re.I)


def capability(chip_code: str) -> str | None:
    return next((chip.compute_capability for chip in chips().chips if re.match(chip.match, chip_code)), None)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("GM206", "5.2"),
        ("GK210GL", "3.7"),
        ("GP107M", "6.1"),
        ("GB202", "12.0"),
        ("GB20B", "12.1"),
        ("GB10B", "11.0"),
        ("GB100", "10.0"),
        ("GB110", "10.3"),
        ("GA10B", "8.7"),
        ("GA102GL", "8.6"),
        ("G71", None),
        ("GB10", None),
    ],
)
def test_chip_code_gives_the_compute_capability(code: str, expected: str | None) -> None:
    assert capability(code) == expected


def test_every_chip_row_has_a_source() -> None:
    assert all(chip.source and all(chip.source) for chip in chips().chips)
    rows = table("chips.toml")
    assert rows["device_ids"]["source"]
    assert rows["unmatched"]["source"]


def test_device_ranges_are_ordered_and_apart() -> None:
    ranges = chips().ranges
    assert all(found.first <= found.last for found in ranges)
    assert all(before.last < after.first for before, after in itertools.pairwise(ranges))


def test_ranges_and_rules_agree_on_architectures() -> None:
    pairs = {(chip.architecture, chip.compute_capability) for chip in chips().chips}
    assert {(found.architecture, found.compute_capability) for found in chips().ranges} <= pairs


def test_open_modules_need_turing_or_newer() -> None:
    for chip in chips().chips:
        assert chip.open_kernel_modules is (float(chip.compute_capability) >= 7.5), chip.match


def test_reading_the_chips_needs_no_pydantic() -> None:
    code = "import sys, provision.catalog as c; c.chips(); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def pci_rows() -> Iterator[tuple[int, str]]:
    """(device id, name) of vendor 10de: "\\t1401  GM206 [GeForce GTX 960]"."""
    files = sorted(path for path in PCI_IDS.iterdir() if path.name.endswith((".ids", ".txt")))
    for line in files[0].read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\t([0-9a-f]{4})  (.+)", line):
            yield int(match[1], 16), match[2]


@pytest.mark.skipif(not PCI_IDS.is_dir(), reason="needs the NVIDIA block of pci.ids in ../shared/pciids")
def test_every_gpu_of_pci_ids_matches_a_rule() -> None:
    unmatched = tuple(table("chips.toml")["unmatched"]["chips"])
    gpus = [
        (number, name)
        for number, name in pci_rows()
        if re.match(r"(G[0-9]{2}|G[TFKMPVABHR][0-9]|TU|AD|GB6-)", name) and "[" in name and not NOT_A_GPU.search(name)
    ]
    assert len(gpus) > 1000
    missed = [name for _, name in gpus if capability(name.split("[")[0].strip()) is None]
    assert [name for name in missed if not name.startswith(unmatched)] == []
    assert {name.split(" ")[0][: len(code)] for name in missed for code in unmatched if name.startswith(code)} <= {
        *unmatched
    }


@pytest.mark.skipif(not PCI_IDS.is_dir(), reason="needs the NVIDIA block of pci.ids in ../shared/pciids")
def test_device_ranges_agree_with_the_rules_on_every_listed_card() -> None:
    wrong = []
    for number, name in pci_rows():
        by_name = capability(name)
        by_range = next((r.compute_capability for r in chips().ranges if r.first <= number <= r.last), None)
        if by_name is not None and by_range is not None and not NOT_A_GPU.search(name) and by_name != by_range:
            wrong.append((hex(number), name, by_name, by_range))
    assert wrong == []
