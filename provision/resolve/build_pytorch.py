"""PyTorch's source build: setup.py with everything said by environment variables."""

from __future__ import annotations

from provision.model.build import Build
from provision.resolve.build_parts import PLACE, common, tools
from provision.resolve.pins import requirements
from provision.resolve.told import Told

MEMORY_MIB_PER_JOB = 4096
"""Not a sourced figure: upstream took MAX_JOBS=5 for its own builders after one was killed for memory
(pytorch/builder commit 465d98b0), and the largest of the CPU kernels' files take more than 2 GiB."""


def pytorch(told: Told) -> Build:
    rows = told.rows(told.table.variables)
    # as in the environment that it is for: a NumPy that this CPU cannot load stops the build too
    lines = requirements(told.candidate, told.facts, told.request, told.catalog)
    numpy = [line for line in lines if line.startswith("numpy")] or ["numpy"]
    return Build(
        **common(told),
        engine="setuptools",
        # a later row overrules an earlier one: the table goes from the general to the special
        environment={row.name: told.filled(row.value).strip() for row in rows},
        build_requirements=tuple(sorted({*told.recipe.build_requirements, *numpy})),
        argv=("{python}", "setup.py", "bdist_wheel", "--dist-dir", "{wheels}"),
        needs=PLACE["pytorch"].needs(
            told,
            memory_mib_per_job=MEMORY_MIB_PER_JOB,
            tools=tools(told),
            headers=("Python.h", "cblas.h"),
        ),
    )
