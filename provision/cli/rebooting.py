"""With --reboot: the hosts that ask for a reboot get one, and their run goes on where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from provision.cli import console
from provision.errors import UsageError
from provision.model.report import Report

if TYPE_CHECKING:
    from provision.cli.carry_out import Settings
    from provision.cli.planning import Looked, Planned
    from provision.model.host import Host


def refuse_reboot_of_this_machine(hosts: Sequence[Host], reboot: bool) -> None:
    """Raises UsageError: it would end the program that is to go on afterwards."""
    if reboot and any(host.connection == "local" for host in hosts):
        raise UsageError(
            what="--reboot is for hosts over SSH",
            why="a reboot of this machine would end this program before it can go on",
            hint="leave --reboot out; reboot when you are asked to, and run the same command again",
        )


def wait_for_reboot(report: Report) -> bool:
    """Whether a reboot is all that the host waits for: work at its console is its user's."""
    asked = any(failure.kind == "reboot_needed" for failure in report.failures)
    return asked and report.driver is not None and not report.driver.console


def go_on_after_reboots(
    reports: Sequence[Report],
    hosts: Sequence[Host],
    planning: Callable[[Sequence[Looked]], Sequence[Planned]],
    settings: Settings,
    *,
    cancel: threading.Event,
    control_dir: str,
) -> tuple[Report, ...]:
    """The reports, those of rebooted hosts as they are after all of it."""
    waiting = {report.host for report in reports if wait_for_reboot(report)}
    if not waiting or cancel.is_set():
        return tuple(reports)
    again = _again([host for host in hosts if host.name in waiting], planning, settings, cancel, control_dir)
    return tuple(_joined(report, again[report.host]) if report.host in again else report for report in reports)


def _again(
    hosts: Sequence[Host],
    planning: Callable[[Sequence[Looked]], Sequence[Planned]],
    settings: Settings,
    cancel: threading.Event,
    control_dir: str,
) -> dict[str, Report]:
    """Rebooted, read, planned and carried out; by host name. For one that did not come back, why."""
    from provision.cli.carry_out import announce, carry_out, in_order, targets_of
    from provision.cli.display import progress_display
    from provision.cli.planning import failed_report, look
    from provision.errors import HostError
    from provision.run.reboot import reboot

    with progress_display(host.name for host in hosts) as display:
        results = reboot(
            hosts,
            inventories=settings.inventory,
            become_password=settings.become_password,
            on_event=display.event,
            cancel=cancel,
            control_dir=control_dir,
        )
    found: dict[str, Report] = {}
    back: list[Host] = []
    for host in hosts:
        failure = results[host.name].failure
        if failure is None and results[host.name].status == "ok":
            back.append(host)
        else:
            told = failure or HostError(what=f"{host.name}: the reboot was interrupted")
            why = f"{told.why}\nwhether it was rebooted, and is back, is not known".lstrip("\n")
            hint = "look at its console; when it is back, run the same command again, and it goes on"
            found[host.name] = failed_report(host.name, HostError(what=told.what, why=why, hint=hint))
    if back and not cancel.is_set():
        planned = tuple(planning(look(back, control_dir, cancel)))
        for each in planned:
            if each.failure is not None:
                console.story(console.error_text(each.failure))
        targets = targets_of(planned)
        announce(targets, replace(settings, yes=True))
        done = carry_out(targets, settings, cancel=cancel, control_dir=control_dir) if targets else ()
        found |= {report.host: report for report in in_order(planned, done)}
    return found


def _joined(before: Report, after: Report) -> Report:
    """One report of the host's two halves."""
    return replace(
        after,
        steps=(*before.steps, *after.steps),
        changed=before.changed + after.changed,
        driver=after.driver or before.driver,
    )
