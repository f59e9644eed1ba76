"""x86-64-v1 … v4 from flags alone, under the names of /proc/cpuinfo.

x86-64 psABI, "Micro-Architecture Levels" (gitlab.com/x86-psABIs/x86-64-ABI, x86-64-ABI/low-level-sys-info.tex).
Linux names LZCNT "abm" and SSE3 "pni"; it lists no OSXSAVE, but drops "xsave" and what needs it where the system did
not switch it on.
"""

from __future__ import annotations

from collections.abc import Iterable


def _flags(words: str) -> frozenset[str]:
    return frozenset(words.split())


LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("x86-64-v1", _flags("cmov cx8 fpu fxsr lm mmx syscall sse sse2")),
    ("x86-64-v2", _flags("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3")),
    ("x86-64-v3", _flags("avx avx2 bmi1 bmi2 f16c fma abm movbe xsave")),
    ("x86-64-v4", _flags("avx512f avx512bw avx512cd avx512dq avx512vl")),
)


def level(flags: Iterable[str]) -> str | None:
    """The highest level whose flags, and those of all below it, are there; None where not even the first is."""
    have, best = frozenset(flags), None
    for name, needed in LEVELS:
        if not needed <= have:
            break
        best = name
    return best


def missing_for(name: str, flags: Iterable[str]) -> tuple[str, ...]:
    """What is missing for the level ``name``, sorted."""
    needed: frozenset[str] = frozenset()
    for known, more in LEVELS:
        needed |= more
        if known == name:
            break
    return tuple(sorted(needed - frozenset(flags)))
