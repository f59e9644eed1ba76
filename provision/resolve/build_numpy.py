"""NumPy's source build: its source distribution, built by its own meson against a BLAS of choice."""

from __future__ import annotations

from provision.model.build import Build
from provision.resolve.build_parts import PLACE, common, tools
from provision.resolve.told import Told

MEMORY_MIB_PER_JOB = 1024
"""Not a sourced figure: NumPy's largest files are its SIMD loops."""
BUILT_BY = {"1.26": ("Cython>=0.29.34,<3.1", "meson-python>=0.15,<0.16", "ninja")}
BUILT_BY_NEWER = ("Cython>=3.0.6", "meson-python>=0.18", "ninja")
"""What the sources' own pyproject.toml ask for. It is named here, so that the backend runs in the build environment,
where MKL's packages can lie beside it and its output outlasts a build that was stopped."""
MKL = ("mkl", "mkl-devel")
RUNS_BESIDE = "-Wl,-rpath,$ORIGIN/../../../.."
"""From site-packages/numpy/_core to the environment's lib, where the wheel of MKL puts its libraries."""


def numpy(told: Told) -> Build:
    mkl = told.request.blas == "mkl"
    environment = {row.name: told.filled(row.value) for row in told.rows(told.table.variables)}
    if mkl:
        environment |= {"PKG_CONFIG_PATH": "{site}/../../pkgconfig", "LDFLAGS": RUNS_BESIDE}
    return Build(
        **common(told),
        engine="uv",
        environment=environment,
        build_requirements=(
            *BUILT_BY.get(told.candidate.release.series, BUILT_BY_NEWER),
            *(MKL if mkl else ()),
        ),
        config_settings=_settings(told),
        needs=PLACE["numpy"].needs(
            told,
            memory_mib_per_job=MEMORY_MIB_PER_JOB,
            tools=tools(told),
            headers=("Python.h",) if mkl else ("Python.h", "cblas.h"),
        ),
        blas=blas_of(told),
    )


def blas_of(told: Told) -> str:
    return told.request.blas or "openblas"


def _settings(told: Told) -> tuple[str, ...]:
    words = {"{blas}": blas_of(told), "{baseline}": baseline(told), "{dispatch}": _dispatch(told)}
    found = []
    for row in told.rows(told.table.options):
        text = told.filled(row.option)
        for word, value in words.items():
            text = text.replace(word, value)
        found.append(text)
    return tuple(found)


def baseline(told: Told) -> str:
    """NumPy's names of what the target has. "min", its own choice, is more than an old CPU has: there it is "none"."""
    flags = told.target.flags
    if flags is None or told.request.cpu == "generic":
        return "min"
    used = {flag for each in told.copts for flag in each.flag.split(",")}
    if told.facts.cpu.arch != "x86_64":
        return "min"
    return " ".join(row.name for row in told.rows(told.table.features) if set(row.flags) <= used) or "none"


def _dispatch(told: Told) -> str:
    known = told.target.flags is not None and told.request.cpu != "generic" and told.facts.cpu.arch == "x86_64"
    return "none" if known else "max"
