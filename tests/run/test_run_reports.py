"""From what happened on a host to its report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from run_values import plan

from provision.errors import Explanation, NoStackFits
from provision.model.data import to_data
from provision.model.environment import EnvironmentState, Generation
from provision.model.host import LOCALHOST
from provision.model.report import Failure, StepOutcome
from provision.run import reports
from provision.run.execute import Target
from provision.run.play_events import HostResult

MNIST = {
    "framework": "tensorflow", "device": "cpu", "dataset": "mnist", "samples": 60000, "train_s": 6.5,
    "samples_per_s": 9230.0, "accuracy": 0.981, "peak_fraction": 0.12, "more": "is left out",
}  # fmt: skip
GOOD = {"id": "mnist:tensorflow", "status": "pass", "what": "it learnt", "data": MNIST, "seconds": 9}
BAD = {"id": "blas", "status": "fail", "what": "pinned to Haswell", "why": "OPENBLAS_CORETYPE", "hint": "unset it"}


def state(current: int | None = 1) -> EnvironmentState:
    made = Generation(number=1, fingerprint="f", complete=True, verified=True, created=None)
    return EnvironmentState(name="default", path="/home/me/envs/de fault", current=current, generations=(made,))


def target(before: EnvironmentState | None = None) -> Target:
    return Target(host=LOCALHOST, plan=plan(fingerprint="g"), state=before)


def result(status: Any = "ok", running: str = "", failure: Failure | None = None, **data: Any) -> HostResult:
    titles = {"made": reports.MADE, "checked": reports.CHECKED, "activated": reports.ACTIVATED}
    steps = tuple(StepOutcome(id=name, title=titles[name], status="changed", seconds=1) for name in data)
    found = {titles[name]: value for name, value in data.items()}
    return HostResult(status=status, steps=steps, data=found, failure=failure, running=running)


def test_an_installed_checked_and_activated_environment() -> None:
    before = StepOutcome(id="lock", title="Resolve versions", status="ok", seconds=0.6)
    report = reports.carried_out(
        target(),
        result(
            made={"generation": 2},
            checked={"checks": [GOOD], "passed": True},
            activated={"generation": 2, "path": "/envs/default", "activate": "/envs/de fault/current/activate"},
        ),
        [before],
    )
    assert report.ok
    assert report.changed == 3
    assert [step.id for step in report.steps] == ["lock", "made", "checked", "activated"]
    assert report.environment is not None
    assert report.environment.activate == ". '/envs/de fault/current/activate'"
    assert report.smoke is not None
    assert (report.smoke.accuracy, report.smoke.dataset) == (0.981, "mnist")
    assert report.failures == ()


def test_what_a_framework_said_is_named_by_the_table_of_known_failures() -> None:
    said = ["I loading", "RuntimeError: CUDA error: no kernel image is available for execution on the device", "end"]
    blind = {
        "id": "device_visible:pytorch", "status": "fail", "what": "pytorch sees no GPU", "why": "end",
        "hint": "`nvidia-smi` must work first", "data": {"ran_on": None, "log": said},
    }  # fmt: skip
    report = reports.carried_out(target(), result(checked={"checks": [GOOD, blind, BAD], "passed": False}), [])
    good, found, bad = report.checks
    assert (good.why, bad.why, bad.hint) == ("", "OPENBLAS_CORETYPE", "unset it")
    assert found.why.splitlines()[0].startswith("the wheel holds no code for this GPU: ")
    assert found.why.splitlines()[1:] == [said[1], "end"]
    assert found.hint.startswith("provision plan names a release that has kernels for it")
    assert found.data == {"ran_on": None, "log": said, "cause": "no-kernel-image"}
    assert report.failures[0].hint == found.hint


def test_what_the_gpu_is_worth_belongs_to_the_smoke_test() -> None:
    worth = {"id": "speed_up:tensorflow", "status": "pass", "what": "x", "data": {"speed_up": 33.7, "expected": 6.0}}
    other = {**worth, "id": "speed_up:pytorch", "data": {"speed_up": 1.0, "expected": 6.0}}
    report = reports.carried_out(target(), result(checked={"checks": [GOOD, other, worth], "passed": True}), [])
    assert report.smoke is not None
    assert (report.smoke.speed_up, report.smoke.speed_up_expected) == (33.7, 6.0)
    unmeasured = reports.carried_out(target(), result(checked={"checks": [GOOD, other], "passed": True}), [])
    assert unmeasured.smoke is not None
    assert unmeasured.smoke.speed_up is None


def test_an_environment_that_was_made_current_at_once() -> None:
    made = {"generation": 2, "path": "/envs/default", "activate": "/envs/default/current/activate"}
    report = reports.carried_out(target(state()), result(made=made), [])
    assert report.environment is not None
    assert (report.environment.generation, report.environment.path) == (2, "/envs/default")
    late = reports.carried_out(target(state()), result("cancelled", made=made), [])
    assert late.failures[0].why == "generation 2 of environment default had just been made current"
    assert late.environment is not None
    assert late.environment.generation == 2


@pytest.mark.parametrize(
    ("previous", "expected"), [(1, (True, 1)), (None, (True, None)), (2, (False, None))], ids=["next", "first", "same"]
)
def test_which_generation_was_put_aside(previous: int | None, expected: tuple[bool, int | None]) -> None:
    done = {"generation": 2, "path": "/e", "activate": "/e/current/activate", "previous": previous, "changed": True}
    made_only = {"generation": 2}
    for data in ({"made": done}, {"made": made_only, "checked": {"checks": [GOOD]}, "activated": done}):
        environment = reports.carried_out(target(state()), result(**data), []).environment
        assert environment is not None
        assert (environment.switched, environment.previous) == expected
        assert list(to_data(environment))[-2:] == ["previous", "switched"]


def test_nothing_was_switched_where_checks_failed_or_nothing_was_done() -> None:
    failed = reports.carried_out(target(state()), result(made={"generation": 2}, checked={"checks": [BAD]}), [])
    for report in (failed, reports.nothing_to_do(target(state()))):
        assert report.environment is not None
        assert (report.environment.generation, report.environment.switched, report.environment.previous) == (
            1,
            False,
            None,
        )


def test_a_failed_check_keeps_the_generation_before() -> None:
    report = reports.carried_out(target(state()), result(made={"generation": 2}, checked={"checks": [GOOD, BAD]}), [])
    assert not report.ok
    (failure,) = report.failures
    assert failure.exit_code == 6
    assert failure.what == "1 of 2 checks failed: blas"
    assert failure.why == (
        "blas: pinned to Haswell\ngeneration 2 was made and is kept, but not made current: generation 1 still is"
    )
    assert failure.hint == "unset it"
    assert report.environment is not None
    assert report.environment.generation == 1


def test_a_failed_check_of_what_is_there_leaves_it_current() -> None:
    report = reports.carried_out(target(state()), result(checked={"checks": [BAD]}), [])
    assert "generation 1 stays current, marked as not verified" in report.failures[0].why


def test_a_failed_step_keeps_its_words() -> None:
    failed = Failure(what="the disk is full", why="0 MiB free", hint="make room")
    report = reports.carried_out(target(state()), result("failed", failure=failed), [])
    assert report.failures == (failed,)
    assert report.environment is not None
    assert report.environment.generation == 1


def test_an_interrupt_says_what_was_left() -> None:
    half = reports.carried_out(target(state()), result("cancelled", running=reports.MADE), [])
    assert half.failures[0].exit_code == 130
    assert half.failures[0].why == (
        "environment default is as it was (generation 1); a new generation is half-made: the next run finishes or "
        "removes it"
    )
    built = reports.carried_out(target(), result("cancelled", running=reports.BUILT), [])
    assert built.failures[0].why == (
        "environment default is as it was (none); the build was stopped where it was: run the same command again, and "
        "it goes on from there"
    )
    done = reports.carried_out(target(), result("cancelled", running=reports.CHECKED, made={"generation": 1}), [])
    assert done.failures[0].why == (
        "environment default is as it was (none); generation 1 is installed and not verified: the next run goes on "
        "from there"
    )
    gone = reports.carried_out(target(), result("cancelled"), [], unreaped=True)
    assert "something may still be running there" in gone.failures[0].why


def test_nothing_to_do_and_nothing_done() -> None:
    report = reports.nothing_to_do(target(state()))
    assert (report.ok, report.changed, report.steps) == (True, 0, ())
    details = (Explanation(what="tensorflow 2.21.0", why="needs avx"),)
    stopped = reports.stopped(target(), NoStackFits(what="nothing fits", details=details))
    assert [(each.what, each.exit_code) for each in stopped.failures] == [("nothing fits", 3), ("tensorflow 2.21.0", 3)]


def test_a_rollback_a_removal_and_a_refusal() -> None:
    def of(task: str, **data: Any) -> HostResult:
        step = StepOutcome(id="", title=task, status="changed", seconds=1)
        return HostResult(status="ok", steps=(step,), data={task: data}, failure=None)

    back = of("Roll back the environment", generation=1, previous=2, path="/e", activate="/e/current/activate")
    report = reports.changed(LOCALHOST, state(2), "default", back, False)
    assert report.environment is not None
    assert (report.environment.generation, report.environment.activate) == (1, ". /e/current/activate")
    assert (report.environment.switched, report.environment.previous) == (True, 2)
    removed = reports.changed(LOCALHOST, state(), "default", of("Remove the environment", removed=[1]), False)
    assert (removed.ok, removed.environment, removed.changed) == (True, None, 1)
    refused = replace(back, failure=Failure(what="generation 7 is not there"), status="failed", steps=())
    report = reports.changed(LOCALHOST, state(), "default", refused, False)
    assert not report.ok
    assert report.environment is not None
