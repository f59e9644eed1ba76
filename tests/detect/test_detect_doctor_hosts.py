"""doctor on real machines' readings, and on states made of facts: each bad one named, nothing said of the healthy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doctor_lines import PRINTED
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.hosts import card, host

from provision.catalog.diagnostics import diagnostics
from provision.catalog.load import chips
from provision.detect import host_facts
from provision.detect.doctor import doctor_host
from provision.model.doctor import DoctorReport
from provision.model.facts import Facts, Mig
from provision.model.nvidia import (
    DkmsModule,
    DriverRecord,
    GpuHealth,
    HostNvidia,
    KernelModule,
    OtherInstall,
    Package,
    PackageCandidate,
)
from provision.model.readings import Readings
from provision.run.dump import read_dump

ROWS = diagnostics()
READ = (
    "dmesg_nvidia", "modinfo_nvidia", "packages_nvidia", "package_holds", "dkms_status", "dkms_make_log", "nvml.json",
    "sys_pci_links", "user_environment", "dev_nvidia", "docker_nvidia", "apt_policy", "provision_nvidia_record",
    "nvidia_libraries", "mok_state", "proc_driver_nvidia_version",
)  # fmt: skip

# Written by hand from the folders' README and files. What is not here is healthy, or has nothing that tells.
SHOWN: dict[str, dict[str, str]] = {
    # the guest's CPU is "Common KVM processor" without SSE4
    "kvm-masked-guest-rtx2080ti-mismatch": {"mismatch": "error", "masked-flags": "warning"},
    "intel-haswell-i5-4570-gtx960-nouveau": {"nouveau": "warning"},
    "intel-cascadelake-w2265-rtxa5000-nouveau": {"nouveau": "warning"},
    # a program's own fault (31), and lspci's LnkSta: Width x8 (downgraded) of x16
    "amd-zen4-7950x-rtx6000ada-rtx4060ti": {"xid-31": "info", "pcie-width": "info"},
    "amd-zen3-5950x-rtx3090": {"pcie-width": "info"},
    "amd-zen2-ryzen4600h-gtx1650ti": {"pcie-width": "info"},
    "gpu-rtx5090-570": {"pcie-width": "info"},
    # nvidia-smi -q: Current Power Limit 200 W, Default 350 W
    "gpu-rtx3090-525": {"power-cap": "info"},
    # a K10: no SSE4.2
    "amd-k10-opteron6136": {"cpu-below-numpy": "info"},
}

MADE: dict[str, dict[str, str]] = {
    "made-alpine321-qemu64-nogpu-nodriver": {"blas-pinned": "error", "masked-flags": "warning", "musl": "warning"},
    "made-debian11-broadwell-p4-gtx1060-lost-470": {"gpu-fell-off-the-bus": "error"},
    "made-debian12-broadwell-gtx960-installed-rebooted-580": {
        "persistence-off": "info",
        "container-toolkit-missing": "info",
    },
    "made-debian12-broadwell-rtx2080-vfio-nodriver": {"gpu-reserved-for-guest": "warning"},
    "made-nvml-2xrtx4090-lost-535": {"gpu-lost": "error"},
    "made-rocky9-sapphirerapids-h100-noheaders-580": {"headers-missing": "error"},
    "made-ubuntu2404-alderlake-rtx4070-secureboot-notenrolled-580": {
        "key-waits": "warning",
        "unattended-upgrades": "info",
    },
    # the driver is held at 580.65.06, and its libraries went to 580.95.05
    "made-ubuntu2404-zen5-rtx3090-held-mismatch-580": {
        "mismatch": "error",
        "half-held": "warning",
        "packages-differ": "warning",
    },
    "made-ubuntu2404-zen5-rtx4090-x4-powercap-580": {
        "pcie-width": "warning",
        "thermal-throttle": "warning",
        "library-path": "warning",
        "power-cap": "info",
        "persistence-off": "info",
        "container-toolkit-missing": "info",
    },
    "made-ubuntu2404-zen5-rtx5090-nodriver": {"no-driver": "warning"},
}
NO_BUILD_FOLDER = "make[1]: *** /lib/modules/6.8.0-60-generic/build: No such file or directory.  Stop."
HOSTS = Path(__file__).resolve().parents[1] / "hosts"


def test_every_real_machine_is_told_what_it_shows_and_nothing_else(shared: Path) -> None:
    folders = sorted(path for path in (shared / "hosts").iterdir() if path.is_dir())
    assert len(folders) == 53
    for folder in folders:
        readings = read_dump(folder)
        report = doctor_host(readings, host_facts(readings, chips(), host=folder.name), ROWS)
        found = {each.id: each.severity for each in report.findings}
        assert found == SHOWN.get(folder.name, {}), folder.name
        assert report.ok == ("error" not in found.values() and "warning" not in found.values())
        assert all(each.evidence and each.where for each in report.findings)


def test_every_made_machine_is_told_what_it_was_made_for() -> None:
    folders = [path for path in sorted(HOSTS.iterdir()) if path.is_dir()]
    assert {path.name for path in folders} >= MADE.keys()
    for folder in folders:
        readings = read_dump(folder)
        report = doctor_host(readings, host_facts(readings, chips(), host=folder.name), ROWS)
        assert {each.id: each.severity for each in report.findings} == MADE.get(folder.name, {}), folder.name


@pytest.mark.parametrize(
    ("name", "where", "evidence"),
    [
        (
            "kvm-masked-guest-rtx2080ti-mismatch",
            "nvidia-smi",
            'nvidia-smi says: "Failed to initialize NVML: Driver/library version mismatch"; '
            "the loaded module is 515.65.01",
        ),
        (
            "intel-haswell-i5-4570-gtx960-nouveau",
            "lspci",
            "the nouveau kernel module drives the GPU, NVIDIA's is not loaded",
        ),
    ],
)
def test_evidence_is_what_was_read_and_where(shared: Path, name: str, where: str, evidence: str) -> None:
    readings = read_dump(shared / "hosts" / name)
    finding = doctor_host(readings, host_facts(readings, chips(), host=name), ROWS).findings[0]
    assert (finding.where, finding.evidence) == (where, evidence)


def looked(facts: Facts, **readings: str) -> DoctorReport:
    return doctor_host(Readings(readings), facts, ROWS)


def ids(facts: Facts, **readings: str) -> list[str]:
    return [each.id for each in looked(facts, **readings).findings]


def working(*cards: str, **nvidia: Any) -> Facts:
    return host(*(cards or ("GeForce RTX 3090",)), driver="580.95.05", nvidia=HostNvidia(**nvidia))


def broken(state: str, **nvidia: Any) -> Facts:
    return host("GeForce RTX 3090", state=state, nvidia=HostNvidia(**nvidia))


def gpu(**fields: Any) -> GpuHealth:
    return GpuHealth(**{"pci_address": "0000:01:00.0", "kernel_driver": "nvidia", **fields})


KERNEL = "6.1.0-18-amd64"
MODULE = KernelModule(version="580.95.05", flavour="open", signer="DKMS module signing key", kernel=KERNEL)
OTHER = replace(MODULE, kernel="6.1.0-17-amd64")
DRIVER = (Package(name="nvidia-driver-580", version="580.95.05"), Package(name="libnvidia-compute-580", version="580"))
RECORD = DriverRecord(state="installed", branch="580", version="580.95.05", module="open", packages=(), rebooted=True)

STATES: tuple[tuple[str, Facts, list[str]], ...] = (
    ("a lost card", working(gpus=(gpu(error="GPU is lost"),)), ["gpu-lost"]),
    ("four lanes of sixteen", working(gpus=(gpu(pcie_width=4, pcie_width_max=16),)), ["pcie-width"]),
    ("an idle card in generation 1", working(gpus=(gpu(pcie_generation=1, pcie_generation_max=4),)), []),
    ("a card that burns", working(gpus=(gpu(throttle=("hw_thermal_slowdown",)),)), ["thermal-throttle"]),
    ("a card that keeps to its cap", working(gpus=(gpu(throttle=("sw_power_cap",)),)), []),
    ("a lowered cap", working(gpus=(gpu(power_limit_w=200.0, power_default_w=350.0),)), ["power-cap"]),
    ("asleep without a screen", working(gpus=(gpu(persistence=False),), persistenced="inactive"), ["persistence-off"]),
    ("asleep beside a screen", working(gpus=(gpu(persistence=False),), persistenced="inactive", display=("Xorg",)), []),
    ("kept for a guest", broken("absent", gpus=(gpu(kernel_driver="vfio-pci"),)), ["gpu-reserved-for-guest"]),
    ("no driver yet", broken("absent"), ["no-driver"]),
    ("no library", broken("no_library"), ["library-missing"]),
    ("silent", broken("failed"), ["driver-silent"]),
    ("headers gone", broken("not_loaded", headers=False, module=OTHER), ["headers-missing"]),
    (
        "built for the kernel before",
        broken("not_loaded", headers=True, module=OTHER, dkms=(DkmsModule(name="nvidia", version="580.95.05",
               kernel="6.1.0-17-amd64", state="installed"),)),
        ["module-for-other-kernel"],
    ),
    ("an upgrade brought a kernel without a module", working(next_kernel="6.1.0-31-amd64"),
     ["next-kernel-without-module"]),
    ("packages, and no module", broken("absent", packages=DRIVER), ["module-missing"]),
    ("packages that are not finished", broken("absent", packages=DRIVER, unfinished=DRIVER), ["half-installed"]),
    ("a repository alone", broken("absent", packages=(Package(name="nvidia-driver-local-repo-debian12-580.95.05",
     version="1.0-1"),)), ["no-driver"]),
    ("a kernel with one", working(next_kernel="6.1.0-31-amd64", next_module_version="580.95.05"), []),
    ("a kernel, and no driver", broken("absent", next_kernel="6.1.0-31-amd64"), ["no-driver"]),
    ("several libraries", working(loaded_version="580.95.05", libraries=("580.95.05", "570.1")), ["library-mix"]),
    ("libraries that moved", broken("unknown", loaded_version="580.1", libraries=("580.2",)), ["mismatch"]),
    ("a .run file beside packages", working(packages=DRIVER, holds=("nvidia-driver-580", "libnvidia-compute-580"),
     other_installs=(OtherInstall(kind="runfile", evidence="/usr/bin/nvidia-uninstall"),)), ["two-installers"]),
    ("dpkg stopped half-way", working(unfinished=DRIVER[:1]), ["half-installed"]),
    ("half-held", working(packages=DRIVER, holds=("nvidia-driver-580",), unattended_upgrades=True), ["half-held"]),
    ("nothing held", working(packages=DRIVER, unattended_upgrades=True), ["unattended-upgrades"]),
    ("all held", working(packages=DRIVER, unattended_upgrades=True,
     holds=("nvidia-driver-580", "libnvidia-compute-580")), []),
    ("a reboot is due", working(reboot_required=True), ["reboot-required"]),
    ("cut off", working(record=replace(RECORD, state="changing", rebooted=False)), ["cut-off-run"]),
    ("not loaded", broken("not_loaded", record=RECORD), ["driver-not-loaded", "not-loaded-after-reboot"]),
    ("not rebooted yet", broken("nouveau", record=replace(RECORD, rebooted=False)), ["waits-for-reboot"]),
    ("confirmed", working(record=replace(RECORD, state="confirmed")), []),
    ("another CUDA first", working(environment={"LD_LIBRARY_PATH": "/usr/local/cuda-11.8/lib64"}), ["library-path"]),
    ("a path without CUDA", working(environment={"LD_LIBRARY_PATH": "/opt/lib"}), []),
    ("hidden", working(environment={"CUDA_VISIBLE_DEVICES": "-1"}), ["gpus-hidden"]),
    ("Docker does not know", working(container_toolkit="1.17.4", docker="plain"), ["docker-not-configured"]),
    ("no toolkit for Docker", working(docker="plain"), ["container-toolkit-missing"]),
    ("a control file and no uvm", working(device_files=("nvidia0", "nvidiactl")), ["uvm-missing"]),
    ("all files", working(device_files=("nvidia0", "nvidia-uvm", "nvidiactl")), []),
    ("a build that failed", broken("not_loaded", dkms=(DkmsModule(name="nvidia", version="470.1", kernel=KERNEL,
     state="broken"),)), ["module-build-failed"]),
    ("two releases", working(packages=(*DRIVER[:1], Package(name="libcuda1", version="570.211.01-1"))),
     ["packages-differ"]),
    ("settings have numbers of their own", working(packages=(*DRIVER[:1],
     Package(name="nvidia-settings", version="510.47.03"))), []),
    ("two sources", working(packages=(*DRIVER[:1], Package(name="libcuda1", version="580.95.05-1")), candidates=(
        PackageCandidate(name="libcuda1", version="580.95.05-1", repository="https://deb.debian.org/debian sid"),
        PackageCandidate(name="nvidia-driver-580", version="580.95.05",
                         repository="https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"),
     )), ["mixed-repositories"]),
    ("Docker knows", working(container_toolkit="1.17.4", docker="nvidia"), []),
)  # fmt: skip


@pytest.mark.parametrize(("facts", "expected"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_a_state_is_named(facts: Facts, expected: list[str]) -> None:
    assert ids(facts) == expected


BOOT = f"kernel {KERNEL}\nkernel 6.1.0-31-amd64\nmodule 6.1.0-9-amd64 580.95.05\nmodule 6.1.0-31-amd64 580.95.05\n"


def test_a_kernel_without_a_module_beside_a_driver_that_works_is_not_left_to_up() -> None:
    """up keeps a driver that works; the plan has the line to type."""
    (row,) = (each for each in ROWS if each.id == "next-kernel-without-module")
    assert row.remedy.startswith("provision plan --device cuda has the line")
    assert "provision up" not in row.remedy


@pytest.mark.parametrize("state", ["absent", "not_loaded"])
def test_a_module_that_another_kernel_has_is_named_with_that_kernel(state: str) -> None:
    signed = (Package(name="linux-modules-nvidia-580-6.1.0-31-amd64", version="6.1.0-31"), *DRIVER)
    facts = host("GeForce RTX 3090", state=state, kernel=KERNEL, nvidia=HostNvidia(packages=signed))
    (finding,) = looked(facts, boot_kernels=BOOT).findings
    assert (finding.id, finding.where) == ("module-for-other-kernel", "/lib/modules")
    assert finding.evidence == (
        f"there is a module for 6.1.0-31-amd64 (580.95.05), 6.1.0-9-amd64 (580.95.05), and none for {KERNEL}, "
        "which is running"
    )
    assert finding.remedy.startswith("provision up, or boot the kernel that has one")


def test_a_module_of_another_kernel_is_nothing_beside_a_driver_that_works_or_without_a_gpu() -> None:
    assert ids(working(), boot_kernels=BOOT) == []
    assert ids(host(state="absent", kernel=KERNEL), boot_kernels=BOOT) == []
    loadable = HostNvidia(module=MODULE)
    found = ids(host("GeForce RTX 3090", state="not_loaded", kernel=KERNEL, nvidia=loadable), boot_kernels=BOOT)
    assert found == ["driver-not-loaded"]


def test_secure_boot_and_a_key_that_nobody_enrolled() -> None:
    nvidia = HostNvidia(module=MODULE, key_enrolled=False)
    facts = host("GeForce RTX 3090", state="not_loaded", secure_boot=True, nvidia=nvidia)
    (finding,) = looked(facts).findings
    assert finding.id == "key-not-enrolled"
    assert finding.evidence == "Secure Boot is on; signer: DKMS module signing key"
    assert "cannot be done over SSH" in finding.remedy
    waiting = replace(facts, nvidia=replace(nvidia, mok_pending=True))
    assert ids(waiting) == ["key-waits"]


def test_the_wrong_flavour_is_named_with_the_card() -> None:
    facts = host("GeForce GTX 1080 Ti", state="no_devices", module="open", nvidia=HostNvidia(loaded_flavour="open"))
    (finding,) = looked(facts).findings
    assert (finding.id, finding.evidence) == (
        "wrong-flavour",
        "the open module, and NVIDIA GeForce GTX 1080 Ti (Pascal)",
    )
    blackwell = host("GeForce RTX 5090", state="no_devices", nvidia=HostNvidia(loaded_flavour="proprietary"))
    assert ids(blackwell) == ["wrong-flavour"]


def test_mig_without_a_slice() -> None:
    facts = host(driver="580.95.05", gpus=(card("H100", source="nvml", mig=Mig(enabled=True, devices=0)),))
    assert ids(facts) == ["mig-without-slices"]


def test_the_kernel_log_of_before_a_repair_is_not_held_against_a_working_driver() -> None:
    log = "NVRM: API mismatch: the client has the version 525.125.06, but\nNVRM: Xid (PCI:0000:01:00): 79, x"
    assert ids(working(), dmesg_nvidia=log) == ["gpu-fell-off-the-bus"]
    assert ids(broken("unknown"), dmesg_nvidia=log) == ["gpu-fell-off-the-bus", "mismatch"]


def test_of_several_ill_cards_the_gravest_counts_and_each_is_named() -> None:
    cards = tuple(gpu(pci_address=f"0000:0{n}:00.0", pcie_width=w, pcie_width_max=16) for n, w in enumerate((8, 1, 4)))
    report = looked(working(gpus=cards))
    (finding,) = report.findings
    assert (finding.severity, report.ok) == ("warning", False)
    assert finding.evidence.startswith("GPU 0000:01:00.0: x1, ")
    assert "GPU 0000:00:00.0: x8" in finding.evidence
    many = tuple(gpu(pci_address=f"0000:{n:02x}:00.0", error="GPU is lost") for n in range(16))
    assert looked(working(gpus=many)).findings[0].evidence.endswith("; and 12 more")


def test_without_nvidia_modprobe_the_missing_device_file_is_a_warning() -> None:
    report = looked(working(device_files=("nvidia0", "nvidiactl"), packages=DRIVER, holds=("nvidia*",)))
    (finding,) = report.findings
    assert (finding.id, finding.severity) == ("uvm-missing", "warning")
    assert finding.evidence == "nvidia0, nvidiactl; no nvidia-uvm, and no package nvidia-modprobe"


def test_a_failed_build_is_told_by_its_own_error() -> None:
    log = "CC [M] nvidia/nv.o\nnv.c:12:9: error: implicit declaration of function 'strlcpy'\nmake[1]: *** Error 1\n"
    (finding,) = looked(broken("not_loaded"), dkms_make_log=log).findings
    assert (finding.id, finding.where) == ("module-build-failed", "DKMS's make.log")
    assert finding.evidence == "nv.c:12:9: error: implicit declaration of function 'strlcpy'"
    assert ids(working(), dkms_make_log=log) == []


@pytest.mark.parametrize("row", ["kernel-compiler", "driver-too-old-for-kernel", "disk-full", "headers-missing"])
def test_a_failed_build_is_told_by_its_cause_where_it_is_known(row: str) -> None:
    """DKMS leaves the log of a build that went well too, with its remark about the compiler."""
    line = {**PRINTED, "headers-missing": NO_BUILD_FOLDER}[row]
    log = f"{PRINTED['compiler-differs']}\n  CC [M] nvidia/nv.o\n{line}\nmake: *** [Makefile:80: modules] Error 2\n"
    (finding,) = looked(broken("not_loaded"), dkms_make_log=log).findings
    assert (finding.id, finding.where, finding.evidence) == (row, "DKMS's make.log", " ".join(line.split()))
    assert ids(working(), dkms_make_log=log) == []
    assert ids(broken("not_loaded"), dkms_make_log=PRINTED["compiler-differs"]) == ["driver-not-loaded"]


def test_programs_that_died_are_told_from_the_kernel_log() -> None:
    trap = "[12.5] traps: python3[4711] trap invalid opcode ip:7f03 sp:7ffd error:0 in libopenblas.so[7f02+1]"
    killed = "[13.1] Out of memory: Killed process 4711 (python3) total-vm:81234567kB"
    report = looked(working(), dmesg_nvidia=f"{trap}\n{killed}")
    assert {each.id: each.severity for each in report.findings} == {
        "illegal-instruction": "warning",
        "oom-killed": "warning",
    }


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(READ), st.text(max_size=200)),
    st.sampled_from(["made-debian11-broadwell-p4-gtx1060-lost-470", "made-ubuntu2404-zen5-rtx3090-held-mismatch-580"]),
)
def test_any_reading_is_looked_at(changed: dict[str, str], name: str) -> None:
    readings = Readings({**read_dump(HOSTS / name).files, **changed})
    report = doctor_host(readings, host_facts(readings, chips(), host=name), ROWS)
    assert report.ok == all(each.severity == "info" for each in report.findings)


def test_what_was_not_read_is_said() -> None:
    report = looked(working())
    assert "the kernel log: it needs root, or kernel.dmesg_restrict=0" in report.not_read
    assert looked(host()).not_read == (), "a host without a GPU misses nothing"
