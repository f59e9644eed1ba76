"""The steps that put NVIDIA's software on a host: exact packages, where each comes from, what its user has to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from provision.model.facts import Facts
from provision.model.plan import Step
from provision.model.setup import DriverSetup, Manager, NvidiaSetup, PackageSetup, SetupPackage
from provision.resolve.driver_problems import origin_text
from provision.resolve.fabric import SERVICE
from provision.resolve.nvidia import missing_version
from provision.resolve.packages import place_of
from provision.resolve.solve import Solution

VERBS = {"install": "Install", "upgrade": "Upgrade to"}
RELEASE: dict[Manager, str] = {"apt": "apt-mark unhold", "dnf": "dnf versionlock delete"}
"""What lets held packages move again."""


def nvidia_steps(solution: Solution, setup: NvidiaSetup | None, facts: Facts) -> tuple[Step, ...]:
    """Driver, persistence, toolkit, cuDNN, container toolkit: those that there are."""
    return (
        *_driver(solution, setup, facts),
        *_package("cuda_toolkit", "CUDA toolkit", setup.cuda_toolkit if setup else None, solution, facts),
        *_package("cudnn", "cuDNN", setup.cudnn if setup else None, solution, facts),
        *_container(setup.container_toolkit if setup else None),
    )


def _driver(solution: Solution, setup: NvidiaSetup | None, facts: Facts) -> Iterator[Step]:
    driver = setup.driver if setup else None
    if driver is not None and driver.action == "confirm":
        yield Step(
            id="nvidia_driver",
            title=f"Confirm NVIDIA driver {driver.version or driver.branch} after the reboot",
            needs_root=True,
            changes=(
                "sees that it is loaded, of the right flavour and version, and shows every GPU; writes that down",
            ),
        )
        yield _persistenced()
        yield from _fabricmanager(setup)
        return
    if solution.driver.action == "none" or all(each.candidate.build.device != "cuda" for each in solution.chosen):
        return
    chosen = solution.driver
    verb = VERBS[chosen.action if chosen.action in VERBS else "install"]
    title = f"{verb} NVIDIA driver {chosen.version} ({chosen.module} module)"
    if setup is None or driver is None:
        place = place_of(facts).text or "this system"
        nobody = f"no table of packages knows {place}: branch {chosen.branch} has to be installed by hand"
        yield Step(id="nvidia_driver", title=title, needs_root=True, changes=(nobody,))
        return
    yield Step(
        id="nvidia_driver", title=title, needs_root=True, changes=tuple(_driver_changes(driver, setup.manager, facts))
    )
    yield _persistenced()
    yield from _fabricmanager(setup)


def _driver_changes(driver: DriverSetup, manager: Manager, facts: Facts) -> Iterator[str]:
    yield from _sources(driver.packages)
    if driver.components:
        yield f"the archive's components {', '.join(driver.components)} are switched on where they are not"
    if driver.headers:
        yield f"to compile it: {', '.join(driver.headers)}"
    if driver.stream:
        yield f"module stream {driver.stream}"
    how = "signed, for the kernel" if driver.build == "prebuilt" else "compiled by DKMS for the running kernel"
    later = f" and for {driver.next_kernel}, which boots next" if driver.next_kernel else ""
    yield f"kernel module: {driver.module}, {how} {facts.system.kernel or ''}".rstrip() + later
    if driver.block_nouveau and facts.driver.state == "nouveau":
        yield "/etc/modprobe.d and the initramfs: nouveau is kept from loading, once the module is built"
    if facts.nvidia and facts.nvidia.display:
        shown = ", ".join(facts.nvidia.display)
        yield f"{shown} shows pictures here: left running, drawn by this driver after a reboot"
    yield (
        "driver and kernel packages are held against upgrades, and so kernel security updates wait; the report has "
        f"the line that undoes it, `sudo {RELEASE[manager]} …`"
    )
    if driver.secure_boot and driver.build == "dkms":
        yield (
            "Secure Boot: at the box's own console, on the next boot, choose Enroll MOK and type the password of "
            "`mokutil --import`; nobody can do that over SSH"
        )
    yield "a reboot is asked for where one is needed, never done unasked"


def _sources(packages: Iterable[SetupPackage]) -> Iterator[str]:
    """ "packages from NVIDIA's repository cuda-debian12-x86_64: nvidia-kernel-dkms, nvidia-driver-cuda (580.*)"."""
    by_source: dict[str, list[SetupPackage]] = {}
    for each in packages:
        by_source.setdefault(each.repository, []).append(each)
    for repository, found in by_source.items():
        versions = {each.version for each in found if each.version}
        pinned = f" ({versions.pop()}*)" if len(versions) == 1 else ""
        yield f"packages from {origin_text(repository)}: {', '.join(each.name for each in found)}{pinned}"


def _persistenced() -> Step:
    return Step(
        id="persistenced",
        title="Keep the GPU awake between programs",
        needs_root=True,
        changes=("service nvidia-persistenced is enabled",),
    )


def _fabricmanager(setup: NvidiaSetup | None) -> Iterator[Step]:
    if setup is not None and setup.fabricmanager:
        yield Step(
            id="fabricmanager",
            title="Join the GPUs through their NVSwitches",
            needs_root=True,
            changes=(f"service {SERVICE} is enabled, and started once the driver is loaded",),
        )


def _package(step: str, name: str, setup: PackageSetup | None, solution: Solution, facts: Facts) -> Iterator[Step]:
    """CUDA and cuDNN for builds that do not bring them; what is there already is left alone."""
    needed = missing_version(step, solution, facts)
    if needed is None:
        return
    candidate = next(each.candidate for each in solution.chosen if not each.candidate.build.bundles_cuda)
    why = (
        "which the source build needs" if candidate.source else f"which the {candidate.framework} wheel does not bring"
    )
    title = f"Install {name} {needed}, {why}"
    if setup is None:
        place = place_of(facts).text or "this system"
        changes: tuple[str, ...] = (f"no table of packages knows {place}: it has to be installed by hand",)
        yield Step(id=step, title=title, needs_root=True, changes=changes)
        return
    where = (f"/usr/local/cuda-{'.'.join(needed.split('.')[:2])}",) if step == "cuda_toolkit" else ()
    yield Step(id=step, title=title, needs_root=True, changes=(*_sources(setup.packages), *where))


def _container(setup: PackageSetup | None) -> Iterator[Step]:
    if setup is None:
        return
    yield Step(
        id="nvidia_container_toolkit",
        title="Set the container toolkit up",
        needs_root=True,
        changes=(*_sources(setup.packages), "/etc/docker/daemon.json: runtime nvidia; Docker is restarted"),
    )
