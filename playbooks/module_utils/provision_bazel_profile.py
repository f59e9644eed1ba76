"""Bazel's own trace of a build (--profile=FILE.json --noslim_profile): which commands truly ran.

Neither the build events nor the `INFO: N processes` line tells compile actions that ran from those that a cache
answered. The trace does. Of 4.2.3, one event a line, outer ones before inner ones or after, as threads end:

    {"cat":"action processing","name":"Compiling src/a.cc","ph":"X","ts":201169,"dur":54569,"pid":1,"tid":291},
    {"cat":"local action execution","name":"CppCompile","ph":"X","ts":202126,"dur":51689,"pid":1,"tid":291},

The second is there only where the command ran (strategy local); in a sandbox it is "subprocess.run" instead; where a
cache answered it is {"cat":"remote output download","name":"download outputs"}.
"""

from __future__ import annotations

import contextlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ACTION = "action processing"
RAN = ("local action execution", "remote action execution")
SANDBOXED = "subprocess.run"
FETCHED = ("remote output download", "download outputs")
COMPILES = ("CppCompile", "ObjcCompile", "CudaCompile")
COMPILING = "Compiling "
"""How every progress message of a compile action starts. Releases from 5 on carry the mnemonic as well."""


@dataclass(frozen=True)
class Ran:
    """Actions whose command ran, here or on a remote executor."""

    actions: int
    compiles: int


def event(line: str) -> Mapping[str, Any] | None:
    """The event of one line; None for a line that is none, or is cut."""
    text = line.strip().rstrip(",")
    if not text.startswith("{") or not text.endswith("}"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def ran(lines: Iterable[str]) -> Ran:
    """Count actions in which a command was executed. A retried action counts once."""
    actions: dict[Any, list[tuple[int, int, bool]]] = {}
    executions: list[tuple[Any, int]] = []
    for line in lines:
        if (found := event(line)) is None or not _timed(found):
            continue
        if found.get("cat") == ACTION:
            begun = found["ts"]
            actions.setdefault(found.get("tid"), []).append((begun, begun + found["dur"], _compiles(found)))
        elif found.get("cat") in RAN or found.get("name") == SANDBOXED:
            executions.append((found.get("tid"), found["ts"]))
    for one in actions.values():
        one.sort()
    starts = {thread: [begun for begun, _, _ in one] for thread, one in actions.items()}
    hit: set[tuple[Any, int]] = set()
    for thread, at in executions:
        index = bisect_right(starts.get(thread, []), at) - 1
        if index >= 0 and at <= actions[thread][index][1]:
            hit.add((thread, index))
    return Ran(len(hit), sum(actions[thread][index][2] for thread, index in hit))


def _timed(found: Mapping[str, Any]) -> bool:
    return isinstance(found.get("ts"), int) and isinstance(found.get("dur"), int)


def _compiles(found: Mapping[str, Any]) -> bool:
    arguments = found.get("args")
    if isinstance(arguments, dict) and "mnemonic" in arguments:
        return arguments["mnemonic"] in COMPILES
    return str(found.get("name", "")).startswith(COMPILING)


class Follower:
    """Reads a trace while Bazel writes it, to count cache hits. Bazel writes in blocks, so it is a little behind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fetched = 0
        self._at = 0
        self._rest = b""

    def look(self) -> int:
        """Read what is new; how many results a cache has given so far."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
            self._at += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                found = event(line.decode("utf-8", "replace"))
                self.fetched += found is not None and (found.get("cat"), found.get("name")) == FETCHED
        return self.fetched


def read(path: Path) -> Ran | None:
    """``ran`` of a file; None where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return ran(file)
    except OSError:
        return None
