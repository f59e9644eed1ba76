"""Children of a module: they die with it, and what they print is heard as it comes."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import selectors
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Callable  # that of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_failure import Interrupted

PR_SET_PDEATHSIG = 1
POLL_S = 0.1
AFTERWARDS_S = 0.5
"""How long a child's own children may keep its output open after it has ended."""
TERMINAL_SIZE = (200, 500)
"""Rows and columns: high enough for a progress bar a wheel, wide enough that no message is wrapped."""

TIMED_OUT = 124
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Hear = Callable[[str, bytes], None]
"""Called with "out" or "err" and the bytes."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Inside, a signal to stop raises Interrupted, once: the rest of the ending is left in peace."""

    def stop(number: int, _: object) -> None:
        for one in STOP_SIGNALS:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    before = {one: signal.signal(one, stop) for one in STOP_SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _die_with_parent() -> Callable[[], None] | None:
    """For preexec_fn: the kernel kills the child when this process dies, even by SIGKILL. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def apply() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return apply


def _terminal() -> tuple[int, int]:
    """Both ends of a pseudo-terminal: programs draw progress bars only on one."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *TERMINAL_SIZE, 0, 0))
    return ours, theirs


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    hear: Hear,
    cwd: str | None = None,
    terminal: bool = False,
    timeout_s: float | None = None,
    hold: Sequence[int] = (),
    gently_s: float = 0.0,
) -> int:
    """Run ``argv`` to its end and return its status: negative for a signal, 124 after ``timeout_s``.

    ``terminal`` gives it a pseudo-terminal for both outputs (heard as "out"). ``hold`` are descriptors that the child
    and its children keep open: a lock held by them outlives us as long as they do. Whatever is left of its process
    group is killed on every way out; where we are stopped, it gets SIGINT first and ``gently_s`` to end by itself.
    Raises OSError where it cannot be started.
    """
    ends: dict[int, str] = {}
    if terminal:
        ours, theirs = _terminal()
        ends[ours] = "out"
        out = err = theirs
        closing = [theirs]
    else:
        (out_end, out), (err_end, err) = os.pipe(), os.pipe()
        ends.update({out_end: "out", err_end: "err"})
        closing = [out, err]
    process = None
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=dict(env), cwd=cwd,
            start_new_session=True, pass_fds=list(hold), preexec_fn=_die_with_parent(),
        )  # fmt: skip
        while closing:
            os.close(closing.pop())
        try:
            return _follow(process, ends, hear, timeout_s)
        except Interrupted:
            if gently_s > 0:
                _interrupt(process, ends, gently_s)
            raise
    finally:
        if process is not None:
            kill_group(process)
        for handle in [*closing, *ends]:
            os.close(handle)


def _follow(process: subprocess.Popen[bytes], ends: Mapping[int, str], hear: Hear, timeout_s: float | None) -> int:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    ended: float | None = None
    with selectors.DefaultSelector() as selector:
        for handle in ends:
            selector.register(handle, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(POLL_S):
                data = _read(key.fd)
                if data:
                    hear(ends[key.fd], data)
                else:
                    selector.unregister(key.fd)
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            if ended is not None and (not selector.get_map() or now - ended > AFTERWARDS_S):
                return process.returncode
            if ended is None and deadline is not None and now > deadline:
                return TIMED_OUT
            if ended is None and not selector.get_map():
                time.sleep(POLL_S)


def _interrupt(process: subprocess.Popen[bytes], ends: Mapping[int, str], gently_s: float) -> None:
    """SIGINT to the process group, and time to act on it. What it prints is taken, so that it does not wait for us."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGINT)
    _follow(process, ends, lambda *_: None, gently_s)


def _read(handle: int) -> bytes:
    try:
        return os.read(handle, 1 << 16)
    except OSError:  # EIO: the last one on the other end of a pseudo-terminal has left
        return b""


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to what is left of the process group, and reap the child."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
