"""A request: what the user asked for, checked for contradictions, before any host is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    force: bool = False
    """Take the nearest known-good for a GPU or release that the catalog does not list."""
    indexes: tuple[str, ...] = ()
    """Further package indexes, asked before PyPI."""
    find_links: tuple[str, ...] = ()
    """Folders or pages with wheels, for closed networks."""
    requirements: tuple[str, ...] = field(default=())
    """Further packages for the same environment."""
