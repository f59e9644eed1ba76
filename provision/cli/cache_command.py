"""``provision cache``: the build cache that a lab of boxes shares."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from provision.cli import console
from provision.cli.cache_input import checked_url, choose_passwords, login_password, one_host, program, size_gib
from provision.cli.options import AskBecomePass, DryRun, Inventory, Json, Yes

if TYPE_CHECKING:
    from provision.model.cache import CacheReport, CacheSettings
    from provision.model.host import Host
    from provision.run.build_cache import Edge, Found

commands = typer.Typer(
    help="Set up, look at and remove a build cache that hosts share.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
UP = """Set a build cache up on a host, or change the one that is there.

One box compiles, the others fetch. Passwords come from the environment (PROVISION_CACHE_WRITER_PASSWORD,
PROVISION_CACHE_READER_PASSWORD), are asked for, or are generated and said once. What is not given stays as it is.

Examples:

  provision cache up me@box --size 100G -K

  provision cache up me@box --reader lab --anonymous-read --yes --json
"""
STATUS = """Is it reachable, how full is it, who may write?

A URL is asked over HTTP: it stores the empty blob to see who may. The password of --user comes from
PROVISION_CACHE_PASSWORD or is asked for.

Examples:

  provision cache status me@box

  provision cache status http://box:9090 --user writer --json
"""
REMOVE = """Remove a host's build cache with its blobs. Packages stay.

Example:

  provision cache remove me@box --yes
