"""Why a driver of some branch or flavour cannot be put on a host: its kernel, its packages, what is there already."""

from __future__ import annotations

import re
from collections.abc import Iterable

from provision.model.catalog import Catalog, DriverBranch
from provision.model.facts import Facts
from provision.model.nvidia import Flavour
from provision.model.plan import Objection
from provision.model.request import Request
from provision.model.setup import PackageSet, PackageTable
from provision.model.versions import ComputeCapability, Dotted, numbers
from provision.resolve.fabric import no_fabric
from provision.resolve.packages import (
    DISTRIBUTION,
    NVIDIAS,
    driver_packages,
    driver_sets,
    lacking,
    lacks_fabric,
    of_release,
    place_of,
    sets_of,
    table_for,
    world_name,
    world_of,
)
from provision.resolve.targets import Target, name_all, targets

GSP_FROM = ComputeCapability(7, 5)
"""The open modules need the GSP that Turing was the first to have."""
OPEN_ONLY_FROM = ComputeCapability(10, 0)
"""Blackwell and newer run with the open modules only."""


def kernel_takes(row: DriverBranch, facts: Facts) -> bool:
    """Whether the branch builds for the running kernel, and for the one that boots next. Unknown is not no."""
    return kernel_refusing(row, facts) is None


def kernel_refusing(row: DriverBranch, facts: Facts) -> str | None:
    """The first of the two that it does not build for."""
    return next((each for each in _kernels(facts) if _too_old(row, each) or _too_new(row, each)), None)


def _kernels(facts: Facts) -> tuple[str, ...]:
    place = place_of(facts)
    return tuple(each for each in (place.kernel, place.next_kernel) if each)


def _too_old(row: DriverBranch, kernel: str) -> bool:
    found = _numbers(kernel)
    return bool(found and row.min_kernel) and found < numbers(row.min_kernel)


def _too_new(row: DriverBranch, kernel: str) -> bool:
    found = _numbers(kernel)
    return bool(found and row.max_kernel) and found[:2] > numbers(row.max_kernel)


def _numbers(kernel: str) -> tuple[int, ...]:
    """ "6.8.0-60-generic" is (6, 8, 0); empty where it is not known."""
    found = re.match(r"\d{1,4}(\.\d{1,6}){1,2}", kernel)
    return numbers(found[0]) if found else ()


def kernel_problem(row: DriverBranch, facts: Facts) -> Objection:
    kernel = kernel_refusing(row, facts) or ""
    if kernel != facts.system.kernel:
        return _next_kernel_problem(row, facts, kernel)
    if _too_new(row, kernel):
        return Objection(
            what=f"driver branch {row.branch} does not build for this kernel",
            why=f"{kernel} is running, and Linux {row.max_kernel} is the newest that its module compiles "
            "for; no newer branch drives the GPU",
            hint=f"boot an older kernel (a release of the distribution with Linux {row.max_kernel} or older), and plan "
            "again; --device cpu does without a driver",
        )
    return Objection(
        what=f"driver branch {row.branch} is too new for this kernel",
        why=f"it needs Linux {row.min_kernel} or newer; {kernel} is running",
        hint="upgrade the kernel or the distribution, reboot, and plan again; --device cpu does without a driver",
    )


def _next_kernel_problem(row: DriverBranch, facts: Facts, kernel: str) -> Objection:
    newest = f", and Linux {row.max_kernel} is the newest that its module compiles for" if row.max_kernel else ""
    return Objection(
        what=f"driver branch {row.branch} does not build for the kernel that the next boot takes",
        why=f"{facts.system.kernel} is running, {kernel} boots next{newest}",
        hint=f"have {facts.system.kernel} booted from now on (GRUB_DEFAULT, or grubby --set-default), or remove "
        f"{kernel}; then plan again",
    )


def has_packages(row: DriverBranch, module: Flavour, facts: Facts, catalog: Catalog) -> bool:
    """Whether a set brings it here. True as well where no table knows the distribution or its release."""
    table = table_for("nvidia_driver", facts, catalog)
    if table is None or not of_release(table, place_of(facts)):
        return True
    return bool(driver_sets(table, facts, row.branch, module))


def has_signed_packages(row: DriverBranch, module: Flavour, facts: Facts, catalog: Catalog) -> bool:
    table = table_for("nvidia_driver", facts, catalog)
    return table is not None and bool(driver_sets(table, facts, row.branch, module, prebuilt_only=True))


def no_packages(row: DriverBranch, module: Flavour, facts: Facts, catalog: Catalog) -> Objection:
    """The lists are known and lack it, the packages that are here are another's, or no repository of this release has
    the branch."""
    table, place = table_for("nvidia_driver", facts, catalog), place_of(facts)
    rows = sets_of(table, facts, row.branch, module) if table else ()
    missing = [name for each in rows for name in lacking(each, facts, {"{branch}": row.branch})]
    elsewhere = [each for each in rows if not lacking(each, facts, {"{branch}": row.branch})]
    if table is not None and lacks_fabric(table, facts, row.branch, module):
        return no_fabric(row.branch, place.text, table.manager)
    if table is not None and elsewhere:
        return _other_world(row, module, table, facts)
    if missing:
        return Objection(
            what=f"no candidate for {', '.join(dict.fromkeys(missing))}",
            why=f"the package lists of this {place.text} do not have it, and nothing was changed",
            hint=_lists_hint(table.manager if table else "apt"),
        )
    return Objection(
        what=f"no packages of driver branch {row.branch} ({module} module) for {place.text}",
        why=_last_one(row) + _branches_here(facts, catalog, module),
        hint="use a release of the distribution that has it, or --device cpu",
    )


