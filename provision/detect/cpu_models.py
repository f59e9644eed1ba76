"""Which of archspec's names an x86 CPU can have at all, by vendor, family and model.

Flags alone mislead: a Silvermont has every flag of a "nehalem", a Gracemont every flag of an "alderlake", and a guest
whose hypervisor hides AVX looks ten years older than it is. So archspec's answer counts only where the CPU's own
family and model allow it. A model that is not here has no name in archspec's table (Rocket Lake, Tiger Lake, Zhaoxin).

Sources: gcc/common/config/i386/cpuinfo.h (get_intel_cpu, get_amd_cpu) of GCC, which maps the same numbers to -march
names, and arch/x86/include/asm/intel-family.h and arch/x86/kernel/cpu/amd.c of Linux. Names that GCC makes aliases of
one core (Kaby Lake of skylake, Raptor Lake of alderlake, Emerald Rapids of sapphirerapids) are one name here too.
"""

from __future__ import annotations

Models = tuple[tuple[int, int], ...]
"""Ranges of model numbers, both ends included."""

ANY: Models = ((0x00, 0xFF),)


def _one(*models: int) -> Models:
    return tuple((model, model) for model in models)


# (family, models, archspec names)
INTEL: tuple[tuple[int, Models, tuple[str, ...]], ...] = (
    (15, ANY, ("nocona",)),
    (6, _one(0x0F, 0x16, 0x17, 0x1D), ("core2",)),
    (6, _one(0x1A, 0x1E, 0x1F, 0x2E), ("nehalem",)),
    (6, _one(0x25, 0x2C, 0x2F), ("westmere",)),
    (6, _one(0x2A, 0x2D), ("sandybridge",)),
    (6, _one(0x3A, 0x3E), ("ivybridge",)),
    (6, _one(0x3C, 0x3F, 0x45, 0x46), ("haswell",)),
    (6, _one(0x3D, 0x47, 0x4F, 0x56), ("broadwell",)),
    (6, _one(0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6), ("skylake",)),
    (6, _one(0x57), ("mic_knl",)),
    (6, _one(0x55), ("skylake_avx512", "cascadelake")),
    (6, _one(0x66), ("cannonlake",)),
    (6, _one(0x6A, 0x6C, 0x7D, 0x7E, 0x9D), ("icelake",)),
    (6, _one(0x8F, 0xCF), ("sapphirerapids",)),
    (6, _one(0x97, 0x9A, 0xB7, 0xBA, 0xBF), ("alderlake",)),
    (6, _one(0xC5), ("arrowlake",)),
    (6, _one(0xC6), ("arrowlake_s",)),
)

AMD: tuple[tuple[int, Models, tuple[str, ...]], ...] = (
    (0x10, ANY, ("k10",)),
    (0x15, ((0x00, 0x01),), ("bulldozer",)),
    (0x15, ((0x02, 0x02), (0x10, 0x1F)), ("piledriver",)),
    (0x15, ((0x30, 0x3F),), ("steamroller",)),
    (0x15, ((0x60, 0x7F),), ("excavator",)),
    (0x17, ((0x00, 0x2F),), ("zen",)),
    (0x17, ((0x30, 0xFF),), ("zen2",)),
    (0x19, ((0x00, 0x0F), (0x20, 0x5F)), ("zen3",)),
    (0x19, ((0x10, 0x1F), (0x60, 0xAF)), ("zen4",)),
    (0x1A, ((0x00, 0x4F), (0x60, 0x7F)), ("zen5",)),
    (0x1A, ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF)), ("zen6",)),
)

BY_VENDOR = {"GenuineIntel": INTEL, "AuthenticAMD": AMD}

# Further "CPU part" numbers of a core that archspec lists under one: arch/arm64/include/asm/cputype.h
ARM_PARTS: dict[tuple[str, str], str] = {
    **{("Apple", part): "m1" for part in ("0x022", "0x023", "0x024", "0x025", "0x028", "0x029")},
    **{("Apple", part): "m2" for part in ("0x032", "0x033", "0x034", "0x035", "0x038", "0x039")},
}


def x86_names(vendor: str | None, family: int, model: int) -> tuple[str, ...]:
    """archspec's names that fit; empty where there is none."""
    for row_family, ranges, names in BY_VENDOR.get(vendor or "", ()):
        if row_family == family and any(first <= model <= last for first, last in ranges):
            return names
    return ()
