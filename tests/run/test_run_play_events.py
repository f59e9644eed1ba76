"""Ansible's events, as they come, turned into results: the cases that are hard to provoke."""

from __future__ import annotations

from typing import Any

import pytest

from provision.model.report import Failure, Progress
from provision.run.play_events import Events, failure, step_title


def explain(host: str, text: str) -> Failure:
    return Failure(what=f"{host}: {text}", exit_code=4)


def events(*names: str) -> tuple[Events, list[Progress]]:
    told: list[Progress] = []
    return Events({name: name for name in names}, told.append, explain), told


def outcome(kind: str, host: str = "a", task: str = "Do", **result: Any) -> dict[str, Any]:
    return {
        "event": f"runner_on_{kind}",
        "event_data": {"host": host, "task": task, "role": "r", "res": result, "duration": 1.2345},
    }


PARTIAL = [{}, {"event": "runner_on_ok"}, {"event": "runner_on_ok", "event_data": {"host": "a"}}]
STATS = {"event": "playbook_on_stats", "event_data": {"failures": {}, "dark": {}, "ok": {"a": 1}}}


def test_our_modules_give_the_three_parts() -> None:
    told = failure("x", {"kind": "disk_full", "what": "the disk is full", "why": "0 of 10 GB", "hint": "make room"})
    assert told == Failure(what="the disk is full", why="0 of 10 GB", hint="make room", exit_code=5, kind="disk_full")
    assert failure("x", {"kind": "verification", "what": "it does not train"}).exit_code == 6


def test_other_modules_give_what_they_printed_once() -> None:
    result = {"msg": "MODULE FAILURE", "module_stderr": "line\n" * 30 + "Traceback", "module_stdout": "MODULE FAILURE"}
    told = failure("Make it", result)
    assert told.what == "'Make it' failed"
    assert told.why.endswith("Traceback")
    assert len(told.why.splitlines()) == 20
    assert "MODULE FAILURE" not in told.why.splitlines()[-1]


def test_unreachable_is_explained_and_the_others_go_on() -> None:
    taken, told = events("a", "b")
    for event in (
        outcome("start", "a"),
        outcome("unreachable", "a", msg="Connection refused"),
        outcome("start", "b"),
        outcome("ok", "b", changed=True),
        {"event": "playbook_on_stats", "event_data": {"failures": {}, "dark": {"a": 1}, "ok": {"b": 1}}},
    ):
        taken.take(event)
    found = taken.results(cancelled=False)
    assert found["a"].status == "unreachable"
    assert found["a"].failure == Failure(what="a: Connection refused", exit_code=4)
    assert (found["b"].status, found["b"].steps[0].status, found["b"].steps[0].seconds) == ("ok", "changed", 1.234)
    assert [(each.host, each.kind) for each in told] == [
        ("a", "step"),
        ("a", "failed"),
        ("b", "step"),
        ("b", "changed"),
    ]


def test_a_task_that_failed_for_want_of_python_is_the_hosts_trouble() -> None:
    taken = Events({"a": "a"}, lambda _: None, lambda host, text: Failure(what=text, kind="no_python", exit_code=4))
    taken.take(outcome("failed", msg="The module failed", module_stderr="/bin/sh: 1: python3: not found"))
    found = taken.results(cancelled=True)["a"].failure
    assert found is not None
    assert (found.kind, found.exit_code) == ("no_python", 4)
    assert "python3: not found" in found.what


def test_a_failure_that_was_rescued_is_none() -> None:
    taken, _ = events("a")
    for event in (outcome("failed", msg="no"), outcome("ok", task="Rescue"), STATS):
        taken.take(event)
    assert taken.results(cancelled=False)["a"].status == "ok"


def test_an_end_without_a_word_is_a_failure_of_every_host() -> None:
    taken, _ = events("a")
    taken.take({"event": "error", "stdout": "killed by the kernel"})
    taken.take(outcome("start"))
    found = taken.results(cancelled=False)["a"]
    assert found.failure is not None
    assert found.failure.what == "Ansible stopped during 'Do' without a result"
    assert found.failure.why == "killed by the kernel"


def test_a_host_that_no_play_touched_is_a_failure() -> None:
    taken, _ = events("a", "b")
    taken.take(outcome("ok", "a"))
    taken.take(STATS)
    found = taken.results(cancelled=False)
    assert (found["a"].status, found["b"].status) == ("ok", "failed")
    assert found["b"].failure is not None
    assert found["b"].failure.what == "Ansible did nothing on this host"


def test_a_task_that_is_skipped_is_not_told_and_one_that_lasts_is() -> None:
    taken, told = events("a")
    taken.take(outcome("start", task="Leave it out"))
    taken.tell_running(after_s=60)
    taken.take(outcome("skipped", task="Leave it out"))
    assert told == []
    taken.take(outcome("start", task="Last long"))
    taken.tell_running()
    taken.tell_running()
    assert [(each.kind, each.step) for each in told] == [("step", "Last long")]
    taken.take(outcome("ok", task="Last long"))
    assert [each.kind for each in told] == ["step", "done"]


def test_a_cancelled_host_tells_what_was_running() -> None:
    taken, _ = events("a")
    taken.take(outcome("ok", task="Bring"))
    taken.take(outcome("start"))
    found = taken.results(cancelled=True)["a"]
    assert (found.status, found.running, found.failure) == ("cancelled", "Do", None)


def test_a_failure_before_the_cancel_stays_a_failure() -> None:
    taken, _ = events("a")
    taken.take(outcome("failed", msg="no"))
    assert taken.results(cancelled=True)["a"].status == "failed"


@pytest.mark.parametrize(
    "event", [{}, {"event": "runner_on_ok"}, {"event": "runner_on_ok", "event_data": {"host": "a"}}]
)
def test_events_with_parts_missing_are_taken(event: dict[str, Any]) -> None:
    taken, _ = events("a")
    taken.take(event)
    taken.take({"event": "playbook_on_stats", "event_data": {}})
    assert taken.results(cancelled=False)["a"].status in ("ok", "failed")


@pytest.mark.parametrize("task", ["Make it", "role : Make it", "file | Make it", "role : file | Make it"])
def test_titles_stand_alone(task: str) -> None:
    assert step_title(task) == "Make it"


def test_ansibles_own_argument_check_is_told_only_when_it_fails() -> None:
    taken, told = events("a")
    name = "Validating arguments against arg spec main - Install"
    for event in (outcome("start", task=name), outcome("ok", task=name), STATS):
        taken.take(event)
    assert told == []
    taken.take(outcome("failed", task=name, msg="argument 'x' is required"))
    assert [step.title for step in taken.results(cancelled=True)["a"].steps] == [name]


def test_ansibles_own_housekeeping_is_told_only_when_it_fails() -> None:
    told: list[Progress] = []
    events = Events({"box": "box"}, told.append, lambda host, text: Failure(what=text))
    include = {"host": "box", "task": "Driver", "task_action": "ansible.builtin.include_role", "res": {}}
    events.take({"event": "runner_on_start", "event_data": include})
    events.tell_running()
    events.take({"event": "runner_on_ok", "event_data": include})
    assert told == []
    events.take({"event": "runner_on_failed", "event_data": {**include, "res": {"msg": "no such role"}}})
    assert [(each.kind, each.step) for each in told] == [("failed", "Driver")]
