"""/proc/cpuinfo of Linux on x86-64, aarch64, ppc64le and riscv64."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provision.detect.text import natural

READING = "proc_cpuinfo"

# "model name	: AMD Ryzen 9 5950X 16-Core Processor"; blanks instead of tabs on some hosts
_LINE = re.compile(r"^([A-Za-z][^:\n]{0,60}?)[ \t]*:[ \t]*(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """What one reading says about the CPU, before anything is concluded. Every field may be missing."""

    arch: str | None = None
    vendor: str | None = None
    model_name: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    flags: tuple[str, ...] = ()
    logical_cpus: int | None = None
    physical_cores: int | None = None
    hypervisor: bool | None = None
    parts: tuple[str, ...] = ()
    """aarch64: each different "CPU part" ("0xd87", "0xd85"), in order of appearance."""
    uarch: str | None = None
    """What the reading itself calls the microarchitecture: riscv "sifive,u74-mc", POWER "POWER9"."""


# https://docs.kernel.org/arch/arm64/cpu-feature-registers.html, MIDR_EL1 implementers as lscpu names them
ARM_IMPLEMENTERS = {
    "0x41": "ARM", "0x42": "Broadcom", "0x43": "Cavium", "0x46": "Fujitsu", "0x48": "HiSilicon", "0x4e": "NVIDIA",
    "0x50": "APM", "0x51": "Qualcomm", "0x53": "Samsung", "0x56": "Marvell", "0x61": "Apple", "0x69": "Intel",
    "0x6d": "Microsoft", "0xc0": "Ampere",
}  # fmt: skip


def read_cpuinfo(text: str) -> CpuReading | None:
    """None where the text holds no line that tells anything about a CPU."""
    lines = _LINE.findall(text)
    first: dict[str, str] = {}
    for key, value in lines:
        first.setdefault(key, value.strip())
    arch = _arch(first)
    if arch is None:
        return None
    words = first.get("flags", first.get("Features", ""))
    entries = sum(1 for key, value in lines if key == "processor" and natural(value) is not None)
    cores = _cores(lines)
    whole = _whole(lines, entries)
    cpu = first.get("cpu", "")
    return CpuReading(
        arch=arch,
        vendor=_vendor(first),
        model_name=first.get("model name") or cpu.partition(",")[0] or None,
        family=natural(first.get("cpu family")),
        model=natural(first.get("model")),
        stepping=natural(first.get("stepping")),
        flags=tuple(sorted({word for word in words.split() if word.isascii() and word.isprintable()})),
        logical_cpus=entries if entries and whole else None,
        physical_cores=len(cores) if cores and whole else None,
        hypervisor=_hypervisor(arch, words, text),
        parts=tuple(dict.fromkeys(value.strip().lower() for key, value in lines if key == "CPU part")),
        uarch=first.get("uarch") or (cpu.partition(",")[0].strip() or None),
    )


# Only a line that one architecture alone prints decides; "flags" is x86 (the others say "Features" or "isa").
_ARCH_BY_KEY = (
    ("CPU implementer", "aarch64"),
    ("CPU architecture", "aarch64"),
    ("Features", "aarch64"),
    ("hart", "riscv64"),
    ("isa", "riscv64"),
    ("uarch", "riscv64"),
    ("vendor_id", "x86_64"),
    ("cpu family", "x86_64"),
    ("flags", "x86_64"),
    ("model name", "x86_64"),
)


def _arch(first: dict[str, str]) -> str | None:
    if "POWER" in first.get("cpu", ""):
        # cpuinfo does not tell the byte order; every distribution that still runs on POWER8 and newer is little-endian
        return "ppc64le"
    return next((arch for key, arch in _ARCH_BY_KEY if first.get(key)), None)


def _vendor(first: dict[str, str]) -> str | None:
    if "vendor_id" in first:
        return first["vendor_id"] or None
    if "CPU implementer" in first:
        return ARM_IMPLEMENTERS.get(first["CPU implementer"].lower())
    return "IBM" if "POWER" in first.get("cpu", "") else None


def _hypervisor(arch: str, words: str, text: str) -> bool | None:
    """x86 says it with a flag; elsewhere only a machine line of an emulator tells."""
    if arch == "x86_64":
        return "hypervisor" in words.split() if words else None
    return True if re.search(r"^(machine|model)\s*:.*(qemu|KVM)", text, re.MULTILINE) else None


def _cores(lines: list[tuple[str, str]]) -> frozenset[tuple[int, int]]:
    """Different (physical id, core id): hyper-threads share both."""
    found = set()
    package = 0
    for key, value in lines:
        number = natural(value)
        if number is None:
            continue
        if key == "physical id":
            package = number
        elif key == "core id":
            found.add((package, number))
    return frozenset(found)


def _whole(lines: list[tuple[str, str]], entries: int) -> bool:
    """Whether all processors are there: a package has "siblings" of them, and a cut text has fewer in all."""
    most = max((natural(value) or 0 for key, value in lines if key == "siblings"), default=0)
    packages = len({value for key, value in lines if key == "physical id"}) or 1
    return entries >= most and (packages == 1 or entries >= packages)
