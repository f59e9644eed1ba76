"""``provision detect``: what a host is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import console
from provision.cli.options import From, Hosts, Inventory, Json, Limit, hosts_from
from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.cli.planning import Looked

EXAMPLES = """
Examples:

  provision detect

  provision detect me@box --json

  provision detect --dump box/      (masked raw readings, to send or to replay)

  provision detect --from box/
"""


def register(app: typer.Typer) -> None:
    app.command(
        "detect",
        short_help="Show what this box, or a host over SSH, is: CPU flags, GPUs, driver.",
        help="Show what this box, or a host over SSH, is: CPU flags, GPUs, driver.\n" + EXAMPLES,
    )(detect)


def detect(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    source: From = None,
    dump: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the raw readings there, names and serials masked."),
    ] = None,
    as_json: Json = False,
) -> None:
    from provision.cli.planning import found_data, leave

    looked = read(hosts, inventory, limit, source)
    if dump is not None:
        _dump(looked, dump)
    if as_json:
        console.answer_json(console.one_or_many([found_data(each, each.facts) for each in looked]))
    else:
        from provision.render.facts import facts_text

        found = [facts_text(each.facts) for each in looked if each.facts is not None]
        if found:
            console.answer("\n".join(found))
    leave(looked)


def read(hosts: Hosts, inventory: Inventory, limit: Limit, source: From) -> tuple[Looked, ...]:
    """What the command line means: a dump folder, this machine, or hosts. Raises UsageError."""
    from provision.cli.planning import look, looked_at

    if source is not None:
        if hosts or inventory:
            raise UsageError(
                what="--from and hosts contradict each other",
                why="a dump is read from its folder, a host from itself",
                hint="give one of them",
            )
        from provision.model.host import Host
        from provision.run.dump import read_dump

        host = Host(name=source.resolve().name, connection="local")
        return (looked_at(host, read_dump(source)),)
    chosen = hosts_from(hosts, inventory, limit)
    if len(chosen) == 1 and chosen[0].connection == "local":
        from provision.run.probe import local_readings

        return (looked_at(chosen[0], local_readings()),)
    from provision.cli.interrupt import cancellable
    from provision.run.ssh import ControlDir

    with cancellable() as cancel, ControlDir() as control_dir:
        return look(chosen, control_dir, cancel)


def _dump(looked: tuple[Looked, ...], folder: Path) -> None:
    """One folder, or for several hosts one in it for each."""
    from provision.detect.mask import masked
    from provision.run.dump import write_dump

    taken: set[str] = set()
    for each in looked:
        if each.readings is not None:
            target = folder if len(looked) == 1 else folder / _folder_name(each.host.name, taken)
            write_dump(target, masked(each.readings))
            console.story(f"wrote {target}")


def _folder_name(host: str, taken: set[str]) -> str:
    """A plain name of its own: an inventory may call a host "../box"."""
    plain = re.sub(r"[^A-Za-z0-9_.@-]", "_", host).lstrip(".") or "host"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}_{number}"
    taken.add(name)
    return name
