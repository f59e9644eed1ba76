"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

if TYPE_CHECKING:
    from provision.model.catalog import Catalog
    from provision.model.host import Host
    from provision.model.request import Request

HOSTS = "Hosts"
REQUEST = "What is wanted"

Hosts: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="HOST", help="user@host[:port] or a name in the inventory; none is this machine."),
]
Inventory: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--inventory", "-i", help="Ansible inventory, as it is (repeatable).", rich_help_panel=HOSTS),
]
Limit: TypeAlias = Annotated[
    str | None, typer.Option(help="Only these hosts of the inventory (an Ansible pattern).", rich_help_panel=HOSTS)
]
AskBecomePass: TypeAlias = Annotated[
    bool, typer.Option("--ask-become-pass", "-K", help="Ask for the sudo password.", rich_help_panel=HOSTS)
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="One JSON document on stdout; the story on stderr.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]
From: TypeAlias = Annotated[
    Path | None,
    typer.Option("--from", metavar="DIR", help="Read a dump folder instead of a host.", show_default=False),
]
Framework: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--framework",
        "-f",
        help="tensorflow, keras, pytorch, jax or numpy, as in tensorflow==2.21 (repeatable). [default: tensorflow]",
        rich_help_panel=REQUEST,
    ),
]
Device: TypeAlias = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(rich_help_panel=REQUEST)]
Origin: TypeAlias = Annotated[
    Literal["auto", "wheel", "source"], typer.Option(help="Install wheels or build.", rich_help_panel=REQUEST)
]
Cpu: TypeAlias = Annotated[
    str,
    typer.Option(
        help="For source builds: native, generic, x86-64-v1…v4, a microarchitecture or a list of flags.",
        rich_help_panel=REQUEST,
    ),
]
ComputeCapabilities: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--cuda-compute-capabilities",
        metavar="LIST",
        help="8.6,sm_89,9.0+PTX instead of those of the box.",
        rich_help_panel=REQUEST,
    ),
]
Python: TypeAlias = Annotated[
    str | None, typer.Option(help="Python of the environment, as 3.12.", rich_help_panel=REQUEST)
]
Name: TypeAlias = Annotated[str, typer.Option("--name", "-n", metavar="ENV", help="Name of the environment.")]
DriverChoice: TypeAlias = Annotated[
    str,
    typer.Option("--driver", help="keep, newest, prod, lts or a version.", rich_help_panel=REQUEST),
]
Force: TypeAlias = Annotated[
    bool,
    typer.Option(help="Take the nearest known-good for a GPU or release not in the catalog.", rich_help_panel=REQUEST),
]
Index: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--index", metavar="URL", help="A package index asked before PyPI (repeatable).", rich_help_panel=REQUEST
    ),
]
FindLinks: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(metavar="DIR|URL", help="Wheels for closed networks (repeatable).", rich_help_panel=REQUEST),
]
With: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="PACKAGE", help="A further package for it (repeatable).", rich_help_panel=REQUEST),
]
DriverVersion: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Plan as if this NVIDIA driver were installed.", rich_help_panel="Planning for another machine"),
]
Capability: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--compute-capability",
        help="Plan as if the GPU had this compute capability.",
        rich_help_panel="Planning for another machine",
    ),
]
Data: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder with MNIST's four IDX files, for the smoke test."),
]
LockTimeout: TypeAlias = Annotated[
    float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for another run on the same environment.")
]


def request_from(
    *,
    catalog: Catalog,
    framework: Sequence[str] | None,
    device: str,
    origin: str,
    cpu: str,
    capabilities: str | None,
    python: str | None,
    name: str,
    driver: str,
    force: bool,
    index: Sequence[str] | None,
    find_links: Sequence[str] | None,
    packages: Sequence[str] | None,
) -> Request:
    """The checked request. Raises UsageError."""
    from provision.resolve.request import parse_request

    return parse_request(
        frameworks=tuple(framework or ()),
        device=device,
        origin=origin,
        cpu=cpu,
        cuda_compute_capabilities=capabilities,
        python=python,
        name=name,
        driver=driver,
        force=force,
        indexes=tuple(index or ()),
        find_links=tuple(find_links or ()),
        requirements=tuple(packages or ()),
        catalog=catalog,
    )


def hosts_from(hosts: Sequence[str] | None, inventory: Sequence[Path] | None, limit: str | None) -> tuple[Host, ...]:
    """The hosts meant. Raises UsageError."""
    from provision.run.hosts import parse_hosts

    return parse_hosts(tuple(hosts or ()), inventories=tuple(inventory or ()), limit=limit)
