"""Ctrl-C: before anything is changed it ends the program; during work it asks everything to stop, and a second one
stops waiting for that."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from provision.cli import console
from provision.errors import Interrupted

Handler = Callable[[int, FrameType | None], Any]
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ends_the_program() -> None:
    """Make Ctrl-C an error like any other from here on: one message and its exit code."""
    _handle((signal.SIGINT, signal.SIGTERM), _raise_nothing_changed)


@contextmanager
def cancellable() -> Iterator[threading.Event]:
    """An event that Ctrl-C (or SIGTERM, SIGHUP) sets; the old handlers come back at the end.

    A flag rather than an exception: on Python 3.11 and 3.12 a KeyboardInterrupt inside Thread.join marks the thread
    dead while it still runs.
    """
    cancel = threading.Event()

    def asked(_number: int, _frame: FrameType | None) -> None:
        if cancel.is_set():
            raise Interrupted(
                what="interrupted, without waiting for the end",
                why="what was running, here or on the hosts, may go on for a moment",
                hint="run the same command again: it finishes what is half-made, or removes it",
            )
        cancel.set()
        console.story("stopping: waiting for what runs to end (Ctrl-C again to stop waiting)")

    with _handled(STOPPING, asked):
        yield cancel


@contextmanager
def asking() -> Iterator[None]:
    """While somebody is asked: Ctrl-C means no."""
    with _handled((signal.SIGINT,), _raise_nothing_changed):
        yield


def _raise_nothing_changed(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted(what="interrupted", why="nothing was changed")


@contextmanager
def _handled(numbers: tuple[signal.Signals, ...], handler: Handler) -> Iterator[None]:
    old = _handle(numbers, handler)
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, before)


def _handle(numbers: tuple[signal.Signals, ...], handler: Handler) -> Mapping[signal.Signals, Any]:
    """The handlers before. A signal that is ignored stays so: that is how nohup keeps a program alive."""
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}
