"""A machine that is not there: what a base image, a CPU and the GPUs that were asked for make together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provision.errors import NoStackFits, UsageError
from provision.model.build import Compiler
from provision.model.catalog import Catalog, DriverBranch, WheelBuild
from provision.model.facts import Cpu, Driver, Facts, Gpu, Memory, System, Toolkit
from provision.model.image import Base, Distribution
from provision.model.plan import Plan
from provision.model.request import Request
from provision.model.versions import Dotted
from provision.resolve.branches import drives, serving
from provision.resolve.image_cpu import ARCH, cpu_words, image_flags, level_of
from provision.resolve.overrides import with_overrides
from provision.resolve.targets import INTEGRATED, Target, capability, kernel

USUAL_CAPABILITY = "8.6"
"""Stands for "a GPU" until it is known which wheel is taken: no CUDA wheel of the last years is without it."""
NOBODY = Driver(state="absent", version=None, cuda_api_version=None, module=None, detail="")


def image_facts(
    base: Base,
    distribution: Distribution,
    cpu: str,
    request: Request,
    catalog: Catalog,
    *,
    fleet: Sequence[Facts] = (),
    driver_version: str | None = None,
    flags: frozenset[str] | None = None,
) -> Facts:
    """A machine with the system of ``base`` and the least CPU that ``cpu`` allows; ``flags`` where those are known.

    For CUDA it has a GPU of each compute capability that was asked for and a driver that serves them. Raises UsageError
    for what is no value of ``--cpu`` and no driver version.
    """
    flags = image_flags(cpu, request, catalog, fleet) if flags is None else flags
    os = base.facts.system.os
    found = Facts(
        host=base.reference,
        cpu=Cpu(
            arch=ARCH,
            vendor=None,
            model_name=cpu_words(cpu),
            family=None,
            model=None,
            stepping=None,
            microarchitecture=None,
            level=level_of(flags, catalog),
            flags=tuple(sorted(flags)),
            logical_cpus=None,
            physical_cores=None,
            hypervisor=None,
        ),
        memory=Memory(total_mib=None),
        system=System(
            os=os,
            kernel=None,
            glibc=base.facts.system.glibc,
            secure_boot=None,
            wsl=False,
            container=True,
            pythons=(distribution.python,),
            compilers=tuple(
                Compiler(family=each.family, version=each.version, path=each.path) for each in distribution.compilers
            ),
        ),
        driver=NOBODY,
        gpus=(),
        toolkit=Toolkit(cuda=None, cudnn=None),
        findings=(),
    )
    return _with_gpus(found, request, catalog, driver_version) if request.device == "cuda" else found


def _with_gpus(facts: Facts, request: Request, catalog: Catalog, driver_version: str | None) -> Facts:
    wanted = request.compute_capabilities or (USUAL_CAPABILITY,)
    gpus: list[Gpu] = []
    for text in dict.fromkeys(each.removesuffix("+PTX") for each in wanted):
        gpus += with_overrides(facts, driver_version=None, compute_capability=text).gpus
    facts = replace(facts, gpus=tuple(gpus))
    version = driver_version or _newest_driver(facts, request, catalog)
    return with_overrides(facts, driver_version=version, compute_capability=None) if version else facts


def _newest_driver(facts: Facts, request: Request, catalog: Catalog) -> str | None:
    """Of the newest production branch that drives every GPU, or of any branch that still gets fixes."""
    able = [row for row in serving(facts, request, catalog) if row.supported and row.newest_seen]
    best = max(able, key=_in_order, default=None)
    return best.newest_seen if best is not None else None


def _in_order(row: DriverBranch) -> tuple[bool, Dotted]:
    return row.kind == "production", Dotted(row.branch)


def own_capabilities(plan: Plan, driver_version: str, catalog: Catalog) -> tuple[str, ...]:
    """The compute capabilities that every CUDA wheel of the plan has compiled code for and that the driver drives:
    what an image is for where nobody named a GPU."""
    kernels = [
        found.kernels for each in plan.stack if (found := _wheel(each.framework, each.version, each.build, catalog))
    ]
    sets = [{str(entry.capability) for text in row if (entry := kernel(text)) and not entry.ptx} for row in kernels]
    common = set.intersection(*sets) - INTEGRATED if sets else set()
    targets = [Target(capability=capability(text), gpu=_like(text)) for text in common]
    driven = [each.capability for each in targets if each.capability and drives(driver_version, each, catalog)]
    return tuple(str(each) for each in sorted(driven))


def _like(text: str) -> Gpu:
    return Gpu(
        name=None,
        pci_address=None,
        pci_id=None,
        chip=None,
        architecture=None,
        compute_capability=text,
        memory_mib=None,
        mig=None,
        source="pci",
    )


def _wheel(framework: str, version: str, build: str, catalog: Catalog) -> WheelBuild | None:
    """The row that a wheel of a plan came from, where it is a CUDA one whose kernels are known."""
    return next(
        (
            row
            for release in catalog.of(framework)
            if version in (release.version, *release.points)
            for row in release.builds
            if row.name == build and row.device == "cuda" and row.kernels and ARCH in row.archs
        ),
        None,
    )


def supported_base(facts: Facts, distributions: Sequence[Distribution]) -> Distribution:
    """The row of what ``facts`` were read in. Raises NoStackFits for a machine or a C library that no wheel is for,
    UsageError for a distribution that the catalog does not know."""
    system, arch = facts.system, facts.cpu.arch
    found = f"{system.os.id or 'an unknown distribution'} {system.os.version_id or ''}".rstrip()
    known = ", ".join(f"{row.id}:{row.codename}" for row in distributions)
    if arch is not None and arch != ARCH:
        raise NoStackFits(
            what=f"{facts.host} is a base for {arch}",
            why=f"images are built for x86-64, and this base is {found} for {arch}",
            hint="take the same base for linux/amd64, on an engine of that machine",
        )
    if system.os.id == "alpine" or (system.glibc is None and system.os.id not in {row.id for row in distributions}):
        raise NoStackFits(
            what=f"no wheel runs on {facts.host}",
            why=f"the wheels are linked against glibc, and this base ({found}) has "
            + ("musl in its place" if system.os.id == "alpine" else "none that was found"),
            hint=f"--base takes one of {known}",
        )
    row = next((row for row in distributions if (row.id, row.version_id) == (system.os.id, system.os.version_id)), None)
    if row is None:
        raise UsageError(
            what=f"{facts.host} is no base that images are made from",
            why=f"it is {found}; the catalog has {known}",
            hint=f"--base {distributions[0].id}:{distributions[0].codename}" if distributions else "",
        )
    return row
