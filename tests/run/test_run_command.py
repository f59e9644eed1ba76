"""Starting processes: what is waited for, what is stopped, and what callers are told."""

from __future__ import annotations

import os
import threading
import time
import warnings
from contextlib import suppress

import pytest

from provision.errors import StepFailed
from provision.run import command
from provision.run.command import run


def test_input_output_and_status() -> None:
    done = run(["sh", "-c", "cat; echo problem >&2; exit 3"], stdin="text")
    assert (done.status, done.stdout, done.stderr) == (3, "text", "problem\n")


def test_a_program_that_is_not_there_is_status_127() -> None:
    done = run(["/no/such/program"])
    assert done.status == 127
    assert done.stderr == "/no/such/program: No such file or directory"


def test_variables_are_added_and_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAKEN_OUT", "1")
    done = run(["sh", "-c", "echo ${TAKEN_OUT-none} ${ADDED-none}"], env={"ADDED": "yes"}, unset=["TAKEN_OUT"])
    assert done.stdout == "none yes\n"


def test_a_timeout_kills_children_too() -> None:
    start = time.monotonic()
    done = run(["sh", "-c", "echo begun; sleep 60 & wait"], timeout_s=0.3)
    assert time.monotonic() - start < 5
    assert (done.status, done.stdout) == (124, "begun\n")
    assert "no answer within 0.3 s" in done.stderr


def test_what_left_the_group_and_keeps_the_pipes_holds_nobody_up() -> None:
    """As an SSH master does for as long as the remote command of a killed client runs."""
    start = time.monotonic()
    done = run(["setsid", "sh", "-c", "echo begun; echo odd >&2; sleep 4"], timeout_s=0.3)
    assert (done.status, done.stdout) == (124, "begun\n")
    escaped = run(["sh", "-c", "setsid sh -c 'echo begun; echo odd >&2; sleep 4' & wait"], timeout_s=0.5)
    assert time.monotonic() - start < 3.5
    assert (escaped.status, escaped.stdout) == (124, "begun\n")
    assert escaped.stderr == "odd\n\nsh: no answer within 0.5 s"


def test_what_no_signal_ends_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program that a broken driver holds in a system call; played by one that nobody kills."""
    held: list[int] = []
    monkeypatch.setattr(command, "kill_group", held.append)
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # that it still runs is the point
            assert run(["sleep", "30"], timeout_s=0.2).status == 124
            assert time.monotonic() - start < 10
    finally:
        monkeypatch.undo()
        for process in held:
            command.kill_group(process)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)


def test_input_that_is_not_read_whole() -> None:
    assert run(["sh", "-c", "exit 4"], stdin="x" * 300_000).status == 4
    assert run(["wc", "-c"], stdin="ü" * 300_000).stdout.strip() == "600000"
    assert run(["sh", "-c", "sleep 0.5; wc -c"], stdin="x" * 300_000, cancel=threading.Event()).stdout == "300000\n"


def test_a_set_event_stops_it_with_its_children() -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    start = time.monotonic()
    done = run(["sh", "-c", "echo begun; sleep 60 & wait"], cancel=cancel, stdin="x" * 300_000)
    assert time.monotonic() - start < 5
    assert (done.status, done.stdout) == (130, "begun\n")
    assert done.stderr.endswith("sh: interrupted")


def test_a_failed_command_carries_itself_its_status_and_its_output() -> None:
    with pytest.raises(StepFailed) as caught:
        run(["sh", "-c", "echo cause >&2; exit 2"]).check("the shell failed", hint="do not exit 2")
    assert caught.value.why == "`sh -c 'echo cause >&2; exit 2'` exited 2\ncause"
    assert caught.value.hint == "do not exit 2"
