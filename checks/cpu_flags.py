#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Does this CPU have every flag that is needed?

Reads /proc/cpuinfo, changes nothing. A flag counts when every processor has it (hybrid CPUs differ between cores).
Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python3 cpu_flags.py --need avx,fma
    python3 cpu_flags.py --need x86-64-v3
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

# What compilers and wheels call a flag -> what the kernel calls it.
KERNEL_NAMES = {
    "sse3": "pni", "sse4": "sse4_1", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "lzcnt": "abm", "fma3": "fma",
    "sha": "sha_ni", "rdrnd": "rdrand", "pclmul": "pclmulqdq", "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16", "avx512bitalg": "avx512_bitalg",
    "avx512vbmi2": "avx512_vbmi2", "avx512vpopcntdq": "avx512_vpopcntdq", "avxvnni": "avx_vnni",
    "amx-tile": "amx_tile", "amx-int8": "amx_int8", "amx-bf16": "amx_bf16", "neon": "asimd",
}  # fmt: skip

# The x86-64 psABI's levels, cumulative, in the kernel's names. Its CMPXCHG16B, LAHF-SAHF, LZCNT are cx16, lahf_lm, abm;
# OSXSAVE is not among the kernel's flags and is implied by avx there.
LEVELS = {
    "x86-64-v1": "cmov cx8 fpu fxsr mmx sse sse2",
    "x86-64-v2": "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3",
    "x86-64-v3": "avx avx2 bmi1 bmi2 f16c fma abm movbe",
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
}


def needed_flags(text: str) -> list[str]:
    """``avx,FMA`` or ``x86-64-v3`` as the kernel's flag names, sorted."""
    flags: set[str] = set()
    for word in filter(None, re.split(r"[,\s]+", text.lower())):
        if word in LEVELS:
            for level in list(LEVELS)[: list(LEVELS).index(word) + 1]:
                flags.update(LEVELS[level].split())
        else:
            flags.add(KERNEL_NAMES.get(word, word))
    return sorted(flags)


def read_cpuinfo(text: str) -> tuple[str, set[str] | None]:
    """Model name, and the flags that all processors share; None where no line lists flags."""
    # flags           : fpu vme de pse tsc …        (x86)
    # Features        : fp asimd evtstrm aes …      (aarch64)
    model, shared = "", None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip().lower() == "model name":
            model = model or value.strip()
        if key.strip().lower() in {"flags", "features"}:
            flags = set(value.split())
            shared = flags if shared is None else shared & flags
    return model, shared


def judge(need: list[str], cpuinfo: str) -> dict[str, Any]:
    model, flags = read_cpuinfo(cpuinfo)
    name = model or f"this {platform.machine()} CPU"
    data: dict[str, Any] = {"cpu": model or None, "need": need, "missing": None}
    if flags is None:
        why = "the cpuinfo text lists no flags"
        return answer("skip", "the CPU's flags are not known", why, "compare them by hand", data)
    missing = [flag for flag in need if flag not in flags]
    data["missing"] = missing
    if not missing:
        return answer("pass", f"{name} has every flag that is needed", data=data)
    hint = (
        "choose a build for fewer flags; in a virtual machine, let the guest see the host's CPU (type `host`)"
        if "hypervisor" in flags
        else "choose a build for fewer flags, or build from source for this CPU"
    )
    return answer("fail", f"{name} lacks {', '.join(missing)}", f"needed: {', '.join(need)}", hint, data)


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    return {"id": "cpu_flags", "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--need", required=True, metavar="FLAG,…", help="flags or an x86-64 level, comma-separated")
    parser.add_argument("--cpuinfo", default="/proc/cpuinfo", metavar="FILE", help="read this instead")
    options = parser.parse_args()
    try:
        text = Path(options.cpuinfo).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        why = f"{options.cpuinfo}: {error.strerror}"
        result = answer("skip", "the CPU's flags are not known", why, "compare them by hand")
    else:
        result = judge(needed_flags(options.need), text)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
