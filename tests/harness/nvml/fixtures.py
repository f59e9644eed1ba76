"""NVML's player as a fixture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.nvml.player import NoCompiler, NvmlPlayer, player


@pytest.fixture(scope="session")
def nvml_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nvml")


@pytest.fixture
def nvml(tmp_path: Path, nvml_libraries: Path) -> Callable[[str | Path], NvmlPlayer]:
    """``nvml(host)``: NVML answering for a host, by name under tests/hosts, file, or text. Use its ``env``."""

    def play(host: str | Path) -> NvmlPlayer:
        try:
            return player(tmp_path, host, libraries=nvml_libraries)
        except NoCompiler as reason:
            pytest.skip(str(reason))

    return play
