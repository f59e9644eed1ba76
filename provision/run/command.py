"""The one module that starts processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from provision.errors import StepFailed

TAIL_LINES = 20


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
    timeout_s: float | None = None,
) -> Completed:
    """Run ``argv`` (never through a shell) and wait. ``env`` is added to the environment.

    A program that is not there is status 127, one that outlives ``timeout_s`` is killed with its children and is
    status 124: both with a message on ``stderr``, so that callers have one thing to look at.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env} if env is not None else None,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches us alone, and we decide what to stop
        )
    except OSError as error:
        return Completed(argv=tuple(argv), status=127, stdout="", stderr=f"{argv[0]}: {error.strerror}")
    try:
        stdout, stderr = process.communicate(stdin, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        kill_group(process.pid)
        stdout, stderr = process.communicate()
        return Completed(
            argv=tuple(argv), status=124, stdout=stdout, stderr=f"{stderr}\n{argv[0]}: no answer within {timeout_s:g} s"
        )
    except BaseException:
        kill_group(process.pid)
        process.communicate()
        raise
    return Completed(argv=tuple(argv), status=process.returncode, stdout=stdout, stderr=stderr)


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that ``run`` made for ``pid``; nothing where it is gone already."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
