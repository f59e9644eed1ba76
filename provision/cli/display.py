"""Live progress: one line a host on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from provision.cli import console
from provision.model.report import Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_PROGRESS_EVERY_S = 10.0
MARK = {"done": "ok", "changed": "changed", "failed": "FAILED"}


class Display(Protocol):
    """Gets every event, from any thread."""

    def event(self, progress: Progress) -> None: ...


@dataclass
class Row:
    """What one host does now."""

    step: str = "waiting"
    text: str = ""
    done_mib: float | None = None
    total_mib: float | None = None
    state: str = ""
    since: float = field(default_factory=time.monotonic)

    def take(self, progress: Progress) -> None:
        if progress.kind == "step" or progress.step != self.step:
            self.step, self.since, self.state = progress.step, time.monotonic(), ""
            self.text, self.done_mib, self.total_mib = "", None, None
        if progress.kind in MARK:
            self.state = MARK[progress.kind]
        self.text = progress.text or self.text
        if progress.done_mib is not None:
            self.done_mib, self.total_mib = progress.done_mib, progress.total_mib


def amount(done_mib: float | None, total_mib: float | None) -> str:
    """ "120 of 250 MiB", "120 MiB", or nothing."""
    if done_mib is None:
        return ""
    return f"{done_mib:.0f} of {total_mib:.0f} MiB" if total_mib else f"{done_mib:.0f} MiB"


class PlainLines:
    """A line when a step starts, ends or fails, and every ten seconds of a long one."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._hosts = tuple(hosts)
        self._rows = {host: Row() for host in self._hosts}
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def event(self, progress: Progress) -> None:
        with self._lock:
            row = self._rows.setdefault(progress.host, Row())
            new = progress.step != row.step
            row.take(progress)
            now = time.monotonic()
            if (
                progress.kind == "progress"
                and not new
                and now - self._said.get(progress.host, now) < PLAIN_PROGRESS_EVERY_S
            ):
                self._said.setdefault(progress.host, now)
                return
            self._said[progress.host] = now
            console.story(self._line(progress, row, now))

    def _line(self, progress: Progress, row: Row, now: float) -> str:
        parts = [row.step, MARK.get(progress.kind, ""), progress.text, amount(progress.done_mib, progress.total_mib)]
        host = f"{progress.host}: " if len(self._hosts) > 1 or progress.host != "localhost" else ""
        elapsed = now - row.since
        return f"{host}{' · '.join(part for part in parts if part)}" + (f" ({elapsed:.0f} s)" if elapsed >= 1 else "")


class LiveLines:
    """One line a host: step, elapsed time, download progress."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._rows = {host: Row() for host in hosts}
        self._lock = threading.Lock()

    def event(self, progress: Progress) -> None:
        with self._lock:
            self._rows.setdefault(progress.host, Row()).take(progress)

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        with self._lock:
            for host, row in self._rows.items():
                elapsed = f"{time.monotonic() - row.since:.0f} s"
                table.add_row(host, row.step, row.state, amount(row.done_mib, row.total_mib), elapsed, row.text)
        return table


@contextmanager
def progress_display(hosts: Iterable[str]) -> Iterator[Display]:
    """The display that fits: live on a terminal, plain lines in a log or pipe."""
    import sys

    names = tuple(hosts)
    if not sys.stderr.isatty():
        yield PlainLines(names)
        return
    from rich.console import Console
    from rich.live import Live

    lines = LiveLines(names)
    with Live(get_renderable=lines.__rich__, console=Console(stderr=True), refresh_per_second=8, transient=False):
        yield lines
