"""A request: what the user asked for, checked for contradictions, before any host is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from provision.model.build import Keep, Source

Origin = Literal["auto", "wheel", "source"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One framework with an optional PEP 440 specifier: "tensorflow", "==2.21"."""

    framework: str
    specifier: str = ""

    def __str__(self) -> str:
        return self.framework + self.specifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    frameworks: tuple[Wanted, ...] = (Wanted(framework="tensorflow"),)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    origin: Origin = "auto"
    cpu: str = "native"
    compute_capabilities: tuple[str, ...] = ()
    """As asked: "8.6", "9.0+PTX"; empty for those of the box."""
    python: str | None = None
    name: str = "default"
    driver: str = "keep"
    """newest | prod | lts | keep | VERSION"""
    driver_module: Literal["auto", "open", "proprietary"] = "auto"
    container_toolkit: bool = False
    """Set Docker up for GPUs as well."""
    force: bool = False
    """Take the nearest known-good for a GPU or release that the catalog does not list."""
    indexes: tuple[str, ...] = ()
    """Further package indexes, asked before PyPI."""
    find_links: tuple[str, ...] = ()
    """Folders or pages with wheels, for closed networks."""
    requirements: tuple[str, ...] = field(default=())
    """Further packages for the same environment."""
    source: Source | None = None
    """Where a source build takes its source from; None for the release's own (its tag, its source distribution)."""
    compiler: str | None = None
    """"gcc", "clang-16", "/opt/llvm/bin/clang"; None for what the release's row says and the host has."""
    cpu_flags: tuple[str, ...] = ()
    """With ``cpu`` "fleet": the flags that every host of the fleet has."""
    cpu_left_out: tuple[str, ...] = ()
    """Likewise, what some hosts have and not all do, and who lacks it: "old lacks avx2, fma", a line for each group."""
    keep: Keep = "faster"
    """Which generation a source build leaves current, where a stock wheel runs on the host too."""
    blas: str | None = None
    """For NumPy from source: "openblas" or "mkl"."""
    accept_mkl_license: bool = False
