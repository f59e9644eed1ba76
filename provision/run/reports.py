"""From what happened on a host to its report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from provision.errors import Interrupted, ProvisionError, VerificationFailed
from provision.model.environment import EnvironmentState
from provision.model.host import Host
from provision.model.report import CheckOutcome, DriverOutcome, Environment, Failure, Report, Smoke, StepOutcome
from provision.run.checks import named
from provision.run.play_events import HostResult

if TYPE_CHECKING:
    from provision.run.execute import Target

BUILT = "Build the wheel"
MADE = "Make the generation"
CHECKED = "Run the checks"
ACTIVATED = "Make the generation current"
COMPARED = "Compare the build with the stock wheel"
CHANGED = ("Roll back the environment", "Remove the environment")
SMOKE = ("framework", "device", "dataset", "samples", "train_s", "samples_per_s", "accuracy", "peak_fraction")


def nothing_to_do(target: Target) -> Report:
    """The report of a host that is as planned already."""
    return _report(target.host, environment=_current(target.state))


def stopped(target: Target, error: ProvisionError) -> Report:
    """The report of a host that nothing was done on."""
    failures = [failure_of(error)]
    failures += [_failure(each.what, each.why, each.hint, error.exit_code) for each in error.details]
    return _report(target.host, environment=_current(target.state), failures=failures)


def failed(target: Target, failures: Sequence[Failure]) -> Report:
    """The report of a host that stopped before its environment was touched."""
    return _report(target.host, environment=_current(target.state), failures=failures)


def with_driver(report: Report, steps: Sequence[StepOutcome], driver: DriverOutcome | None) -> Report:
    """The report with what was done before to NVIDIA's software."""
    changed = report.changed + sum(step.status == "changed" for step in steps)
    return replace(report, steps=(*steps, *report.steps), changed=changed, driver=driver)


def carried_out(target: Target, result: HostResult, before: Sequence[StepOutcome], *, unreaped: bool = False) -> Report:
    """The report of a host that the playbook ran on. ``before``: steps that were done here for it."""
    checks = _checks(_data(result, CHECKED))
    steps = (*before, *(step for step in result.steps if step.status != "skipped"))
    failures = [failure for failure in (_interrupted(target, result, unreaped), result.failure) if failure is not None]
    if not failures:
        failures += _failed_checks(target, result, checks)
    return _report(target.host, environment=_made(target, result), steps=steps, checks=checks, failures=failures)


def changed(host: Host, state: EnvironmentState | None, name: str, result: HostResult, unreaped: bool) -> Report:
    """The report of a rollback or a removal."""
    steps = tuple(step for step in result.steps if step.status != "skipped")
    failures = [result.failure] if result.failure is not None else []
    if result.status == "cancelled":
        why = _left(f"environment {name} may or may not have been changed; `provision env list` tells", unreaped)
        failures = [_failure("interrupted", why, "", Interrupted.exit_code)]
    done: Mapping[str, Any] = next((_data(result, task) for task in CHANGED if result.data.get(task)), {})
    environment = None
    if failures:
        environment = _current(state)
    elif done.get("generation") is not None and done.get("activate"):
        environment = _activated(name, done)
    elif state is not None and done.get("generation") is not None:
        environment = _current(state)
    return _report(host, environment=environment, steps=steps, failures=failures)


def _report(
    host: Host,
    *,
    environment: Environment | None,
    steps: Sequence[StepOutcome] = (),
    checks: Sequence[CheckOutcome] = (),
    failures: Sequence[Failure] = (),
) -> Report:
    return Report(
        ok=not failures,
        host=host.name,
        environment=environment,
        changed=sum(step.status == "changed" for step in steps),
        steps=tuple(steps),
        checks=tuple(checks),
        smoke=smoke_of(checks),
        failures=tuple(failures),
    )


def _data(result: HostResult, title: str) -> Mapping[str, Any]:
    return result.data.get(title, {})


def _checks(data: Mapping[str, Any]) -> tuple[CheckOutcome, ...]:
    return tuple(
        named(
            CheckOutcome(
                id=str(each["id"]),
                status=each["status"],
                what=str(each.get("what") or ""),
                why=str(each.get("why") or ""),
                hint=str(each.get("hint") or ""),
                data=each.get("data"),
            )
        )
        for each in data.get("checks") or ()
    )


