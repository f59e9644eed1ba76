"""From what was chosen to what is built: one Build for each framework that comes from source."""

from __future__ import annotations

from collections.abc import Callable

from provision.model.build import Build
from provision.model.catalog import Catalog
from provision.model.request import Request
from provision.resolve.build_numpy import numpy
from provision.resolve.build_pytorch import pytorch
from provision.resolve.build_tensorflow import tensorflow
from provision.resolve.solve import Solution
from provision.resolve.told import Told

BUILDERS: dict[str, Callable[[Told], Build]] = {"tensorflow": tensorflow, "pytorch": pytorch, "numpy": numpy}
"""By framework: what turns its recipe into a Build."""


def told_of(solution: Solution, request: Request, catalog: Catalog) -> tuple[Told, ...]:
    """One for each framework that is built from source, in the order of ``solution.chosen``."""
    return tuple(
        Told(
            candidate=each.candidate,
            facts=solution.driver.facts,
            request=request,
            catalog=catalog,
            python=solution.python,
        )
        for each in solution.chosen
        if each.candidate.source
    )


def builds(told: tuple[Told, ...]) -> tuple[Build, ...]:
    return tuple(BUILDERS[each.candidate.framework](each) for each in told)
