"""macOS `sysctl`: the hw and machdep.cpu keys, for Intel and Apple silicon, turned into Linux kernel flag names."""

from __future__ import annotations

from collections.abc import Iterable

from provision.detect.cpuinfo import CpuReading
from provision.detect.text import natural

READING = "sysctl"

# Names that differ from the kernel's by more than case. XNU: osfmk/i386/cpuid.c (feature_map, extfeature_map,
# leaf7_feature_map); Linux: arch/x86/include/asm/cpufeatures.h. None: Linux has no flag for it.
_INTEL: dict[str, tuple[str, ...]] = {
    "clfsh": ("clflush",), "ds": ("dts",), "htt": ("ht",), "sse3": ("pni",), "mon": ("monitor",),
    "dscpl": ("ds_cpl",), "tpr": ("xtpr",), "sse4.1": ("sse4_1",), "sse4.2": ("sse4_2",),
    "tsctmr": ("tsc_deadline_timer",), "avx1.0": ("avx",), "vmm": ("hypervisor",), "rdwrfsgs": ("fsgsbase",),
    "xd": ("nx",), "em64t": ("lm",), "lahf": ("lahf_lm",), "lzcnt": ("abm",), "prefetchw": ("3dnowprefetch",),
    "1gbpage": ("pdpe1gb",), "tsci": ("constant_tsc", "nonstop_tsc"), "tsc_thread_offset": ("tsc_adjust",),
    "sha": ("sha_ni",), "clfsopt": ("clflushopt",), "ipt": ("intel_pt",), "avx512vnni": ("avx512_vnni",),
    "avx512bitalg": ("avx512_bitalg",), "avx512vpopcntdq": ("avx512_vpopcntdq",), "avx512vbmi2": ("avx512_vbmi2",),
    "rdrnd": ("rdrand",), "mdclear": ("md_clear",), "osxsave": (), "seglim64": (), "pqm": ("cqm",), "pqe": ("rdt_a",),
    "fpu_csds": (), "tm": ("tm",), "l1df": ("flush_l1d",), "acapmsr": ("arch_capabilities",), "ssbd": ("ssbd",),
}  # fmt: skip

# hw.optional.arm.FEAT_* and older keys: https://developer.apple.com/documentation/kernel/1387446-sysctlbyname;
# Linux names: https://docs.kernel.org/arch/arm64/elf_hwcaps.html
_APPLE: dict[str, tuple[str, ...]] = {
    "hw.optional.floatingpoint": ("fp",), "hw.optional.AdvSIMD": ("asimd",), "hw.optional.neon": ("asimd",),
    "hw.optional.armv8_crc32": ("crc32",), "hw.optional.armv8_1_atomics": ("atomics",),
    "hw.optional.arm.FEAT_CRC32": ("crc32",), "hw.optional.arm.FEAT_LSE": ("atomics",),
    "hw.optional.arm.FEAT_AES": ("aes",), "hw.optional.arm.FEAT_PMULL": ("pmull",),
    "hw.optional.arm.FEAT_SHA1": ("sha1",), "hw.optional.arm.FEAT_SHA256": ("sha2",),
    "hw.optional.arm.FEAT_SHA3": ("sha3",), "hw.optional.arm.FEAT_SHA512": ("sha512",),
    "hw.optional.arm.FEAT_FP16": ("fphp", "asimdhp"), "hw.optional.arm.FEAT_RDM": ("asimdrdm",),
    "hw.optional.arm.FEAT_JSCVT": ("jscvt",), "hw.optional.arm.FEAT_FCMA": ("fcma",),
    "hw.optional.arm.FEAT_LRCPC": ("lrcpc",), "hw.optional.arm.FEAT_LRCPC2": ("ilrcpc",),
    "hw.optional.arm.FEAT_DPB": ("dcpop",), "hw.optional.arm.FEAT_DPB2": ("dcpodp",),
    "hw.optional.arm.FEAT_DotProd": ("asimddp",), "hw.optional.arm.FEAT_FHM": ("asimdfhm",),
    "hw.optional.arm.FEAT_DIT": ("dit",), "hw.optional.arm.FEAT_LSE2": ("uscat",),
    "hw.optional.arm.FEAT_FlagM": ("flagm",), "hw.optional.arm.FEAT_FlagM2": ("flagm2",),
    "hw.optional.arm.FEAT_FRINTTS": ("frint",), "hw.optional.arm.FEAT_SB": ("sb",),
    "hw.optional.arm.FEAT_SSBS": ("ssbs",), "hw.optional.arm.FEAT_PAuth": ("paca", "pacg"),
    "hw.optional.arm.FEAT_BF16": ("bf16",), "hw.optional.arm.FEAT_I8MM": ("i8mm",),
    "hw.optional.arm.FEAT_BTI": ("bti",), "hw.optional.arm.FEAT_ECV": ("ecv",),
    "hw.optional.arm.FEAT_SME": ("sme",), "hw.optional.arm.FEAT_SME2": ("sme2",),
}  # fmt: skip


def read_sysctl(text: str) -> CpuReading | None:
    """From "machdep.cpu.vendor: GenuineIntel" lines; None where none of them is about a CPU."""
    found = keys(text)
    brand = found.get("machdep.cpu.brand_string") or None
    apple = (brand or "").startswith("Apple") or found.get("hw.optional.arm64") == "1"
    intel = bool(found.get("machdep.cpu.features") or found.get("machdep.cpu.vendor"))
    if not apple and not intel:
        return None
    flags = _apple_flags(found) if apple else _intel_flags(found)
    return CpuReading(
        arch="aarch64" if apple else "x86_64",
        vendor="Apple" if apple else found.get("machdep.cpu.vendor") or None,
        model_name=brand,
        family=natural(found.get("machdep.cpu.family")),
        model=natural(found.get("machdep.cpu.model")),
        stepping=natural(found.get("machdep.cpu.stepping")),
        flags=flags,
        logical_cpus=natural(found.get("hw.logicalcpu") or found.get("machdep.cpu.thread_count")) or None,
        physical_cores=natural(found.get("hw.physicalcpu") or found.get("machdep.cpu.core_count")) or None,
        hypervisor=_hypervisor(found, flags, apple=apple),
        uarch=brand if apple else None,
    )


def keys(text: str) -> dict[str, str]:
    """By key; the first of a doubled key counts. Both "key: value" and "key=value" are printed by sysctl."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if not colon:
            key, colon, value = line.partition("=")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def kernel_flags(words: Iterable[str]) -> tuple[str, ...]:
    """Linux's names, sorted, for flags named as Intel's manuals, macOS and py-cpuinfo name them."""
    lower = (word.lower() for word in words if word.isascii())
    return tuple(sorted({flag for word in lower for flag in _INTEL.get(word, (word,))}))


def _intel_flags(found: dict[str, str]) -> tuple[str, ...]:
    names = ("features", "leaf7_features", "extfeatures")
    return kernel_flags(" ".join(found.get(f"machdep.cpu.{name}", "") for name in names).split())


def _apple_flags(found: dict[str, str]) -> tuple[str, ...]:
    return tuple(sorted({flag for key, flags in _APPLE.items() if found.get(key) == "1" for flag in flags}))


def _hypervisor(found: dict[str, str], flags: tuple[str, ...], *, apple: bool) -> bool | None:
    if "kern.hv_vmm_present" in found:
        return found["kern.hv_vmm_present"] == "1"
    return None if apple or not flags else "hypervisor" in flags
