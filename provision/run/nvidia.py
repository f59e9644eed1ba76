"""NVIDIA's part of a plan on its hosts: driver, persistence, toolkit, cuDNN, container toolkit. Before anything else.

A host that has to be rebooted stops here, with everything kept: the same command goes on after the reboot.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from provision import assets
from provision.errors import Interrupted, StepFailed
from provision.model.data import to_data
from provision.model.report import DriverOutcome, Failure, Progress, Report, StepOutcome
from provision.model.setup import DriverSetup, NvidiaSetup
from provision.run import reports
from provision.run.play_events import HostResult

if TYPE_CHECKING:
    from provision.run.execute import Options, Target

OnEvent = Callable[[Progress], None]
LOOKED = "Look at the box"
INSTALLED = "Install the NVIDIA driver"
CONFIRMED = "Confirm the NVIDIA driver"
REBOOT = "reboot_needed"
"""Kind of the failure that asks for a reboot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What was done on a host whose GPUs can be used now."""

    steps: tuple[StepOutcome, ...]
    driver: DriverOutcome | None


def set_up(
    targets: Sequence[Target], options: Options, *, on_event: OnEvent, cancel: threading.Event, control_dir: str
) -> tuple[dict[str, Ready], dict[str, Report]]:
    """Each target's Plan.nvidia carried out: what was done, and the reports of hosts that stop there."""
    from provision.run.ansible import new_run_id, play
    from provision.run.progress import watched

    ready: dict[str, Ready] = {}
    stopped: dict[str, Report] = {}
    work = {target.host.name: (target, target.plan.nvidia) for target in targets if target.plan.nvidia is not None}
    if cancel.is_set():
        error = Interrupted(what="interrupted", why="nothing was changed on this host")
        return ready, {name: reports.stopped(target, error) for name, (target, _) in work.items()}
    if not work:
        return ready, stopped
    hosts, run_id = [target.host for target, _ in work.values()], new_run_id()
    with watched(hosts, run_id, control_dir, on_event):
        played = play(
            assets.folder("playbooks") / "nvidia.yml",
            hosts,
            {name: variables(setup) for name, (_, setup) in work.items()},
            inventory_sources=tuple(str(path.resolve()) for path in options.inventories),
            on_event=on_event,
            cancel=cancel,
            control_dir=control_dir,
            become_password=options.become_password,
            run_id=run_id,
        )
    for name, (target, setup) in work.items():
        outcome = outcome_of(target, setup, played.results[name], unreaped=name in played.unreaped)
        if isinstance(outcome, Report):
            stopped[name] = outcome
        else:
            ready[name] = outcome
    return ready, stopped


def variables(setup: NvidiaSetup) -> dict[str, Any]:
    """What playbooks/nvidia.yml takes."""
    return {"provision_nvidia": to_data(setup)}


def outcome_of(target: Target, setup: NvidiaSetup, result: HostResult, *, unreaped: bool) -> Ready | Report:
    """From what happened on the host: it is ready, or the report of why it is not."""
    steps = tuple(step for step in result.steps if step.status != "skipped")
    driver = driver_outcome(setup.driver, result.data)
    if result.status == "cancelled":
        return reports.with_driver(reports.stopped(target, _interrupted(result, unreaped)), steps, driver)
    if result.failure is not None:
        told = _told(result, result.failure, setup)
        return reports.with_driver(reports.failed(target, (told,)), steps, driver)
    if driver is not None and driver.reboot_needed:
        return reports.with_driver(reports.failed(target, (reboot_failure(target.host.name, driver),)), steps, driver)
    return Ready(steps=steps, driver=driver)


def driver_outcome(setup: DriverSetup | None, data: Mapping[str, Mapping[str, Any]]) -> DriverOutcome | None:
    """What the role's module returned last; None where it got to no result."""
    done = next((found for title in (CONFIRMED, INSTALLED) if (found := data.get(title, {})).get("state")), None)
    if setup is None or done is None:
        return None
    first: Mapping[str, Any] = data.get(INSTALLED, {})
    reboot = done.get("reboot") or {}
    return DriverOutcome(
        version=_text(done.get("version")),
        branch=str(done.get("branch") or setup.branch),
        module=_module(done.get("module"), setup),
        state=done["state"],
        reboot_needed=bool(reboot.get("needed")),
        reboot_why=_texts(reboot.get("why")),
        console=_texts(done.get("console")),
        held=_texts(done.get("held") or first.get("held")),
        undo=_texts(done.get("undo") or first.get("undo")),
        notes=_texts(data.get(LOOKED, {}).get("notes")),
    )


def _module(value: Any, setup: DriverSetup) -> Literal["open", "proprietary"]:
    return value if value in ("open", "proprietary") else setup.module


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value or ())


def reboot_failure(host: str, driver: DriverOutcome) -> Failure:
    """Not done yet, and no fault of anybody's: what to do, in order."""
    how = driver.console or ("reboot it when it suits you (sudo reboot)",)
    then = "then run the same command again: it goes on"
    return Failure(
        what=f"{host} has to be rebooted before its GPU can be used",
        why="\n".join(driver.reboot_why)
        or f"NVIDIA driver {driver.version or driver.branch} is installed and not loaded yet",
        hint="\n".join([*how, then]),
        exit_code=StepFailed.exit_code,
        kind=REBOOT,
    )


def _interrupted(result: HostResult, unreaped: bool) -> Interrupted:
    what_runs = f" during {result.running!r}" if result.running else ""
    left = "; the host did not answer any more, so something may still be running there" if unreaped else ""
    return Interrupted(
        what="interrupted",
        why=f"stopped{what_runs}: a package operation that had begun was finished on the host, and its state is kept"
        f"{left}",
        hint="run the same command again, and it goes on from there; do not reboot before that",
    )


def _told(result: HostResult, failure: Failure, setup: NvidiaSetup) -> Failure:
    """The failure; where the connection went away in the middle, what that means for the driver."""
    if result.status != "unreachable" or not result.steps or setup.driver is None:
        return failure
    repair = "dpkg --configure -a; apt-get -y -f install" if setup.manager == "apt" else "dnf -y distro-sync"
    return Failure(
        what=failure.what,
        why=f"{failure.why}\nthe host finishes what it has begun, and keeps the state of it".lstrip("\n"),
        hint=f"{failure.hint}\nthen run the same command again, and it goes on. If the host does not come back, at its "
        f"text console as root: {repair}".lstrip("\n"),
        exit_code=failure.exit_code,
        kind=failure.kind,
    )
