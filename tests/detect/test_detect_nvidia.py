"""What is read of NVIDIA's software: parsers, on text that the programs print."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.detect import nvidia_module, nvidia_packages
from provision.detect.nvidia import host_nvidia
from provision.detect.nvidia_health import gpu_health
from provision.model.facts import Driver, Facts
from provision.model.nvidia import HostNvidia
from provision.model.readings import Readings

FactsOf = Callable[[dict[str, str]], Facts]
Real = Callable[[str], Readings]

NO_DRIVER = Driver(state="unknown", version=None, cuda_api_version=None, module=None, detail="")


def read(**files: str) -> HostNvidia | None:
    return host_nvidia(Readings(files), NO_DRIVER, ())


def test_a_host_of_which_nothing_was_read_has_none() -> None:
    assert read() is None
    assert read(user_environment="LD_LIBRARY_PATH=/opt/lib\n", proc_modules="ext4 1 0 - Live 0x0\n") is None


# --- packages -------------------------------------------------------------------------------------------------------

APT = """nvidia-driver:
  Installed: (none)
  Candidate: 535.261.03-1
  Version table:
     550.163.01-2 100
        100 http://deb.debian.org/debian trixie/non-free amd64 Packages
     535.261.03-1 500
        500 http://deb.debian.org/debian bookworm/non-free amd64 Packages
        500 http://deb.debian.org/debian bookworm-updates/non-free amd64 Packages
nvidia-kernel-open-dkms:
  Installed: 580.65.06-1
  Candidate: 580.95.05-1
  Version table:
     580.95.05-1 600
        600 https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64  Packages
 *** 580.65.06-1 100
        100 /var/lib/dpkg/status
nvidia-smi:
  Installed: (none)
  Candidate: (none)
  Version table:
cuda-local:
  Installed: 12.6-1
  Candidate: 12.6-1
  Version table:
 *** 12.6-1 100
        100 /var/lib/dpkg/status
