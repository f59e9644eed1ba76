"""The table of failure signatures, read when doctor asks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table
from provision.model.diagnosis import KnownFailure

FILE, KEY = "diagnostics.toml", "failure"


@lru_cache(maxsize=1)
def diagnostics() -> tuple[KnownFailure, ...]:
    """In the order in which they are told. Raises CatalogBroken where a row is not as it should be."""
    return read_diagnostics(FOLDER)


def read_diagnostics(folder: Path) -> tuple[KnownFailure, ...]:
    return make_all(KnownFailure, table(FILE, folder, keys=(KEY,)).get(KEY), FILE, KEY)
