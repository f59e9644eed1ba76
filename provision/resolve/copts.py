"""CPU targets and the compiler options that use them: a set of flags, never -march=native.

Options come one by one from the table of flags (facts/gcc_flags.toml), so that a build says what it uses and any
machine that has the flags can run it. No -mfpmath: SSE is what both compilers do on x86-64 anyway, and Clang refuses
"both", which recipes still carry.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from provision.errors import UsageError
from provision.model.build import Copt
from provision.model.catalog import Catalog, CompilerFlag
from provision.model.facts import Facts
from provision.model.versions import Dotted

LEVEL = re.compile(r"x86-64-v\d+")
KERNEL_NAMES = {"sse3": "pni", "lzcnt": "abm", "sha": "sha_ni", "bmi": "bmi1"}
"""Other people's names (archspec's, a compiler's) of flags that Linux prints differently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTarget:
    """What a source build compiles for. ``flags`` None: the flags of this CPU are not known."""

    text: str
    flags: frozenset[str] | None
    listed: bool = False
    """A list of flags, each asked for by name: none of them may be left out."""


def target(text: str, host_flags: tuple[str, ...], catalog: Catalog, fleet: tuple[str, ...] = ()) -> CpuTarget:
    """``text`` is a checked value of ``--cpu``; ``host_flags`` empty where they were not read; ``fleet`` the flags that
    every host of a fleet has."""
    if text == "fleet":
        return CpuTarget(text=text, flags=frozenset(fleet))
    if text == "native":
        return CpuTarget(text=text, flags=frozenset(host_flags) or None)
    if text == "generic":
        return CpuTarget(text=text, flags=frozenset())
    if LEVEL.fullmatch(text):
        return CpuTarget(text=text, flags=_level_flags(text, catalog))
    features = _microarchitectures().get(text)
    if features is not None:
        return CpuTarget(text=text, flags=frozenset(KERNEL_NAMES.get(name, name) for name in features))
    return CpuTarget(text=text, flags=frozenset(_flags(text, catalog)[0]), listed=True)


def options(wanted: CpuTarget, arch: str | None, compiler: str | None, catalog: Catalog) -> tuple[str, ...]:
    """The options that ``compiler`` ("Clang 18.1.8") takes for ``wanted``, in the table's order."""
    return tuple(each.option for each in copts(wanted, arch, compiler, catalog))


def copts(wanted: CpuTarget, arch: str | None, compiler: str | None, catalog: Catalog) -> tuple[Copt, ...]:
    """Each option with the flag it uses and the reason for it. On Arm it is one, because a later -march undoes an
    earlier one."""
    rows = [row for row in usable_rows(wanted, arch, catalog) if takes(compiler, row)]
    if arch == "aarch64":
        return _joined(rows, wanted)
    found = {row.option: _copt(row, wanted, compiler) for row in reversed(rows)}
    return tuple(found[option] for option in dict.fromkeys(row.option for row in rows))


def usable_rows(wanted: CpuTarget, arch: str | None, catalog: Catalog) -> tuple[CompilerFlag, ...]:
    """Rows whose flag the target has, with all that their option turns on."""
    if wanted.flags is None:
        return ()
    return tuple(
        row
        for row in catalog.compiler_flags
        if row.arch == arch
        and row.usable
        and row.option.startswith("-m")
        and {row.flag, *row.with_flags} <= wanted.flags
        and not missing_with(row, wanted, catalog)
    )


def missing_with(row: CompilerFlag, wanted: CpuTarget, catalog: Catalog) -> tuple[str, ...]:
    """Flags that ``row``'s option turns on as well and the target lacks: a masked virtual machine may have one without
    the other. Nothing is missing of a target that is a list: what its options imply goes with them."""
    if wanted.flags is None or wanted.listed:
        return ()
    return tuple(sorted(implied(row, catalog) - wanted.flags))


@lru_cache(maxsize=256)
def _flags_of(options: tuple[str, ...], rows: tuple[CompilerFlag, ...]) -> frozenset[str]:
    return frozenset(row.flag for row in rows if row.option in options and row.usable)


def implied(row: CompilerFlag, catalog: Catalog) -> frozenset[str]:
    """Flags that a compiler uses as well where it is given ``row``'s option."""
    return _flags_of(row.implies, catalog.compiler_flags)


def too_old_for(
    wanted: CpuTarget, arch: str | None, compiler: str | None, catalog: Catalog
) -> tuple[CompilerFlag, ...]:
    """Rows of the target's flags that ``compiler`` was not seen to take."""
    rows = usable_rows(wanted, arch, catalog)
    taken = {row.flag for row in rows if takes(compiler, row)}
    return tuple(row for row in rows if row.flag not in taken)


def oldest_that_takes(compiler: str | None, row: CompilerFlag) -> str:
    """ "GCC 12 and newer", or that none was seen to."""
    name = _compiler(compiler)[0]
    oldest = row.gcc if name == "gcc" else row.clang
    shown = {"gcc": "GCC", "clang": "Clang"}[name]
    return f"{shown} {oldest} and newer" if oldest else f"no {shown} was seen to take it"


def _copt(row: CompilerFlag, wanted: CpuTarget, compiler: str | None) -> Copt:
    return Copt(
        option=row.option,
        flag=row.flag,
        reason=f"{_whose(wanted)} {row.flag}; {_taken(row, compiler)}",
    )


