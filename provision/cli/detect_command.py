"""``provision detect``: what a host is."""

from __future__ import annotations

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
    looked = read(hosts, inventory, limit, source)
    if dump is not None:
        _dump(looked, dump)
    found = [each for each in looked if each.facts is not None]
    if as_json and found:
        console.answer_json(console.one_or_many([each.facts for each in found]))
    elif found:
        from provision.render.facts import facts_text

        console.answer("\n".join(facts_text(each.facts) for each in found if each.facts is not None))
    raise_first(looked, silent=as_json and bool(found))


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
    from provision.detect.mask import masked
    from provision.run.dump import write_dump

    for each in looked:
        if each.readings is not None:
            target = folder if len(looked) == 1 else folder / each.host.name
            write_dump(target, masked(each.readings))
            console.story(f"wrote {target}")


def raise_first(looked: tuple[Looked, ...], silent: bool) -> None:
    """Leave with the first failure's exit code, each failure said once."""
    from provision.cli.planning import alone

    failures = [alone(each.failure, each.host, looked) for each in looked if each.failure is not None]
    if not failures:
        return
    if silent or len(failures) > 1:
        for failure in failures:
            console.story(console.error_text(failure))
        raise typer.Exit(failures[0].exit_code)
    raise failures[0]
