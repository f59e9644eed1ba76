"""The catalog's rows, typed.

``provision.catalog.load`` makes them from the TOML tables; the resolver reads only these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from provision.model.chips import Chips

Device = Literal["cpu", "cuda"]
Confidence = Literal["binary", "documented", "script", "inferred", "unconfirmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelBuild:
    """One way to install one release from wheels. Together with a Python it is a candidate."""

    name: str
    """"cpu", or the CUDA build's name: "cu126", "cuda12", "and-cuda", "gpu"."""
    device: Device
    requirements: tuple[str, ...]
    """PEP 508 lines with {version} filled in, such as "tensorflow[and-cuda]==2.21.0" or "torch==2.14.1+cu126"."""
    index: str | None
    """Address of the package index that holds it, None for PyPI."""
    archs: tuple[str, ...]
    """Machines it exists for: "x86_64", "aarch64"."""
    cuda: str | None = None
    cudnn: str | None = None
    bundles_cuda: bool = False
    """CUDA and cuDNN come with the requirements (wheels); otherwise the box must have them."""
    kernels: tuple[str, ...] = ()
    """"sm_80" is SASS, "compute_90" is PTX."""
    driver_minimum: str | None = None
    confidence: Confidence = "documented"
    source: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecipe:
    """How a release is built from source. ``values`` are the release row's own fields (Bazel target, wheel command,
    selectors …), kept as the table has them."""

    bazel: str | None
    compiler: str | None
    compiler_limits: tuple[str, ...]
    cuda: str | None
    cudnn: str | None
    values: Mapping[str, Any]
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    framework: str
    version: str
    """The point release that is installed for this row: the newest one."""
    series: str
    """The minor, "2.21": what a user may also ask for."""
    points: tuple[str, ...]
    """Every point release known, oldest first; ``version`` is the last."""
    pythons: tuple[str, ...]
    """Interpreters with wheels, "3.10"."""
    cpu_flags: Mapping[str, tuple[str, ...]]
    """By machine: kernel flag names that the wheels were compiled for and cannot run without."""
    glibc: str | None
    builds: tuple[WheelBuild, ...]
    pins: tuple[str, ...]
    """Requirements that the catalog adds because the package's own metadata lets in what breaks."""
    onednn: str = ""
    """What the wheel already does at run time about newer instructions."""
    recipe: SourceRecipe | None = None
    source: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A requirement added when ``when`` holds, with the reason in plain words."""

    id: str
    requirement: str
    frameworks: tuple[str, ...]
    """Frameworks it applies to; empty for all."""
    below_level: str | None = None
    """Applies to x86-64 CPUs below this level ("x86-64-v2")."""
    below_compute_capability: str | None = None
    """Applies where some GPU is older than this ("7.5")."""
    cuda_major: int | None = None
    why: str = ""
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaRelease:
    version: str
    driver_minimum: str | None
    """Full-feature driver: what PTX JIT needs."""
    driver_minor_compat: str | None
    """Floor under minor-version compatibility; None before CUDA 11."""
    gcc_max: str | None
    capabilities: tuple[str, ...]
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CudnnRelease:
    version: str
    cuda: tuple[str, ...]
    compute_capability_min: str | None
    soname: str | None
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverBranch:
    branch: str
    status: str
    supported: bool
    """Still gets fixes on the catalog's date, or is the newest one that serves old cards (legacy rows say so)."""
    kind: Literal["production", "lts", "new-feature", "legacy", "eol", "unconfirmed"]
    oldest_architecture: str
    newest_architecture: str | None
    newest_seen: str | None
    cuda_api_version: str | None
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerFlag:
    """A CPU flag and the compiler option that uses it."""

    arch: str
    flag: str
    option: str
    level: str | None
    gcc: str | None
    """Oldest GCC shown to take the option."""
    clang: str | None
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    releases: tuple[Release, ...]
    pins: tuple[Pin, ...]
    cuda: tuple[CudaRelease, ...]
    cudnn: tuple[CudnnRelease, ...]
    branches: tuple[DriverBranch, ...]
    architectures: tuple[str, ...]
    """GPU architectures, oldest first: the order in which a driver's oldest and newest are compared."""
    chips: Chips
    compiler_flags: tuple[CompilerFlag, ...]

    def of(self, framework: str) -> tuple[Release, ...]:
        """Releases of one framework, newest first."""
        return tuple(release for release in self.releases if release.framework == framework)

    @property
    def frameworks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(release.framework for release in self.releases))
