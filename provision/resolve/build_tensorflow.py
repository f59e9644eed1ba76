"""TensorFlow's source build: configure with every question answered, then `bazel build`."""

from __future__ import annotations

from provision.model.build import BazelCall, Build, Configure
from provision.resolve.build_parts import PLACE, common, tools
from provision.resolve.told import Told

MEMORY_MIB_PER_JOB = 2048
"""facts/build_pitfalls.md: a compile action takes about 2 GiB; 2.13 with 4 jobs took 8 GB in all."""


def tensorflow(told: Told) -> Build:
    recipe, table = told.recipe, told.table
    environment = {row.name: told.filled(row.value) for row in told.rows(table.variables)}
    return Build(
        **common(told),
        engine="bazel",
        environment=environment,
        build_requirements=recipe.build_requirements,
        configure=Configure(
            argv=("{python}", "configure.py"),
            environment=environment,
            writes=".tf_configure.bazelrc",
            expected=_expected(told),
            forbidden=_forbidden(told),
        ),
        bazel=BazelCall(
            version=told.source.bazel or recipe.bazel,
            options=bazel_options(told),
            target=recipe.target,
            wheel_argv=recipe.wheel_argv,
            wheel_folder=recipe.wheel_folder,
        ),
        needs=PLACE["tensorflow"].needs(
            told,
            memory_mib_per_job=MEMORY_MIB_PER_JOB,
            tools=tools(told),
            headers=() if recipe.hermetic_python else ("Python.h",),
        ),
        shared_tools=recipe.shared_tools,
    )


def bazel_options(told: Told) -> tuple[str, ...]:
    """Of `bazel build`: the table's rows, then one for each CPU flag."""
    rows = tuple(told.filled(row.option) for row in told.rows(told.table.options))
    return (*rows, *_cpu_options(told))


def _cpu_options(told: Told) -> tuple[str, ...]:
    options = [each.option for each in told.copts]
    if told.facts.cpu.arch == "aarch64":
        # XNNPACK has -march options of its own, for each of its files, and must not lose them
        # (https://github.com/google/XNNPACK/issues/5566; EasyBuild's easyblock for TensorFlow does the same)
        return tuple(f"--per_file_copt=-.*XNNPACK/.*@{option}" for option in options)
    for_tools = options if told.recipe.shared_tools and told.runs_here else []
    return (*(f"--copt={option}" for option in options), *(f"--host_copt={option}" for option in for_tools))


def _expected(told: Told) -> tuple[str, ...]:
    """Lines that configure must have written. It writes a compiler's real path, which is not known of one that nobody
    has looked at yet."""
    rows = told.rows(told.table.lines)
    return tuple(told.filled(row.line) for row in rows if not ("{compiler}" in row.line and told.choice.assumed))


def _forbidden(told: Told) -> tuple[str, ...]:
    rows = [told.filled(row.line) for row in told.rows(told.table.forbidden)]
    asked = _expected(told)
    return tuple(text for text in rows if not any(text in line for line in asked))
