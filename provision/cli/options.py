"""Options that several commands share, each written once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.model import build as model
    from provision.model.catalog import Catalog
    from provision.model.host import Host
    from provision.model.request import Request

HOSTS = "Hosts"
REQUEST = "What is wanted"
BUILD = "Building from source"

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
        help="What the compiler may use: native, generic, x86-64-v1…v4, a microarchitecture (zen4), flags (avx2,fma), "
        "or fleet (what all the hosts have).",
        rich_help_panel=BUILD,
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
DriverModule: TypeAlias = Annotated[
    Literal["auto", "open", "proprietary"],
    typer.Option("--driver-module", help="Flavour of a driver that is installed.", rich_help_panel=REQUEST),
]
ContainerToolkit: TypeAlias = Annotated[
    bool, typer.Option("--container-toolkit", help="Set Docker up for GPUs as well.", rich_help_panel=REQUEST)
]
Force: TypeAlias = Annotated[
    bool,
    typer.Option(
        help="Take the nearest known-good for a GPU or release not in the catalog, and any Bazel.",
        rich_help_panel=REQUEST,
    ),
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
Source: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE",
        help="DIR, FILE.tar.gz, https://…/FILE.tar.gz#sha256=HEX or https://…/NAME.git@TAG; the release's own else.",
        rich_help_panel=BUILD,
    ),
]
Compiler: TypeAlias = Annotated[
    str | None,
    typer.Option(help="gcc, clang-16 or a path on the hosts instead of the release's own.", rich_help_panel=BUILD),
]
Keep: TypeAlias = Annotated[
    Literal["faster", "build", "wheel"] | None,
    typer.Option(
        help="Which one is left current when a build was measured against the wheel. [default: faster]",
        rich_help_panel=BUILD,
    ),
]
Blas: TypeAlias = Annotated[
    Literal["openblas", "mkl"] | None, typer.Option(help="What NumPy is built with.", rich_help_panel=BUILD)
]
AcceptMklLicense: TypeAlias = Annotated[
    bool, typer.Option("--accept-mkl-license", help="Intel's licence of MKL was read.", rich_help_panel=BUILD)
]
UntilWhat: TypeAlias = Annotated[
    Literal["preflight", "configure", "build"] | None,
    typer.Option("--until", help="Stop there and show what was found, written or built.", rich_help_panel=BUILD),
]
Bazel: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="A Bazel or Bazelisk on the hosts.", rich_help_panel=BUILD),
]
BazeliskBaseUrl: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where Bazelisk finds Bazel: a mirror or file://.", rich_help_panel=BUILD),
]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        help="Compilers at once on each host. [default: from its memory and cores]",
        rich_help_panel=BUILD,
        show_default=False,
    ),
]
MemoryPerJob: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--memory-per-job",
        metavar="MIB",
        min=1,
        help="What --jobs is worked out from. [default: the release's]",
        rich_help_panel=BUILD,
        show_default=False,
    ),
]
RemoteCache: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A Bazel cache that hosts share: grpc://, http:// … (its password: PROVISION_REMOTE_CACHE_PASSWORD).",
        rich_help_panel=BUILD,
    ),
]
RemoteExecutor: TypeAlias = Annotated[
    str | None, typer.Option(metavar="URL", help="Where Bazel runs its actions: grpc://.", rich_help_panel=BUILD)
]
BuildFolder: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="DIR", help="A large local disk of the hosts; their cache folder else.", rich_help_panel=BUILD
    ),
]
Pairs: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, max=99, help="How often the build and the wheel are measured.", rich_help_panel=BUILD
    ),
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

Reboot: TypeAlias = Annotated[
    bool,
    typer.Option("--reboot", help="Reboot hosts that need it for their driver, and go on. Never done unasked."),
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
    driver_module: str = "auto",
    container_toolkit: bool = False,
    force: bool,
    index: Sequence[str] | None,
    find_links: Sequence[str] | None,
    packages: Sequence[str] | None,
    source: str | None,
    compiler: str | None,
    keep: str | None,
    blas: str | None,
    accept_mkl_license: bool,
) -> Request:
    """The checked request, the tree that it names looked into. Raises UsageError."""
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
        driver_module=driver_module,
        container_toolkit=container_toolkit,
        force=force,
        indexes=tuple(index or ()),
        find_links=tuple(find_links or ()),
        requirements=tuple(packages or ()),
        source=None if source is None else source_from(source, framework, catalog),
        compiler=compiler,
        keep=keep,
        blas=blas,
        accept_mkl_license=accept_mkl_license,
        catalog=catalog,
    )


def source_from(text: str, framework: Sequence[str] | None, catalog: Catalog) -> model.Source:
    """The source that ``--source`` names: of the frameworks asked for, the one that it is of. Raises UsageError."""
    from provision.resolve.request import parse_request
    from provision.run.sources import source_of

    names = [
        wanted.framework for wanted in parse_request(frameworks=tuple(framework or ()), catalog=catalog).frameworks
    ]
    refused: list[UsageError] = []
    for name in [name for name in names if _built_from_trees(name, catalog)] or names:
        try:
            return source_of(text, name)
        except UsageError as error:
            refused.append(error)
    raise refused[0]


def _built_from_trees(framework: str, catalog: Catalog) -> bool:
    """Whether a recipe takes a tree; those of uv build a source distribution, which it fetches itself."""
    recipes = [release.recipe for release in catalog.of(framework)]
    return any(recipe is not None and recipe.engine != "uv" for recipe in recipes)


def hosts_from(hosts: Sequence[str] | None, inventory: Sequence[Path] | None, limit: str | None) -> tuple[Host, ...]:
    """The hosts meant. Raises UsageError."""
    from provision.run.hosts import parse_hosts

    return parse_hosts(tuple(hosts or ()), inventories=tuple(inventory or ()), limit=limit)
