"""One run over some targets: what is built, what is locked, what is installed, what is compared, in that order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from provision import assets
from provision.errors import Interrupted, ProvisionError
from provision.model.plan import Plan
from provision.model.report import Progress, Report, StepOutcome
from provision.run import checks, reports
from provision.run.comparing import Contest, compare, worth_comparing
from provision.run.hosts import machine_root
from provision.run.play_events import HostResult

if TYPE_CHECKING:
    from provision.run.building import Built
    from provision.run.execute import Options, Target
    from provision.run.nvidia import Ready

OnEvent = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A target with what playbooks/site.yml takes for it, and the steps that were done here before."""

    target: Target
    variables: Mapping[str, Any]
    before: tuple[StepOutcome, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A job after its play."""

    job: Job
    result: HostResult
    unreaped: bool

    @property
    def report(self) -> Report:
        return reports.carried_out(self.job.target, self.result, self.job.before, unreaped=self.unreaped)

    @property
    def generation(self) -> int | None:
        made = self.result.data.get(reports.MADE, {}).get("generation")
        return None if made is None else int(made)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrying:
    options: Options
    on_event: OnEvent
    cancel: threading.Event
    control_dir: str

    def install(self, targets: Sequence[Target]) -> dict[str, Report]:
        """Each target made what its plan says; by host name."""
        ready, found = self._nvidia([target for target in targets if target.plan.nvidia is not None])
        going = [target for target in targets if target.host.name not in found]
        wheels, stopped_building = self._built([target for target in going if target.plan.builds])
        found |= {name: _with_driver(report, ready.get(name)) for name, report in stopped_building.items()}
        going = [target for target in going if target.host.name not in found]
        stocks = self._stocks([each for each in going if worth_comparing(each.plan, self.options)])
        compared = {name for name, done in stocks.items() if done.report.ok}
        jobs, stopped = self._jobs(going, wheels, held_back=compared)
        installed = self.play(jobs)
        found |= stopped | {name: done.report for name, done in installed.items()}
        contests = [
            contest
            for name, done in installed.items()
            if name in compared and (contest := _contest(done, stocks[name])) is not None
        ]
        found |= compare(contests, self.options, self.on_event, self.cancel, self.control_dir)
        return found | {
            name: _with_driver(_with_build(found[name], wheels.get(name), stocks.get(name)), ready.get(name))
            for name in (target.host.name for target in going)
        }

    def check(self, targets: Sequence[Target]) -> dict[str, Report]:
        """Each target's current generation verified; nothing is installed."""
        jobs = [
            Job(target=target, variables=self._variables(replace(target, plan=current_plan(target)), checking=True))
            for target in targets
        ]
        return {name: done.report for name, done in self.play(jobs, tags=("verify",)).items()}

    def _nvidia(self, targets: Sequence[Target]) -> tuple[dict[str, Ready], dict[str, Report]]:
        if not targets:
            return {}, {}
        from provision.run.nvidia import set_up

        return set_up(targets, self.options, on_event=self.on_event, cancel=self.cancel, control_dir=self.control_dir)

    def _built(self, targets: Sequence[Target]) -> tuple[dict[str, Built], dict[str, Report]]:
        if not targets:
            return {}, {}
        from provision.run.building import build

        return build(targets, self.options, on_event=self.on_event, cancel=self.cancel, control_dir=self.control_dir)

    def _stocks(self, targets: Sequence[Target]) -> dict[str, Done]:
        """The stock wheels' generations, verified and not made current: what the builds are measured against."""
        wheels = [replace(target, plan=target.plan.stock) for target in targets if target.plan.stock is not None]
        jobs, _ = self._jobs(wheels, {}, held_back={target.host.name for target in wheels})
        return self.play(jobs)

    def _jobs(
        self, targets: Sequence[Target], built: Mapping[str, Built], *, held_back: set[str]
    ) -> tuple[list[Job], dict[str, Report]]:
        """Jobs with their locks resolved, and the reports of those that have none. Equal plans are resolved once.

        ``held_back``: hosts whose generation is not made current at once.
        """
        from provision.run.prepare import Ask, prepare

        if not targets:
            return [], {}
        wheels = {name: made.wheels for name, made in built.items()}
        asks = [Ask(host=each.host.name, plan=each.plan, built=wheels.get(each.host.name, ())) for each in targets]
        jobs: list[Job] = []
        stopped: dict[str, Report] = {}
        ready = prepare(asks, on_event=self.on_event, cancel=self.cancel)
        for target, prepared in zip(targets, ready, strict=True):
            name = target.host.name
            try:
                if isinstance(prepared, ProvisionError):
                    raise prepared
                own = self._variables(replace(target, plan=prepared.plan))
                more = {"provision_activate": name not in held_back, **prepared.variables(target.host)}
                jobs.append(Job(target=target, variables={**own, **more}, before=(prepared.step,)))
            except ProvisionError as error:
                stopped[name] = reports.stopped(target, error)
        return jobs, stopped

    def _variables(self, target: Target, *, checking: bool = False) -> dict[str, Any]:
        """What playbooks/site.yml takes, but for what `prepare` adds."""
        from provision.model.data import to_data

        files = checks.mnist_files(self.options.mnist) if self.options.verify else ()
        needed, gpus = checks.needed_flags(target.plan), checks.cuda_gpus(target.facts, target.plan)
        root = machine_root(target.host)
        commands = checks.check_commands(target.plan, needed, mnist=bool(files), gpus=gpus, root=root)
        return {
            "provision_plan": to_data(target.plan),
            "provision_verify": self.options.verify or checking,
            "provision_generation": target.state.current if checking and target.state is not None else None,
            "provision_checks": checks.check_files(commands),
            "provision_check_commands": checks.check_data(commands),
            "provision_mnist_files": [str(path) for path in files],
            "provision_controller": controller(),
            "provision_lock_timeout_s": self.options.lock_timeout_s,
            "provision_compile_bytecode": self.options.compile_bytecode,
            # roles that a tag leaves out still have their arguments checked
            "provision_uv_binary": "",
            "provision_uv_version": "",
        }

    def play(self, jobs: Sequence[Job], tags: Sequence[str] = ()) -> dict[str, Done]:
        """playbooks/site.yml on all of the jobs' hosts; by host name."""
        from provision.run.ansible import new_run_id, play
        from provision.run.progress import watched

        if not jobs:
            return {}
        hosts, run_id = [job.target.host for job in jobs], new_run_id()
        if self.cancel.is_set():
            return {job.target.host.name: Done(job=job, result=_not_begun(), unreaped=False) for job in jobs}
        with watched(hosts, run_id, self.control_dir, self.on_event):
            played = play(
                assets.folder("playbooks") / "site.yml",
                hosts,
                {job.target.host.name: job.variables for job in jobs},
                inventory_sources=sources(self.options),
                on_event=self.on_event,
                cancel=self.cancel,
                control_dir=self.control_dir,
                tags=tags,
                become_password=self.options.become_password,
                run_id=run_id,
            )
        names = [job.target.host.name for job in jobs]
        return {
            name: Done(job=job, result=played.results[name], unreaped=name in played.unreaped)
            for name, job in zip(names, jobs, strict=True)
        }


def current_plan(target: Target) -> Plan:
    """What the current generation was made from: the plan, or the stock wheels that won against its build."""
    state, stock = target.state, target.plan.stock
    current = state.generation(state.current) if state is not None else None
    if stock is None or current is None:
        return target.plan
    if current.fingerprint == stock.fingerprint or target.plan.fingerprint in current.answers:
        return stock
    return target.plan


def _contest(done: Done, stock: Done) -> Contest | None:
    """None where the build failed its checks: its report stands, and nothing is made current."""
    if not done.report.ok or done.generation is None or stock.generation is None:
        return None
    return Contest(
        target=done.job.target,
        report=done.report,
        stock=stock.report,
        build_generation=done.generation,
        wheel_generation=stock.generation,
    )


def _with_build(report: Report, built: Built | None, stock: Done | None) -> Report:
    """The report with what was done before its play: the build, and the stock wheel's generation."""
    if built is None:
        return report
    steps = (*built.steps, *report.steps)
    builds = built.outcomes
    if stock is not None:
        steps = (*steps, *stock.report.steps)
        builds = tuple(replace(each, notes=(*each.notes, *_unmeasured(stock.report))) for each in builds)
    changed = sum(step.status == "changed" for step in steps)
    return replace(report, builds=builds, steps=steps, changed=changed)


def _with_driver(report: Report, ready: Ready | None) -> Report:
    return report if ready is None else reports.with_driver(report, ready.steps, ready.driver)


def _unmeasured(stock: Report) -> tuple[str, ...]:
    """Why the build was not measured, where the stock wheel's own generation failed: nothing to lose to."""
    if stock.ok:
        return ()
    why = stock.failures[0].what if stock.failures else "its checks failed"
    return (f"not measured against the stock wheel, which could not be installed and proved here: {why}",)


def _not_begun() -> HostResult:
    error = Interrupted(what="interrupted", why="nothing was changed on this host")
    return HostResult(status="failed", steps=(), data={}, failure=reports.failure_of(error))


def sources(options: Options) -> tuple[str, ...]:
    return tuple(str(path.resolve()) for path in options.inventories)


def controller() -> str:
    """Who waits, as another run's user is told: "me@laptop"."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user in the password file: a container with a number for a user
        user = "?"
    return f"{user}@{socket.gethostname()}"
