"""``provision image``: the same stack as a container image."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from provision.cli import console, image_verify
from provision.cli.options import (
    BUILD,
    HOSTS,
    REQUEST,
    AcceptMklLicense,
    Bazel,
    BazeliskBaseUrl,
    Blas,
    Compiler,
    ComputeCapabilities,
    Data,
    Device,
    DryRun,
    FindLinks,
    Force,
    Framework,
    Index,
    Inventory,
    Jobs,
    Json,
    Limit,
    MemoryPerJob,
    Origin,
    Python,
    RemoteCache,
    Source,
    With,
    Yes,
    hosts_from,
    request_from,
)

IMAGE = "The image"
BUILDER = "How it is built"
BASE = "debian:bookworm"

commands = typer.Typer(
    help="Build, prove and list container images.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
BUILD_EXAMPLES = """
Examples:

  provision image build --framework tensorflow --cpu x86-64-v3 --tag me/tf:v3

  provision image build -f pytorch --cpu x86-64-v2,x86-64-v3,x86-64-v4 --tag me/torch --copy app.py --push

  provision image build -f pytorch --device cuda --tag me/torch:cuda --minimal --sbom sbom.json

  provision image build -i hosts.yml --per-level --tag registry:5000/lab/tf --yes

  provision image build -f jax --output Dockerfile      (writes it with its context, and builds nothing)
