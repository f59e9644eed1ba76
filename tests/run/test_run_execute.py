"""Carrying plans out: what is refused, what is left alone, and one real environment from nothing to rolled back."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_values import plan, stack

from provision.model.environment import EnvironmentState, Generation
from provision.model.host import LOCALHOST, Host
from provision.model.plan import Plan, Step
from provision.model.report import Progress, Report
from provision.run import execute
from provision.run.execute import Options, Remove, Rollback, Target

DRIVER = Step(
    id="nvidia_driver", title="Install NVIDIA driver 580", needs_root=True, changes=("nvidia-driver-580",),
    available=False,
)  # fmt: skip


def state(*generations: Generation, current: int | None = 1, path: str = "/envs/default") -> EnvironmentState:
    return EnvironmentState(name="default", path=path, current=current, generations=generations)


def generation(number: int = 1, **fields: Any) -> Generation:
    values: dict[str, Any] = {"fingerprint": "f", "complete": True, "verified": True, "created": None, **fields}
    return Generation(number=number, **values)


def carry_out(*targets: Target, events: list[Progress] | None = None, **options: Any) -> tuple[Report, ...]:
    told = [] if events is None else events
    return execute.execute(
        targets, Options(**options), on_event=told.append, cancel=threading.Event(), control_dir="/nowhere"
    )


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (None, False),
        (state(), False),
        (state(generation()), True),
        (state(generation(verified=False)), True),
        (state(generation(complete=False)), False),
        (state(generation(drifted=True)), False),
        (state(generation(fingerprint="g")), False),
        (state(generation(fingerprint=None)), False),
        (state(generation(1, fingerprint="g"), generation(2)), False),
        (state(generation(), current=None), False),
    ],
)
def test_settled_is_whole_undrifted_current_and_of_this_plan(there: EnvironmentState | None, expected: bool) -> None:
    assert execute.settled(Target(host=LOCALHOST, plan=plan(fingerprint="f"), state=there)) is expected


@pytest.mark.parametrize(
    ("keep", "made", "answered"), [("faster", True, True), ("build", True, False), ("wheel", False, True)]
)
def test_a_wheel_that_has_beaten_the_build_settles_its_plan_unless_the_build_is_to_be_kept(
    keep: str, made: bool, answered: bool
) -> None:
    source = replace(plan(fingerprint="f", keep=keep), stock=plan(fingerprint="g"))
    for generations, expected in (
        (state(generation()), made),
        (state(generation(fingerprint="g", answers=("e", "f"))), answered),
        (state(generation(fingerprint="g", answers=("e",))), False),
        (state(generation(fingerprint="g", answers=("f",), drifted=True)), False),
        (state(generation(1, fingerprint="g"), generation(2, fingerprint="g", answers=("f",))), False),
    ):
        assert execute.settled(Target(host=LOCALHOST, plan=source, state=generations)) is expected
    stock = Target(host=LOCALHOST, plan=plan(fingerprint="g"), state=state(generation(fingerprint="g", answers=("f",))))
    assert execute.settled(stock), "it is what its own plan asks for, too"


def test_a_plan_without_a_fingerprint_is_never_settled() -> None:
    assert not execute.settled(Target(host=LOCALHOST, plan=plan(), state=state(generation(fingerprint=""))))


def test_a_plan_with_a_step_that_nothing_does_is_refused_before_anything_changes() -> None:
    needs_driver = replace(plan(fingerprint="f"), steps=(DRIVER,))
    (report,) = carry_out(Target(host=LOCALHOST, plan=needs_driver))
    (failure,) = report.failures
    assert failure.exit_code == 5
    assert failure.what == ("the plan for localhost has a step that has to be done by hand: Install NVIDIA driver 580")
    assert failure.why == "Install NVIDIA driver 580: nvidia-driver-580"
    assert "--device cpu" in failure.hint
    assert report.steps == ()
    assert execute.unavailable(plan()) is None


def test_a_settled_target_is_not_touched_and_ansible_not_loaded() -> None:
    code = """
