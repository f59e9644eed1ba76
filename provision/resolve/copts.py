"""CPU targets and the compiler options that use them: a set of flags, never -march=native.

Options come one by one from the table of flags (facts/gcc_flags.toml), so that a build says what it uses and any
machine that has the flags can run it. No -mfpmath: SSE is what both compilers do on x86-64 anyway, and Clang refuses
"both", which recipes still carry.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from provision.errors import UsageError
from provision.model.catalog import Catalog, CompilerFlag
from provision.model.versions import Dotted

LEVEL = re.compile(r"x86-64-v\d+")
KERNEL_NAMES = {"sse3": "pni", "lzcnt": "abm", "sha": "sha_ni", "bmi": "bmi1"}
"""Other people's names (archspec's, a compiler's) of flags that Linux prints differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTarget:
    """What a source build compiles for. ``flags`` None: the flags of this CPU are not known."""

    text: str
    flags: frozenset[str] | None


def target(text: str, host_flags: tuple[str, ...], catalog: Catalog) -> CpuTarget:
    """``text`` is a checked value of ``--cpu``; ``host_flags`` empty where they were not read."""
    if text == "native":
        return CpuTarget(text=text, flags=frozenset(host_flags) or None)
    if text == "generic":
        return CpuTarget(text=text, flags=frozenset())
    if LEVEL.fullmatch(text):
        return CpuTarget(text=text, flags=_level_flags(text, catalog))
    features = _microarchitectures().get(text)
    if features is not None:
        return CpuTarget(text=text, flags=frozenset(KERNEL_NAMES.get(name, name) for name in features))
    return CpuTarget(text=text, flags=frozenset(_flags(text, catalog)[0]))


def options(wanted: CpuTarget, arch: str | None, compiler: str | None, catalog: Catalog) -> tuple[str, ...]:
    """The options that ``compiler`` ("Clang 18.1.8") takes for ``wanted``, in the table's order."""
    if wanted.flags is None:
        return ()
    found = [
        row.option
        for row in catalog.compiler_flags
        if row.arch == arch
        and row.usable
        and {row.flag, *row.with_flags} <= wanted.flags
        and takes(compiler, row)
        and row.option.startswith("-m")
    ]
    return tuple(dict.fromkeys(found))


def takes(compiler: str | None, row: CompilerFlag) -> bool:
    """Whether ``compiler`` is shown to take the row's option. An option that nobody was seen to take is left out."""
    name, known = _compiler(compiler)
    oldest = row.gcc if name == "gcc" else row.clang
    if oldest is None:
        return False
    return known is None or Dotted(known) >= Dotted(oldest)


@lru_cache(maxsize=64)
def _compiler(text: str | None) -> tuple[str, str | None]:
    """ "Ubuntu Clang 18.1.8" is ("clang", "18.1.8"); TensorFlow's own compiler is Clang since 2.13."""
    match = re.search(r"(?i)(clang|gcc)\D*(\d+(?:\.\d+)*)?", text or "")
    return (match[1].lower(), match[2]) if match else ("clang", None)


def known_target(text: str, catalog: Catalog) -> UsageError | None:
    """None where ``text`` is a value of ``--cpu``, else the error that says what it could have been."""
    levels = [level.name for level in catalog.levels] or [f"x86-64-v{number}" for number in range(1, 5)]
    if text in ("native", "generic") or text in levels or text == "x86-64-v1":
        return None
    if LEVEL.fullmatch(text):
        return UsageError(
            what=f"unknown level {text!r}",
            why="the x86-64 levels are x86-64-v1 to x86-64-v4",
            hint="--cpu x86-64-v3 runs on most machines since 2015",
        )
    _, unknown = _flags(text, catalog)
    if not unknown:
        return None
    names = _microarchitectures()
    if text in names:
        return None
    known = ["native", "generic", *levels, *names, *(row.flag for row in catalog.compiler_flags)]
    close = difflib.get_close_matches(unknown[0] if "," in text else text, known, n=1, cutoff=0.6)
    return UsageError(
        what=f"--cpu does not know {', '.join(map(repr, unknown))}",
        why="it takes native, generic, a level (x86-64-v3), a microarchitecture (zen4) or CPU flags (avx2,fma)",
        hint=f"did you mean {close[0]}?" if close else "",
    )


def _flags(text: str, catalog: Catalog) -> tuple[list[str], list[str]]:
    """(flags, words that are none) of a list such as "avx2,fma" or "-mavx2,-mfma"."""
    by_option = {row.option: row.flag for row in catalog.compiler_flags}
    known = {row.flag for row in catalog.compiler_flags}
    found: list[str] = []
    unknown: list[str] = []
    for word in (word.strip() for word in text.split(",")):
        flag = by_option.get(word, KERNEL_NAMES.get(word, word))
        (found if flag in known else unknown).append(flag if flag in known else word)
    return found, unknown


def _level_flags(level: str, catalog: Catalog) -> frozenset[str]:
    flags = [flag for row in catalog.levels if row.name <= level for flag in row.adds]
    flags += [row.flag for row in catalog.compiler_flags if row.level is not None and row.level <= level]
    return frozenset(flags)


@lru_cache(maxsize=1)
def _microarchitectures() -> dict[str, Iterable[str]]:
    """Flags by archspec's names; 25 ms, paid only where a name is given."""
    import archspec.cpu

    return {name: found.features for name, found in archspec.cpu.TARGETS.items()}
