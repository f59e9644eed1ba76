"""``provision verify``: does the environment that is there do what it should?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from provision.cli.options import AskBecomePass, Data, Hosts, Inventory, Json, Limit, Name, hosts_from
from provision.errors import StepFailed, UsageError

if TYPE_CHECKING:
    from provision.cli.planning import Looked, Planned
    from provision.model.environment import EnvironmentState

EXAMPLES = """
Examples:

  provision verify

  provision verify me@box --data mnist/ --json
"""


def register(app: typer.Typer) -> None:
    app.command(
        "verify",
        short_help="Run the checks and the MNIST smoke test on an environment.",
        help="Run the checks and the MNIST smoke test on an environment.\n" + EXAMPLES,
    )(verify)


def verify(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    name: Name = "default",
    data: Data = None,
    ask_become_pass: AskBecomePass = False,
    as_json: Json = False,
) -> None:
    from provision.cli.carry_out import Settings, carry_out, conclude, in_order, stop_if_alone, targets_of
    from provision.cli.interrupt import cancellable
    from provision.cli.planning import look
    from provision.run.ssh import ControlDir

    chosen = hosts_from(hosts, inventory, limit)
    settings = Settings(inventory=tuple(inventory or ()), data=data, ask_become_pass=ask_become_pass)
    with cancellable() as cancel, ControlDir() as control_dir:
        planned = tuple(_installed(found, name) for found in look(chosen, control_dir, cancel))
        stop_if_alone(planned, as_json)
        targets = targets_of(planned)
        reports = carry_out(targets, settings, cancel=cancel, control_dir=control_dir, install=False) if targets else ()
    conclude(in_order(planned, reports), as_json)


def _installed(found: Looked, name: str) -> Planned:
    """The plan that the current generation was made from: verification asks for what was promised then."""
    from provision.cli.planning import Planned
    from provision.model.data import from_data
    from provision.model.plan import Plan

    if found.failure is not None:
        return Planned(looked=found, failure=found.failure)
    state = found.environment(name)
    if state is None or state.current is None:
        return Planned(looked=found, failure=nothing_there(found, name))
    try:
        return Planned(looked=found, plan=from_data(Plan, state.plan))
    except ValueError as error:
        why = "plan.json is missing, or no JSON" if state.plan is None else str(error).splitlines()[0]
        return Planned(looked=found, failure=_unreadable(state, why))


def _unreadable(state: EnvironmentState, why: str) -> StepFailed:
    return StepFailed(
        what=f"the plan of environment {state.name} cannot be read",
        why=f"{state.path}/generations/{state.current}: {why}",
        hint="provision up makes a new generation",
    )


def nothing_there(found: Looked, name: str) -> UsageError:
    others = ", ".join(sorted(state.name for state in found.environments if state.current is not None))
    return UsageError(
        what=f"there is no environment called {name}",
        why=f"found: {others}" if others else "no environment was made on this host yet",
        hint=f"provision up --name {name}",
    )
