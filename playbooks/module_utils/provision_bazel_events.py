"""Bazel's build event protocol as JSON lines (--build_event_json_file), and what it says of a failure.

The format: https://bazel.build/remote/bep. Seen with 4.2.3: an ``id`` has one key, the event's kind; successful actions
are not reported; a server that dies writes no event with ``lastMessage``.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

READ_BYTES = 1 << 20
"""Of a failed action's output: a compiler may write more than anybody reads."""


@dataclass(frozen=True)
class Failed:
    """An action that failed."""

    label: str
    mnemonic: str
    """ "CppCompile", "CppLink", "Genrule"."""
    output: str
    """Its first output, relative to the output tree."""
    command: tuple[str, ...]
    exit_code: int | None
    """Of its command. The event's own exitCode is always 1."""
    message: str
    stderr: str
    """A path; "" where it wrote nothing. Its content where the event carries it."""
    stdout: str = ""

    @property
    def command_line(self) -> str:
        return shlex.join(self.command)


@dataclass(frozen=True)
class Aborted:
    """A target that was not built: its reason ("LOADING_FAILURE") and Bazel's words."""

    label: str
    reason: str
    description: str


@dataclass
class Events:
    """What one build's events say."""

    started: bool = False
    finished: bool = False
    success: bool = False
    exit_name: str = ""
    exit_code: int | None = None
    last: bool = False
    """Whether the server came to write its last event."""
    failed: list[Failed] = field(default_factory=list)
    aborted: list[Aborted] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """Paths of what the named targets are: the wheel is here."""
    actions_executed: int | None = None
    wall_ms: int | None = None
    unreadable: int = 0
    """Lines that are not JSON: the last one, where the server was killed."""


def parse(lines: Iterable[str]) -> Events:
    """Read the events. Whatever is missing or cut is left out."""
    events = Events()
    for line in lines:
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            events.unreadable += 1
            continue
        if isinstance(event, dict) and isinstance(event.get("id"), dict):
            _take(events, event)
        else:
            events.unreadable += 1
    return events


def read(path: Path) -> Events:
    """``parse`` of a file; no events where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return parse(file)
    except OSError:
        return Events()


def _take(events: Events, event: Mapping[str, Any]) -> None:
    kind = next(iter(event["id"]), "")
    named = _dict(event["id"].get(kind))
    events.last = events.last or event.get("lastMessage") is True
    if kind == "started":
        events.started = True
    elif kind == "actionCompleted":
        action = _dict(event.get("action"))
        if action and action.get("success") is not True:
            events.failed.append(_failed(named, action))
    elif kind == "targetCompleted":
        for output in _list(_dict(event.get("completed")).get("importantOutput")):
            if path := local_path(_dict(output).get("uri")):
                events.outputs.append(path)
    elif kind == "buildFinished":
        finished = _dict(event.get("finished"))
        code = _dict(finished.get("exitCode"))
        events.finished, events.success = True, finished.get("overallSuccess") is True
        events.exit_name, events.exit_code = str(code.get("name", "")), _int(code.get("code")) or 0
    elif kind == "buildMetrics":
        metrics = _dict(event.get("buildMetrics"))
        events.actions_executed = _int(_dict(metrics.get("actionSummary")).get("actionsExecuted"))
        events.wall_ms = _int(_dict(metrics.get("timingMetrics")).get("wallTimeInMs"))
    if isinstance(event.get("aborted"), dict):
        events.aborted.append(_aborted(named, event["aborted"]))


def _failed(named: Mapping[str, Any], action: Mapping[str, Any]) -> Failed:
    detail = _dict(action.get("failureDetail"))
    return Failed(
        label=str(action.get("label") or named.get("label") or ""),
        mnemonic=str(action.get("type") or ""),
        output=str(named.get("primaryOutput") or ""),
        command=tuple(str(one) for one in _list(action.get("commandLine"))),
        exit_code=_int(_dict(detail.get("spawn")).get("spawnExitCode")),
        message=str(detail.get("message") or ""),
        stderr=local_path(_dict(action.get("stderr")).get("uri")),
        stdout=local_path(_dict(action.get("stdout")).get("uri")),
    )


def _aborted(named: Mapping[str, Any], aborted: Mapping[str, Any]) -> Aborted:
    label = str(named.get("label") or " ".join(str(one) for one in _list(named.get("pattern"))))
    return Aborted(label, str(aborted.get("reason") or ""), str(aborted.get("description") or ""))


def local_path(uri: Any) -> str:
    """/home/a b of "file:///home/a%20b"; "" for anything that is no file of this machine (bytestream://…)."""
    if not isinstance(uri, str):
        return ""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    return unquote(parts.path) if parts.scheme == "file" else ""


def output_of(failed: Failed) -> str:
    """What a failed action wrote: its standard error, else its standard output; "" where neither is there."""
    for path in (failed.stderr, failed.stdout):
        if path:
            with contextlib.suppress(OSError), Path(path).open("rb") as file:
                if text := file.read(READ_BYTES).decode("utf-8", "replace").strip():
                    return text
    return ""


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _int(value: Any) -> int | None:
    """Numbers of 64 bits are written as text in JSON."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
