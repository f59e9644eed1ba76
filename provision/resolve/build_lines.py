"""What a source build is told, line by line, for the plan: each thing with its reason."""

from __future__ import annotations

from collections.abc import Iterator

from provision.model.build import BazelCall, Build
from provision.resolve.told import Told


def build_lines(told: tuple[Told, ...], built: tuple[Build, ...]) -> tuple[str, ...]:
    return tuple(line for each, build in zip(told, built, strict=True) for line in _lines(each, build))


def _lines(told: Told, build: Build) -> Iterator[str]:
    yield f"source: {build.source}"
    if build.bazel is not None:
        yield f"Bazel {build.bazel.version or 'that the tree names'}, which the tree's own .bazelversion overrules"
    yield f"compiler: {build.compiler} ({build.compiler.path})" if build.compiler else f"compiler: {told.choice.reason}"
    yield from (f"{each.option}: {each.reason}" for each in build.copts)
    if not build.copts:
        yield f"no CPU options: {_why_none(told)}"
    if build.device == "cuda":
        cudnn = told.candidate.build.cudnn
        yield (
            f"CUDA {told.candidate.build.cuda}, cuDNN {cudnn or 'of that CUDA'}, "
            f"for compute capability {', '.join(told.capabilities)}"
        )
    if build.build_requirements:
        yield f"Python {build.python} with {', '.join(build.build_requirements)}"
    yield from _variables(told, build)
    yield from _command(told, build)
    yield f"at least {_gib(build.needs.disk_mib)} of disk (a margin, not a measured figure), " + (
        f"{_gib(build.needs.tmp_mib)} of them in TMPDIR, and {build.needs.memory_mib_per_job} MiB of memory a job"
    )


def _why_none(told: Told) -> str:
    if told.target.flags is None:
        return "this CPU's flags are not known"
    if told.request.cpu == "generic":
        return "--cpu generic is the compiler's own default"
    return f"no option in the catalog is for a flag of {told.request.cpu}"


TOOLS = ("CC", "CXX", "CFLAGS", "CXXFLAGS")
"""Variables whose values have been given reasons already, option by option."""


def _variables(told: Told, build: Build) -> Iterator[str]:
    rows = {row.name: row for row in told.rows(told.table.variables)} if build.engine == "setuptools" else {}
    alone = {name: row for name, row in rows.items() if name not in TOOLS}
    shown = " ".join(f"{name}={_quoted(value)}" for name, value in build.environment.items() if name not in alone)
    if build.configure is not None:
        yield f"configure, asked nothing: {shown}"
        yield f"then {build.configure.writes} is read back: {len(build.configure.expected)} lines must be in it"
    elif shown:
        yield f"environment: {shown}"
    for name, row in rows.items():
        if name in alone:
            yield f"{name}={_quoted(build.environment[name])}: {row.why}"
        elif row.when.without:
            yield f"{name}: {row.why}"


def _command(told: Told, build: Build) -> Iterator[str]:
    if build.bazel is not None:
        yield f"bazel build {' '.join(_shortened(build, build.bazel))} {build.bazel.target}"
        why = {told.filled(row.option): row.why for row in told.rows(told.table.options)}
        yield from (f"{option}: {reason}" for option, reason in why.items())
        if build.bazel.wheel_argv:
            yield f"wheel: {' '.join(build.bazel.wheel_argv)}"
        else:
            yield f"wheel: in {build.bazel.wheel_folder}"
    if build.argv:
        yield f"command: {' '.join(build.argv)}"
    for setting, row in zip(build.config_settings, told.rows(told.table.options), strict=False):
        yield f"{setting}: {row.why}"


def _shortened(build: Build, bazel: BazelCall) -> Iterator[str]:
    """The options, without a line for each CPU option that was shown with its reason already."""
    shown = {each.option for each in build.copts}
    for option in bazel.options:
        name, _, value = option.partition("=")
        if value in shown and value != build.copts[0].option:
            continue
        yield f"{name}=OPTION (each of the above)" if value in shown else option


def _quoted(value: str) -> str:
    return f'"{value}"' if not value or " " in value else value


def _gib(mib: int) -> str:
    return f"{mib / 1024:.3g} GiB"
