"""The GPU chip table as detection needs it: from PCI name or device id to architecture and compute capability."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One rule: the first whose ``match`` (a regular expression on the chip code, such as "GM206") fits wins."""

    match: str
    architecture: str
    compute_capability: str
    open_kernel_modules: bool | None
    last_driver_branch: str | None
    """Newest driver branch that drives the chip; None where the newest branch does."""
    source: tuple[str, ...]
    examples: str = ""
    """Products that carry it."""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRange:
    """PCI device ids ``first`` to ``last`` (both included): the way for a card that pci.ids does not name yet."""

    first: int
    last: int
    architecture: str
    compute_capability: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chips:
    chips: tuple[Chip, ...]
    ranges: tuple[DeviceRange, ...]
