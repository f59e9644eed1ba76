"""Fixtures of the tests of playbooks/."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from playbook_target import Target, kill_marked
from playbook_wheels import Wheel, wheel


@pytest.fixture(scope="session")
def uv_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """uv's cache, which knows the interpreters after the first test: each would ask them all again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv_cache: Path) -> Iterator[Target]:
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(uv_cache))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    # the interpreter that runs the tests is the one that the environments get
    monkeypatch.setenv("PATH", f"{Path(sys.base_prefix) / 'bin'}:{os.environ['PATH']}")
    made = Target(tmp_path / "data hôme" / "provision", home)
    yield made
    kill_marked(str(made.root))


@pytest.fixture
def demo(target: Target) -> Callable[..., Wheel]:
    """Makes a wheel in the target's folder of wheels."""

    def make(name: str = "demo", version: str = "1.0", files: Mapping[str, str] | None = None) -> Wheel:
        return wheel(target.wheels, name, version, files or {f"{name}/__init__.py": f"VERSION = '{version}'\n"})

    return make
