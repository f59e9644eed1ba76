"""Saved plans that cannot be used say why."""

import json
from pathlib import Path

import pytest

from provision.cli.saved import read_plans
from provision.errors import UsageError
from provision.model.data import to_data
from provision.model.plan import Plan, Stack, Step
from provision.model.request import Request
from provision.resolve.plan import fingerprint


def saved(tmp_path: Path, **changes: object) -> Path:
    """A plan for NumPy, with keys of it changed by hand ("stack.0.version")."""
    stack = Stack(
        framework="numpy", version="2.4.6", origin="wheel", python="3.11", device="cpu", build="cpu", index=None,
        index_url=None, requirements=("numpy==2.4.6",), cuda=None, cudnn=None, driver=None, compute_capabilities=(),
        copts=(), bazel=None, compiler=None, environment={},
    )  # fmt: skip
    steps = (
        Step(id="nvidia_driver", title="Install a driver", needs_root=True, changes=(), available=False),
        Step(id="environment", title="Environment default", needs_root=False, changes=()),
    )
    plan = Plan(
        host="localhost", request=Request(), stack=(stack,), reasons=(), rejected=(), steps=steps, arch="x86_64",
        glibc="2.36", lock="numpy==2.4.6 --hash=sha256:0\n",
    )  # fmt: skip
    data = to_data(plan)
    data["fingerprint"] = fingerprint(plan)
    for path, value in changes.items():
        *folders, last = [int(word) if word.isdigit() else word for word in path.split(".")]
        place = data
        for word in folders:
            place = place[word]
        place[last] = value
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(data))
    return file


def test_an_edited_plan_is_another_plan(tmp_path):
    (untouched,) = read_plans(saved(tmp_path))
    edits = {"stack.0.version": "2.4.5", "stack.0.requirements": ["numpy==2.4.5"]}
    (edited,) = read_plans(saved(tmp_path, **edits))
    assert edited.fingerprint == fingerprint(edited) != untouched.fingerprint
    assert untouched.lock is not None
    assert edited.lock is None


def test_a_step_is_available_where_a_role_carries_it_out_whatever_the_file_says(tmp_path):
    (plan,) = read_plans(saved(tmp_path, **{"steps.0.available": True, "steps.1.available": False}))
    assert [(step.id, step.available) for step in plan.steps] == [("nvidia_driver", False), ("environment", True)]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("stack", [], "stack: it is empty, so there is nothing to install"),
        ("glibc", "x.y", "glibc: 'x.y' is not a version such as 2.36"),
        ("glibc", "2", "glibc: '2' is not a version such as 2.36"),
        ("stack.0.framework", "numpyy", "stack[0].framework: 'numpyy' is none of "),
        ("request.frameworks.0.framework", "x", "request.frameworks[0].framework: 'x' is none of "),
        ("request.name", "../x", "request.name: '../x' cannot be an environment's name: it becomes a folder"),
        ("stack.0.python", "4", "stack[0].python: '4' is not a Python version"),
        ("stack.0.version", 7, "stack[0].version: Input should be a valid string"),
        ("stack.0", None, "stack[0]: a JSON object belongs there"),
        ("stack.0.colour", "red", "unknown key stack.colour"),
    ],
)
def test_a_plan_that_was_edited_wrongly_says_where(tmp_path, path, value, why):
    file = saved(tmp_path, **{path: value})
    with pytest.raises(UsageError) as stop:
        read_plans(file)
    assert stop.value.what.startswith(str(file))
    assert stop.value.why.startswith(why)
    assert "pydantic" not in stop.value.why
    assert stop.value.hint == "make it again: provision plan -o plan.json"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]x", "not JSON"),
        ('{"schema": 99}', "its schema is 99, this version reads 1"),
        ('{"schema": 1, "host": "x"}', "Field required"),
        ('"text"', "is not a saved plan"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path, content, words):
    file = tmp_path / "plan.json"
    file.write_text(content)
    with pytest.raises(UsageError) as stop:
        read_plans(file)
    assert words in stop.value.what + stop.value.why
    assert stop.value.hint == "make it again: provision plan -o plan.json"


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError) as stop:
        read_plans(tmp_path / "none.json")
    assert stop.value.why == "No such file or directory"


def test_an_empty_list_is_no_plan(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps([]))
    with pytest.raises(UsageError, match="holds no plan"):
        read_plans(file)
