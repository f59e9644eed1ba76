"""What images are made from and what they may lose, read when an image is planned."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table
from provision.model.image import Distribution, SlimRule

FILE = "images.toml"
KEYS = ("distribution", "slim")


@lru_cache(maxsize=1)
def distributions() -> tuple[Distribution, ...]:
    """What an image can be based on, oldest first. Raises CatalogBroken where a row is not as it should be."""
    return read_distributions(FOLDER)


@lru_cache(maxsize=1)
def slim_rules() -> tuple[SlimRule, ...]:
    """What may go from an environment. Raises CatalogBroken likewise."""
    return read_slim_rules(FOLDER)


def read_distributions(folder: Path) -> tuple[Distribution, ...]:
    return make_all(Distribution, table(FILE, folder, keys=KEYS).get("distribution"), FILE, "distribution")


def read_slim_rules(folder: Path) -> tuple[SlimRule, ...]:
    return make_all(SlimRule, table(FILE, folder, keys=KEYS).get("slim"), FILE, "slim")
