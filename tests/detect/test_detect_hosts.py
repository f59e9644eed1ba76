"""Each dump under tests/hosts gives its facts.json. A new host is a new folder, and --update-golden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provision.detect import host_facts
from provision.model.chips import Chips
from provision.model.data import from_data, to_data, to_json
from provision.model.facts import Facts
from provision.run.dump import read_dump

HOSTS = Path(__file__).resolve().parents[1] / "hosts"
NAMES = sorted(path.name for path in HOSTS.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_facts(name: str, chip_table: Chips, golden: Callable[[Path, str], None]) -> None:
    facts = host_facts(read_dump(HOSTS / name), chip_table, host=name)
    golden(HOSTS / name / "facts.json", to_json(facts))
    assert from_data(Facts, to_data(facts)) == facts


@pytest.mark.parametrize("name", NAMES)
def test_every_dump_says_where_it_is_from(name: str) -> None:
    text = (HOSTS / name / "SOURCE").read_text(encoding="utf-8")
    assert text.startswith("source: ")
    assert ("made by hand" in text) == name.startswith("made-")
