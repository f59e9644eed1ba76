"""From plans to reports: the second half of `up`, `apply` and `verify`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from provision.cli import console
from provision.cli.interrupt import asking
from provision.errors import Interrupted, ProvisionError, UsageError
from provision.model.report import Report
from provision.run.build_settings import BuildSettings

if TYPE_CHECKING:
    from provision.cli.planning import Looked, Planned
    from provision.model.host import Host
    from provision.run.execute import Options, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to go about it: the options that `up` and `apply` share."""

    inventory: tuple[Path, ...] = ()
    data: Path | None = None
    verify: bool = True
    lock_timeout_s: float = 600
    ask_become_pass: bool = False
    dry_run: bool = False
    yes: bool = False
    as_json: bool = False
    build: BuildSettings = field(default_factory=BuildSettings)
    pairs: int = 3
    """How often a build and the stock wheel are measured, each."""
    reboot: bool = False
    become_password: str | None = field(default=None, repr=False)
    """Once it has been asked for."""


def plan_and_run(
    hosts: Sequence[Host], planning: Callable[[Sequence[Looked]], Sequence[Planned]], settings: Settings
) -> None:
    """Look at the hosts, show each plan, ask, carry out, report, and leave with the exit code."""
    from provision.cli.interrupt import cancellable
    from provision.cli.plan_command import show
    from provision.cli.planning import look
    from provision.cli.rebooting import go_on_after_reboots, refuse_reboot_of_this_machine
    from provision.run.ssh import ControlDir

    refuse_reboot_of_this_machine(hosts, settings.reboot)
    with cancellable() as cancel, ControlDir() as control_dir:
        planned = planning(look(hosts, control_dir, cancel))
        if settings.dry_run:
            show(planned, settings.as_json, after="\ndry run: nothing was changed")
            return
        planned = tuple(carried_out_now(each, settings.build.until) for each in planned)
        stop_if_alone(planned, settings.as_json)
        targets = targets_of(planned)
        announce(targets, settings)
        settings = with_password(settings) if targets else settings
        reports = carry_out(targets, settings, cancel=cancel, control_dir=control_dir) if targets else ()
        if settings.reboot:
            reports = go_on_after_reboots(reports, hosts, planning, settings, cancel=cancel, control_dir=control_dir)
    conclude(in_order(planned, reports), settings.as_json)


def stop_if_alone(planned: Sequence[Planned], as_json: bool) -> None:
    """Raise the failure of the only host. With several it goes into their reports, with JSON into its document."""
    from provision.cli.planning import alone

    if len(planned) == 1 and planned[0].failure is not None and not as_json:
        raise alone(planned[0].failure, planned[0].host, planned)


def carried_out_now(planned: Planned, until: str = "") -> Planned:
    """The same, or a failure where the plan cannot be carried out as it was asked for: before anything is changed."""
    from provision.render.plan import plan_text
    from provision.run.execute import unavailable

    refusal: ProvisionError | None = unavailable(planned.plan) if planned.plan is not None else None
    if planned.plan is not None and until and not planned.plan.builds:
        return replace(planned, plan=None, failure=_nothing_to_build(planned.host.name, until))
    if planned.plan is None or refusal is None:
        return planned
    console.story(plan_text(planned.plan))
    return replace(planned, plan=None, failure=refusal)


def _nothing_to_build(host: str, until: str) -> UsageError:
    return UsageError(
        what=f"--until {until} is for source builds, and nothing is built on {host}",
        why="its plan takes wheels",
        hint="add --origin source, or leave --until out",
    )


def announce(targets: Sequence[Target], settings: Settings) -> None:
    """Show what will change, and ask."""
    from provision.render.plan import plan_text
    from provision.run.execute import settled

    changing = [target for target in targets if not settled(target)]
    for target in changing:
        console.story(plan_text(target.plan))
    if changing:
        one = changing[0].host.name if len(changing) == 1 else f"{len(changing)} hosts"
        confirm(f"Carry this out on {one}?", settings.yes)