def _taken(row: CompilerFlag, compiler: str | None) -> str:
    """ "GCC 12.2.0 takes it (GCC 4.8 and newer)"."""
    oldest = oldest_that_takes(compiler, row)
    return f"{compiler} takes it ({oldest})" if _compiler(compiler)[1] else f"{oldest} takes it"


def _whose(wanted: CpuTarget) -> str:
    if wanted.text == "native":
        return "this CPU has"
    if wanted.text == "fleet":
        return "every host of the fleet has"
    return f"{wanted.text} has" if not wanted.listed else "--cpu asks for"


def _joined(rows: list[CompilerFlag], wanted: CpuTarget) -> tuple[Copt, ...]:
    """ "-march=armv8.2-a+fp16+dotprod+bf16": the newest architecture that applies, with every extension."""
    if not rows:
        return ()
    bases, extensions = [], []
    for row in rows:
        base, *more = row.option.removeprefix("-march=").split("+")
        bases.append(base)
        extensions += more
    newest = max(bases, key=lambda base: [int(part) for part in re.findall(r"\d+", base)])
    option = "+".join((f"-march={newest}", *dict.fromkeys(extensions)))
    flags = ",".join(dict.fromkeys(flag for row in rows for flag in (row.flag, *row.with_flags)))
    reason = f"{_whose(wanted)} {flags}; in one option, because a second -march undoes the first"
    return (Copt(option=option, flag=flags, reason=reason),)


SURE = ("avx", "avx2", "fma", "fma4", "avx512f")
"""Flags that a compiler is sure to use in optimised numeric code. Not popcnt, bmi2 or the finer parts of AVX-512: a
library may do without them, and nothing is wrong then."""
BASELINE = {"x86_64": ("cmov", "cx8", "fpu", "fxsr", "mmx", "sse", "sse2", "syscall"), "aarch64": ("asimd", "fp")}
"""What every CPU of the machine's kind has, so that a compiler may use it unasked."""
BESIDE = {"fma4": ("sse4a",), "xop": ("sse4a",)}
"""Flags without an option of their own in the table that an option turns on all the same (GCC 12, Clang 16 and 19)."""


def expected(found: tuple[Copt, ...]) -> tuple[str, ...]:
    """CPU flags whose instructions must be in what is built."""
    used = {flag for each in found for flag in each.flag.split(",")}
    return tuple(flag for flag in SURE if flag in used)


def allowed(found: tuple[Copt, ...], arch: str | None, catalog: Catalog) -> tuple[str, ...]:
    """CPU flags whose instructions may be there: those of the options, what they imply, and the machine's baseline."""
    used = {flag for each in found for flag in each.flag.split(",")}
    for row in catalog.compiler_flags:
        if row.arch == arch and row.flag in used:
            used |= implied(row, catalog) | set(BESIDE.get(row.flag, ()))
    return tuple(sorted({*used, *BASELINE.get(arch or "", ())}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The flags that all of several hosts have, and which of them lacks each of the others."""

    flags: tuple[str, ...]
    lacking: Mapping[str, tuple[str, ...]]
    """By flag that some host has and not all do: the hosts without it, sorted."""


def fleet_flags(hosts: Iterable[Facts], catalog: Catalog) -> Fleet:
    """The intersection, of flags that a compiler has an option for. Raises UsageError for hosts without a common
    machine, and for a host whose flags are not known."""
    found = sorted(hosts, key=lambda each: each.host)
    unknown = [each.host for each in found if not each.cpu.flags]
    if unknown or not found:
        raise UsageError(
            what="--cpu fleet needs the CPU flags of every host",
            why=f"those of {', '.join(unknown)} are not known" if unknown else "there is no host",
            hint="leave that host out with --limit, or name a level that it has: --cpu x86-64-v2",
        )
    archs = sorted({each.cpu.arch or "an unknown machine" for each in found})
    if len(archs) > 1:
        raise UsageError(
            what="--cpu fleet needs hosts of one kind",
            why=f"these are {' and '.join(archs)}, and no build runs on both",
            hint="plan for each kind by itself with --limit",
        )
    known = {row.flag for row in catalog.compiler_flags if row.arch == archs[0]}
    known |= {flag for row in catalog.compiler_flags if row.arch == archs[0] for flag in row.with_flags}
    sets = {each.host: known & set(each.cpu.flags) for each in found}
    common = frozenset.intersection(*(frozenset(flags) for flags in sets.values()))
    some = sorted(set().union(*sets.values()) - common)
    lacking = {flag: tuple(host for host, flags in sets.items() if flag not in flags) for flag in some}
    return Fleet(flags=tuple(sorted(common)), lacking=lacking)


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
    if text in ("native", "generic", "fleet") or text in levels or text == "x86-64-v1":
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
    known = ["native", "generic", "fleet", *levels, *names, *(row.flag for row in catalog.compiler_flags)]
    close = difflib.get_close_matches(unknown[0] if "," in text else text, known, n=1, cutoff=0.6)
    return UsageError(
        what=f"--cpu does not know {', '.join(map(repr, unknown))}",
        why="it takes native, generic, fleet, a level (x86-64-v3), a microarchitecture (zen4) or CPU flags (avx2,fma)",
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
