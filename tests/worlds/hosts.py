"""Hosts made of facts, by hand."""

from __future__ import annotations

from typing import Any

from provision.model.facts import Cpu, Driver, Facts, Gpu, Memory, Mig, Os, System, Toolkit
from provision.model.nvidia import HostNvidia

V1 = ("cx8", "fpu", "fxsr", "mmx", "sse", "sse2", "syscall")
V2 = (*V1, "cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3")
AVX = (*V2, "avx", "xsave")
"""An Athlon or a Sandy Bridge: AVX and nothing newer, so still level 2."""
V3 = (*AVX, "abm", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
V4 = (*V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl", "avx512_vnni")
LEVELS = {V1: "x86-64-v1", V2: "x86-64-v2", AVX: "x86-64-v2", V3: "x86-64-v3", V4: "x86-64-v4", (): None}

CARDS: dict[str, tuple[str, str, str, str]] = {
    # name: chip, architecture, compute capability, PCI id
    "GeForce GTX 460": ("GF104", "Fermi", "2.1", "10de:0e22"),
    "GeForce GTX 680": ("GK104", "Kepler", "3.0", "10de:1180"),
    "Tesla K80": ("GK210", "Kepler", "3.7", "10de:102d"),
    "GeForce GTX 960": ("GM206", "Maxwell", "5.2", "10de:1401"),
    "GeForce GT 1030": ("GP108", "Pascal", "6.1", "10de:1d01"),
    "GeForce GTX 1080 Ti": ("GP102", "Pascal", "6.1", "10de:1b06"),
    "Tesla V100": ("GV100", "Volta", "7.0", "10de:1db1"),
    "GeForce RTX 2080 Ti": ("TU102", "Turing", "7.5", "10de:1e07"),
    "A100": ("GA100", "Ampere", "8.0", "10de:20b0"),
    "GeForce RTX 3090": ("GA102", "Ampere", "8.6", "10de:2204"),
    "Orin": ("GA10B", "Ampere", "8.7", "10de:2300"),
    "GeForce RTX 4090": ("AD102", "Ada Lovelace", "8.9", "10de:2684"),
    "H100": ("GH100", "Hopper", "9.0", "10de:2330"),
    "B200": ("GB100", "Blackwell", "10.0", "10de:2901"),
    "GeForce RTX 5090": ("GB202", "Blackwell", "12.0", "10de:2b85"),
    "GB10": ("GB20B", "Blackwell", "12.1", "10de:2e12"),
}
RELEASES = {
    "debian": ("12", "6.1.0-18-amd64"),
    "ubuntu": ("24.04", "6.8.0-60-generic"),
    "rocky": ("9.6", "5.14.0-570.el9.x86_64"),
    "fedora": ("43", "6.17.4-300.fc43.x86_64"),
}
"""By distribution: a release, and its kernel."""


def card(name: str, number: int = 1, source: Any = "pci", mig: Mig | None = None) -> Gpu:
    chip, architecture, capability, pci_id = CARDS[name]
    return Gpu(
        name=f"NVIDIA {name}",
        pci_address=f"0000:{number:02x}:00.0",
        pci_id=pci_id,
        chip=chip,
        architecture=architecture,
        compute_capability=capability,
        memory_mib=None,
        mig=mig,
        source=source,
    )


def host(
    *cards: str,
    flags: tuple[str, ...] = V3,
    arch: str | None = "x86_64",
    driver: str | None = None,
    state: Any = None,
    module: Any = None,
    glibc: str | None = "2.36",
    pythons: tuple[str, ...] = ("3.11.2",),
    os: str = "debian",
    wsl: bool = False,
    container: bool = False,
    hypervisor: bool = False,
    toolkit: Toolkit | None = None,
    secure_boot: bool | None = False,
    gpus: tuple[Gpu, ...] | None = None,
    kernel: str | None = None,
    release: str | None = None,
    nvidia: HostNvidia | None = None,
) -> Facts:
    """A host with these cards; a ``driver`` version means one that works."""
    known = state or ("working" if driver else "absent")
    source = "nvml" if known == "working" else "pci"
    return Facts(
        host="box",
        cpu=Cpu(
            arch=arch,
            vendor="GenuineIntel",
            model_name="A CPU",
            family=6,
            model=1,
            stepping=1,
            microarchitecture=None,
            level=LEVELS.get(flags) if arch == "x86_64" else None,
            flags=tuple(sorted(flags)),
            logical_cpus=8,
            physical_cores=4,
            hypervisor=hypervisor,
        ),
        memory=Memory(total_mib=16384),
        system=System(
            os=Os(id=os, version_id=release or RELEASES.get(os, ("12", ""))[0]),
            kernel=kernel or RELEASES.get(os, ("", "6.1.0-18-amd64"))[1],
            glibc=glibc,
            secure_boot=secure_boot,
            wsl=wsl,
            container=container,
            pythons=pythons,
        ),
        driver=Driver(state=known, version=driver, cuda_api_version=None, module=module, detail=""),
        gpus=gpus if gpus is not None else tuple(card(name, n, source) for n, name in enumerate(cards, 1)),
        toolkit=toolkit or Toolkit(cuda=None, cudnn=None),
        findings=(),
        nvidia=nvidia,
    )