def smoke_of(checks: Sequence[CheckOutcome]) -> Smoke | None:
    """The first framework's smoke test, where it got as far as a measurement."""
    for check in checks:
        if check.id.startswith("mnist:") and check.data and check.data.keys() >= set(SMOKE):
            speed_up = _speed_up(checks, str(check.data["framework"]))
            return Smoke(
                **{name: check.data[name] for name in SMOKE},
                speed_up=speed_up.get("speed_up"),
                speed_up_expected=speed_up.get("expected"),
            )
    return None


def _speed_up(checks: Sequence[CheckOutcome], framework: str) -> Mapping[str, Any]:
    return next((check.data for check in checks if check.id == f"speed_up:{framework}" and check.data), {})


def _failed_checks(target: Target, result: HostResult, checks: Sequence[CheckOutcome]) -> list[Failure]:
    failed = [check for check in checks if check.status == "fail"]
    if not failed:
        return []
    made = _data(result, MADE).get("generation")
    current = target.state.current if target.state is not None else None
    if made is None or made == current:
        kept = f"generation {current} stays current, marked as not verified"
    elif current is None:
        kept = f"generation {made} was made and is kept, but not made current"
    else:
        kept = f"generation {made} was made and is kept, but not made current: generation {current} still is"
    words = [f"{check.id}: {check.what}" for check in failed]
    return [
        _failure(
            f"{len(failed)} of {len(checks)} checks failed: {', '.join(check.id for check in failed)}",
            "\n".join([*words, kept]),
            next((check.hint for check in failed if check.hint), ""),
            VerificationFailed.exit_code,
        )
    ]


def _interrupted(target: Target, result: HostResult, unreaped: bool) -> Failure | None:
    if result.status != "cancelled":
        return None
    name = target.plan.request.name
    current = target.state.current if target.state is not None else None
    made = _data(result, MADE).get("generation")
    after = _made(target, result)
    if after is not None and after.generation != current:
        why = f"generation {after.generation} of environment {name} had just been made current"
        return _failure("interrupted", _left(why, unreaped), "", Interrupted.exit_code)
    words = [f"environment {name} is as it was" + (f" (generation {current})" if current is not None else " (none)")]
    if made is not None and made != current:
        words.append(f"generation {made} is installed and not verified: the next run goes on from there")
    elif result.running == BUILT:
        words.append("the build was stopped where it was: run the same command again, and it goes on from there")
    elif result.running == MADE:
        words.append("a new generation is half-made: the next run finishes or removes it")
    return _failure("interrupted", _left("; ".join(words), unreaped), "", Interrupted.exit_code)


def _left(text: str, unreaped: bool) -> str:
    if not unreaped:
        return text
    return f"{text}\nthe host did not answer any more, so something may still be running there"


def _made(target: Target, result: HostResult) -> Environment | None:
    """The environment after the run: what was made current, at once where nothing was to be verified. Also after a
    failure: an interrupt may come right after the switch."""
    for done in (_data(result, COMPARED), _data(result, ACTIVATED), _data(result, MADE)):
        if done.get("activate"):
            return _activated(target.plan.request.name, done)
    return _current(target.state)


def _activated(name: str, done: Mapping[str, Any]) -> Environment:
    """The environment as a task that makes a generation current returned it. Its "changed" may be about more."""
    generation, previous = int(done["generation"]), done.get("previous")
    switched = "previous" in done and previous != generation
    return replace(
        _environment(name, generation, str(done["path"]), str(done["activate"])),
        previous=int(previous) if switched and previous is not None else None,
        switched=switched,
    )


def _current(state: EnvironmentState | None) -> Environment | None:
    if state is None or state.current is None:
        return None
    return _environment(state.name, state.current, state.path, f"{state.path}/current/activate")


def _environment(name: str, generation: int, path: str, script: str) -> Environment:
    return Environment(name=name, generation=generation, path=path, activate=f". {shlex.quote(script)}")


def failure_of(error: ProvisionError) -> Failure:
    return _failure(error.what, error.why, error.hint, error.exit_code)


def _failure(what: str, why: str, hint: str, exit_code: int) -> Failure:
    return Failure(what=what, why=why, hint=hint, exit_code=exit_code)
