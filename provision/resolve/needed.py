"""The CPU flags that a plan's code was compiled for: where one is missing, it dies of an illegal instruction."""

from __future__ import annotations

from provision.model.build import Build
from provision.model.catalog import Catalog
from provision.model.plan import Plan


def needed_flags(plan: Plan, catalog: Catalog) -> dict[str, tuple[str, ...]]:
    """By framework, sorted: a wheel's from the catalog, a build's from the plan."""
    wheels = {
        stack.framework: tuple(sorted(release.cpu_flags.get(plan.arch or "", ())))
        for stack in plan.stack
        if stack.origin == "wheel"
        for release in catalog.of(stack.framework)
        if stack.version in (release.version, *release.points)
    }
    return {**wheels, **{build.framework: compiled_for(build) for build in plan.builds}}


def compiled_for(build: Build) -> tuple[str, ...]:
    return tuple(
        sorted({*build.allow, *build.expect, *(flag for copt in build.copts for flag in copt.flag.split(","))})
    )
