"""Fixtures for the tests of provision/run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sshd import SSHD, Sshd

from provision.run.ssh import ControlDir


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
