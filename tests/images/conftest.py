"""What the tests of images share: an engine as provision reaches it, and what has to be gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.engine import Engine as HarnessEngine

from provision.run.images.engine import Engine, connect


@pytest.fixture(scope="module")
def mine(engine: HarnessEngine) -> Iterator[Engine]:
    """The harness's engine, reached as provision reaches it."""
    with connect(environ=engine.environment()) as found:
        yield found
