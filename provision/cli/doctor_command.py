"""``provision doctor``: known failure signatures on hosts and in logs, with cause and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import console
from provision.cli.options import From, Hosts, Inventory, Json, Limit
from provision.errors import UsageError, VerificationFailed

if TYPE_CHECKING:
    from provision.cli.planning import Looked
    from provision.model.doctor import DoctorReport

EXAMPLES = """
It changes nothing, and leaves with 0 where nothing is wrong, 6 where something is.

Examples:

  provision doctor

  provision doctor me@box -i hosts.yml --json

  provision doctor --log train.log

  journalctl -k | provision doctor --log -
"""


def register(app: typer.Typer) -> None:
    app.command(
        "doctor",
        short_help="Find known failures on a box or in a log: cause and remedy.",
        help="Find known failures on a box or in a log: evidence, cause and remedy.\n" + EXAMPLES,
    )(doctor)


def doctor(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    source: From = None,
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="A log in place of a host; - is standard input.")
    ] = None,
    as_json: Json = False,
) -> None:
    from provision.cli.planning import leave

    if log is not None:
        if hosts or inventory or limit or source is not None:
            raise UsageError(
                what="--log and hosts contradict each other",
                why="a log is looked at by itself",
                hint="run doctor once for the log and once for the hosts",
            )
        _answer([_of_log(log)], as_json, [])
        return
    from provision.cli.detect_command import read

    looked = read(hosts, inventory, limit, source)
    reports = [_of_host(each, local=source is None) for each in looked if each.facts is not None]
    _answer(reports, as_json, [each for each in looked if each.facts is None])
    leave(looked)
    _leave_with(reports)


def _of_log(path: Path) -> DoctorReport:
    from provision.catalog.diagnostics import diagnostics
    from provision.catalog.failures import build_failures
    from provision.catalog.image_failures import image_failures
    from provision.detect.doctor import doctor_log
    from provision.run.doctor import read_log

    log = read_log(path)
    rows = {row.id: row for row in (*build_failures(), *diagnostics())}  # of one id: the box's words
    return doctor_log(log.text, log.name, tuple(rows.values()), images=image_failures(), cut=log.cut)


def _of_host(looked: Looked, *, local: bool) -> DoctorReport:
    from provision.catalog.diagnostics import diagnostics
    from provision.detect.doctor import doctor_host
    from provision.model.readings import Readings
    from provision.run.doctor import cpu_cross_check

    assert looked.facts is not None  # noqa: S101 - chosen by the caller
    here = local and looked.host.connection == "local"
    more = cpu_cross_check(looked.facts.cpu) if here else ()
    return doctor_host(looked.readings or Readings(), looked.facts, diagnostics(), more=more)


def _answer(reports: list[DoctorReport], as_json: bool, failed: list[Looked]) -> None:
    if as_json:
        from provision.cli.planning import found_data

        console.answer_json(console.one_or_many([*reports, *(found_data(each, None) for each in failed)]))
    elif reports:
        from provision.render.doctor import doctors_text

        console.answer(doctors_text(reports).rstrip("\n"))
    if not failed:
        _leave_with(reports)


def _leave_with(reports: list[DoctorReport]) -> None:
    if not all(report.ok for report in reports):
        raise typer.Exit(VerificationFailed.exit_code)
