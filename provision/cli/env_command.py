"""``provision env``: environments and their generations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import console
from provision.cli.options import Hosts, Inventory, Json, Limit, Name, Yes, hosts_from

if TYPE_CHECKING:
    from provision.cli.planning import Looked
    from provision.errors import ProvisionError
    from provision.run.execute import Change

commands = typer.Typer(
    help="List, roll back and remove environments.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="env")


@commands.command("list", help="Environments and their generations.\n\nExample:\n\n  provision env list me@box --json")
def list_environments(
    hosts: Hosts = None, inventory: Inventory = None, limit: Limit = None, as_json: Json = False
) -> None:
    from provision.cli.detect_command import read
    from provision.cli.planning import found_data, leave
    from provision.render.environments import environments_data, environments_text

    looked = read(hosts, inventory, limit, None)
    if as_json:
        entries = [found_data(each, environments_data(each.host.name, each.environments)) for each in looked]
        console.answer_json(console.one_or_many(entries))
    else:
        found = [environments_text(each.host.name, each.environments) for each in looked if each.failure is None]
        if found:
            console.answer("\n".join(found))
    leave(looked)


@commands.command(
    help="Go back to an earlier generation: the previous verified one, or the one named.\n\n"
    "Example:\n\n  provision env rollback --name default"
)
def rollback(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    name: Name = "default",
    to: Annotated[int | None, typer.Option(min=1, metavar="N", help="The generation to go back to.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.run.execute import Rollback

    _change(hosts, inventory, limit, Rollback(name=name, generation=to), f"Roll {name} back?", yes, as_json)


@commands.command(
    help="Remove an environment with all its generations, or one generation of it.\n\n"
    "Example:\n\n  provision env remove --name old --yes"
)
def remove(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    name: Name = "default",
    generation: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only this generation.")] = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.run.execute import Remove

    what = name if generation is None else f"generation {generation} of {name}"
    _change(hosts, inventory, limit, Remove(name=name, generation=generation), f"Remove {what}?", yes, as_json)


def _change(
    hosts: Hosts, inventory: Inventory, limit: Limit, change: Change, question: str, yes: bool, as_json: bool
) -> None:
    from provision.cli.carry_out import confirm, leave_with
    from provision.cli.display import progress_display
    from provision.cli.interrupt import cancellable
    from provision.cli.planning import failed_report, look
    from provision.render.report import change_text
    from provision.run.execute import change_environments
    from provision.run.ssh import ControlDir

    chosen = hosts_from(hosts, inventory, limit)
    with cancellable() as cancel, ControlDir() as control_dir:
        looked = look(chosen, control_dir, cancel)
        there = [each for each in looked if _has(each, change.name)]
        if there:
            confirm(question, yes)
        with progress_display(each.host.name for each in there) as display:
            reports = change_environments(
                [(each.host, each.environment(change.name)) for each in there],
                change,
                inventories=tuple(inventory or ()),
                on_event=display.event,
                cancel=cancel,
                control_dir=control_dir,
            )
    by_host = {report.host: report for report in reports}
    every = [
        by_host.get(each.host.name) or failed_report(each.host.name, _absent(each, change.name)) for each in looked
    ]
    leave_with(every, "".join(change_text(report) for report in every), as_json)


def _has(looked: Looked, name: str) -> bool:
    return looked.failure is None and looked.environment(name) is not None


def _absent(looked: Looked, name: str) -> ProvisionError:
    from provision.cli.verify_command import nothing_there

    return looked.failure or nothing_there(looked, name)
