"""An outcome of packages, and its record, where a run is killed in the middle of the package manager's work."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import playbook_target  # noqa: F401  makes ansible.module_utils.provision_* importable
import pytest
from ansible.module_utils import provision_packages_state as state

ALONG = ["cuda-nvcc-12-6", "cuda-toolkit-12-6", "cuda-toolkit-12-6-config-common"]


class Fragile:
    """apt, whose user is killed in the middle of its work; it goes on to its end by itself."""

    def __init__(self) -> None:
        self.there = {"bash"}
        self.removed: list[str] = []

    def installed(self, names: Iterable[str]) -> dict[str, str]:
        asked = set(names) or self.there
        return dict.fromkeys(self.there & asked, "1")

    def broken(self) -> list[str]:
        return []

    def held(self) -> list[str]:
        return []

    def install(self, _: Sequence[tuple[str, str]]) -> None:
        os._exit(9)

    def remove(self, names: Sequence[str]) -> None:
        self.removed += names
        self.there -= set(names)

    def unneeded(self, names: Iterable[str]) -> list[str]:
        return sorted(self.there & set(names))


def test_what_came_along_is_known_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "RECORDS", tmp_path)
    params: dict[str, Any] = {
        "name": "cuda_toolkit", "packages": [{"name": "cuda-toolkit-12-6"}], "repositories": [], "pin": "",
        "pin_names": "", "wanted": [{"name": "cuda-toolkit-12-6", "version": "12.6.3-1"}], "coming": [*ALONG, "bash"],
    }  # fmt: skip
    apt = Fragile()
    pid = os.fork()
    if pid == 0:
        state.present(apt, params, dry=False)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    apt.there |= set(ALONG)
    state.absent(apt, params, dry=False)
    assert sorted(apt.removed) == ALONG
