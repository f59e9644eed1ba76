"""From hosts to facts and plans: the first half of every command, in one place."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import typer

from provision.cli import console
from provision.errors import HostError, Interrupted, ProvisionError, UsageError
from provision.model.environment import EnvironmentState
from provision.model.facts import Facts
from provision.model.host import Host
from provision.model.plan import Plan
from provision.model.readings import Readings
from provision.model.report import Failure, Report

if TYPE_CHECKING:
    from provision.model.catalog import Catalog
    from provision.model.request import Request

FEW = 4
"""Host names that are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found on one host, or why nothing was."""

    host: Host
    readings: Readings | None = None
    facts: Facts | None = None
    environments: tuple[EnvironmentState, ...] = ()
    failure: ProvisionError | None = None

    def environment(self, name: str) -> EnvironmentState | None:
        return next((found for found in self.environments if found.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A host with its own plan, or why there is none."""

    looked: Looked
    plan: Plan | None = None
    failure: ProvisionError | None = None

    @property
    def host(self) -> Host:
        return self.looked.host


def look(hosts: Sequence[Host], control_dir: str, cancel: threading.Event) -> tuple[Looked, ...]:
    """Read every host, in parallel, one round trip each. Failures stay with their host."""
    from provision.run.observe import observe

    observations = observe(hosts, control_dir=control_dir, cancel=cancel)
    if cancel.is_set():
        raise Interrupted(what="interrupted", why="hosts were only being read; nothing was changed")
    return tuple(
        looked_at(found.host, found.readings)
        if found.readings is not None
        else Looked(host=found.host, failure=_host_error(found.failure))
        for found in observations
    )


def looked_at(host: Host, readings: Readings) -> Looked:
    """Facts and environments from one host's readings."""
    from provision.catalog.load import chips
    from provision.detect import host_facts
    from provision.detect.environments import environment_states

    facts = host_facts(readings, chips(), host=host.name)
    return Looked(host=host, readings=readings, facts=facts, environments=environment_states(readings))


def _host_error(failure: Failure | None) -> HostError:
    if failure is None:
        return HostError(what="the host gave no answer")
    return HostError(what=failure.what, why=failure.why, hint=failure.hint)


def plans_for(looked: Sequence[Looked], request: Request) -> tuple[Planned, ...]:
    """Each host its own plan. A host for which nothing fits keeps its objections; the others go on."""
    from provision.catalog.load import catalog
    from provision.resolve import plan_for

    table = catalog()
    request = for_fleet(looked, request, table)
    planned = []
    for found in looked:
        if found.facts is None:
            planned.append(Planned(looked=found, failure=found.failure))
            continue
        try:
            planned.append(Planned(looked=found, plan=plan_for(found.facts, request, table)))
        except ProvisionError as error:
            planned.append(Planned(looked=found, failure=error))
    return tuple(planned)


def for_fleet(looked: Sequence[Looked], request: Request, catalog: Catalog) -> Request:
    """With ``--cpu fleet`` the request with the flags that every host has; any other as it is.

    Raises UsageError for hosts that have no build in common, HostError where one of them could not be read.
    """
    if request.cpu != "fleet":
        return request
    from provision.resolve.copts import fleet_flags

    if len(looked) < 2:
        raise UsageError(
            what="--cpu fleet is about several hosts",
            why="it compiles for what all of them have, and there is one",
            hint="name them all, or give an inventory (-i hosts.yml); --cpu native is for one host",
        )
    unread = [each for each in looked if each.facts is None]
    if unread:
        first = unread[0]
        raise HostError(
            what=f"--cpu fleet needs every host, and {' and '.join(each.host.name for each in unread)} cannot be read",
            why=f"{first.failure.what}: {first.failure.why}".rstrip(": ") if first.failure is not None else "",
            hint="leave it out with --limit, or name a level that it has: --cpu x86-64-v3",
        )
    fleet = fleet_flags([each.facts for each in looked if each.facts is not None], catalog)
    left_out = lacks(fleet.lacking)
    console.story(fleet_text(len(looked), fleet.flags, left_out))
    return replace(request, cpu_flags=fleet.flags, cpu_left_out=left_out)


def fleet_text(hosts: int, flags: Sequence[str], left_out: Sequence[str]) -> str:
    """What the hosts have in common, and which of them cost the others which flags."""
    lines = [f"fleet of {hosts} hosts: {len(flags)} CPU flags that compilers use are on all of them"]
    return "\n".join([*lines, *(f"  left out: {line}" for line in left_out)])


def lacks(lacking: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """ "a and b lack avx512f, avx512dq": a line for each group of hosts."""
    by_hosts: dict[tuple[str, ...], list[str]] = {}
    for flag, names in lacking.items():
        by_hosts.setdefault(tuple(names), []).append(flag)
    return tuple(
        f"{_few(names)} {'lacks' if len(names) == 1 else 'lack'} {', '.join(lost)}" for names, lost in by_hosts.items()
    )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:FEW])
    return shown if len(names) <= FEW else f"{shown} and {len(names) - FEW} more"


def failed_report(host: str, error: ProvisionError) -> Report:
    """The report of a host that never got as far as a step."""
    parts = [Failure(what=error.what, why=error.why, hint=error.hint, exit_code=error.exit_code)]
    parts += [
        Failure(what=each.what, why=each.why, hint=each.hint, exit_code=error.exit_code) for each in error.details
    ]
    return Report(
        ok=False, host=host, environment=None, changed=0, steps=(), checks=(), smoke=None, failures=tuple(parts)
    )


def alone(error: ProvisionError, host: Host, hosts: Sequence[object]) -> ProvisionError:
    """The error, with its host's name where there are several hosts or the one is not this machine."""
    if len(hosts) == 1 and host.connection == "local":
        return error
    named = error.what if host.name in error.what else f"{host.name}: {error.what}"
    return replace(error, what=named)


def found_data(found: Looked | Planned, value: Any) -> Any:
    """What was found on a host, or, in its place, why nothing was: `--json` has one entry for each host asked."""
    if found.failure is None:
        return value
    return console.error_data(found.failure, host=found.host.name)


def leave(found: Sequence[Looked | Planned]) -> None:
    """Say each failure once, and leave with the first one's exit code."""
    failures = [alone(each.failure, each.host, found) for each in found if each.failure is not None]
    for failure in failures:
        console.story(console.error_text(failure))
    if failures:
        raise typer.Exit(failures[0].exit_code)
