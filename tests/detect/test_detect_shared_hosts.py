"""Every machine in ../shared/hosts is read, and what is known of it comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.detect import host_facts
from provision.model.chips import Chips
from provision.model.data import to_data
from provision.model.facts import Facts
from provision.model.readings import Readings
from provision.run.dump import read_dump

ALL = 53
Real = Callable[[str], Readings]

# name: (arch, microarchitecture, level, logical CPUs, physical cores, hypervisor)
CPUS: dict[str, tuple[Any, ...]] = {
    "amd-k10-opteron6136": ("x86_64", "k10", "x86-64-v1", None, None, False),
    "amd-piledriver-fx8350": ("x86_64", "piledriver", "x86-64-v2", None, None, False),
    "amd-steamroller-athlon-x4-860k": ("x86_64", "steamroller", "x86-64-v2", 4, 2, False),
    "amd-zen1-epyc7301": ("x86_64", "zen", "x86-64-v3", None, None, False),
    "amd-zen2-ryzen4600h-gtx1650ti": ("x86_64", "zen2", "x86-64-v3", 12, 6, False),
    "amd-zen3-5950x-rtx3090": ("x86_64", "zen3", "x86-64-v3", 32, 16, False),
    "amd-zen3-5955wx-2x-rtx4090-gt1030": ("x86_64", "zen3", "x86-64-v3", 32, 16, False),
    "amd-zen4-7950x-rtx6000ada-rtx4060ti": ("x86_64", "zen4", "x86-64-v4", 32, 16, False),
    "amd-zen5-9950x": ("x86_64", "zen5", "x86-64-v4", None, None, False),
    "apple-m1-linux": ("aarch64", "m1", None, 1, None, None),
    "apple-m1-macos": ("aarch64", "m1", None, 8, 8, None),
    # archspec says "aarch64", "neoverse_v3ae" and "neoverse_n1" of the next three
    "arm-cortex-a72-raspberrypi4": ("aarch64", None, None, 4, None, None),
    "arm-dgx-spark-gb10": ("aarch64", None, None, 20, None, None),
    "arm-jetson-agx-orin": ("aarch64", None, None, 12, None, None),
    "arm-grace-hopper-lscpu": ("aarch64", "neoverse_v2", None, 72, 72, None),
    "arm-grace-jureca": ("aarch64", "neoverse_v2", None, 1, None, None),
    "arm-neoverse-n1-graviton2": ("aarch64", "neoverse_n1", None, 1, None, None),
    "arm-neoverse-v1-graviton3": ("aarch64", "neoverse_v1", None, 1, None, None),
    "hyperv-guest-skylake-avx512": ("x86_64", "skylake_avx512", "x86-64-v4", 2, 1, True),
    "ibm-power9": ("ppc64le", "power9", None, 1, None, None),
    "intel-alderlake-12700k": ("x86_64", "alderlake", "x86-64-v3", None, None, False),
    "intel-broadwell-e5-2620v4-4x-rtx2080ti": ("x86_64", "broadwell", "x86-64-v3", 16, 16, False),
    "intel-cascadelake-4214-8x-quadro-rtx5000": ("x86_64", "cascadelake", "x86-64-v4", 48, 24, False),
    "intel-cascadelake-w2265-rtxa5000-nouveau": ("x86_64", "cascadelake", "x86-64-v4", 24, 12, False),
    # archspec says "alderlake"
    "intel-gracemont-n100-nogpu": ("x86_64", None, "x86-64-v3", 4, 4, False),
    "intel-haswell-e5-2678v3-gtx1080ti": ("x86_64", "haswell", "x86-64-v3", 24, 12, False),
    "intel-haswell-i5-4570-gtx960-nouveau": ("x86_64", "haswell", "x86-64-v3", None, None, False),
    "intel-icelake-8375c-aws": ("x86_64", "icelake", "x86-64-v4", 16, 8, True),
    "intel-ivybridge-macos": ("x86_64", "ivybridge", "x86-64-v2", 4, 2, False),
    "intel-ivybridge-t430-nvs5400m": ("x86_64", "ivybridge", "x86-64-v2", 4, 2, False),
    "intel-nehalem-i7-950-gtx460": ("x86_64", "nehalem", "x86-64-v2", 8, 4, False),
    "intel-sandybridge-xeon-e5-1650": ("x86_64", "sandybridge", "x86-64-v2", 12, 6, False),
    "intel-sapphirerapids-8480": ("x86_64", "sapphirerapids", "x86-64-v4", None, None, False),
    # archspec says "nehalem"
    "intel-silvermont-j1900": ("x86_64", None, "x86-64-v2", 4, 4, False),
    "intel-skylake-avx512-gold6132": ("x86_64", "skylake_avx512", "x86-64-v4", None, None, False),
    "intel-westmere-i5-m560": ("x86_64", "westmere", "x86-64-v2", 4, 2, False),
    "kvm-masked-guest-rtx2080ti-mismatch": ("x86_64", None, "x86-64-v1", 4, 4, True),
    "riscv-u74": ("riscv64", "u74mc", None, 1, None, None),
}

# name: (state, version, CUDA API version, module); the rest is "unknown" or has no GPU
DRIVERS: dict[str, tuple[Any, ...]] = {
    "amd-fam15h-gtx960-lspci": ("unknown", None, None, None),
    "amd-zen2-ryzen4600h-gtx1650ti": ("working", "510.85.02", "11.6", "proprietary"),
    "amd-zen3-5950x-rtx3090": ("unknown", "580.173.02", None, "proprietary"),
    "amd-zen3-5955wx-2x-rtx4090-gt1030": ("working", "535.113.01", "12.2", "proprietary"),
    "amd-zen4-7950x-rtx6000ada-rtx4060ti": ("working", "560.35.03", "12.6", "proprietary"),
    "gpu-4x-tesla-k80-367": ("working", "367.48", None, None),
    "gpu-8x-b200-570": ("working", "570.133.20", "12.8", None),
    "gpu-a100-mig-510": ("working", "510.47.03", "11.6", None),
    "gpu-a100x4-gls": ("working", "555.42.02", "12.5", None),
    "gpu-gb10-580": ("working", "580.95.05", "13.0", None),
    "gpu-gtx960-390": ("working", "390.116", None, None),
    "gpu-h100-590": ("working", "590.48.01", "13.1", None),
    "gpu-h100-mig-590": ("working", "590.48.01", "13.1", None),
    "gpu-jetson-orin-nano-540": ("working", "540.4.0", "12.6", None),
    "gpu-rtx2080super-610": ("working", "610.57.04", "13.3", None),
    "gpu-rtx3080-595": ("working", "595.58.03", "13.2", None),
    "gpu-rtx3090-525": ("working", "525.147.05", "12.0", None),
    "gpu-rtx5090-570": ("working", "570.124.06", "12.8", None),
    "hyperv-guest-skylake-avx512": ("absent", None, None, None),
    "intel-broadwell-e5-2620v4-4x-rtx2080ti": ("working", "440.31", "10.2", "proprietary"),
    "intel-cascadelake-4214-8x-quadro-rtx5000": ("working", "460.56", "11.2", "proprietary"),
    "intel-cascadelake-w2265-rtxa5000-nouveau": ("nouveau", None, None, None),
    "intel-gracemont-n100-nogpu": ("absent", None, None, None),
    "intel-haswell-e5-2678v3-gtx1080ti": ("working", "430.40", "10.1", "proprietary"),
    "intel-haswell-i5-4570-gtx960-nouveau": ("nouveau", None, None, None),
    "intel-ivybridge-t430-nvs5400m": ("unknown", None, None, None),
    "intel-nehalem-i7-950-gtx460": ("working", "358.16", None, "proprietary"),
    "intel-silvermont-j1900": ("absent", None, None, None),
    "kvm-masked-guest-rtx2080ti-mismatch": ("mismatch", "515.65.01", None, "proprietary"),
}

NO_MIG = {"enabled": False, "devices": 0}
# name: GPUs as (name, PCI address, PCI id, chip, compute capability, MiB, MIG)
GPUS: dict[str, list[tuple[Any, ...]]] = {
    "amd-fam15h-gtx960-lspci": [
        ("NVIDIA GeForce GTX 960", "0000:01:00.0", "10de:1401", "GM206", "5.2", None, None),
    ],
    "amd-zen2-ryzen4600h-gtx1650ti": [
        ("NVIDIA GeForce GTX 1650 Ti", "0000:01:00.0", "10de:1f95", "TU117", "7.5", 4096, None),
    ],
    "amd-zen3-5950x-rtx3090": [
        ("NVIDIA GeForce RTX 3090", "0000:0a:00.0", "10de:2204", "GA102", "8.6", None, None),
    ],
    # lspci of that time prints "Device [10de:2684]"
    "amd-zen3-5955wx-2x-rtx4090-gt1030": [
        ("NVIDIA GeForce RTX 4090", "0000:41:00.0", "10de:2684", None, "8.9", 24564, None),
        ("NVIDIA GeForce RTX 4090", "0000:61:00.0", "10de:2684", None, "8.9", 24564, None),
        ("NVIDIA GeForce GT 1030", "0000:62:00.0", "10de:1d01", "GP108", "6.1", 2048, None),
    ],
    "amd-zen4-7950x-rtx6000ada-rtx4060ti": [
        ("NVIDIA RTX 6000 Ada Generation", "0000:01:00.0", "10de:26b1", None, "8.9", 49140, None),
        ("NVIDIA GeForce RTX 4060 Ti", "0000:03:00.0", "10de:2803", None, "8.9", 16380, None),
    ],
    # a 3D controller (0302) that lspci calls "Device 102d"; the log was cut after the first of four GPUs
    "gpu-4x-tesla-k80-367": [
        ("Tesla K80", f"0000:{bus}:00.0", "10de:102d", None, "3.7", 11439, None) for bus in ("05", "06", "84", "85")
    ],
    "gpu-8x-b200-570": [
        ("NVIDIA B200", f"0000:{bus}:00.0", None, None, "10.0", 183359, NO_MIG)
        for bus in ("51", "52", "62", "63", "75", "76", "86", "87")
    ],
    "gpu-a100-mig-510": [
        ("NVIDIA A100-SXM4-40GB", "0000:00:04.0", "10de:20b0", None, "8.0", 40960, {"enabled": True, "devices": 2}),
    ],
    "gpu-a100x4-gls": [
        ("NVIDIA A100-SXM4-80GB", f"0000:{bus}:00.0", "10de:20b2", None, "8.0", 81920, NO_MIG)
        for bus in ("68", "9e", "c2", "d4")
    ],
    # "0000000F:01:00.0", memory "Not Supported"
    "gpu-gb10-580": [("NVIDIA GB10", "000f:01:00.0", None, None, "12.1", None, None)],
    "gpu-gtx960-390": [("GeForce GTX 960", "0000:01:00.0", None, None, "5.2", 2000, None)],
    "gpu-h100-590": [("NVIDIA H100 80GB HBM3", "0000:00:09.0", "10de:2330", None, "9.0", 81559, NO_MIG)],
    "gpu-h100-mig-590": [
        ("NVIDIA H100 80GB HBM3", "0000:00:09.0", "10de:2330", None, "9.0", 81559, {"enabled": True, "devices": 4}),
    ],
    # no address, memory "Not Supported"
    "gpu-jetson-orin-nano-540": [("Orin (nvgpu)", None, None, None, "8.7", None, None)],
    "gpu-rtx2080super-610": [
        ("NVIDIA GeForce RTX 2080 SUPER", "0000:0c:00.0", "10de:1e81", None, "7.5", 8192, None),
    ],
    "gpu-rtx3080-595": [("NVIDIA GeForce RTX 3080", "0000:0c:00.0", "10de:2216", None, "8.6", 10240, None)],
    # its owner redacted the device id
    "gpu-rtx3090-525": [("NVIDIA GeForce RTX 3090", "0000:00:10.0", None, None, "8.6", 24576, None)],
    "gpu-rtx5090-570": [("NVIDIA GeForce RTX 5090", "0000:02:00.0", "10de:2b85", None, "12.0", 32607, None)],
    # lspci of that time calls the chip "GV102", which never was one
    "intel-broadwell-e5-2620v4-4x-rtx2080ti": [
        ("GeForce RTX 2080 Ti", f"0000:{bus}:00.0", "10de:1e07", None, "7.5", 11019, None)
        for bus in ("02", "03", "83", "84")
    ],
    "intel-cascadelake-4214-8x-quadro-rtx5000": [
        ("Quadro RTX 5000", f"0000:{bus}:00.0", "10de:1eb0", "TU104", "7.5", 16125, None)
        for bus in ("1a", "1c", "1d", "1e", "3d", "3f", "40", "41")
    ],
    "intel-cascadelake-w2265-rtxa5000-nouveau": [
        ("NVIDIA RTX A5000", "0000:65:00.0", "10de:2231", "GA102", "8.6", None, None),
    ],
    "intel-haswell-e5-2678v3-gtx1080ti": [
        ("GeForce GTX 1080 Ti", "0000:03:00.0", "10de:1b06", "GP102", "6.1", 11177, None),
    ],
    "intel-haswell-i5-4570-gtx960-nouveau": [
        ("NVIDIA GeForce GTX 960", "0000:01:00.0", "10de:1401", "GM206", "5.2", None, None),
    ],
    "intel-ivybridge-t430-nvs5400m": [("NVIDIA NVS 5400M", "0000:01:00.0", None, "GF108", "2.1", None, None)],
    "intel-nehalem-i7-950-gtx460": [
        ("GeForce GTX 460", "0000:02:00.0", "10de:0e22", "GF104", "2.1", 1018, None),
    ],
    "kvm-masked-guest-rtx2080ti-mismatch": [
        ("NVIDIA GeForce RTX 2080 Ti Rev. A", "0000:00:10.0", "10de:1e07", "TU102", "7.5", None, None),
    ],
}

# name: findings worse than "info"; none anywhere else, but for the machines without a CPU reading
TROUBLE: dict[str, list[tuple[str, str]]] = {
    "intel-cascadelake-w2265-rtxa5000-nouveau": [("driver_nouveau", "warning")],
    "intel-haswell-i5-4570-gtx960-nouveau": [("driver_nouveau", "warning")],
    "kvm-masked-guest-rtx2080ti-mismatch": [("driver_mismatch", "error"), ("masked_flags", "warning")],
}

# name: (distribution, release, kernel, Secure Boot, total MiB)
SYSTEMS: dict[str, tuple[Any, ...]] = {
    "amd-zen2-ryzen4600h-gtx1650ti": ("ubuntu", "22.04", "5.15.0-56-generic", False, 7303),
    "amd-zen3-5950x-rtx3090": ("ubuntu", "24.04", "7.0.0-29-generic", False, 32026),
    "apple-m1-macos": ("macos", None, None, None, 16384),
    "arm-dgx-spark-gb10": (None, None, "6.17.0-1014-nvidia", None, 122566),
    "gpu-4x-tesla-k80-367": ("scientific", "6.5", "2.6.32-431.el6.x86_64", None, None),
    # "Secure boot could not be determined (mode 0)"
    "intel-broadwell-e5-2620v4-4x-rtx2080ti": ("ubuntu", "18.04", "5.0.0-36-generic", None, 48006),
    "intel-cascadelake-w2265-rtxa5000-nouveau": ("ubuntu", "22.04", "6.8.0-48-generic", False, 128498),
    "intel-haswell-i5-4570-gtx960-nouveau": ("ubuntu", "16.04", "4.15.0-34-generic", None, None),
    "secureboot-shim-validation-off": (None, None, None, False, None),
}


@pytest.fixture
def read(real: Real, chip_table: Chips) -> Callable[[str], Facts]:
    return lambda name: host_facts(real(name), chip_table, host=name)


def test_every_machine_is_read(shared: Path, chip_table: Chips) -> None:
    folders = sorted(path for path in (shared / "hosts").iterdir() if path.is_dir())
    assert len(folders) == ALL
    for folder in folders:
        facts = host_facts(read_dump(folder), chip_table, host=folder.name)
        assert facts.host == folder.name
        assert facts.driver.detail
        assert (facts.cpu.arch is not None) == (folder.name in CPUS or folder.name == "gpu-4x-tesla-k80-367")
        assert bool(facts.gpus) == (folder.name in GPUS)


@pytest.mark.parametrize("name", CPUS)
def test_cpu(name: str, read: Callable[[str], Facts]) -> None:
    cpu = read(name).cpu
    seen = (cpu.arch, cpu.microarchitecture, cpu.level, cpu.logical_cpus, cpu.physical_cores, cpu.hypervisor)
    assert seen == CPUS[name]
    assert list(cpu.flags) == sorted(set(cpu.flags))


@pytest.mark.parametrize("name", DRIVERS)
def test_driver(name: str, read: Callable[[str], Facts]) -> None:
    driver = read(name).driver
    assert (driver.state, driver.version, driver.cuda_api_version, driver.module) == DRIVERS[name]


@pytest.mark.parametrize("name", GPUS)
def test_gpus(name: str, read: Callable[[str], Facts]) -> None:
    seen = [
        (gpu.name, gpu.pci_address, gpu.pci_id, gpu.chip, gpu.compute_capability, gpu.memory_mib, to_data(gpu.mig))
        for gpu in read(name).gpus
    ]
    assert seen == GPUS[name]
    assert all(gpu.architecture for gpu in read(name).gpus)


@pytest.mark.parametrize("name", SYSTEMS)
def test_system(name: str, read: Callable[[str], Facts]) -> None:
    facts = read(name)
    system = facts.system
    seen = (system.os.id, system.os.version_id, system.kernel, system.secure_boot, facts.memory.total_mib)
    assert seen == SYSTEMS[name]
    assert not system.wsl


@pytest.mark.parametrize("name", sorted({*CPUS, *DRIVERS}))
def test_healthy_machines_draw_no_warning(name: str, read: Callable[[str], Facts]) -> None:
    facts = read(name)
    seen = [(finding.id, finding.severity) for finding in facts.findings if finding.severity != "info"]
    without_cpu = [] if name in CPUS else [("no_cpu_reading", "warning")]
    assert seen == TROUBLE.get(name, without_cpu)
    assert all(finding.what and finding.why and finding.hint for finding in facts.findings)


def test_a_toolkit_is_read_from_nvcc(read: Callable[[str], Facts]) -> None:
    assert read("gpu-gb10-580").toolkit.cuda == "13.1"


def test_shim_that_does_not_validate_is_told(read: Callable[[str], Facts]) -> None:
    assert "secure_boot_not_enforced" in {finding.id for finding in read("secureboot-shim-validation-off").findings}