def _other_world(row: DriverBranch, module: Flavour, table: PackageTable, facts: Facts) -> Objection:
    """Two sources of driver packages on one box is the commonest cause of dependencies that nothing can mend."""
    world, here = world_of(table, facts) or "", driver_packages(facts)
    whose = {DISTRIBUTION: "the distribution's", NVIDIAS: "from NVIDIA's repository"}.get(world, f"{world}'s")
    sets = [each for each in of_release(table, place_of(facts)) if world_name(each) == world and each.module == module]
    own = max((branch for each in sets for branch in each.branches), key=Dotted, default="")
    stay = f"--driver {own} stays with them; or " if own else ""
    remove = "apt-get purge" if table.manager == "apt" else "dnf remove"
    return Objection(
        what=f"driver branch {row.branch} would come from another repository than the driver packages that are here",
        why=f"{', '.join(here)}: {whose}; packages of both together break each other",
        hint=f"{stay}remove what is here, reboot, and plan again: sudo {remove} {' '.join(here)}",
    )


def _last_one(row: DriverBranch) -> str:
    return f"{row.branch} is the newest branch that drives every GPU here; " if row.kind == "legacy" else ""


def _lists_hint(manager: str) -> str:
    update = "apt-get update" if manager == "apt" else "dnf makecache"
    return f"refresh the lists (sudo {update}), switch the archive's components on (restricted, non-free), plan again"


def _branches_here(facts: Facts, catalog: Catalog, module: Flavour) -> str:
    table, place = table_for("nvidia_driver", facts, catalog), place_of(facts)
    rows = [each for each in of_release(table, place) if each.module == module] if table else []
    whose = {DISTRIBUTION: place.distribution, NVIDIAS: "NVIDIA's repository"}
    found = {name: _branches_of(each for each in rows if world_name(each) == world) for world, name in whose.items()}
    parts = [f"{name} has {branches}" for name, branches in found.items() if branches]
    return "; ".join(parts) or f"none is known with the {module} module"


def _branches_of(rows: Iterable[PackageSet]) -> str:
    """ "560, 580, 590 and newer"; empty where there are none."""
    found = tuple(rows)
    first = min((each.first_branch for each in found if not each.branches), key=Dotted, default="")
    named = {branch for each in found for branch in each.branches if not first or Dotted(branch) < Dotted(first)}
    return ", ".join([*sorted(named, key=Dotted), *([f"{first} and newer"] if first else [])])


def module_problem(facts: Facts, request: Request) -> Objection | None:
    """The flavour that --driver-module asks for, and a GPU that does not run with it."""
    here = [target for target in targets(facts, request) if target.gpu and target.capability]
    if request.driver_module == "open":
        old = tuple(each for each in here if each.capability and each.capability < GSP_FROM)
        why = "the open kernel modules need a GSP, which Turing was the first to have: they load, and refuse the GPU"
        return _flavour(old, "open", "proprietary", why)
    if request.driver_module == "proprietary":
        new = tuple(each for each in here if each.capability and each.capability >= OPEN_ONLY_FROM)
        why = "Blackwell and newer run with the open kernel modules only"
        return _flavour(new, "proprietary", "open", why)
    return None


def _flavour(found: tuple[Target, ...], asked: str, other: str, why: str) -> Objection | None:
    if not found:
        return None
    return Objection(
        what=f"the {asked} kernel module does not drive {name_all(found)}",
        why=why,
        hint=f"leave --driver-module out, or --driver-module {other}",
    )


def other_install_problem(facts: Facts) -> Objection | None:
    """A driver that packages would collide with."""
    found = facts.nvidia.other_installs[0] if facts.nvidia and facts.nvidia.other_installs else None
    if found is None:
        return None
    if found.kind == "runfile":
        return Objection(
            what="a driver was installed by NVIDIA's .run file",
            why=f"{found.evidence} is there: packages would put theirs beside it, and neither would work",
            hint="take it away at a text console, `sudo nvidia-uninstall`, then reboot and plan again",
        )
    return Objection(
        what="the driver here belongs to Lambda Stack",
        why=f"{found.evidence}: it brings its own driver, CUDA and frameworks, and upgrades them together",
        hint="upgrade it with Lambda Stack, or remove that first (`sudo apt-get purge lambda-stack-cuda`)",
    )


def origin_text(repository: str) -> str:
    """ "the distribution" or "NVIDIA's repository"."""
    return "the distribution" if repository == DISTRIBUTION else f"NVIDIA's repository {repository}"
