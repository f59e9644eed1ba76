"""What the builds of all frameworks have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provision.model.build import Needs, Tool
from provision.resolve.copts import allowed, expected
from provision.resolve.told import Told

LEAST_MIB = 2048
UNKNOWN_MIB = 4096
"""Disk for a tree of the user's whose size nobody looked at."""
GROWTH = 128
"""A build's disk by its source's: 380 MiB of TensorFlow against the 40 GiB of its row, and more for a small tree."""


def common(told: Told) -> dict[str, Any]:
    """The fields of Build that mean the same for every framework."""
    return {
        "framework": told.candidate.framework,
        "version": told.version,
        "device": told.device,
        "source": told.source,
        "python": told.python,
        "distributions": told.recipe.distributions or (told.candidate.framework,),
        "compiler": told.compiler,
        "cpu": told.request.cpu,
        "copts": told.copts,
        "expect": expected(told.copts),
        "allow": allowed(told.copts, told.facts.cpu.arch, told.catalog),
        "runs_here": told.runs_here,
    }


def tools(told: Told) -> tuple[Tool, ...]:
    return tuple(Tool(name=row.name, why=row.why, package=row.package) for row in told.rows(told.table.tools))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Disk that a full source tree is asked to have. Margins, not measurements: no sourced figure was found
    (facts/build_pitfalls.md, Disk)."""

    cpu_mib: int
    cuda_mib: int
    tmp_mib: int

    def needs(self, told: Told, **more: Any) -> Needs:
        full = self.cuda_mib if told.device == "cuda" else self.cpu_mib
        disk = scaled(full, told)
        return Needs(disk_mib=disk, tmp_mib=min(self.tmp_mib, disk // 8), network=True, **more)


PLACE = {
    "tensorflow": Place(cpu_mib=40 * 1024, cuda_mib=80 * 1024, tmp_mib=6 * 1024),
    "pytorch": Place(cpu_mib=20 * 1024, cuda_mib=40 * 1024, tmp_mib=2 * 1024),
    "numpy": Place(cpu_mib=2 * 1024, cuda_mib=2 * 1024, tmp_mib=512),
}


def scaled(full_mib: int, told: Told) -> int:
    """The whole of it for a repository elsewhere, as the release's own; for what lies here what its size suggests, if
    that is less."""
    source = told.source
    if source.size_mib is None:
        return full_mib if source.kind in ("git", "index") else min(full_mib, UNKNOWN_MIB)
    return min(full_mib, max(LEAST_MIB, GROWTH * source.size_mib))
