"""The one module that starts processes."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO

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


class Running:
    """A program that runs on while its output is read. ``with`` it, and it ends with the block.

    Its standard input stays open as long as it is wanted: programs that read from it learn from its end that nobody
    listens any more, even when this process was killed.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.stdout: IO[str] = process.stdout if process.stdout is not None else io.StringIO()

    def kill(self) -> None:
        """End it with its children. Safe from another thread than the one that reads."""
        kill_group(self._process.pid)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises TimeoutError."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        with suppress(OSError):  # what it did not read any more
            self._process.stdin.close() if self._process.stdin is not None else None
        self._process.wait()
        self.stdout.close()


def start(
    argv: Sequence[str], *, stdin: str = "", env: Mapping[str, str] | None = None, unset: Collection[str] = ()
) -> Running:
    """Start ``argv`` and give it ``stdin`` (at most what a pipe holds, 64 KiB), without waiting; stderr is dropped.

    Raises StepFailed where there is no such program.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(env or {}, unset),
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise StepFailed(what=f"cannot start {argv[0]}", why=error.strerror or str(error)) from error
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # ended already: its output says why
            process.stdin.write(stdin)
            process.stdin.flush()
    return Running(process)


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
