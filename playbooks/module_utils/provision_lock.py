"""One run at a time on an environment. The kernel lets go of the lock when its holder dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_failure import Failure, os_failure

POLL_S = 0.2


def holder_text(raw: str, name: str) -> str:
    """Who works on environment ``name``, from what the holder wrote into the lock file (nothing, if it just began)."""
    try:
        found: Any = json.loads(raw)
    except ValueError:
        found = {}
    found = found if isinstance(found, dict) else {}
    parts = []
    if found.get("pid"):
        parts.append(f"pid {found['pid']}" + (f" on {found['host']}" if found.get("host") else ""))
    if found.get("since"):
        parts.append(f"since {found['since']}")
    if found.get("controller"):
        parts.append(f"started by {found['controller']}")
    who = f" ({', '.join(parts)})" if parts else ""
    return f"another provision run{who} is working on environment {name}"


def _open(path: Path, create: bool) -> int:
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _still_the_file(handle: int, path: Path) -> bool:
    """False where the environment, and the lock file with it, was removed while we waited."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(handle: int) -> str:
    return os.pread(handle, 4096, 0).decode("utf-8", "replace")


def _acquire(path: Path, name: str, timeout_s: float, waiting: Callable[[str], None], create: bool) -> int:
    deadline = time.monotonic() + timeout_s

    def wait(handle: int) -> None:
        while not _try_lock(handle):
            holder = holder_text(_read(handle), name)
            if time.monotonic() >= deadline:
                hint = "wait until it has ended, or stop it, and run the same command again"
                raise Failure("locked", holder, f"waited {timeout_s:g} s for {path}", hint)
            waiting(holder)
            time.sleep(POLL_S)

    while True:
        handle = _open(path, create)
        try:
            wait(handle)
            if _still_the_file(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


@contextlib.contextmanager
def locked(
    path: Path,
    name: str,
    owner: Mapping[str, Any],
    timeout_s: float,
    waiting: Callable[[str], None],
    *,
    create: bool = False,
) -> Iterator[int]:
    """Hold the lock file ``path`` of environment ``name``; gives its descriptor, for children to hold as well.

    ``owner`` is written into it. ``waiting`` hears, again and again, who has it. ``create`` makes the environment's
    folder where it is missing. Raises Failure after ``timeout_s``, where the file system cannot lock, and where there
    is no such environment (any more: somebody may have removed it while we waited).
    """
    try:
        handle = _acquire(path, name, timeout_s, waiting, create)
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, (json.dumps(dict(owner)) + "\n").encode(), 0)
        except BaseException:
            os.close(handle)
            raise
    except FileNotFoundError as error:
        raise Failure(
            "no_generation", f"there is no environment {name}", f"looked for {path.parent}", "see `provision env list`"
        ) from error
    except OSError as error:
        raise os_failure(error, f"lock environment {name}") from error
    try:
        yield handle
    finally:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
        os.close(handle)
