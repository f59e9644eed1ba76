"""The one module that starts processes."""

from __future__ import annotations

import io
import os
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import IO

from provision.errors import StepFailed

TAIL_LINES = 20
TIMED_OUT = 124
CANCELLED = 130
CANCEL_POLL_S = 0.1
LAST_WORDS_S = 0.5


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
        process = _popen(argv, subprocess.DEVNULL if stdin is None else subprocess.PIPE, subprocess.PIPE, env, unset)
    except OSError as error:
        return Completed(argv=tuple(argv), status=127, stdout="", stderr=f"{argv[0]}: {error.strerror}")
    if stdin is not None and process.stdin is not None:
        threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True).start()
        process.stdin = None  # the thread's: communicate() loses what was not sent yet when it is called again
    try:
        stdout, stderr, stopped = _wait(process, timeout_s, cancel)
    except BaseException:
        _killed(process)
        raise
    if stopped:
        reason = "interrupted" if stopped == CANCELLED else f"no answer within {timeout_s:g} s"
        return Completed(argv=tuple(argv), status=stopped, stdout=stdout, stderr=f"{stderr}\n{argv[0]}: {reason}")
    return Completed(argv=tuple(argv), status=process.returncode, stdout=stdout, stderr=stderr)


def _popen(
    argv: Sequence[str], stdin: int, stderr: int, env: Mapping[str, str] | None, unset: Collection[str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environment(env or {}, unset),
        encoding="utf-8",  # whatever the locale is: hosts have locales of their own
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches us alone, and we decide what to stop
    )


def _feed(pipe: IO[str], text: str) -> None:
    with suppress(BrokenPipeError), pipe:
        pipe.write(text)


def _wait(
    process: subprocess.Popen[str], timeout_s: float | None, cancel: threading.Event | None
) -> tuple[str, str, int]:
    """Output, errors, and why it was stopped (0 where it ended by itself)."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        slice_s = left if cancel is None else min(CANCEL_POLL_S, CANCEL_POLL_S if left is None else left)
        try:
            return *process.communicate(timeout=slice_s), 0
        except subprocess.TimeoutExpired:
            if cancel is not None and cancel.is_set():
                return *_killed(process), CANCELLED
            if deadline is not None and time.monotonic() >= deadline:
                return *_killed(process), TIMED_OUT


def _killed(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill it with its children; what it had said so far.

    A process with a session of its own may keep the pipes open: an SSH master does, until the remote command ends.
    """
    kill_group(process.pid)
    try:
        return process.communicate(timeout=LAST_WORDS_S)
    except subprocess.TimeoutExpired as error:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST_WORDS_S)  # a broken driver may hold it in a system call, where no signal ends it
        return _text(error.stdout), _text(error.stderr)


def _text(said: bytes | str | None) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said or ""


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
        process = _popen(argv, subprocess.PIPE, subprocess.DEVNULL, env, unset)
    except OSError as error:
        raise StepFailed(what=f"cannot start {argv[0]}", why=error.strerror or str(error)) from error
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # ended already: its output says why
            process.stdin.write(stdin)
            process.stdin.flush()
    return Running(process)


def attach(argv: Sequence[str], connection: socket.socket) -> Running:
    """Start ``argv`` with ``connection`` as its standard input and output; stderr is dropped.

    Raises StepFailed where there is no such program.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise StepFailed(what=f"cannot start {argv[0]}", why=error.strerror or str(error)) from error
    return Running(process)


def environment(add: Mapping[str, str], unset: Collection[str]) -> dict[str, str]:
    """This process's environment with ``add`` in it and without ``unset``."""
    return {name: value for name, value in {**os.environ, **add}.items() if name not in unset}


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that ``run`` made for ``pid``; nothing where it is gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
