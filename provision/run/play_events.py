"""From Ansible's events to what happened on each host, and to live progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from provision.model.report import Failure, Progress, StepOutcome

Status = Literal["ok", "failed", "unreachable", "cancelled"]
TAIL_LINES = 20
ARGUMENTS = "Validating arguments against arg spec"
"""Ansible's own task before each role: worth a word only when it fails."""
VERIFICATION_EXIT = 6
STEP_EXIT = 5
OF_THE_HOST = frozenset(
    {"no_python", "sudo_not_allowed", "sudo_password_wrong", "sudo_password_wanted", "disk_full", "not_writable"}
)
"""Ansible calls these a failed task, and a reader an unusable host. Kinds of run/ssh_failures.py."""
OF_ANSIBLE = frozenset({"include_role", "include_tasks", "import_tasks", "include_vars", "setup", "meta"})
"""Actions that only arrange what follows, or look: worth a word only when they fail."""
OUTCOMES: dict[str, Literal["ok", "failed", "skipped"]] = {
    "runner_on_ok": "ok",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "failed",
    "runner_on_skipped": "skipped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostResult:
    status: Status
    steps: tuple[StepOutcome, ...]
    data: Mapping[str, Mapping[str, Any]]
    """Each task's result, by its title ("Make the generation")."""
    failure: Failure | None
    running: str = ""
    """Title of the task that was cut off, where the run was cancelled."""


@dataclass
class _Row:
    steps: list[StepOutcome] = field(default_factory=list)
    data: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    failure: Failure | None = None
    unreachable: bool = False
    running: str = ""
    untold_since: float | None = None
    """When the running task began, as long as nobody was told: a task that is skipped at once is not worth a line."""


class Events:
    """Takes events one at a time; asked at the end for the results by host name."""

    def __init__(
        self,
        names: Mapping[str, str],
        on_event: Callable[[Progress], None],
        explain: Callable[[str, str], Failure],
    ) -> None:
        """``names`` is our name by Ansible's; ``explain`` turns (host, text) of a failed connection into a Failure."""
        self._names = names
        self._on_event = on_event
        self._explain = explain
        self._rows: dict[str, _Row] = {name: _Row() for name in names.values()}
        self._finished: Mapping[str, Any] | None = None
        self._said: list[str] = []

    def take(self, event: Mapping[str, Any]) -> None:
        kind, data = event.get("event"), event.get("event_data") or {}
        if kind == "playbook_on_stats":
            self._finished = data
        elif kind in ("error", "warning", "verbose", "system_warning"):
            self._said.append(str(event.get("stdout", "")))
        host = self._names.get(str(data.get("host")))
        if host is None or (ARGUMENTS in str(data.get("task", "")) and kind in ("runner_on_start", "runner_on_ok")):
            return
        if kind == "runner_on_start":
            self._rows[host].running = step_title(str(data.get("task", "")))
            self._rows[host].untold_since = None if _arranges(data) else time.monotonic()
        elif kind in OUTCOMES:
            self._outcome(host, str(kind), data)

    def tell_running(self, after_s: float = 0.0) -> None:
        """Tell which tasks began more than ``after_s`` ago and still run."""
        for host, row in self._rows.items():
            if row.untold_since is not None and time.monotonic() - row.untold_since >= after_s:
                row.untold_since = None
                self._tell(host, "step", row.running)

    def _outcome(self, host: str, kind: str, data: Mapping[str, Any]) -> None:
        row, title, result = self._rows[host], step_title(str(data.get("task", ""))), data.get("res") or {}
        status = OUTCOMES[kind]
        if _arranges(data) and status != "failed":
            row.running, row.untold_since = "", None
            return
        if row.untold_since is not None and status != "skipped":
            self._tell(host, "step", title)
        row.running, row.untold_since = "", None
        row.data[title] = result
        result = _item_that_failed(result) if status == "failed" else result
        detail = ""
        if status == "failed" and not data.get("ignore_errors"):
            row.unreachable = kind == "runner_on_unreachable"
            said = str(result.get("msg", ""))
            row.failure = self._explain(host, said) if row.unreachable else self._failure(host, title, result)
            detail = row.failure.what
        changed = status == "ok" and bool(result.get("changed"))
        row.steps.append(
            StepOutcome(
                id=str(data.get("role") or ""),
                title=title,
                status="changed" if changed else status,
                seconds=round(float(data.get("duration") or 0), 3),
                detail=detail,
            )
        )
        if status != "skipped":
            self._tell(host, "failed" if status == "failed" else "changed" if changed else "done", title, detail)

    def _failure(self, host: str, title: str, result: Mapping[str, Any]) -> Failure:
        found = failure(title, result)
        if not found.kind:
            told = self._explain(host, found.why)
            if told.kind in OF_THE_HOST:
                return told
        return found

    def _tell(self, host: str, kind: Literal["step", "done", "changed", "failed"], title: str, text: str = "") -> None:
        self._on_event(Progress(host=host, kind=kind, step=title, text=text))

    def results(self, *, cancelled: bool) -> dict[str, HostResult]:
        """What happened on each host."""
        return {host: self._result(host, row, cancelled) for host, row in self._rows.items()}

    def _result(self, host: str, row: _Row, cancelled: bool) -> HostResult:
        rescued = self._finished is not None and not any(
            alias in self._finished.get(kind, {})
            for kind in ("failures", "dark")
            for alias, name in self._names.items()
            if name == host
        )
        failed = None if rescued else row.failure
        if failed is None and self._finished is None and not cancelled:
            failed = self._broken_off(row)
        elif failed is None and not row.steps and not cancelled:
            failed = self._nothing_done()
        status: Status = "ok"
        if failed is not None:
            status = "unreachable" if row.unreachable else "failed"
        elif cancelled and self._finished is None:
            status = "cancelled"
        return HostResult(status=status, steps=tuple(row.steps), data=row.data, failure=failed, running=row.running)

    def _broken_off(self, row: _Row) -> Failure:
        where = f" during {row.running!r}" if row.running else ""
        return Failure(what=f"Ansible stopped{where} without a result", why=self._last_words(), exit_code=STEP_EXIT)

    def _nothing_done(self) -> Failure:
        return Failure(what="Ansible did nothing on this host", why=self._last_words(), exit_code=STEP_EXIT)

    def _last_words(self) -> str:
        return "\n".join("\n".join(self._said).strip().splitlines()[-TAIL_LINES:])


def _arranges(data: Mapping[str, Any]) -> bool:
    """Whether an event's task is one of Ansible's own housekeeping."""
    return str(data.get("task_action") or "").rpartition(".")[2] in OF_ANSIBLE


def step_title(task: str) -> str:
    """A task's name alone: some versions of Ansible put the role's before it, and roles may put their file's."""
    return task.rpartition(" : ")[2].rpartition(" | ")[2]


def _item_that_failed(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a task with a loop, which says only that some item failed."""
    items = result.get("results")
    found = (each for each in items if isinstance(each, dict) and each.get("failed")) if isinstance(items, list) else ()
    return next(iter(found), result)


def failure(title: str, result: Mapping[str, Any]) -> Failure:
    """A failed task in three parts: our modules give them, the rest of Ansible gives a message."""
    if result.get("what"):
        return Failure(
            what=str(result["what"]),
            why=str(result.get("why") or ""),
            hint=str(result.get("hint") or ""),
            exit_code=VERIFICATION_EXIT if result.get("kind") == "verification" else STEP_EXIT,
            kind=str(result.get("kind") or ""),
        )
    texts = [str(result.get(key) or "").strip() for key in ("msg", "stderr", "module_stderr", "module_stdout")]
    words = [text for number, text in enumerate(texts) if text and text not in texts[:number]]
    why = "\n".join("\n".join(words).splitlines()[-TAIL_LINES:])
    return Failure(what=f"{title!r} failed", why=why, exit_code=STEP_EXIT)
