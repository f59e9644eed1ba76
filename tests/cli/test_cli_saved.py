"""Saved plans that cannot be used say why."""

import json

import pytest

from provision.cli.saved import read_plans
from provision.errors import UsageError


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]x", "not JSON"),
        ('{"schema": 99}', "its schema is 99, this version reads 1"),
        ('{"schema": 1, "host": "x"}', "Field required"),
        ('"text"', "is not a saved plan"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path, content, words):
    file = tmp_path / "plan.json"
    file.write_text(content)
    with pytest.raises(UsageError) as stop:
        read_plans(file)
    assert words in stop.value.what + stop.value.why
    assert stop.value.hint == "make it again: provision plan -o plan.json"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError) as stop:
        read_plans(tmp_path / "none.json")
    assert stop.value.why == "No such file or directory"


def test_an_empty_list_is_no_plan(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps([]))
    with pytest.raises(UsageError, match="holds no plan"):
        read_plans(file)
