"""The one module that starts processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from provision.errors import StepFailed

TAIL_LINES = 20
TIMED_OUT = 124
CANCELLED = 130
CANCEL_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    argv: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.status == 0

    def check(self, what: str, hint: str = "") -> Completed:
        """Itself, or StepFailed with the command, its status and its last output."""
        if self.ok:
            return self
        tail = "\n".join((self.stderr.strip() or self.stdout.strip()).splitlines()[-TAIL_LINES:])
        raise StepFailed(what=what, why=f"`{shlex.join(self.argv)}` exited {self.status}\n{tail}".rstrip(), hint=hint)


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    unset: Collection[str] = (),
    timeout_s: float | None = None,
    cancel: threading.Event | None = None,
) -> Completed:
    """Run ``argv`` (never through a shell) and wait. ``env`` is added to the environment, ``unset`` taken out of it.

    A program that is not there is status 127, one that outlives ``timeout_s`` is killed with its children and is
    status 124, one that ``cancel`` stopped is killed likewise and is status 130: each with a message on ``stderr``,
    so that callers have one thing to look at.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env or {}, unset),
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches us alone, and we decide what to stop
        )
    except OSError as error:
        return Completed(argv=tuple(argv), status=127, stdout="", stderr=f"{argv[0]}: {error.strerror}")
    with _killed_on(cancel, process.pid):
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            kill_group(process.pid)
            stdout, stderr = process.communicate()
            return _stopped(argv, TIMED_OUT, stdout, stderr, f"no answer within {timeout_s:g} s")
        except BaseException:
            kill_group(process.pid)
            process.communicate()
            raise
    if cancel is not None and cancel.is_set() and process.returncode == -signal.SIGKILL:
        return _stopped(argv, CANCELLED, stdout, stderr, "interrupted")
    return Completed(argv=tuple(argv), status=process.returncode, stdout=stdout, stderr=stderr)


def _stopped(argv: Sequence[str], status: int, stdout: str, stderr: str, reason: str) -> Completed:
    return Completed(argv=tuple(argv), status=status, stdout=stdout, stderr=f"{stderr}\n{argv[0]}: {reason}")


def environment(add: Mapping[str, str], unset: Collection[str]) -> dict[str, str]:
    """This process's environment with ``add`` in it and without ``unset``."""
    return {name: value for name, value in {**os.environ, **add}.items() if name not in unset}


@contextmanager
def _killed_on(cancel: threading.Event | None, pid: int) -> Iterator[None]:
    """Kill the process group of ``pid`` as soon as ``cancel`` is set.

    A thread, since communicate() loses what was not sent yet when it is called again after a timeout (Python 3.11).
    """
    if cancel is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(CANCEL_POLL_S):
            if cancel.is_set():
                kill_group(pid)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that ``run`` made for ``pid``; nothing where it is gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
