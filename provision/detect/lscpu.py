"""`lscpu`, for dumps that hold it instead of /proc/cpuinfo. Read in English, which it prints under LC_ALL=C."""

from __future__ import annotations

from provision.detect.cpuinfo import CpuReading
from provision.detect.text import natural, pairs

READING = "lscpu"

# "Architecture:        x86_64" is `uname -m`
_ARCHS = {"arm64": "aarch64", "amd64": "x86_64"}


def read_lscpu(text: str) -> CpuReading | None:
    found: dict[str, str] = {}
    for key, value in pairs(text):
        found.setdefault(key, value)
    arch = found.get("Architecture", "").strip() or None
    flags = tuple(sorted({word for word in found.get("Flags", "").split() if word.isascii() and word.isprintable()}))
    if arch is None and not flags:
        return None
    arch = _ARCHS.get(arch or "", arch)
    stepping = natural(found.get("Stepping"))  # "r0p0" on Arm
    name = found.get("Model name") or None
    is_x86 = arch == "x86_64"
    return CpuReading(
        arch=arch,
        vendor=found.get("Vendor ID") or None,
        model_name=name,
        family=natural(found.get("CPU family")),
        model=natural(found.get("Model")) if is_x86 else None,
        stepping=stepping if is_x86 else None,
        flags=flags,
        logical_cpus=natural(found.get("CPU(s)")) or None,
        physical_cores=_cores(found),
        hypervisor=_hypervisor(found, flags, is_x86=is_x86),
        uarch=name if not is_x86 else None,  # "Neoverse-V2"; "POWER9 (architected), altivec supported"
    )


def _cores(found: dict[str, str]) -> int | None:
    cores, sockets = natural(found.get("Core(s) per socket")), natural(found.get("Socket(s)"))
    return (cores * sockets or None) if cores is not None and sockets is not None else None


def _hypervisor(found: dict[str, str], flags: tuple[str, ...], *, is_x86: bool) -> bool | None:
    if found.get("Hypervisor vendor") or "hypervisor" in flags:
        return True
    return False if is_x86 and flags else None
