"""Fixtures for the tests of provision/run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sshd import SSHD, Sshd

from provision.run.ssh import ControlDir

PLAY = """
- name: Test
  hosts: provision_targets
  gather_facts: false
  environment: {PROVISION_RUN: "{{ provision_run_id }}"}
  tasks:
"""


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """``sshd(*settings)`` starts one more SSH server on loopback; they end with the test."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("there is no OpenSSH server and client (Debian: apt install openssh-server)")
    started: list[Sshd] = []

    def start(*settings: str, **more: Any) -> Sshd:
        started.append(Sshd(tmp_path / f"sshd{len(started)}", settings=settings, **more))
        return started[-1].start()

    yield start
    for each in started:
        each.stop()


@pytest.fixture
def control_dir() -> Iterator[str]:
    with ControlDir() as folder:
        yield folder


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private folders of these tests are made."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def book(tmp_path: Path) -> Callable[[str], Path]:
    def write(tasks: str) -> Path:
        path = tmp_path / "book.yml"
        path.write_text(PLAY + tasks)
        return path

    return write
