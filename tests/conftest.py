"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.places import without_pins

pytest_plugins = ["harness.fixtures", "harness.nvml.fixtures"]


# Ctrl-C is tried on real programs, and a shell starts what it puts in the background (`./run test &`) deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Numerical libraries choose as on a user's machine, whatever the environment of the test run pins. Here and not in a
# fixture: session fixtures train and install too, before any test's own fixtures.
for name in os.environ.keys() - without_pins(os.environ).keys():
    del os.environ[name]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="rewrite the expected text under tests/, then review it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: one that is begun last keeps a single worker busy while the others have no more."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """``golden(path, text)`` asserts that the file ``path`` holds ``text``; with --update-golden it writes it."""

    def check(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-golden, and review what it wrote"
        assert text == path.read_text(encoding="utf-8"), (
            f"{path} differs: run pytest --update-golden, and review the diff"
        )

    return check


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared beside the checkout, with readings of real machines; tests that need it are skipped else."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("there is no folder ../shared beside the checkout")
    return folder
