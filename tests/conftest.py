"""Fixtures for all tests."""

from __future__ import annotations

import os

import pytest
from harness.places import without_pins

pytest_plugins = ["harness.fixtures"]


@pytest.fixture(autouse=True)
def no_pinned_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numerical libraries choose as on a user's machine, whatever the environment of the test run pins."""
    for name in os.environ.keys() - without_pins(os.environ).keys():
        monkeypatch.delenv(name)