"""

HostName: TypeAlias = Annotated[
    str, typer.Argument(metavar="HOST", help="user@host[:port], a name in the inventory, or localhost.")
]
Place: TypeAlias = Annotated[str, typer.Argument(metavar="HOST|URL", help="A host, or the address of a cache.")]


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="cache")


@commands.command(short_help="Set a build cache up on a host, or change it.", help=UP)
def up(
    host: HostName,
    inventory: Inventory = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on. [default: 9090]")] = None,
    address: Annotated[str | None, typer.Option(help="Address to listen on. [default: 0.0.0.0]")] = None,
    size: Annotated[str | None, typer.Option(metavar="SIZE", help="Bound, as 50G or 1T. [default: 50G]")] = None,
    folder: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the blobs, on that host.")] = None,
    prefix: Annotated[str | None, typer.Option(help="What comes before /ac and /cas, as /lab.")] = None,
    writer: Annotated[str | None, typer.Option(metavar="NAME", help="Who may write. [default: writer]")] = None,
    reader: Annotated[str | None, typer.Option(metavar="NAME", help="Who may only read.")] = None,
    anonymous_read: Annotated[
        bool | None, typer.Option("--anonymous-read/--no-anonymous-read", help="Reading needs no password.")
    ] = None,
    engine: Annotated[Literal["nginx", "bazel-remote"] | None, typer.Option(help="[default: nginx]")] = None,
    binary: Annotated[str, typer.Option(metavar="FILE|URL#sha256=HEX", help="The program bazel-remote.")] = "",
    image: Annotated[str, typer.Option(metavar="NAME@sha256:HEX", help="Its container image instead.")] = "",
    certificate: Annotated[str | None, typer.Option(metavar="FILE", help="TLS certificate on that host.")] = None,
    key: Annotated[str | None, typer.Option(metavar="FILE", help="Its key, on that host.")] = None,
    ask_become_pass: AskBecomePass = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.model.cache import CacheSettings
    from provision.run.build_cache import Wanted, set_up

    box = one_host(host, inventory)
    asked: dict[str, Any] = {
        "port": port, "address": address, "size_gib": None if size is None else size_gib(size), "folder": folder,
        "prefix": prefix, "writers": None if writer is None else (writer,), "engine": engine,
        "readers": None if reader is None else (reader,), "anonymous_read": anonymous_read,
        "certificate": certificate, "key": key,
    }  # fmt: skip
    given = {name: value for name, value in asked.items() if value is not None}
    with _Work(box, inventory, ask_become_pass) as work:
        before = work.look().settings
        plain = CacheSettings(
            engine="nginx", address="0.0.0.0", port=9090, folder="/var/lib/provision-build-cache",  # noqa: S104
            size_gib=50, writers=("writer",),
        )  # fmt: skip
        settings = replace(before or plain, **given)
        passwords, origins = choose_passwords(settings, before, ask=not (yes or dry_run))
        work.announce(before, settings, origins)
        if dry_run:
            console.story("dry run: nothing was changed")
            if as_json:
                console.answer_json({"schema": 1, "host": box.name, "before": before, "cache": settings})
            return
        work.confirm(f"Set this up on {box.name}?", yes)
        file, sha256 = program(binary)
        wanted = Wanted(settings=settings, passwords=passwords, binary=file, binary_sha256=sha256, image=image)
        report = set_up(box, wanted, work.edge())
        generated = {user: passwords[user] for user, origin in origins.items() if origin == "generated"}
        work.leave(replace(report, generated_passwords=generated if report.ok else {}), as_json)


@commands.command(short_help="Is it reachable, how full is it, who may write?", help=STATUS)
def status(
    place: Place,
    inventory: Inventory = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Ask as this user, too.")] = None,
    as_json: Json = False,
) -> None:
    from provision.render.cache import failure_text, status_text
    from provision.run.cache_http import host_status, url_status

    login = None if user is None else (user, login_password(user))
    if re.match(r"https?://", place):
        found = url_status(checked_url(place), login)
    else:
        box = one_host(place, inventory)
        with _Work(box, inventory, False) as work:
            found = host_status(box, work.look(), login)
    if as_json:
        console.answer_json(found)
    elif found.ok:
        console.answer(status_text(found, time.time()))
    else:
        console.story("".join(failure_text(found.host or found.url, failure) for failure in found.failures).rstrip())
    if not found.ok:
        raise typer.Exit(found.failures[0].exit_code)


@commands.command(short_help="Remove a host's build cache with its blobs.", help=REMOVE)
def remove(
    host: HostName,
    inventory: Inventory = None,
    ask_become_pass: AskBecomePass = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.model.cache import CacheReport
    from provision.render.cache import removal_text
    from provision.run.build_cache import take_away

    box = one_host(host, inventory)
    with _Work(box, inventory, ask_become_pass) as work:
        found = work.look()
        if found.settings is None:
            work.leave(CacheReport(ok=True, host=box.name, url="", changed=0, cache=None), as_json)
            return
        console.story(removal_text(box.name, found.settings, found.usage))
        if dry_run:
            console.story("dry run: nothing was changed")
            if as_json:
                console.answer_json({"schema": 1, "host": box.name, "before": found.settings, "cache": None})
            return
        work.confirm(f"Remove it from {box.name}?", yes)
        report = take_away(box, found.settings, work.edge())
        work.leave(replace(report, cache=None) if report.ok else report, as_json)


class _Work:
    """One command's work on one host: its connection, its display, its end."""

    def __init__(self, host: Host, inventory: list[Path] | None, ask_become_pass: bool) -> None:
        from contextlib import ExitStack

        self._host, self._inventory, self._ask = host, tuple(inventory or ()), ask_become_pass
        self._open = ExitStack()
        self._become_password: str | None = None

    def __enter__(self) -> _Work:
        from provision.cli.interrupt import cancellable
        from provision.run.ssh import ControlDir

        self._cancel = self._open.enter_context(cancellable())
        self._control_dir = self._open.enter_context(ControlDir())
        return self

    def __exit__(self, *stop: object) -> None:
        self._open.close()

    def look(self) -> Found:
        from provision.run.build_cache import look

        return look(self._host, control_dir=self._control_dir, cancel=self._cancel)

    def announce(self, before: CacheSettings | None, wanted: CacheSettings, origins: Mapping[str, str]) -> None:
        from provision.render.cache import intention_text

        console.story(intention_text(self._host.name, before, wanted, origins))

    def confirm(self, question: str, yes: bool) -> None:
        from provision.cli.carry_out import become_password, confirm

        confirm(question, yes)
        self._become_password = become_password() if self._ask else None

    def edge(self) -> Edge:
        from provision.cli.display import progress_display
        from provision.run.build_cache import Edge

        display = self._open.enter_context(progress_display([self._host.name]))
        return Edge(
            on_event=display.event, cancel=self._cancel, control_dir=self._control_dir, inventories=self._inventory,
            become_password=self._become_password,
        )  # fmt: skip

    def leave(self, report: CacheReport, as_json: bool) -> None:
        from provision.render.cache import report_text

        self._open.close()  # the display, before the answer
        if as_json:
            console.answer_json(report)
        else:
            (console.answer if report.ok else console.story)(report_text(report))
        if not report.ok:
            raise typer.Exit(report.failures[0].exit_code)
