"""Live progress: one line a host on a terminal, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from provision.cli import console
from provision.model.report import BuildProgress, Progress

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_PROGRESS_EVERY_S = 10.0
PLAIN_BUILD_EVERY = 0.05
"""Share of a build after which a line is written earlier, but no more than one in a second."""
BAR_WIDTH = 20
GUESS = " (a guess: no earlier build here)"
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
    build: BuildProgress | None = None
    state: str = ""
    since: float = field(default_factory=time.monotonic)

    def take(self, progress: Progress, now: float) -> None:
        if progress.kind == "step" or progress.step != self.step:
            self.step, self.since, self.state = progress.step, now, ""
            self.text, self.done_mib, self.total_mib, self.build = "", None, None, None
        if progress.kind in MARK:
            self.state = MARK[progress.kind]
        self.text = progress.text or self.text
        if progress.done_mib is not None:
            self.done_mib, self.total_mib = progress.done_mib, progress.total_mib
        self.build = progress.build or self.build


def build_line(build: BuildProgress) -> str:
    """ "[3,041 / 14,094] 22 %  120 from the cache  8 running  4:12, about 11 min left", and whether that is a guess."""
    if build.total is None:
        parts = [f"[{build.done:,} / …]"]
    else:
        parts = [f"[{build.done:,} / {build.total:,}] {_share(build) * 100:.0f} %"]
    if build.cached:
        parts.append(f"{build.cached:,} from the cache")
    if build.running:
        parts.append(f"{build.running:,} running")
    left = ""
    if build.remaining_s is not None:
        left = f", about {_about(build.remaining_s)} left"
        left += GUESS if build.guess else ""
    return "  ".join([*parts, clock_time(build.elapsed_s) + left])


def _share(build: BuildProgress) -> float:
    """Of 1. Work that is found while it is built makes it smaller again; only the end is all of it."""
    if not build.total:
        return 0.0
    return 1.0 if build.done >= build.total else min(build.done / build.total, 0.99)


def clock_time(seconds: float) -> str:
    """ "4:12", "1:04:12"."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def _about(seconds: float) -> str:
    """No finer than an estimate is: tens of seconds, minutes, from two hours on tens of minutes."""
    if seconds <= 50:
        return f"{max(1, math.ceil(seconds / 10)) * 10} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"{minutes} min"
    if minutes >= 120:
        minutes = round(minutes / 10) * 10
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def amount(done_mib: float | None, total_mib: float | None) -> str:
    """ "120 of 250 MiB", "120 MiB", or nothing."""
    if done_mib is None:
        return ""
    return f"{done_mib:.0f} of {total_mib:.0f} MiB" if total_mib else f"{done_mib:.0f} MiB"


class PlainLines:
    """A line when a step starts, ends or fails, and every ten seconds of a long one; of a build each twentieth too."""

    def __init__(self, hosts: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._hosts = tuple(hosts)
        self._clock = clock
        self._rows = {host: Row(since=clock()) for host in self._hosts}
        self._said: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._lock = threading.Lock()

    def event(self, progress: Progress) -> None:
        with self._lock:
            now = self._clock()
            row = self._rows.setdefault(progress.host, Row(since=now))
            new = progress.step != row.step
            row.take(progress, now)
            waited = now - self._said.get(progress.host, now)
            if progress.kind == "progress" and not new and not self._due(progress, waited):
                self._said.setdefault(progress.host, now)
                return
            self._said[progress.host] = now
            self._shares[progress.host] = 0.0 if progress.build is None else _share(progress.build)
            console.story(self._line(progress, row, now))

    def _due(self, progress: Progress, waited: float) -> bool:
        if progress.build is None:
            return waited >= PLAIN_PROGRESS_EVERY_S
        further = abs(_share(progress.build) - self._shares.get(progress.host, 0.0)) >= PLAIN_BUILD_EVERY
        return waited >= (1.0 if further else PLAIN_PROGRESS_EVERY_S)

    def _line(self, progress: Progress, row: Row, now: float) -> str:
        building = progress.build is not None
        amounts = build_line(progress.build) if progress.build else amount(progress.done_mib, progress.total_mib)
        parts = [row.step, MARK.get(progress.kind, ""), amounts, progress.text]
        if not building:
            parts = [*parts[:2], progress.text, amounts]
        host = f"{progress.host}: " if len(self._hosts) > 1 or progress.host != "localhost" else ""
        elapsed = 0.0 if building else now - row.since  # a build says its own
        return f"{host}{' · '.join(part for part in parts if part)}" + (f" ({elapsed:.0f} s)" if elapsed >= 1 else "")


class LiveLines:
    """One line a host: step, elapsed time, progress of a download or a build."""

    def __init__(self, hosts: Iterable[str]) -> None:
        self._rows = {host: Row() for host in hosts}
        self._lock = threading.Lock()

    def event(self, progress: Progress) -> None:
        with self._lock:
            self._rows.setdefault(progress.host, Row()).take(progress, time.monotonic())

    def __rich__(self) -> RenderableType:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        with self._lock:
            for host, row in self._rows.items():
                if row.build is not None and not row.state:
                    table.add_row(host, row.step, _bar(row.build, row.text))
                    continue
                parts = [amount(row.done_mib, row.total_mib), f"{time.monotonic() - row.since:.0f} s", row.text]
                table.add_row(host, row.step, "  ".join(part for part in (row.state, *parts) if part))
        return table


def _bar(build: BuildProgress, text: str) -> RenderableType:
    """A bar with its words; what does not fit the terminal's width is cut, so that a host keeps its one line."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    words = Text(f"{build_line(build)}  {text}".rstrip(), no_wrap=True, overflow="ellipsis")
    cell = Table.grid(padding=(0, 1))
    cell.add_column(width=BAR_WIDTH)
    cell.add_column(no_wrap=True, overflow="ellipsis")
    cell.add_row(ProgressBar(total=1.0, completed=_share(build), width=BAR_WIDTH), words)
    return cell


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
