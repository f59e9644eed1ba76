"""The same releases from wheels, where they fit the host: what a source build is measured against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from provision.errors import ProvisionError
from provision.model.build import Build
from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Plan
from provision.model.request import Request, Wanted
from provision.resolve.solve import Solution, wanted_of

Planner = Callable[[Facts, Request, Catalog], Plan]


def stock_plan(
    solution: Solution, built: tuple[Build, ...], facts: Facts, request: Request, catalog: Catalog, planner: Planner
) -> Plan | None:
    """None where nothing is built, where the build is for another machine, and where no wheel of the release runs."""
    if not built or not all(each.runs_here for each in built):
        return None
    asked = wanted_of(request)
    pinned = tuple(
        Wanted(framework=wanted.framework, specifier=f"=={each.candidate.release.version}")
        for wanted, each in zip(asked, solution.chosen, strict=True)
    )
    on_gpu = any(each.candidate.build.device == "cuda" for each in solution.chosen)
    wheels = replace(
        request,
        frameworks=pinned,
        device="cuda" if on_gpu else "cpu",
        origin="wheel",
        cpu="native",
        python=solution.python,
        driver=request.driver if on_gpu else "keep",
        source=None,
        compiler=None,
        cpu_flags=(),
        blas=None,
        force=False,
    )
    try:
        return planner(facts, wheels, catalog)
    except ProvisionError:
        return None
