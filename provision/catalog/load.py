"""The catalog's tables, read once a process."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from provision.catalog.rows import make, make_all, table
from provision.model.chips import Chip, Chips, DeviceRange


@dataclass(frozen=True, slots=True, kw_only=True)
class _DeviceIds:
    ranges: tuple[DeviceRange, ...]
    source: tuple[str, ...]


@lru_cache(maxsize=1)
def chips() -> Chips:
    """The GPU chip table alone. Raises CatalogBroken where a row is not as it should be."""
    rows = table("chips.toml")
    return Chips(
        chips=make_all(Chip, rows.get("chip"), "chips.toml", "chip"),
        ranges=make(_DeviceIds, rows.get("device_ids"), "chips.toml", "[device_ids]").ranges,
    )
