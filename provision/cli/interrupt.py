"""Ctrl-C: the first one asks everything to stop, a second one stops waiting for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from provision.cli import console


@contextmanager
def cancellable() -> Iterator[threading.Event]:
    """An event that Ctrl-C (or SIGTERM, SIGHUP) sets; the old handlers come back at the end.

    A flag rather than an exception: on Python 3.11 and 3.12 a KeyboardInterrupt inside Thread.join marks the thread
    dead while it still runs.
    """
    cancel = threading.Event()

    def asked(_number: int, _frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        console.story("stopping: waiting for what runs to end (Ctrl-C again to stop waiting)")

    old = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield cancel
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
