"""Carrying plans out: what has to be done where, one Ansible run for all hosts, a report a host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provision import assets
from provision.errors import Interrupted, ProvisionError, StepFailed
from provision.model.environment import EnvironmentState
from provision.model.facts import Facts
from provision.model.host import Host
from provision.model.plan import Plan
from provision.model.report import Progress, Report, StepOutcome
from provision.run import checks, reports

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
    """Whether the current generation is what the plan asks for, whole and as it was installed."""
    if target.state is None:
        return False
    current = target.state.generation(target.state.current)
    return (
        current is not None
        and current.complete
        and not current.drifted
        and bool(target.plan.fingerprint)
        and current.fingerprint == target.plan.fingerprint
    )


def unavailable(plan: Plan) -> StepFailed | None:
    """Why a plan cannot be carried out yet: its steps that no role does. None where every step has one."""
    missing = [step for step in plan.steps if not step.available]
    if not missing:
        return None
    titles = "; ".join(step.title for step in missing)
    changes = "\n".join(f"{step.title}: {change}" for step in missing for change in step.changes)
    return StepFailed(
        what=f"the plan for {plan.host} has a step that provision cannot carry out yet: {titles}",
        why=changes or "no role does it yet",
        hint="do it by hand and run this again, or plan without it: --device cpu, --origin wheel, --driver keep",
    )


def refuse_unavailable(targets: Sequence[Target]) -> None:
    """Raise StepFailed for the first plan that cannot be carried out, before anything is changed."""
    for target in targets:
        problem = None if settled(target) else unavailable(target.plan)
        if problem is not None:
            raise problem


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
        carried = _Carrying(options=options, on_event=on_event, cancel=cancel, control_dir=control_dir).out(work)
        reports_by_host.update(carried)
    return tuple(reports_by_host[target.host.name] for target in targets)


def verify_only(
    targets: Sequence[Target], options: Options, *, on_event: OnEvent, cancel: threading.Event, control_dir: str
) -> tuple[Report, ...]:
    """Check the current generation of each target, whatever plan it was made from; nothing is installed."""
    carrying = _Carrying(options=options, on_event=on_event, cancel=cancel, control_dir=control_dir)
    found = carrying.out(targets, install=False)
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
        "provision_controller": _controller(),
        "provision_lock_timeout_s": lock_timeout_s,
    }
    hosts = [host for host, _ in pairs]
    played = play(
        assets.folder("playbooks") / "environments.yml",
        hosts,
        {host.name: variables for host in hosts},
        inventory_sources=_sources(inventories),
        on_event=on_event,
        cancel=cancel,
        control_dir=control_dir,
    )
    return tuple(
        reports.changed(host, state, change.name, played.results[host.name], host.name in played.unreaped)
        for host, state in pairs
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Carrying:
    """One run over some targets."""

    options: Options
    on_event: OnEvent
    cancel: threading.Event
    control_dir: str

    def out(self, targets: Sequence[Target], *, install: bool = True) -> dict[str, Report]:
        if self.options.verify:  # bad files are said before anything is resolved or sent
            checks.mnist_files(self.options.mnist)
        installing = [target for target in targets if install and not settled(target)]
        checking = [target for target in targets if target not in installing]
        prepared = self._prepared(installing)
        found: dict[str, Report] = {}
        ready: list[tuple[Target, Mapping[str, Any], tuple[StepOutcome, ...]]] = []
        for target in installing:
            outcome = prepared[target.host.name]
            if isinstance(outcome, ProvisionError):
                found[target.host.name] = reports.stopped(target, outcome)
            else:
                ready.append((target, *outcome))
        looked = [(target, self._variables(target, checking=True), ()) for target in checking]
        return {**found, **_both(lambda: self._play(ready, ()), lambda: self._play(looked, ("verify",)))}

    def _prepared(
        self, targets: Sequence[Target]
    ) -> dict[str, tuple[Mapping[str, Any], tuple[StepOutcome, ...]] | ProvisionError]:
        """Each host's variables, its lock resolved, or why there are none. Equal plans are resolved once."""
        from provision.run.prepare import prepare

        if not targets:
            return {}
        plans = [(target.host.name, target.plan) for target in targets]
        ready = prepare(plans, on_event=self.on_event, cancel=self.cancel)
        outcomes: dict[str, tuple[Mapping[str, Any], tuple[StepOutcome, ...]] | ProvisionError] = {}
        for target, prepared in zip(targets, ready, strict=True):
            if isinstance(prepared, ProvisionError):
                outcomes[target.host.name] = prepared
                continue
            try:
                locked = replace(target, plan=prepared.plan)
                variables = {**self._variables(locked), **prepared.variables(target.host)}
                outcomes[target.host.name] = (variables, (prepared.step,))
            except ProvisionError as error:
                outcomes[target.host.name] = error
        return outcomes

    def _variables(self, target: Target, *, checking: bool = False) -> dict[str, Any]:
        """What playbooks/site.yml takes, but for what `prepare` adds."""
        from provision.model.data import to_data

        files = checks.mnist_files(self.options.mnist) if self.options.verify else ()
        commands = checks.check_commands(target.plan, checks.needed_flags(target.plan), mnist=bool(files))
        return {
            "provision_plan": to_data(target.plan),
            "provision_verify": self.options.verify or checking,
            "provision_generation": target.state.current if checking and target.state is not None else None,
            "provision_checks": checks.check_files(commands),
            "provision_check_commands": checks.check_data(commands),
            "provision_mnist_files": [str(path) for path in files],
            "provision_controller": _controller(),
            "provision_lock_timeout_s": self.options.lock_timeout_s,
            "provision_compile_bytecode": self.options.compile_bytecode,
            # roles that a tag leaves out still have their arguments checked
            "provision_uv_binary": "",
            "provision_uv_version": "",
        }

    def _play(
        self, work: Sequence[tuple[Target, Mapping[str, Any], tuple[StepOutcome, ...]]], tags: Sequence[str]
    ) -> dict[str, Report]:
        from provision.run.ansible import new_run_id, play
        from provision.run.progress import watched

        if not work:
            return {}
        hosts, run_id = [target.host for target, _, _ in work], new_run_id()
        if self.cancel.is_set():
            return {target.host.name: reports.stopped(target, _not_begun()) for target, _, _ in work}
        with watched(hosts, run_id, self.control_dir, self.on_event):
            played = play(
                assets.folder("playbooks") / "site.yml",
                hosts,
                {target.host.name: variables for target, variables, _ in work},
                inventory_sources=_sources(self.options.inventories),
                on_event=self.on_event,
                cancel=self.cancel,
                control_dir=self.control_dir,
                tags=tags,
                become_password=self.options.become_password,
                run_id=run_id,
            )
        return {
            target.host.name: reports.carried_out(
                target, played.results[target.host.name], steps, unreaped=target.host.name in played.unreaped
            )
            for target, _, steps in work
        }


def _both(first: Callable[[], dict[str, Report]], second: Callable[[], dict[str, Report]]) -> dict[str, Report]:
    """Installing and checking at once: hosts that are settled do not wait for those that are not."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=2) as pool:
        return {
            name: report for done in (pool.submit(first), pool.submit(second)) for name, report in done.result().items()
        }


def _not_begun() -> Interrupted:
    return Interrupted(what="interrupted", why="nothing was changed on this host")


def _sources(inventories: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(path.resolve()) for path in inventories)


def _controller() -> str:
    """Who waits, as another run's user is told: "me@laptop"."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in the password file: a container with a number for a user
        user = "?"
    return f"{user}@{socket.gethostname()}"
