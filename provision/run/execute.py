"""Carrying plans out: what has to be done where, one Ansible run for all hosts, a report a host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provision import assets
from provision.errors import StepFailed
from provision.model.environment import EnvironmentState, Generation
from provision.model.facts import Facts
from provision.model.host import Host
from provision.model.plan import Plan
from provision.model.report import Progress, Report
from provision.run import checks, reports
from provision.run.build_settings import BuildSettings
from provision.run.carrying import Carrying, controller

OnEvent = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A host, what it is to become, and what is there already."""

    host: Host
    plan: Plan
    facts: Facts | None = None
    state: EnvironmentState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    verify: bool = True
    mnist: Path | None = None
    """Folder with the four MNIST files."""
    lock_timeout_s: float = 600
    """How long to wait on a host for another provision to finish there."""
    inventories: tuple[Path, ...] = ()
    become_password: str | None = None
    compile_bytecode: bool = True
    """For TensorFlow 17 s of CPU time. Without it every import in an environment that its user cannot write to (a
    shared one, a read-only image) takes 5 to 7 s instead of 2."""
    build: BuildSettings = field(default_factory=BuildSettings)
    pairs: int = 3
    """How often a build and the stock wheel run the smoke workload, each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    name: str
    generation: int | None = None
    """None: the previous verified one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    name: str
    generation: int | None = None
    """None: the whole environment."""


Change = Rollback | Remove


def settled(target: Target) -> bool:
    """Whether the current generation is what the plan asks for, whole and as it was installed, and nothing is left to
    do for the GPU."""
    if target.state is None or target.plan.nvidia is not None:
        return False
    current = target.state.generation(target.state.current)
    return current is not None and current.complete and not current.drifted and _stands_for(current, target.plan)


def _stands_for(generation: Generation, plan: Plan) -> bool:
    """Whether it was made from the plan, or has the stock wheels that the plan's build was no faster than."""
    if not plan.fingerprint:
        return False
    made, answered = generation.fingerprint == plan.fingerprint, plan.fingerprint in generation.answers
    if plan.stock is None:
        return made
    return {"faster": made or answered, "build": made, "wheel": answered}[plan.request.keep]


def unavailable(plan: Plan) -> StepFailed | None:
    """Why a plan cannot be carried out yet: its steps that no role does. None where every step has one."""
    missing = [step for step in plan.steps if not step.available]
    if not missing:
        return None
    titles = "; ".join(step.title for step in missing)
    changes = "\n".join(f"{step.title}: {change}" for step in missing for change in step.changes)
    return StepFailed(
        what=f"the plan for {plan.host} has a step that has to be done by hand: {titles}",
        why=changes or "no role does it",
        hint="do it by hand and run this again, or plan without it: --device cpu, --origin wheel, --driver keep",
    )


def execute(
    targets: Sequence[Target], options: Options, *, on_event: OnEvent, cancel: threading.Event, control_dir: str
) -> tuple[Report, ...]:
    """Carry each target's plan out; one report each, in their order. A host's failure stays with it.

    A settled target is only verified, and without verification not even looked at again. Raises UsageError where the
    MNIST files are not there.
    """
    reports_by_host: dict[str, Report] = {}
    work: list[Target] = []
    for target in targets:
        problem = None if settled(target) else unavailable(target.plan)
        if problem is not None:
            reports_by_host[target.host.name] = reports.stopped(target, problem)
        elif settled(target) and not options.verify:
            reports_by_host[target.host.name] = reports.nothing_to_do(target)
        else:
            work.append(target)
    if work:
        carrying = Carrying(options=options, on_event=on_event, cancel=cancel, control_dir=control_dir)
        reports_by_host.update(_carry_out(carrying, work))
    return tuple(reports_by_host[target.host.name] for target in targets)


def verify_only(
    targets: Sequence[Target], options: Options, *, on_event: OnEvent, cancel: threading.Event, control_dir: str
) -> tuple[Report, ...]:
    """Check the current generation of each target, whatever plan it was made from; nothing is installed."""
    carrying = Carrying(options=options, on_event=on_event, cancel=cancel, control_dir=control_dir)
    found = _carry_out(carrying, targets, install=False)
    return tuple(found[target.host.name] for target in targets)


def change_environments(
    pairs: Sequence[tuple[Host, EnvironmentState | None]],
    change: Change,
    *,
    inventories: Sequence[Path] = (),
    lock_timeout_s: float = 600,
    on_event: OnEvent,
    cancel: threading.Event,
    control_dir: str,
) -> tuple[Report, ...]:
    """Roll an environment back, or remove it, on each host."""
    from provision.run.ansible import play

    if not pairs:
        return ()
    action = "rollback" if isinstance(change, Rollback) else "remove"
    variables = {
        "provision_change": {"action": action, "name": change.name, "generation": change.generation},
        "provision_controller": controller(),
        "provision_lock_timeout_s": lock_timeout_s,
    }
    hosts = [host for host, _ in pairs]
    played = play(
        assets.folder("playbooks") / "environments.yml",
        hosts,
        {host.name: variables for host in hosts},
        inventory_sources=tuple(str(path.resolve()) for path in inventories),
        on_event=on_event,
        cancel=cancel,
        control_dir=control_dir,
    )
    return tuple(
        reports.changed(host, state, change.name, played.results[host.name], host.name in played.unreaped)
        for host, state in pairs
    )


def _carry_out(carrying: Carrying, targets: Sequence[Target], *, install: bool = True) -> dict[str, Report]:
    if carrying.options.verify:  # bad files are said before anything is resolved or sent
        checks.mnist_files(carrying.options.mnist)
    installing = [target for target in targets if install and not settled(target)]
    checking = [target for target in targets if target not in installing]
    return _both(lambda: carrying.install(installing), lambda: carrying.check(checking))


def _both(first: Callable[[], dict[str, Report]], second: Callable[[], dict[str, Report]]) -> dict[str, Report]:
    """Installing and checking at once: hosts that are settled do not wait for those that are not."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=2) as pool:
        return {
            name: report for done in (pool.submit(first), pool.submit(second)) for name, report in done.result().items()
        }
