"""``provision up`` and ``provision apply``: carry a plan out, verify, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provision.cli.options import (
    AskBecomePass,
    ComputeCapabilities,
    Cpu,
    Data,
    Device,
    DriverChoice,
    DryRun,
    FindLinks,
    Force,
    Framework,
    Hosts,
    Index,
    Inventory,
    Json,
    Limit,
    LockTimeout,
    Name,
    Origin,
    Python,
    With,
    Yes,
    hosts_from,
    request_from,
)

UP_EXAMPLES = """
Examples:

  provision up

  provision up --framework pytorch me@box --yes

  provision up -i hosts.yml --limit lab --yes --json
"""
APPLY_EXAMPLES = """
Examples:

  provision apply plan.json

  provision apply plan.json me@box --yes
"""
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Leave out the checks and the smoke test.")]


def register(app: typer.Typer) -> None:
    app.command(
        "up",
        short_help="Detect, plan, install and verify, here or over SSH.",
        help="Detect, plan, install and verify, here or over SSH.\n" + UP_EXAMPLES,
    )(up)
    app.command(
        "apply",
        short_help="Carry out a saved plan, verify, report; resumes where it stopped.",
        help="Carry out a saved plan, verify, report; resumes where it stopped.\n" + APPLY_EXAMPLES,
    )(apply)


def up(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    framework: Framework = None,
    device: Device = "auto",
    origin: Origin = "auto",
    cpu: Cpu = "native",
    capabilities: ComputeCapabilities = None,
    python: Python = None,
    name: Name = "default",
    driver: DriverChoice = "keep",
    force: Force = False,
    index: Index = None,
    find_links: FindLinks = None,
    packages: With = None,
    data: Data = None,
    no_verify: NoVerify = False,
    lock_timeout: LockTimeout = 600,
    ask_become_pass: AskBecomePass = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.catalog.load import catalog
    from provision.cli.carry_out import Settings, plan_and_run
    from provision.cli.planning import plans_for

    request = request_from(
        catalog=catalog(), framework=framework, device=device, origin=origin, cpu=cpu, capabilities=capabilities,
        python=python, name=name, driver=driver, force=force, index=index, find_links=find_links, packages=packages,
    )  # fmt: skip
    settings = Settings(
        inventory=tuple(inventory or ()), data=data, verify=not no_verify, lock_timeout_s=lock_timeout,
        ask_become_pass=ask_become_pass, dry_run=dry_run, yes=yes, as_json=as_json,
    )  # fmt: skip
    chosen = hosts_from(hosts, inventory, limit)
    plan_and_run(chosen, lambda looked: plans_for(looked, request), settings)


def apply(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan saved by `provision plan -o`.")],
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    data: Data = None,
    no_verify: NoVerify = False,
    lock_timeout: LockTimeout = 600,
    ask_become_pass: AskBecomePass = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.cli.carry_out import Settings, plan_and_run
    from provision.cli.saved import plans_by_host, read_plans

    plans = read_plans(file)
    names = tuple(hosts or ()) or (() if limit or inventory else tuple(p.host for p in plans if p.host != "localhost"))
    settings = Settings(
        inventory=tuple(inventory or ()), data=data, verify=not no_verify, lock_timeout_s=lock_timeout,
        ask_become_pass=ask_become_pass, dry_run=dry_run, yes=yes, as_json=as_json,
    )  # fmt: skip
    plan_and_run(hosts_from(names, inventory, limit), lambda looked: plans_by_host(plans, looked), settings)
