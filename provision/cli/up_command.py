"""``provision up`` and ``provision apply``: carry a plan out, verify, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from provision.cli.options import (
    AcceptMklLicense,
    AskBecomePass,
    Bazel,
    BazeliskBaseUrl,
    Blas,
    BuildFolder,
    Compiler,
    ComputeCapabilities,
    ContainerToolkit,
    Cpu,
    Data,
    Device,
    DriverChoice,
    DriverModule,
    DryRun,
    FindLinks,
    Force,
    Framework,
    Hosts,
    Index,
    Inventory,
    Jobs,
    Json,
    Keep,
    Limit,
    LockTimeout,
    MemoryPerJob,
    Name,
    Origin,
    Pairs,
    Python,
    Reboot,
    RemoteCache,
    RemoteExecutor,
    Source,
    UntilWhat,
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

  provision up --framework tensorflow==2.15.1 --origin source --source ~/tensorflow me@box

  provision up -i hosts.yml --origin source --cpu fleet --remote-cache grpc://cache:9092
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
    driver_module: DriverModule = "auto",
    container_toolkit: ContainerToolkit = False,
    force: Force = False,
    index: Index = None,
    find_links: FindLinks = None,
    packages: With = None,
    source: Source = None,
    compiler: Compiler = None,
    keep: Keep = None,
    blas: Blas = None,
    accept_mkl_license: AcceptMklLicense = False,
    until: UntilWhat = None,
    bazel: Bazel = None,
    bazelisk_base_url: BazeliskBaseUrl = None,
    jobs: Jobs = None,
    memory_per_job: MemoryPerJob = None,
    remote_cache: RemoteCache = None,
    remote_executor: RemoteExecutor = None,
    build_folder: BuildFolder = None,
    pairs: Pairs = 3,
    data: Data = None,
    no_verify: NoVerify = False,
    lock_timeout: LockTimeout = 600,
    ask_become_pass: AskBecomePass = False,
    reboot: Reboot = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.catalog.load import catalog
    from provision.cli.carry_out import Settings, plan_and_run
    from provision.cli.planning import plans_for
    from provision.run.build_settings import build_settings

    request = request_from(
        catalog=catalog(), framework=framework, device=device, origin=origin, cpu=cpu, capabilities=capabilities,
        python=python, name=name, driver=driver, driver_module=driver_module,
        container_toolkit=container_toolkit, force=force, index=index, find_links=find_links, packages=packages,
        source=source, compiler=compiler, keep=keep, blas=blas, accept_mkl_license=accept_mkl_license,
    )  # fmt: skip
    build = build_settings(
        until=until, bazel=bazel, bazelisk_base_url=bazelisk_base_url, force=force, jobs=jobs,
        memory_mib_per_job=memory_per_job, remote_cache=remote_cache, remote_executor=remote_executor,
        build_folder=build_folder,
    )  # fmt: skip
    settings = Settings(
        inventory=tuple(inventory or ()), data=data, verify=not no_verify, lock_timeout_s=lock_timeout,
        ask_become_pass=ask_become_pass, dry_run=dry_run, yes=yes, as_json=as_json, build=build, pairs=pairs,
        reboot=reboot,
    )  # fmt: skip
    chosen = hosts_from(hosts, inventory, limit)
    plan_and_run(chosen, lambda looked: plans_for(looked, request), settings)


def apply(
    file: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan saved by `provision plan -o`.")],
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    force: Force = False,
    until: UntilWhat = None,
    bazel: Bazel = None,
    bazelisk_base_url: BazeliskBaseUrl = None,
    jobs: Jobs = None,
    memory_per_job: MemoryPerJob = None,
    remote_cache: RemoteCache = None,
    remote_executor: RemoteExecutor = None,
    build_folder: BuildFolder = None,
    pairs: Pairs = 3,
    data: Data = None,
    no_verify: NoVerify = False,
    lock_timeout: LockTimeout = 600,
    ask_become_pass: AskBecomePass = False,
    reboot: Reboot = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    from provision.cli.carry_out import Settings, plan_and_run
    from provision.cli.saved import plans_by_host, read_plans
    from provision.run.build_settings import build_settings

    plans = read_plans(file)
    names = tuple(hosts or ()) or (() if limit or inventory else tuple(p.host for p in plans if p.host != "localhost"))
    build = build_settings(
        until=until, bazel=bazel, bazelisk_base_url=bazelisk_base_url, force=force, jobs=jobs,
        memory_mib_per_job=memory_per_job, remote_cache=remote_cache, remote_executor=remote_executor,
        build_folder=build_folder,
    )  # fmt: skip
    settings = Settings(
        inventory=tuple(inventory or ()), data=data, verify=not no_verify, lock_timeout_s=lock_timeout,
        ask_become_pass=ask_become_pass, dry_run=dry_run, yes=yes, as_json=as_json, build=build, pairs=pairs,
        reboot=reboot,
    )  # fmt: skip
    plan_and_run(hosts_from(names, inventory, limit), lambda looked: plans_by_host(plans, looked), settings)