"""
ImageHosts = Annotated[
    list[str] | None,
    typer.Argument(metavar="HOST", help="Build for what these have: user@host[:port] or a name in the inventory."),
]
Cpus = Annotated[
    str | None,
    typer.Option(
        help="generic, x86-64-v2…v4, a microarchitecture (zen4), flags (avx2,fma), or several CPUs with commas: "
        "an image each. [default: generic]",
        rich_help_panel=IMAGE,
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="image")


@commands.callback()
def image() -> None:
    """Build, prove and list container images."""


@commands.command(
    "build",
    short_help="Build an image of the stack that fits, and prove it before it gets its tag.",
    help="Build an image of the stack that fits, and prove it before it gets its tag.\n" + BUILD_EXAMPLES,
)
def build(
    hosts: ImageHosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    per_level: Annotated[
        bool,
        typer.Option("--per-level", help="An image for each level among the hosts, not one.", rich_help_panel=HOSTS),
    ] = False,
    framework: Framework = None,
    device: Device = "auto",
    origin: Origin = "auto",
    capabilities: ComputeCapabilities = None,
    driver_version: Annotated[
        str | None,
        typer.Option(help="The oldest NVIDIA driver that is to run it.", rich_help_panel=REQUEST),
    ] = None,
    python: Python = None,
    force: Force = False,
    index: Index = None,
    find_links: FindLinks = None,
    packages: With = None,
    cpu: Cpus = None,
    tag: Annotated[
        str | None,
        typer.Option("--tag", "-t", metavar="NAME", help="[registry/]name[:tag]; of several CPUs each adds its own.",
                     rich_help_panel=IMAGE),
    ] = None,
    base: Annotated[
        str, typer.Option(metavar="IMAGE", help="Image of a distribution that it is based on.", rich_help_panel=IMAGE)
    ] = BASE,
    minimal: Annotated[
        bool,
        typer.Option("--minimal", help="Leave nothing of the distribution but what the stack needs, and a shell.",
                     rich_help_panel=IMAGE),
    ] = False,
    copy: Annotated[
        list[str] | None,
        typer.Option(metavar="SRC[:DEST]", help="A file or folder of yours, as the last layer (repeatable); DEST is "
                     "/work/NAME else.", rich_help_panel=IMAGE),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A label of yours (repeatable).", rich_help_panel=IMAGE),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the Dockerfile there and its context to FILE.context; build nothing.",
                     rich_help_panel=IMAGE),
    ] = None,
    sbom: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the bill of materials (CycloneDX 1.6, JSON).", rich_help_panel=IMAGE),
    ] = None,
    push: Annotated[
        bool, typer.Option("--push", help="Push each tag once it is proved.", rich_help_panel=IMAGE)
    ] = False,
    builder: Annotated[
        Literal["auto", "buildx", "buildkit", "classic"],
        typer.Option(help="auto takes the best that works.", rich_help_panel=BUILDER),
    ] = "auto",
    cache_from: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="Take layers of it (repeatable).", rich_help_panel=BUILDER),
    ] = None,
    cache_to: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE", help="Leave layers for others there (repeatable).", rich_help_panel=BUILDER),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step anew.", rich_help_panel=BUILDER)
    ] = False,
    data: Data = None,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Tag it without proof: no checks, no smoke test.")
    ] = False,
    source: Source = None,
    compiler: Compiler = None,
    blas: Blas = None,
    accept_mkl_license: AcceptMklLicense = False,
    builder_package: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further package of the distribution for the stage that builds "
                     "(repeatable).", rich_help_panel=BUILD),
    ] = None,
    bazel: Bazel = None,
    bazelisk_base_url: BazeliskBaseUrl = None,
    jobs: Jobs = None,
    memory_per_job: MemoryPerJob = None,
    remote_cache: RemoteCache = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    from provision.catalog.load import catalog
    from provision.cli import image_input
    from provision.cli.image_build import Wanted
    from provision.cli.image_build import build as carry_out
    from provision.resolve.image import ImageAsk
    from provision.resolve.image_tags import checked_reference
    from provision.run.build_settings import build_settings
    from provision.run.checks import mnist_files
    from provision.run.images.output import check_place, place

    image_input.check_tag(tag, output)
    image_input.check_output(output, push=push, sbom=sbom)
    image_input.check_sbom(sbom)
    image_input.check_sweep(bool(hosts or inventory), per_level, cpu)
    checked_reference(base)
    cpus = image_input.cpu_list("generic" if cpu is None else cpu, catalog())
    image_input.check_one_output(output, cpus)
    if output is not None:
        check_place(place(output))
    # the CPU is no part of the request: image plans say what it means for wheels and for source builds
    request = request_from(
        catalog=catalog(), framework=framework, device=device, origin=origin, cpu="native", capabilities=capabilities,
        python=python, name="default", driver="keep", force=force, index=index, find_links=find_links,
        packages=packages, source=source, compiler=compiler, keep=None, blas=blas,
        accept_mkl_license=accept_mkl_license,
    )  # fmt: skip
    ask = ImageAsk(
        request=request, cpus=cpus, tag=tag, base=base, minimal=minimal,
        copied=image_input.copied_files(copy or ()), epoch=image_input.epoch(os.environ),
        labels=image_input.labels(label or ()), driver_version=driver_version,
    )  # fmt: skip
    settings = build_settings(
        bazel=bazel, bazelisk_base_url=bazelisk_base_url, force=force, jobs=jobs, memory_mib_per_job=memory_per_job,
        remote_cache=remote_cache,
    )  # fmt: skip
    from provision.run.images.building import BuildOptions  # and with it all of docker

    options = BuildOptions(
        builder=builder, push=push, no_cache=no_cache, verify=not no_verify, mnist=mnist_files(data), sbom=sbom,
        cache_from=image_input.cache_places("--cache-from", cache_from or ()),
        cache_to=image_input.cache_places("--cache-to", cache_to or ()), build=settings,
        builder_packages=image_input.packages(builder_package or ()),
    )  # fmt: skip
    chosen = hosts_from(hosts, inventory, limit) if hosts or inventory else ()
    carry_out(
        Wanted(
            ask=ask, options=options, hosts=chosen, per_level=per_level, output=output, dry_run=dry_run, yes=yes,
            as_json=as_json,
        )
    )  # fmt: skip


@commands.command(
    "list",
    help="The images of provision's that the engine has, with their stack, size, age and verdict.\n\n"
    "Example:\n\n  provision image list --json",
)
def list_images(as_json: Json = False) -> None:
    from provision.render.image import list_text
    from provision.run.images.engine import connect
    from provision.run.images.listing import rows

    with connect() as engine:
        found = rows(engine)
    if as_json:
        console.answer_json(list(found))
    else:
        console.answer(list_text(found, time.time()))


image_verify.register(commands)