import sys, threading
sys.path.insert(0, "tests/run")
from run_values import plan
from test_run_execute import generation, state
from provision.model.host import Host
from provision.run.execute import Options, Target, execute
host = Host(name="box", connection="ssh", address="192.0.2.1")
target = Target(host=host, plan=plan(fingerprint="f"), state=state(generation()))
(report,) = execute([target], Options(verify=False), on_event=print, cancel=threading.Event(), control_dir="")
assert (report.ok, report.changed, report.environment.generation) == (True, 0, 1), report
assert not {"ansible_runner", "ansible", "uv"} & sys.modules.keys()
"""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_a_lock_that_fails_stops_its_host_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wrong = plan(arch="ppc64le", fingerprint="g")
    events: list[Progress] = []
    reports = carry_out(
        Target(host=LOCALHOST, plan=wrong),
        Target(host=Host(name="box", connection="ssh"), plan=plan(fingerprint="f"), state=state(generation())),
        events=events,
        verify=False,
    )
    assert [report.ok for report in reports] == [False, True]
    assert reports[0].failures[0].what == "packages cannot be resolved for ppc64le"
    assert ("failed", "Resolve versions") in {(event.kind, event.step) for event in events}


def test_a_cancel_before_the_play_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    cancel = threading.Event()
    cancel.set()
    (report,) = execute.execute(
        [Target(host=LOCALHOST, plan=replace(plan(), lock="six==1.17.0\n"))],
        Options(verify=False),
        on_event=lambda _: None,
        cancel=cancel,
        control_dir="/nowhere",
    )
    assert [(each.what, each.exit_code) for each in report.failures] == [("interrupted", 130)]
    assert not list(tmp_path.iterdir())


def observed(target: Target, report: Report) -> Target:
    """The target as the next run finds it."""
    assert report.environment is not None
    made = report.environment.generation
    assert made is not None
    there = generation(made, fingerprint=target.plan.fingerprint)
    return replace(target, state=state(there, current=made, path=report.environment.path))


@pytest.fixture
def numpy_plan() -> Plan:
    from importlib.metadata import PackageNotFoundError, version

    try:
        wanted = version("numpy")
    except PackageNotFoundError:
        wanted = "2.4.6" if sys.version_info >= (3, 11) else "2.2.6"
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    return plan(stack("numpy", version=wanted, python=minor, requirements=(f"numpy=={wanted}",)), fingerprint="1" * 64)


@pytest.mark.network
@pytest.mark.slow
def test_an_environment_from_nothing_to_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy_plan: Plan
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data with spaces"))
    target = Target(host=LOCALHOST, plan=numpy_plan)
    events: list[Progress] = []
    (made,) = carry_out(target, events=events, verify=False)
    assert made.failures == ()
    assert made.environment is not None
    assert {event.kind for event in events} >= {"step", "done", "changed"}
    activated = [*("bash", "-c"), f"{made.environment.activate} && python -c 'import numpy; print(numpy.__version__)'"]
    assert subprocess.run(activated, capture_output=True, text=True, check=True).stdout.strip() == (
        numpy_plan.stack[0].version
    )
    again = carry_out(target, verify=False)[0]
    assert (again.ok, again.changed) == (True, 0)
    assert carry_out(observed(target, made), verify=False)[0].steps == ()

    other = replace(target, plan=replace(numpy_plan, fingerprint="2" * 64))
    (second,) = carry_out(other, verify=False)
    assert second.environment is not None
    assert second.environment.generation == 2
    before = state(generation(1), generation(2), current=2)
    (back,) = change(before, Rollback(name="default", generation=1))
    assert back.environment is not None
    assert (back.ok, back.changed, back.environment.generation) == (True, 1, 1)
    (refused,) = change(before, Rollback(name="default", generation=7))
    assert not refused.ok
    assert "7" in refused.failures[0].what
    (removed,) = change(before, Remove(name="default"))
    assert (removed.ok, removed.environment) == (True, None)
    assert not Path(made.environment.path).exists()


def test_no_hosts_no_reports() -> None:
    assert carry_out() == ()
    nothing: dict[str, Any] = {"on_event": lambda _: None, "cancel": threading.Event(), "control_dir": "/nowhere"}
    assert execute.verify_only([], Options(), **nothing) == ()
    assert execute.change_environments([], Remove(name="default"), **nothing) == ()


def change(before: EnvironmentState, wanted: execute.Change) -> tuple[Report, ...]:
    return execute.change_environments(
        [(LOCALHOST, before)], wanted, on_event=lambda _: None, cancel=threading.Event(), control_dir="/nowhere"
    )


@pytest.mark.network
@pytest.mark.frameworks
@pytest.mark.slow
def test_a_settled_environment_is_verified_without_being_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy_plan: Plan
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    data = Path(__file__).parents[3] / "shared" / "data" / "mnist"
    mnist = data if data.is_dir() else None
    target = Target(host=LOCALHOST, plan=numpy_plan)
    (made,) = carry_out(target, mnist=mnist)
    assert made.failures == ()
    assert made.smoke is not None
    assert made.smoke.accuracy > 0.9
    assert made.smoke.dataset == ("mnist" if mnist else "synthetic")
    (checked,) = carry_out(observed(target, made), mnist=mnist)
    assert [step.id for step in checked.steps] == ["verification"] * len(checked.steps)
    assert (checked.ok, checked.changed) == (True, 0)
    assert checked.smoke is not None
    other = replace(observed(target, made), plan=replace(numpy_plan, fingerprint="9" * 64))
    (only,) = execute.verify_only(
        [other], Options(mnist=mnist), on_event=lambda _: None, cancel=threading.Event(), control_dir="/nowhere"
    )
    assert (only.ok, only.changed, {step.id for step in only.steps}) == (True, 0, {"verification"})


@pytest.mark.network
def test_a_cancel_in_the_middle_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy_plan: Plan
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    cancel = threading.Event()

    def stop(event: Progress) -> None:
        if event.step == "Make the generation":
            cancel.set()

    begun = time.monotonic()
    (report,) = execute.execute(
        [Target(host=LOCALHOST, plan=numpy_plan)],
        Options(verify=False),
        on_event=stop,
        cancel=cancel,
        control_dir="/nowhere",
    )
    assert time.monotonic() - begun < 20
    assert [each.exit_code for each in report.failures] == [130]
    assert "environment default is as it was (none)" in report.failures[0].why
    assert not (tmp_path / "provision" / "envs" / "default" / "current").exists()
    (after,) = carry_out(Target(host=LOCALHOST, plan=numpy_plan), verify=False)
    assert after.ok, after.failures
