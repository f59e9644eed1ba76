"""What NVIDIA says of its cards' memory and matrix products (gpu_rates.toml), by the product's name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    match: str
    """A pattern to find in the product's name."""
    name: str
    memory_gb_s: float
    """10^9 bytes a second, read and written together."""
    fp32_tflops: float
    """10^12 operations a second, outside the tensor cores."""
    tf32_tflops: float | None
    bf16_tflops: float | None
    """Of the tensor cores, without sparsity and with float32 sums. None where it lacks them, or nobody read it."""
    source: tuple[str, ...]
    notes: str = ""


@lru_cache(maxsize=1)
def cards() -> tuple[Card, ...]:
    """Raises CatalogBroken where a row is not as it should be."""
    return read_cards()


def read_cards(folder: Path = FOLDER) -> tuple[Card, ...]:
    return make_all(Card, table("gpu_rates.toml", folder, ("card",)).get("card"), "gpu_rates.toml", "card")


def card_of(name: str, rows: Iterable[Card] | None = None) -> Card | None:
    """The first row that fits ``name``: as nvidia-smi prints it, or as pci.ids has it."""
    return next((card for card in (cards() if rows is None else rows) if re.search(card.match, name)), None)


def cards_of(names: Iterable[str]) -> tuple[Card, ...]:
    """A row for each of ``names`` that has one, each once, in the table's order (the first that fits is taken)."""
    found = {card.match for card in map(card_of, names) if card is not None}
    return tuple(card for card in cards() if card.match in found)
