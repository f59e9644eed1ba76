"""What `bazel build` prints while it works: how far it is, and how its actions were done in the end.

Written against 4.2.3, run with --curses=no --color=no; the shapes of 5 to 7 are known from threads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

# The thousands' mark depends on the server's locale.
NUMBER = r"\d+(?:[.,'\u00a0\u202f]\d{3})*"
# [7 / 16] Compiling src/m8.cc; 0s remote-cache, local ... (3 actions, 2 running)
# (12:00:01) [3,041 / 14,094] 12 actions, 8 running
STEP = re.compile(rf"^(?:\(\d\d:\d\d:\d\d\) )?\[({NUMBER}) / ({NUMBER})\](?: (.*))?$")
RUNNING = re.compile(rf"({NUMBER}) (?:actions? )?running\b")
ACTIONS = re.compile(rf"\(?({NUMBER}) actions?\b")
# INFO: 17 processes: 14 remote cache hit, 3 internal.
PROCESSES = re.compile(rf"^(?:\(\d\d:\d\d:\d\d\) )?INFO: ({NUMBER}) process(?:es)?(?:: (.*?))?\.?$")
RUNNER = re.compile(rf"^({NUMBER}) (.+)$")

# WARNING: Writing to Remote Cache:            (the reason is some lines below; all of them with --verbose_failures)
CACHE_WARNING = re.compile(r"^WARNING: (Reading from|Writing to) Remote Cache:(.*)$")
CACHE_REASONS = re.compile(
    r"(HttpException: (?P<http>\d{3}[\w ]*)"
    r"|(?P<refused>Connection refused|Connection reset\w*|timed out|UnknownHostException|Connect timed out)"
    r"|(?P<digest>does not match received digest)"
    r"|(?P<garbage>InvalidProtocolBufferException))"
)
REASON_LINES = 60
INTERNAL = "internal"
UNCHANGED = "action cache hit"
"""Newer releases count what lay in the output tree already."""


def number(text: str) -> int:
    """3041 of "3,041"."""
    return int(re.sub(r"\D", "", text))


@dataclass(frozen=True)
class Step:
    """One progress line. ``total`` grows while Bazel discovers work: never a promise."""

    done: int
    total: int
    running: int | None
    """None where the line does not say."""
    text: str
    """ "Compiling src/m8.cc"; "" where it names nothing."""


def step(line: str) -> Step | None:
    """A progress line's content; None for any other line."""
    match = STEP.match(line.rstrip())
    if match is None:
        return None
    rest = match[3] or ""
    return Step(number(match[1]), number(match[2]), _running(rest), _subject(rest))


def _running(rest: str) -> int | None:
    if match := RUNNING.search(rest):
        return number(match[1])
    if "no action" in rest or "checking cached actions" in rest:
        return 0
    if match := re.search(rf"\(({NUMBER}) actions?\)", rest):
        return number(match[1])
    # one action alone is named without a count; "[Prepa]" is not running yet
    return (0 if rest.startswith("[") else 1) if "; " in rest or rest.startswith("[") else None


def _subject(rest: str) -> str:
    text = re.sub(r"^\[[\w -]+\] ", "", rest)
    text = re.sub(r"^\d+ / \d+ tests?(?:, [^;]*)?; ", "", text)
    text = re.sub(r"(?: \.\.\.)? \([^()]*actions?[^()]*\)$", "", text)
    text = re.sub(r"; \d+s\b.*$", "", text)
    text = re.sub(r" \.\.\.$", "", text)
    return "" if ACTIONS.match(text) or text.startswith(("no action", "checking cached")) else text


@dataclass(frozen=True)
class Spawns:
    """How the actions of a build were done: the line that closes every log."""

    total: int
    by_runner: dict[str, int] = field(default_factory=dict)
    """ {"remote cache hit": 14, "internal": 3}."""

    @property
    def cache_hits(self) -> int:
        """Results that came from the disk cache or the remote cache: 4.2.3 calls both "remote"."""
        return sum(
            count for runner, count in self.by_runner.items() if runner.endswith("cache hit") and runner != UNCHANGED
        )

    @property
    def executed(self) -> int:
        """Commands that were run, here or by a remote executor: neither out of a cache nor Bazel's own work."""
        return sum(
            count for runner, count in self.by_runner.items() if not runner.endswith("cache hit") and runner != INTERNAL
        )

    @property
    def actions(self) -> int:
        """Actions that were needed: without those whose result lay in the tree already."""
        return self.total - self.by_runner.get(UNCHANGED, 0)


def spawns(line: str) -> Spawns | None:
    """The content of the `INFO: N processes` line; None for any other line."""
    match = PROCESSES.match(line.rstrip())
    if match is None:
        return None
    found: dict[str, int] = {}
    # a thousands' comma has no blank after it
    for part in (match[2] or "").split(", "):
        if runner := RUNNER.match(part.strip()):
            found[runner[2]] = found.get(runner[2], 0) + number(runner[1])
    return Spawns(number(match[1]), found)


@dataclass
class Watch:
    """Hears the lines of one `bazel build`."""

    done: int = 0
    total: int | None = None
    running: int = 0
    text: str = "loading packages"
    spawns: Spawns | None = None
    errors: list[str] = field(default_factory=list)
    reading: set[str] = field(default_factory=set)
    """Why results of the remote cache could not be used; "" where Bazel does not say."""
    writing: set[str] = field(default_factory=set)
    """Why results could not be put there."""
    _cache: tuple[set[str], int] | None = None
    """Where the reason of a warning belongs, and how many more lines it may take to come."""

    def hear(self, line: str) -> bool:
        """Take a line in; whether it moved the progress."""
        if warned := CACHE_WARNING.match(line):
            self._close()
            self._cache = (self.reading if warned[1] == "Reading from" else self.writing, REASON_LINES)
            self._reason(warned[2])
            return False
        self._reason(line)
        if at := step(line):
            # a second target pattern or a retried action may count anew: what was done stays done
            self.done, self.total = max(self.done, at.done), at.total
            self.running = self.running if at.running is None else at.running
            self.text = at.text or self.text
            return True
        if line.startswith(("ERROR: ", "FATAL: ")):
            self.errors.append(line.split(": ", 1)[1].strip())
        elif found := spawns(line):
            self._close()
            self.spawns = found
        return False

    def _reason(self, line: str) -> None:
        if self._cache is None:
            return
        where, left = self._cache
        if match := CACHE_REASONS.search(line):
            where.add(reason(match))
            self._cache = None
        else:
            self._cache = (where, left - 1) if left else None

    def _close(self) -> None:
        """A warning without a reason counts too."""
        if self._cache is not None:
            where, _ = self._cache
            where.update(() if where else ("",))
            self._cache = None


def reason(match: re.Match[str]) -> str:
    if match["http"]:
        return f"HTTP {match['http'].strip()}"
    if match["digest"]:
        return "a blob whose content does not match its digest"
    return "an answer that is no action result" if match["garbage"] else match["refused"].lower()
