"""The CPU of an image: a set of flags that it may use, and that it asks for before it starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from provision.errors import UsageError
from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.request import Request
from provision.resolve.copts import BASELINE, LEVEL, fleet_flags, implied, known_target, target
from provision.resolve.releases import matching
from provision.resolve.solve import wanted_of

ARCH = "x86_64"
EVERYWHERE = frozenset(BASELINE[ARCH])
"""Flags that every x86-64 CPU has, so that nothing has to ask for them."""
SECOND = "x86-64-v2"
"""The level of every CPU with AVX: Sandy Bridge and Bulldozer, the first ones, are above it."""


def image_flags(cpu: str, request: Request, catalog: Catalog, fleet: Sequence[Facts] = ()) -> frozenset[str]:
    """Flags, by the kernel's names, of the least CPU that ``cpu`` allows.

    Of "generic" those are what the stock wheels of the request need, and nothing more; for a build from source the
    baseline. Raises UsageError for what is no value of ``--cpu``, and for a CPU of another kind of machine.
    """
    problem = known_target(cpu, catalog)
    if problem is not None:
        raise problem
    if cpu == "fleet":
        flags = _of_fleet(fleet, catalog) if fleet else request.cpu_flags
        return frozenset(flags) | EVERYWHERE
    if cpu == "generic":
        return with_implied(wheel_flags(request, catalog), catalog)
    wanted = target(cpu, (), catalog)
    found = wanted.flags or frozenset()
    if not found <= usable(catalog) | EVERYWHERE if wanted.listed else _machine(cpu) not in (None, ARCH):
        raise UsageError(
            what=f"--cpu {cpu} is no x86-64 CPU",
            why="images are built for x86-64, and "
            + ("not all of these are flags of one" if wanted.listed else f"it is one of {_machine(cpu)}"),
            hint="--cpu x86-64-v3, or generic for every CPU that the wheels run on",
        )
    return with_implied(found, catalog)


def _machine(cpu: str) -> str | None:
    """The machine that archspec's microarchitecture ``cpu`` is one of; None where it is no such name."""
    if LEVEL.fullmatch(cpu):
        return None
    import archspec.cpu  # 25 ms, paid only where a name is given

    found = archspec.cpu.TARGETS.get(cpu)
    return None if found is None else str(found.family.name)


def _of_fleet(fleet: Sequence[Facts], catalog: Catalog) -> tuple[str, ...]:
    """What every host has; no host may be of another kind of machine, which flags alone would not show."""
    others = [f"{each.host} ({each.cpu.arch})" for each in fleet if each.cpu.arch not in (None, ARCH)]
    if others:
        raise UsageError(
            what="images are built for x86-64, and some hosts are not",
            why=f"{', '.join(others)} cannot run one",
            hint="leave them out with --limit",
        )
    return fleet_flags(fleet, catalog).flags


def with_implied(flags: Iterable[str], catalog: Catalog) -> frozenset[str]:
    """``flags`` with those that a compiler uses as well where it may use one of them, and with the baseline."""
    found = set(flags) | EVERYWHERE
    for row in catalog.compiler_flags:
        if row.arch == ARCH and row.flag in found:
            found |= implied(row, catalog)
    if "avx" in found:
        found |= target(SECOND, (), catalog).flags or frozenset()
    return frozenset(found)


def wheel_flags(request: Request, catalog: Catalog) -> frozenset[str]:
    """What the newest wheels of the request were compiled for; nothing where it wants none."""
    if request.origin == "source":
        return frozenset()
    newest = [found[0] for wanted in wanted_of(request) if (found := matching(catalog, wanted, force=request.force))]
    return frozenset(flag for release in newest for flag in release.cpu_flags.get(ARCH, ()))


def level_of(flags: Iterable[str], catalog: Catalog) -> str:
    """The highest level whose flags are all there; the first where no more is known."""
    have, best = frozenset(flags) | EVERYWHERE, "x86-64-v1"
    for level in sorted(catalog.levels, key=lambda row: row.name):
        if not set(level.adds) <= have:
            break
        best = level.name
    return best


def usable(catalog: Catalog) -> frozenset[str]:
    """Flags that code can be compiled for: the ones that an image asks for. A microarchitecture has many others."""
    flags = {flag for row in catalog.compiler_flags if row.arch == ARCH for flag in (row.flag, *row.with_flags)}
    return frozenset(flags | {flag for level in catalog.levels for flag in level.adds}) - EVERYWHERE


def asked_for(flags: Iterable[str], catalog: Catalog) -> tuple[str, ...]:
    """Those of ``flags`` that an image refuses to start without, sorted."""
    return tuple(sorted(frozenset(flags) & usable(catalog)))


def checked_cpus(cpus: Sequence[str], here: Facts | None, fleet: Sequence[Facts]) -> None:
    """Raises UsageError for no CPU, for "native", and for a fleet without hosts. ``here``: the engine's host."""
    if not cpus:
        raise UsageError(what="no CPU was named", why="an image is for some CPU", hint="--cpu generic")
    if "fleet" in cpus and not fleet:
        raise UsageError(
            what="--cpu fleet is about the hosts of an inventory",
            why="an image for a fleet asks for the flags that all of its hosts have, and no host is given",
            hint="name them with -i hosts.yml, or name a level: --cpu x86-64-v3",
        )
    if "native" in cpus:
        level = here.cpu.level if here is not None else None
        raise UsageError(
            what="--cpu native is not for images",
            why="an image leaves the machine that it is built on, and would stop elsewhere with an illegal instruction"
            + (f"; this machine is {level}" if level else ""),
            hint=f"--cpu {level or 'x86-64-v3'} for machines like it, or generic for every CPU that the wheels run on"
            if level
            else "--cpu generic, or a level: x86-64-v3",
        )


def cpu_words(cpu: str) -> str:
    """A value of ``--cpu`` in a sentence."""
    if cpu == "generic":
        return "a generic x86-64 CPU"
    if cpu == "fleet":
        return "the least CPU of the fleet"
    if "," in cpu:
        return f"a CPU with {', '.join(cpu.split(','))}"
    return f"an {cpu} CPU" if cpu[:1] in "aeiox" else f"a {cpu} CPU"
