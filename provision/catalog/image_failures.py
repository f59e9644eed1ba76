"""The table of what goes wrong with images, read when something has failed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table
from provision.model.diagnosis import KnownFailure

FILE, KEY = "image_failures.toml", "failure"


@lru_cache(maxsize=1)
def image_failures() -> tuple[KnownFailure, ...]:
    """Those of builds, pulls and pushes. Raises CatalogBroken where a row is not as it should be."""
    return read_image_failures(FOLDER)


def read_image_failures(folder: Path) -> tuple[KnownFailure, ...]:
    return make_all(KnownFailure, table(FILE, folder, keys=(KEY,)).get(KEY), FILE, KEY)
