"""The table of known failures, read when something has failed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table
from provision.model.diagnosis import KnownFailure

FILE, KEY = "build_failures.toml", "failure"


@lru_cache(maxsize=1)
def build_failures() -> tuple[KnownFailure, ...]:
    """Those of builds. Raises CatalogBroken where a row is not as it should be."""
    return read_failures(FOLDER)


def read_failures(folder: Path) -> tuple[KnownFailure, ...]:
    return make_all(KnownFailure, table(FILE, folder, keys=(KEY,)).get(KEY), FILE, KEY)
