"""Where the harness keeps things, what a run is called, and the locks that keep parallel runs apart."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

RUN = f"{os.getpid()}-{secrets.token_hex(3)}"
"""Names this process (one xdist worker is one process): containers, folders and labels carry it."""

PINNED_PREFIXES = (
    "OPENBLAS_",
    "MKL_",
    "NVPL_",
    "BLIS_",
    "OMP_",
    "KMP_",
    "GOTO_",
    "TF_",
    "XLA_",
    "JAX_",
    "ONEDNN_",
    "DNNL_",
)
"""Variables that make a numerical library choose something else than it would on a user's machine."""


def without_pins(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` less the variables that pin a numerical library."""
    return {name: value for name, value in environment.items() if not name.startswith(PINNED_PREFIXES)}


def state_folder() -> Path:
    """Shared by all test runs of this user on this machine. Short: Unix sockets below it end at 107 bytes."""
    folder = Path(tempfile.gettempdir()) / f"provision-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def cache_folder() -> Path:
    """What is worth keeping between runs: images and package caches. Safe to delete at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "provision-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the machine-wide lock ``name``. The kernel lets go of it when the process dies."""
    with (state_folder() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> IO[str] | None:
    """The open, locked file, or None where another process holds it. It is held until the file is closed."""
    file = path.open("w")
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


class Run:
    """This process's folder, and the lock that says it is still alive: what a killed run left can be told apart."""

    def __init__(self) -> None:
        runs = state_folder() / "runs"
        runs.mkdir(exist_ok=True)
        lock = try_lock(runs / f"{RUN}.lock")
        assert lock is not None, "a run's name is its own"
        self._lock = lock
        self.folder = state_folder() / RUN
        self.folder.mkdir(mode=0o755)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()


def run_is_alive(name: str) -> bool:
    path = state_folder() / "runs" / f"{name}.lock"
    if not path.exists():
        return False
    lock = try_lock(path)
    if lock is None:
        return True
    lock.close()
    return False


def dead_runs() -> list[str]:
    """Names of runs that ended without cleaning up."""
    found = [path.stem for path in (state_folder() / "runs").glob("*.lock")]
    return [name for name in found if not run_is_alive(name)]
