"""The catalog's tables, read once a process.

Rows are checked by the dataclasses' own annotations (``rows``), not by pydantic, which the tests use on the same rows:
reading every table takes about 40 ms, and pydantic's import (30 ms) and schemas (90 ms) would come on top of it, on
every start (4-core virtual machine, Python 3.11; `python benchmarks/catalog_load.py` measures it again).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from provision.catalog.rows import FOLDER, make, make_all, table
from provision.model.chips import Chip, Chips, DeviceRange

if TYPE_CHECKING:
    from provision.model.catalog import Catalog, Microarchitecture


@dataclass(frozen=True, slots=True, kw_only=True)
class _DeviceIds:
    ranges: tuple[DeviceRange, ...]
    source: tuple[str, ...]


@lru_cache(maxsize=1)
def chips() -> Chips:
    """The GPU chip table alone. Raises CatalogBroken where a row is not as it should be."""
    return read_chips(FOLDER)


def read_chips(folder: Path) -> Chips:
    rows = table("chips.toml", folder, keys=("chip", "device_ids", "unmatched"))
    return Chips(
        chips=make_all(Chip, rows.get("chip"), "chips.toml", "chip"),
        ranges=make(_DeviceIds, rows.get("device_ids"), "chips.toml", "[device_ids]").ranges,
    )


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """Every table. Raises CatalogBroken where a row is not as it should be."""
    from provision.catalog.tables import read  # detection, which needs the chips alone, does not pay for the rest

    return read()


@lru_cache(maxsize=1)
def microarchitectures() -> tuple[Microarchitecture, ...]:
    """What compilers call them. Apart from the catalog because only a source build with -march=NAME asks."""
    from provision.catalog.tables import read_microarchitectures

    return read_microarchitectures()
