"""Whatever stops the program becomes one clear message and an exit code."""

import json
import sys
from pathlib import Path

import pytest

from provision import errors
from provision.cli import console
from provision.errors import Explanation


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.NoStackFits, 3),
        (errors.HostError, 4),
        (errors.StepFailed, 5),
        (errors.VerificationFailed, 6),
        (errors.Interrupted, 130),
    ],
)
def test_each_way_to_stop_has_its_exit_code(kind, code, capsys):
    def program():
        raise kind(what="it stopped", why="because", hint="do this")

    assert console.guarded(program) == code
    assert capsys.readouterr().err == "error: it stopped\n  because\n  hint: do this\n"


def test_details_are_indented_below():
    error = errors.NoStackFits(
        what="nothing fits", details=(Explanation(what="torch 2.7", why="old driver", hint="newer"),)
    )
    assert console.error_text(error) == "error: nothing fits\n  torch 2.7\n    old driver\n    hint: newer\n"


def test_with_json_the_error_is_a_document_on_stdout(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["provision", "plan", "--json"])

    def program():
        raise errors.HostError(what="no answer", why="refused", hint="start sshd")

    assert console.guarded(program) == 4
    document = json.loads(capsys.readouterr().out)
    assert document["failures"] == [{"what": "no answer", "why": "refused", "hint": "start sshd", "exit_code": 4}]


def test_ctrl_c_is_130(capsys):
    def program():
        raise KeyboardInterrupt

    assert console.guarded(program) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_bug_says_so_and_where_the_trace_lies(capsys):
    def program():
        raise RuntimeError("oops")

    assert console.guarded(program) == 1
    message = capsys.readouterr().err
    assert "a bug in provision: RuntimeError: oops" in message
    trace = next(word for word in message.split() if word.endswith(".log"))
    assert "RuntimeError: oops" in Path(trace).read_text()
    Path(trace).unlink()