def targets_of(planned: Sequence[Planned]) -> tuple[Target, ...]:
    """Those hosts that have a plan, each with what is there already."""
    from provision.run.execute import Target

    return tuple(
        Target(
            host=each.host,
            plan=each.plan,
            facts=each.looked.facts,
            state=each.looked.environment(each.plan.request.name),
        )
        for each in planned
        if each.plan is not None and each.looked.facts is not None
    )


def confirm(question: str, yes: bool, what: str = "this would change the host") -> None:
    """Ask, unless told not to. Without a terminal a question would hang, so that is wrong usage."""
    if yes:
        return
    if not console.interactive():
        raise UsageError(
            what=f"{what}, and nobody can be asked",
            why="there is no terminal and --yes was not given",
            hint="add --yes, or --dry-run to see the plan only",
        )
    with asking():
        agreed = typer.confirm(question, err=True)
    if not agreed:
        raise Interrupted(what="stopped", why="nothing was changed")


def carry_out(
    targets: Sequence[Target],
    settings: Settings,
    *,
    cancel: threading.Event,
    control_dir: str,
    install: bool = True,
) -> tuple[Report, ...]:
    """Run the plans with a display; without ``install`` what is there is only verified. Failures are in the reports."""
    from provision.cli.display import progress_display
    from provision.run.execute import execute, verify_only

    work = execute if install else verify_only
    options = execution_options(settings)
    with progress_display(target.host.name for target in targets) as display:
        return work(targets, options, on_event=display.event, cancel=cancel, control_dir=control_dir)


def execution_options(settings: Settings) -> Options:
    """The executor's options; asks for the sudo password where that was wanted."""
    from provision.run.execute import Options

    return Options(
        verify=settings.verify,
        mnist=settings.data,
        lock_timeout_s=settings.lock_timeout_s,
        inventories=settings.inventory,
        build=settings.build,
        pairs=settings.pairs,
        become_password=with_password(settings).become_password,
    )


def with_password(settings: Settings) -> Settings:
    """The same with the sudo password, where it was to be asked for and has not been."""
    if not settings.ask_become_pass or settings.become_password is not None:
        return settings
    return replace(settings, become_password=become_password())


def become_password() -> str:
    """The sudo password, typed unseen. Raises UsageError where nobody can type it."""
    if not console.interactive():
        raise UsageError(
            what="the sudo password cannot be asked for",
            why="there is no terminal",
            hint="use a terminal, or a user who may sudo without a password",
        )
    with asking():
        password: str = typer.prompt("sudo password", hide_input=True, err=True)
    return password


def in_order(planned: Sequence[Planned], reports: Sequence[Report]) -> tuple[Report, ...]:
    """One report a host, in the order in which they were named, those without a plan among them."""
    from provision.cli.planning import failed_report

    by_host = {report.host: report for report in reports}
    unplanned = ProvisionError(what="the host has no plan")
    return tuple(
        by_host.get(each.host.name) or failed_report(each.host.name, each.failure or unplanned) for each in planned
    )


def conclude(reports: Sequence[Report], as_json: bool) -> None:
    """Print the reports and leave with the exit code of what went wrong first."""
    from provision.render.report import fleet_text, report_text

    text = "\n".join(report_text(report) for report in reports)
    if len(reports) > 1:
        text += "\n" + fleet_text(reports)
    leave_with(reports, text, as_json)


def leave_with(reports: Sequence[Report], text: str, as_json: bool) -> None:
    """The answer as text or JSON, then the exit code."""
    if as_json:
        console.answer_json(console.one_or_many(reports))
    else:
        console.answer(text)
    code = exit_code(reports)
    if code:
        raise typer.Exit(code)


def exit_code(reports: Sequence[Report]) -> int:
    """0 when every host is as it should be; otherwise that of the first failure (a failed check is 6)."""
    for report in reports:
        if not report.ok:
            return report.failures[0].exit_code if report.failures else 6
    return 0
