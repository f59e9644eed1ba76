"""``provision plan``: the stack, the reasons, what was rejected, the steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli import console
from provision.cli.options import (
    AcceptMklLicense,
    Blas,
    Capability,
    Compiler,
    ComputeCapabilities,
    ContainerToolkit,
    Cpu,
    Device,
    DriverChoice,
    DriverModule,
    DriverVersion,
    FindLinks,
    Force,
    Framework,
    From,
    Hosts,
    Index,
    Inventory,
    Json,
    Keep,
    Limit,
    Name,
    Origin,
    Python,
    Source,
    With,
    request_from,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from provision.cli.planning import Looked, Planned

EXAMPLES = """
Examples:

  provision plan

  provision plan --framework pytorch me@box -o plan.json

  provision plan --from box/ --driver-version 580.65.06

  provision plan --framework tensorflow==2.15.1 --origin source --cpu x86-64-v3
"""


def register(app: typer.Typer) -> None:
    app.command(
        "plan",
        short_help="Show the stack that fits, why, what was rejected, and the steps.",
        help="Show the stack that fits, why, what was rejected, and the steps.\n" + EXAMPLES,
    )(plan)


def plan(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    dump: From = None,
    framework: Framework = None,
    device: Device = "auto",
    origin: Origin = "auto",
    cpu: Cpu = "native",
    capabilities: ComputeCapabilities = None,
    python: Python = None,
    name: Name = "default",
    driver: DriverChoice = "keep",
    driver_module: DriverModule = "auto",
    container_toolkit: ContainerToolkit = False,
    driver_version: DriverVersion = None,
    capability: Capability = None,
    force: Force = False,
    index: Index = None,
    find_links: FindLinks = None,
    packages: With = None,
    source: Source = None,
    compiler: Compiler = None,
    keep: Keep = None,
    blas: Blas = None,
    accept_mkl_license: AcceptMklLicense = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Save it, for `provision apply`.")
    ] = None,
    as_json: Json = False,
) -> None:
    from provision.catalog.load import catalog
    from provision.cli.detect_command import read
    from provision.cli.planning import plans_for

    request = request_from(
        catalog=catalog(), framework=framework, device=device, origin=origin, cpu=cpu, capabilities=capabilities,
        python=python, name=name, driver=driver, driver_module=driver_module,
        container_toolkit=container_toolkit, force=force, index=index, find_links=find_links, packages=packages,
        source=source, compiler=compiler, keep=keep, blas=blas, accept_mkl_license=accept_mkl_license,
    )  # fmt: skip
    looked = tuple(_overridden(each, driver_version, capability) for each in read(hosts, inventory, limit, dump))
    planned = plans_for(looked, request)
    plans = [each.plan for each in planned if each.plan is not None]
    if output is not None and plans:
        _save(output, plans)
    show(planned, as_json)


def show(planned: Sequence[Planned], as_json: bool, after: str = "") -> None:
    """The plans, each failure once, and the first one's exit code."""
    from provision.cli.planning import found_data, leave
    from provision.render.plan import plan_data, plan_text

    plans = [each.plan for each in planned if each.plan is not None]
    if as_json:
        entries = [found_data(each, each.plan and plan_data(each.plan)) for each in planned]
        console.answer_json(console.one_or_many(entries))
    elif plans:
        console.answer("\n".join(plan_text(each) for each in plans) + after)
    leave(planned)


def _overridden(looked: Looked, driver_version: str | None, capability: str | None) -> Looked:
    from dataclasses import replace

    from provision.resolve import with_overrides

    if looked.facts is None or (driver_version is None and capability is None):
        return looked
    facts = with_overrides(looked.facts, driver_version=driver_version, compute_capability=capability)
    return replace(looked, facts=facts)


def _save(output: Path, plans: Sequence[object]) -> None:
    from provision.model.data import to_json
    from provision.run.files import write_atomically

    write_atomically(output, to_json(console.one_or_many(plans)))
    console.story(f"wrote {output}")
