"""All tables into one Catalog: which file holds which rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from provision.catalog.load import read_chips
from provision.catalog.nvidia import package_table
from provision.catalog.releases import framework_releases
from provision.catalog.rows import FOLDER, make, make_all, table
from provision.model.catalog import (
    Catalog,
    CompilerFlag,
    CpuLevel,
    CudaRelease,
    CudnnRelease,
    DriverBranch,
    GpuArchitecture,
    GpuFormats,
    KernelRules,
    Microarchitecture,
    OpenModules,
    Pin,
    RejectedOption,
    Release,
)
from provision.model.recipes import BuildOption, BuildTable, BuildTool, BuildVariable, ConfiguredLine, CpuFeature

FRAMEWORKS = ("tensorflow.toml", "keras.toml", "pytorch.toml", "jax.toml", "numpy.toml")
"""In the order that messages list them; the first is what a request without a framework gets."""

ROWS: dict[str, tuple[str, str, type[Any]]] = {
    "pins": ("pins.toml", "pin", Pin),
    "cuda": ("cuda.toml", "cuda", CudaRelease),
    "gpu_architectures": ("cuda.toml", "architecture", GpuArchitecture),
    "cudnn": ("cudnn.toml", "cudnn", CudnnRelease),
    "branches": ("drivers.toml", "branch", DriverBranch),
    "formats": ("formats.toml", "formats", GpuFormats),
    "compiler_flags": ("cpu_flags.toml", "flag", CompilerFlag),
    "levels": ("cpu_flags.toml", "level", CpuLevel),
    "rejected_options": ("cpu_flags.toml", "rejected", RejectedOption),
}
"""By field of Catalog: the file, the name of its [[rows]], and what a row becomes."""

BUILDS = {
    "tensorflow": "tensorflow_configure.toml",
    "pytorch": "pytorch_build.toml",
    "numpy": "numpy_build.toml",
}
"""By framework: what its source builds are told."""

BUILD_ROWS: dict[str, tuple[str, type[Any]]] = {
    "variables": ("variable", BuildVariable),
    "options": ("option", BuildOption),
    "lines": ("line", ConfiguredLine),
    "tools": ("tool", BuildTool),
    "forbidden": ("forbidden", ConfiguredLine),
    "features": ("feature", CpuFeature),
}
"""By field of BuildTable: the name of the [[rows]], and what a row becomes."""

SINGLES = {"cuda.toml": ("kernel_rules",), "drivers.toml": ("architectures", "open_modules")}
"""By file: its parts that are not [[rows]]."""


def read(folder: Path = FOLDER) -> Catalog:
    """Raises CatalogBroken where a table or a row is not as it should be."""
    files = {name: table(name, folder, _keys(name)) for name in sorted({file for file, _, _ in ROWS.values()})}
    rows: dict[str, Any] = {
        field: make_all(kind, files[file].get(key), file, key) for field, (file, key, kind) in ROWS.items()
    }
    releases: list[Release] = []
    aliases: dict[str, str] = {}
    for name in FRAMEWORKS:
        found, others = framework_releases(name, folder)
        releases += found
        aliases |= dict.fromkeys(others, found[0].framework)
    cuda, drivers = files["cuda.toml"], files["drivers.toml"]
    return Catalog(
        **rows,
        releases=tuple(releases),
        aliases=aliases,
        architectures=make(tuple[str, ...], drivers.get("architectures"), "drivers.toml", "architectures"),
        kernel_rules=make(KernelRules, cuda.get("kernel_rules"), "cuda.toml", "[kernel_rules]"),
        open_modules=make(OpenModules, drivers.get("open_modules"), "drivers.toml", "[open_modules]"),
        chips=read_chips(folder),
        builds={framework: read_build(name, folder) for framework, name in BUILDS.items()},
        packages=package_table,
    )


def read_build(name: str, folder: Path = FOLDER) -> BuildTable:
    content = table(name, folder, [key for key, _ in BUILD_ROWS.values()])
    rows: dict[str, Any] = {
        field: make_all(kind, content[key], name, key) for field, (key, kind) in BUILD_ROWS.items() if key in content
    }
    return BuildTable(**rows)


def read_microarchitectures(folder: Path = FOLDER) -> tuple[Microarchitecture, ...]:
    name, key = "microarchitectures.toml", "microarchitecture"
    return make_all(Microarchitecture, table(name, folder, (key,)).get(key), name, key)


def _keys(name: str) -> list[str]:
    return [key for file, key, _ in ROWS.values() if file == name] + list(SINGLES.get(name, ()))
