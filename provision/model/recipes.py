"""How a release is built from source: the catalog's recipes and the tables that they share, typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from provision.model.build import Engine

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerLimit:
    """Compilers of one family that a release builds with. A family without a limit is not known to fail."""

    family: Literal["gcc", "clang"]
    oldest: str | None
    """The first version that works; None: no bound is known."""
    below: str | None
    """The first version that fails ("13": every 13.x)."""
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecipe:
    """How a release is built from source. ``values`` are notes of the release row that nothing here reads."""

    bazel: str | None
    compiler: str | None
    """What the release was built with, "Clang 18.1.8": of several that fit, the nearest to it is taken."""
    cuda: str | None
    cudnn: str | None
    values: Mapping[str, Any]
    source: tuple[str, ...]
    engine: Engine = "bazel"
    limits: tuple[CompilerLimit, ...] = ()
    repository: str | None = None
    """Address of the git repository; None where the source is the index's source distribution."""
    tag: str = "v{version}"
    target: str = ""
    """Bazel's: "//tensorflow/tools/pip_package:wheel"."""
    wheel_argv: tuple[str, ...] = ()
    """What packs the wheel after `bazel build`, run in the tree; empty where the target is the wheel."""
    wheel_folder: str = "{wheels}"
    distributions: tuple[str, ...] = ()
    hermetic_cuda: bool = False
    """Downloads CUDA by itself: the box needs no toolkit."""
    hermetic_compiler: bool = False
    """Downloads its own LLVM and C library unless told to use the box's compiler."""
    hermetic_python: bool = False
    """Downloads the interpreter that it compiles against: the box needs no headers."""
    shared_tools: bool = False
    """Tools that run during the build are compiled with the target's options, unless told otherwise."""
    build_requirements: tuple[str, ...] = ()
    """Packages for the build's interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """What a row of a build table holds for. Empty fields hold for everything."""

    first: str | None = None
    """The first series, "2.14"."""
    last: str | None = None
    """The last series, itself included."""
    device: Device | None = None
    compiler: Literal["gcc", "clang", "own"] | None = None
    """"own": the toolchain that the release downloads."""
    compiler_from: str | None = None
    compiler_below: str | None = None
    elsewhere: bool = False
    """Only for a build that the host itself cannot run."""
    without: tuple[str, ...] = ()
    """Only where the target lacks one of these CPU flags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildVariable:
    """An environment variable of a build. Braces: see provision/resolve/build.py."""

    name: str
    value: str
    why: str
    source: tuple[str, ...]
    when: When = field(default_factory=When)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOption:
    """An option of `bazel build`."""

    option: str
    why: str
    source: tuple[str, ...]
    when: When = field(default_factory=When)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfiguredLine:
    """A line that configure writes when it took what it was told (runs of blanks count as one)."""

    line: str
    source: tuple[str, ...]
    when: When = field(default_factory=When)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTool:
    """A program that the build calls."""

    name: str
    why: str
    package: str
    source: tuple[str, ...]
    when: When = field(default_factory=When)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFeature:
    """What a build calls a set of CPU flags: "X86_V3"."""

    name: str
    flags: tuple[str, ...]
    source: tuple[str, ...]
    when: When = field(default_factory=When)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTable:
    """What the builds of one framework are told, row by row."""

    variables: tuple[BuildVariable, ...] = ()
    options: tuple[BuildOption, ...] = ()
    lines: tuple[ConfiguredLine, ...] = ()
    tools: tuple[BuildTool, ...] = ()
    forbidden: tuple[ConfiguredLine, ...] = ()
    """Texts that no line may have: what configure writes when it fell back to a default."""
    features: tuple[CpuFeature, ...] = ()