"""


def test_candidates_of_apt() -> None:
    found = nvidia_packages.candidates(Readings({"apt_policy": APT}))
    assert found is not None
    assert [(each.name, each.version, each.repository) for each in found] == [
        ("cuda-local", "12.6-1", ""),
        ("nvidia-driver", "535.261.03-1", "http://deb.debian.org/debian bookworm/non-free"),
        (
            "nvidia-kernel-open-dkms",
            "580.95.05-1",
            "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64",
        ),
    ]


def test_lists_without_a_single_candidate_are_an_answer() -> None:
    assert nvidia_packages.candidates(Readings({"apt_policy": ""})) == ()
    assert nvidia_packages.candidates(Readings({"apt_policy": APT, "apt_policy.status": "100"})) is None
    assert nvidia_packages.candidates(Readings({})) is None


@pytest.mark.parametrize(
    ("line", "module"),
    [
        (
            "nvidia/580.95.05, 6.8.0-60-generic, x86_64: installed",
            ("nvidia", "580.95.05", "6.8.0-60-generic", "installed"),
        ),
        (
            "nvidia, 470.82.01, 5.4.0-90-generic, x86_64: installed",
            ("nvidia", "470.82.01", "5.4.0-90-generic", "installed"),
        ),
        ("nvidia-current/535.261.03: added", ("nvidia-current", "535.261.03", None, "added")),
        ("nvidia/550.1: broken", ("nvidia", "550.1", None, "broken")),
        (
            "nvidia/1.2, 6.1.0, x86_64: installed (WARNING! Diff between built and installed module!)",
            ("nvidia", "1.2", "6.1.0", "installed"),
        ),
    ],
)
def test_lines_of_dkms(line: str, module: tuple[Any, ...]) -> None:
    said = f"Error! nvidia/9: Missing the module source directory\n{line}\n"
    (found,) = nvidia_packages.dkms(Readings({"dkms_status": said}))
    assert (found.name, found.version, found.kernel, found.state) == module


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("", False),
        ("program unattended-upgrade\n", False),
        ('program unattended-upgrade\nAPT::Periodic::Unattended-Upgrade "1";\n', True),
        ('program unattended-upgrade\nAPT::Periodic::Enable "0";\nAPT::Periodic::Unattended-Upgrade "1";\n', False),
        ('APT::Periodic::Unattended-Upgrade "1";\n', False),
        ("timer dnf-automatic-install.timer\n", True),
        ("timer dnf-automatic.timer\napply_updates = no\n", False),
        ("timer dnf5-automatic.timer\napply_updates = yes\n", True),
    ],
)
def test_whether_packages_move_by_themselves(text: str, on: bool) -> None:
    assert nvidia_packages.unattended(Readings({"unattended_upgrades": text})) is on


# --- module ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("licence", "flavour"), [("Dual MIT/GPL", "open"), ("NVIDIA", "proprietary"), ("GPL", None), ("", None)]
)
def test_the_flavour_of_the_module_on_disk(licence: str, flavour: str | None) -> None:
    text = f"version:        580.95.05\nlicense:        {licence}\nvermagic:       6.8.0-60-generic SMP preempt \n"
    module = nvidia_module.module_on_disk(Readings({"modinfo_nvidia": text}))
    assert module is not None
    assert (module.flavour, module.version, module.signer) == (flavour, "580.95.05", None)


def test_an_older_dump_has_the_modules_kernel(real: Real) -> None:
    module = nvidia_module.module_on_disk(real("kvm-masked-guest-rtx2080ti-mismatch"))
    assert module is not None
    assert (module.kernel, module.version) == ("5.15.0-46-generic", None)


def test_a_loaded_module_that_is_not_the_one_on_disk_asks_for_a_reboot() -> None:
    loaded = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27\n"
    disk = "version:        580.95.05\nlicense:        NVIDIA\nvermagic:       6.1.0 SMP \n"
    found = read(proc_driver_nvidia_version=loaded, modinfo_nvidia=disk, reboot_required="no\n")
    assert found is not None
    assert found.reboot_required is True
    same = read(
        proc_driver_nvidia_version=loaded.replace("65.06", "95.05"), modinfo_nvidia=disk, reboot_required="no\n"
    )
    assert same is not None
    assert same.reboot_required is False


@pytest.mark.parametrize(
    ("line", "blocked"),
    [
        ("/etc/modprobe.d/a.conf:blacklist nouveau", True),
        ("/etc/modprobe.d/a.conf:options nouveau modeset=0", True),
        ("/lib/modprobe.d/a.conf:alias nouveau off", True),
        ("cmdline: nouveau.modeset=0", True),
        ("cmdline: module_blacklist=radeon,nouveau", True),
        ("/etc/modprobe.d/a.conf:#blacklist nouveau", False),
        ("/etc/modprobe.d/a.conf:options nouveau modeset=1", False),
        ("cmdline: nouveau.modeset=1", False),
    ],
)
def test_what_keeps_nouveau_out(line: str, blocked: bool) -> None:
    assert nvidia_module.nouveau_blocked(Readings({"nvidia_nouveau_conf": line + "\n"})) is blocked


@pytest.mark.parametrize(
    ("words", "enrolled"),
    [
        ("is already enrolled", True),
        ("is not enrolled", False),
        ("is already in the enrollment request", False),
        ("Failed to open key", None),
    ],
)
def test_what_mokutil_says_of_the_key(words: str, enrolled: bool | None) -> None:
    text = f"pending 0\nkey /var/lib/dkms/mok.pub: /var/lib/dkms/mok.pub {words}\n"
    assert nvidia_module.key_enrolled(Readings({"mok_state": text})) is enrolled
    assert nvidia_module.mok_pending(Readings({"mok_state": text})) is False


RECORD: dict[str, Any] = {
    "schema": 1, "state": "changing", "branch": "580", "version": None, "module": "open",
    "packages": [{"name": "nvidia-open", "version": "580.95.05-1"}, {"name": 7}, "x"], "boot_id": "a",
}  # fmt: skip


def test_a_record_that_a_run_left() -> None:
    found = nvidia_module.record(Readings({"provision_nvidia_record": json.dumps(RECORD), "boot_id": "a\n"}))
    assert found is not None
    assert (found.state, found.version, found.rebooted) == ("changing", None, False)
    assert [(each.name, each.version) for each in found.packages] == [("nvidia-open", "580.95.05-1")]


@pytest.mark.parametrize(
    "change",
    [{"schema": 2}, {"state": "done"}, {"module": "closed"}, {"branch": 580}],
    ids=lambda change: next(iter(change)),
)
def test_a_record_of_another_kind_is_none(change: dict[str, Any]) -> None:
    assert nvidia_module.record(Readings({"provision_nvidia_record": json.dumps({**RECORD, **change})})) is None


# --- health ---------------------------------------------------------------------------------------------------------

# name: per GPU (address, kernel driver, width, widest, generation, newest, limit, default, throttle, persistence, °C)
HEALTH: dict[str, list[tuple[Any, ...]]] = {
    "amd-zen2-ryzen4600h-gtx1650ti": [("0000:01:00.0", "nvidia", 8, 16, 1, 3, None, None, (), False, 35)],
    "amd-zen3-5950x-rtx3090": [("0000:0a:00.0", "nvidia", 8, 16, 1, 4, None, None, (), None, None)],
    "amd-zen4-7950x-rtx6000ada-rtx4060ti": [
        ("0000:01:00.0", "nvidia", 8, 16, 4, 4, 300.0, 300.0, (), False, 38),
        ("0000:03:00.0", "nvidia", 8, 8, 4, 4, 165.0, 165.0, (), False, 44),
    ],
    "gpu-a100-mig-510": [("0000:00:04.0", None, 16, 16, 4, 4, 400.0, 400.0, (), False, 36)],
    "gpu-rtx2080super-610": [("0000:0c:00.0", None, 16, 16, 1, 3, 250.0, 250.0, (), False, 33)],
    "gpu-rtx3080-595": [("0000:0c:00.0", None, 16, 16, 4, 4, 320.0, 320.0, (), False, 27)],
    "gpu-rtx3090-525": [("0000:00:10.0", None, 16, 16, 1, 4, 200.0, 350.0, (), True, 37)],
    "gpu-rtx5090-570": [("0000:02:00.0", None, 8, 16, 1, 5, 575.0, 575.0, ("sw_power_cap",), True, 25)],
    "intel-nehalem-i7-950-gtx460": [("0000:02:00.0", "nvidia", None, None, None, None, None, None, (), False, 67)],
    "intel-cascadelake-w2265-rtxa5000-nouveau": [
        ("0000:65:00.0", "nouveau", 16, 16, 3, 4, None, None, (), None, None)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTH)
def test_real_cards(name: str, real: Real) -> None:
    seen = [
        (
            gpu.pci_address, gpu.kernel_driver, gpu.pcie_width, gpu.pcie_width_max, gpu.pcie_generation,
            gpu.pcie_generation_max, gpu.power_limit_w, gpu.power_default_w, gpu.throttle, gpu.persistence,
            gpu.temperature_c,
        )
        for gpu in gpu_health(real(name))
    ]  # fmt: skip
    assert seen == HEALTH[name]


def test_a_busy_box_tells_its_cards_apart(real: Real) -> None:
    gpus = gpu_health(real("intel-broadwell-e5-2620v4-4x-rtx2080ti"))
    assert [gpu.throttle for gpu in gpus] == [("sw_power_cap",), (), ("sw_power_cap",), ("sw_power_cap",)]
    assert [gpu.clock_sm_mhz for gpu in gpus] == [1680, 300, 1680, 1770]
    assert {gpu.clock_sm_max_mhz for gpu in gpus} == {2160}


@pytest.mark.parametrize("name", ["clocks_throttle_reason", "clocks_event_reason"])
def test_reasons_under_both_names(name: str) -> None:
    reasons = "".join(
        f"<{name}_{reason}>{state}</{name}_{reason}>"
        for reason, state in (("gpu_idle", "Active"), ("hw_thermal_slowdown", "Active"), ("sync_boost", "Not Active"))
    )
    xml = f'<nvidia_smi_log><gpu id="00000000:01:00.0"><{name}s>{reasons}</{name}s></gpu></nvidia_smi_log>'
    (gpu,) = gpu_health(Readings({"nvidia_smi_q.xml": xml}))
    assert gpu.throttle == ("hw_thermal_slowdown",)


def test_nvml_before_the_bus() -> None:
    card = {
        "bus_id": "00000000:41:00.0", "pcie": [4, 16, 4, 4], "power_limit_w": 300, "power_default_w": 450.0,
        "throttle": ["sw_power_cap", "gpu_idle"], "persistence": False, "temperature_c": 88, "clock_sm_mhz": 1410,
        "clock_sm_max_mhz": 3165,
    }  # fmt: skip
    files = {
        "nvml.json": json.dumps({"gpus": [card]}),
        "sys_bus_pci_devices": "0000:41:00.0 10de:2684 030000 nvidia\n",
        "sys_pci_links": "0000:41:00.0 2.5GT/s 4 32.0GT/s 16\n",
    }
    (gpu,) = gpu_health(Readings(files))
    assert (gpu.kernel_driver, gpu.pcie_width, gpu.pcie_generation, gpu.pcie_generation_max) == ("nvidia", 4, 4, 5)
    assert (gpu.power_limit_w, gpu.power_default_w, gpu.throttle) == (300.0, 450.0, ("sw_power_cap",))
    assert (gpu.persistence, gpu.temperature_c, gpu.clock_sm_mhz, gpu.clock_sm_max_mhz) == (False, 88, 1410, 3165)


BUS = "".join(
    f"0000:0{bus}:00.0 10de:2684 030000 {driver}\n" for bus, driver in ((1, "nvidia"), (2, "nvidia"), (3, "vfio-pci"))
)


def test_a_card_that_does_not_answer_is_the_one_that_no_other_is() -> None:
    nvml = {"gpus": [{"index": 0, "error": "GPU is lost"}, {"bus_id": "00000000:02:00.0"}]}
    gpus = gpu_health(Readings({"nvml.json": json.dumps(nvml), "sys_bus_pci_devices": BUS}))
    assert [(gpu.pci_address, gpu.error) for gpu in gpus] == [
        ("0000:01:00.0", "GPU is lost"), ("0000:02:00.0", None), ("0000:03:00.0", None),
    ]  # fmt: skip


def test_a_card_that_cannot_be_placed_keeps_its_error() -> None:
    nvml = {"gpus": [{"index": 0, "error": "GPU is lost"}]}
    gpus = gpu_health(Readings({"nvml.json": json.dumps(nvml), "sys_bus_pci_devices": BUS}))
    assert [(gpu.pci_address, gpu.error) for gpu in gpus][-1] == (None, "GPU is lost")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  Reboot the system\n",
            "GPU is lost. Reboot the system",
        ),
        ("Unable to determine the device handle for GPU0000:01:00.0: Unknown Error\n", "Unknown Error"),
        (
            '<nvidia_smi_log><gpu id="00000000:01:00.0"><fan_speed>GPU is lost</fan_speed></gpu></nvidia_smi_log>',
            "GPU is lost",
        ),
    ],
)
def test_words_instead_of_an_answer(text: str, error: str) -> None:
    (gpu,) = gpu_health(Readings({"nvidia_smi_q.xml": text}))
    assert (gpu.pci_address, gpu.error) == ("0000:01:00.0", error)


# --- whatever is in them --------------------------------------------------------------------------------------------

READINGS = (
    "packages_nvidia", "package_holds", "apt_policy", "apt_lists", "dnf_candidates", "dkms_status", "modinfo_nvidia",
    "kernel_headers", "nvidia_nouveau_conf", "nvidia_libraries", "dev_nvidia", "driver_installs",
    "provision_nvidia_record", "boot_id", "disk_free", "display", "nvidia_persistenced", "unattended_upgrades",
    "reboot_required", "mok_state", "docker_nvidia", "nvidia_ctk_version", "sys_pci_links", "nvml.json",
    "nvidia_smi_q.xml", "nvidia_smi_q.txt", "user_environment", "boot_kernels",
)  # fmt: skip
LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(APT.splitlines()),
        st.sampled_from(
            ["GPU 00000000:01:00.0", "0000:01:00.0 8.0GT/s 16 8.0GT/s 999", "pending 9", "{", '"gpus": [', "]}"]
        ),
    ),
    max_size=12,
).map("\n".join)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["gpus", "pcie", "bus_id", "error", "throttle", *RECORD]), inner, max_size=6),
    ),
    max_leaves=12,
).map(json.dumps)


@given(name=st.sampled_from(READINGS), text=st.one_of(LINES, JSON))
def test_no_text_makes_a_parser_raise(name: str, text: str) -> None:
    found = read(**{name: text})
    assert found is None or all(isinstance(each.name, str) for each in found.packages)
