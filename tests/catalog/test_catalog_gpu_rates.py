"""The table of what cards can reach: rows that hang together, and the right one for a name."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from provision.catalog.gpu_rates import Card, card_of, cards, cards_of, read_cards
from provision.catalog.rows import FOLDER, table
from provision.errors import CatalogBroken


def test_every_row_reads_alike_with_pydantic() -> None:
    """The catalog's own reader must not become the laxer one."""
    rows = [
        {key: None if value == "" and key.endswith("_tflops") else value for key, value in row.items()}
        for row in table("gpu_rates.toml")["card"]
    ]
    assert TypeAdapter(tuple[Card, ...]).validate_python(rows) == cards()


def test_every_row_has_a_source_and_says_where_it_was_not_read() -> None:
    for card in cards():
        assert card.source, card.name
        if any("not read" in text for text in card.source):
            assert "UNCONFIRMED" in card.notes, card.name


def test_figures_hang_together() -> None:
    """bf16 is twice tf32 on every tensor core, and no format is slower than fp32 outside them, but for the A10G."""
    for card in cards():
        assert 40 <= card.memory_gb_s <= 8000, card.name
        assert 1 <= card.fp32_tflops <= 130, card.name
        assert (card.tf32_tflops is None) == (card.bf16_tflops is None), card.name
        if card.tf32_tflops is not None and card.bf16_tflops is not None:
            assert card.bf16_tflops == pytest.approx(2 * card.tf32_tflops, rel=0.03), card.name
            assert card.tf32_tflops >= card.fp32_tflops, card.name


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 SXM"),
        ("NVIDIA H100 PCIe", "NVIDIA H100 PCIe"),
        ("NVIDIA H100 NVL", "NVIDIA H100 NVL"),
        ("NVIDIA H200", "NVIDIA H200"),
        ("NVIDIA B200", "NVIDIA B200"),
        ("NVIDIA A100-SXM4-80GB", "NVIDIA A100 SXM 80GB"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 PCIe 80GB"),
        ("A100-PCIE-40GB", "NVIDIA A100 40GB"),
        ("Tesla V100-SXM2-16GB", "NVIDIA Tesla V100 SXM"),
        ("Tesla P100-PCIE-16GB", "NVIDIA Tesla P100 PCIe 16GB"),
        ("Tesla T4", "NVIDIA Tesla T4"),
        ("Tesla K80", "NVIDIA Tesla K80"),
        ("NVIDIA L40S", "NVIDIA L40S"),
        ("NVIDIA L40", "NVIDIA L40"),
        ("NVIDIA L4", "NVIDIA L4"),
        ("NVIDIA A10", "NVIDIA A10"),
        ("NVIDIA A10G", "NVIDIA A10G"),
        ("GeForce GTX 960", "NVIDIA GeForce GTX 960"),
        ("NVIDIA GeForce GTX 1060 6GB", "NVIDIA GeForce GTX 1060"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "NVIDIA GeForce RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 4070 Ti", "NVIDIA GeForce RTX 4070 Ti"),
        ("NVIDIA GeForce RTX 4070", "NVIDIA GeForce RTX 4070"),
        ("NVIDIA GeForce RTX 5090", "NVIDIA GeForce RTX 5090"),
        ("NVIDIA RTX A6000", "NVIDIA RTX A6000"),
        ("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada"),
        ("Quadro RTX 5000", "NVIDIA Quadro RTX 5000"),
        ("NVIDIA GB10", "NVIDIA GB10"),
    ],
)
def test_a_card_by_its_name(name: str, found: str) -> None:
    card = card_of(name)
    assert card is not None
    assert card.name == found


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 3070 Laptop GPU",
        "NVIDIA GeForce RTX 3070 Ti Laptop GPU",
        "NVIDIA GeForce RTX 2080 with Max-Q Design",
        "NVIDIA GeForce RTX 5090 D",
        "NVIDIA GeForce RTX 3050 Ti",
        "GeForce GTX 960M",
        "GeForce GTX 960 OEM",
        "NVIDIA GeForce GTX 1060 3GB",
        "Orin (nvgpu)",
    ],
)
def test_a_card_that_is_like_a_known_one_is_not_taken_for_it(name: str) -> None:
    assert card_of(name) is None


def test_rows_for_a_box_stand_once_each_in_the_tables_order() -> None:
    names = ["Tesla K80", "Tesla K80", "NVIDIA GeForce RTX 4090", "what nobody knows"]
    assert [card.name for card in cards_of(names)] == ["NVIDIA Tesla K80", "NVIDIA GeForce RTX 4090"]


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    text = (FOLDER / "gpu_rates.toml").read_text().replace("memory_gb_s = 1792.0", "memory_gb_s = 1792", 1)
    (tmp_path / "gpu_rates.toml").write_text(text)
    with pytest.raises(CatalogBroken) as caught:
        read_cards(tmp_path)
    assert "gpu_rates.toml, [[card]]" in caught.value.why
    assert "memory_gb_s: 1792 is not a number with a point" in caught.value.why
