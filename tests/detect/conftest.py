"""What the tests of detection share: the catalog's chip table, and readings from a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.model.chips import Chips
from provision.model.facts import Facts
from provision.model.readings import Readings
from provision.run.dump import read_dump

FactsOf = Callable[[Mapping[str, str]], Facts]


@pytest.fixture(scope="session")
def chip_table() -> Chips:
    return chips()


@pytest.fixture(scope="session")
def facts_of(chip_table: Chips) -> FactsOf:
    """Facts from readings given as {name: text}."""
    return lambda files: host_facts(Readings(dict(files)), chip_table, host="test")


@pytest.fixture(scope="session")
def real(shared: Path) -> Callable[[str], Readings]:
    """Readings of one machine in ../shared/hosts."""
    return lambda name: read_dump(shared / "hosts" / name)
