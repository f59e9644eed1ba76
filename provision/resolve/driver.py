"""The NVIDIA driver: whether one can be put here at all, which branch drives every GPU, and which module it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from provision.errors import NoStackFits, UsageError
from provision.model.catalog import Catalog, DriverBranch
from provision.model.facts import Facts
from provision.model.plan import Objection
from provision.model.request import Request
from provision.model.versions import ComputeCapability, Dotted
from provision.resolve.branches import branch_of, branches_text, serving
from provision.resolve.driver_problems import (
    GSP_FROM,
    OPEN_ONLY_FROM,
    has_packages,
    has_signed_packages,
    kernel_problem,
    kernel_takes,
    module_problem,
    no_packages,
    other_install_problem,
)
from provision.resolve.overrides import with_driver
from provision.resolve.packages import installed_version
from provision.resolve.targets import integrated, name_all, targets
from provision.resolve.too_old import too_old_problem

Module = Literal["open", "proprietary"]

OPEN_DEFAULT_FROM = 560


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOption:
    """One way the driver could be, and the facts as they are then."""

    facts: Facts
    action: Literal["none", "install", "upgrade"]
    version: str | None
    branch: str | None
    module: Module | None
    source: str = ""
    signed: bool = False
    """Chosen before a newer branch because its module comes signed, and Secure Boot is on."""
    kept: bool = False
    """Chosen before a newer branch because its packages are here: what ails it is put right."""


def options(facts: Facts, request: Request, catalog: Catalog) -> tuple[DriverOption, ...]:
    """The ways to try, in order. A working driver comes first unless another was asked for.

    Raises UsageError for a branch that the catalog lacks, NoStackFits where the asked driver cannot be had here.
    """
    now = _current(facts)
    if request.device == "cpu" or not any(target.gpu for target in targets(facts, request)):
        return (now,)
    problem = installation_problem(facts, request, catalog)
    if request.driver != "keep":
        named = request.driver[:1].isdigit()
        return (_asked(now, _forbidden(facts, request) if named else problem, request, catalog),)
    if facts.driver.state != "working":
        return (() if problem else _installations(now, request, catalog)) or (now,)
    other = None if problem else _replacement(now, supported_branch(facts, request, catalog), request)
    newer = other if other and other.version and _newer(other.version, facts.driver.version) else None
    return (now, newer) if newer else (now,)


def _installations(now: DriverOption, request: Request, catalog: Catalog) -> tuple[DriverOption, ...]:
    """A driver that is broken is mended before it is replaced: missing headers, or a reboot that is due, are no reason
    for another branch. With Secure Boot on, signed modules come before one whose key has to be enrolled."""
    facts = now.facts
    here, signed = installed_branch(facts, request, catalog), signed_branch(facts, request, catalog)
    if here is not None and signed is not None and _has_signed(here, facts, request, catalog):
        signed = here
    newest = supported_branch(facts, request, catalog)
    found: dict[str, DriverOption] = {}
    for row in (signed, here, newest):
        version = installed_version(facts) if row == here else None
        option = _replacement(now, row, request, version=version)
        if option is not None:
            kept, is_signed = row == here, row == signed != newest
            found.setdefault(option.branch or "", replace(option, kept=kept, signed=is_signed and not kept))
    return tuple(found.values())


def _newer(version: str, than: str | None) -> bool:
    return than is None or Dotted(version) > Dotted(than)


def _current(facts: Facts) -> DriverOption:
    working = facts.driver.state == "working"
    version = facts.driver.version if working else None
    return DriverOption(
        facts=facts,
        action="none",
        version=version,
        branch=branch_of(version),
        module=facts.driver.module if working else None,
    )


def _asked(now: DriverOption, problem: Objection | None, request: Request, catalog: Catalog) -> DriverOption:
    """The driver that ``--driver`` names."""
    facts = now.facts
    if problem is not None:
        raise NoStackFits(what=f"--driver {request.driver} cannot be done here", why=problem.why, hint=problem.hint)
    kinds: dict[str, Callable[[DriverBranch], bool]] = {
        "newest": lambda row: row.supported,
        "prod": lambda row: row.supported and row.kind == "production",
        "lts": lambda row: row.supported and row.kind == "lts",
    }
    test = kinds.get(request.driver)
    row = _named(request.driver, catalog) if test is None else _newest(facts, request, catalog, test)
    if row is None or row not in serving(facts, request, catalog):
        raise NoStackFits(
            what=f"no driver branch {request.driver} drives every GPU here",
            why=f"the box has {name_all(targets(facts, request))}; {branches_text(facts, request, catalog)}",
            hint="--driver newest takes the newest supported branch that drives them all",
        )
    exact = request.driver if "." in request.driver else None
    if exact is None and now.version is not None:
        same = now.branch == row.branch
        newer = request.driver == "newest" and Dotted(now.version) > Dotted(row.newest_seen or row.branch)
        if same or newer:
            return now
    refusal = _not_here(row, facts, request, catalog)
    if refusal is not None:
        raise NoStackFits(what=f"--driver {request.driver}: {refusal.what}", why=refusal.why, hint=refusal.hint)
    option = _replacement(now, row, request, version=exact)
    return now if option is None or option.version == now.version else option


def _named(text: str, catalog: Catalog) -> DriverBranch:
    row = next((row for row in catalog.branches if row.branch == branch_of(text)), None)
    if row is None:
        known = sorted((row.branch for row in catalog.branches), key=Dotted)
        raise UsageError(
            what=f"unknown driver branch {branch_of(text)}",
            why=f"the catalog has {', '.join(known)}",
            hint="--driver newest, prod or lts choose one for this box",
        )
    return row


def _replacement(
    now: DriverOption, row: DriverBranch | None, request: Request, version: str | None = None
) -> DriverOption | None:
    if row is None:
        return None
    version = version or row.newest_seen or row.branch
    return DriverOption(
        facts=replace(now.facts, driver=with_driver(now.facts.driver, version)),
        action="upgrade" if now.version is not None else "install",
        version=version,
        branch=row.branch,
        module=module_for(row, now.facts, request),
        source="; ".join(row.source[:1]),
    )


def supported_branch(facts: Facts, request: Request, catalog: Catalog) -> DriverBranch | None:
    """The newest branch that still gets fixes (or is the last for old cards) and drives every GPU here."""
    return _newest(facts, request, catalog, lambda row: row.supported)


def installed_branch(facts: Facts, request: Request, catalog: Catalog) -> DriverBranch | None:
    """The branch whose packages are on the host, where it still gets fixes, drives every GPU and can be had here."""
    branch = branch_of(installed_version(facts))
    return _newest(facts, request, catalog, lambda row: row.supported and row.branch == branch)


def signed_branch(facts: Facts, request: Request, catalog: Catalog) -> DriverBranch | None:
    """The newest of those whose module the distribution has signed: with Secure Boot on nobody has to enrol a key at
    the console. None where that is not so, or not known."""
    if facts.system.secure_boot is not True:
        return None

    def signed(row: DriverBranch) -> bool:
        return row.supported and _has_signed(row, facts, request, catalog)

    return _newest(facts, request, catalog, signed)


def _has_signed(row: DriverBranch, facts: Facts, request: Request, catalog: Catalog) -> bool:
    return has_signed_packages(row, module_for(row, facts, request), facts, catalog)


def _newest(
    facts: Facts, request: Request, catalog: Catalog, test: Callable[[DriverBranch], bool]
) -> DriverBranch | None:
    found = [row for row in _supported(facts, request, catalog) if _not_here(row, facts, request, catalog) is None]
    return max((row for row in found if test(row)), key=lambda row: Dotted(row.branch), default=None)


def _supported(facts: Facts, request: Request, catalog: Catalog) -> tuple[DriverBranch, ...]:
    """Branches that drive every GPU here and still get fixes. One that is kept only for old cards counts where no other
    serves: what cannot be had here is no reason to put a driver of 2024 under a card of today."""
    rows = tuple(row for row in serving(facts, request, catalog) if row.supported and row.newest_seen)
    return tuple(row for row in rows if row.kind != "legacy") or rows


def _not_here(row: DriverBranch, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """Why the branch cannot be put on this host, though it drives its GPUs."""
    if not kernel_takes(row, facts):
        return kernel_problem(row, facts)
    module = module_for(row, facts, request)
    return None if has_packages(row, module, facts, catalog) else no_packages(row, module, facts, catalog)


def module_for(row: DriverBranch, facts: Facts, request: Request) -> Module:
    if request.driver_module != "auto":
        return request.driver_module
    found = _capabilities(facts, request)
    if any(each < GSP_FROM for each in found):
        return "proprietary"
    newest_needs = any(each >= OPEN_ONLY_FROM for each in found)
    grace_hopper = facts.cpu.arch == "aarch64" and any(each.major == 9 for each in found)
    default = Dotted(row.branch).major >= OPEN_DEFAULT_FROM
    return "open" if default or newest_needs or grace_hopper else "proprietary"


def _capabilities(facts: Facts, request: Request) -> list[ComputeCapability]:
    return [target.capability for target in targets(facts, request) if target.gpu and target.capability]


def installation_problem(facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """Why no driver can or may be installed here, or none would help; None where one can be."""
    found = too_old_problem(facts, request, catalog) or _forbidden(facts, request)
    if found is not None:
        return found
    if supported_branch(facts, request, catalog) is None:
        return _nearest_refusal(facts, request, catalog) or Objection(
            what="no driver drives every GPU here",
            why=f"the box has {name_all(targets(facts, request))}; {branches_text(facts, request, catalog)}",
            hint=_one_generation(facts, request),
        )
    return None


def _forbidden(facts: Facts, request: Request) -> Objection | None:
    """What speaks against every branch."""
    return (
        _place_problem(facts, request)
        or driver_conflict(facts, request)
        or module_problem(facts, request)
        or other_install_problem(facts)
    )


def _nearest_refusal(facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """Of the newest branch that drives them all, why it cannot be had here."""
    row = max(_supported(facts, request, catalog), key=lambda each: Dotted(each.branch), default=None)
    return None if row is None else _not_here(row, facts, request, catalog)


def _place_problem(facts: Facts, request: Request) -> Objection | None:
    state = f"the driver here is {facts.driver.state}" + (f" ({facts.driver.detail})" if facts.driver.detail else "")
    if facts.system.wsl:
        return Objection(
            what="no working NVIDIA driver in WSL2",
            why=f"{state}; in WSL2 the driver is that of Windows, and a Linux driver would overwrite its libraries",
            hint="install or update the NVIDIA driver on Windows, then `wsl --shutdown`",
        )
    if facts.system.container:
        return Objection(
            what="no working NVIDIA driver in this container",
            why=f"{state}; the kernel and its driver belong to the container's host",
            hint="install the driver and the NVIDIA Container Toolkit on the host, and start with --gpus all",
        )
    if any(integrated(target) for target in targets(facts, request)):
        return Objection(
            what="the driver of this board comes with its own system",
            why=f"{state}; {name_all(targets(facts, request))} is part of the board's processor",
            hint="install or update the board's own system (JetPack, DGX OS)",
        )
    return None


def reachable(needed: str, facts: Facts, request: Request, catalog: Catalog) -> bool:
    """Whether some branch that drives every GPU here has a release that new."""
    seen = (row.newest_seen for row in serving(facts, request, catalog))
    return any(version and Dotted(version) >= Dotted(needed) for version in seen)


def update_hint(needed: str, facts: Facts, request: Request, catalog: Catalog) -> str:
    """Who can bring a driver that new here, and how."""
    if not reachable(needed, facts, request, catalog):
        return f"no driver that new drives every GPU here; {branches_text(facts, request, catalog)}"
    if facts.system.wsl:
        return f"update the NVIDIA driver on Windows to {needed} or newer"
    if facts.system.container:
        return f"update the NVIDIA driver of the container's host to {needed} or newer"
    if any(integrated(target) for target in targets(facts, request)):
        return f"update the board's own system (JetPack, DGX OS) to one with driver {needed} or newer"
    return f"--driver newest takes a driver from {needed} on"


def driver_conflict(facts: Facts, request: Request) -> Objection | None:
    """GPUs that need opposite kernel modules: neither module drives both."""
    here = [target for target in targets(facts, request) if target.gpu and target.capability]
    old = tuple(target for target in here if target.capability and target.capability < GSP_FROM)
    new = tuple(target for target in here if target.capability and target.capability >= OPEN_ONLY_FROM)
    if not old or not new:
        return None
    return Objection(
        what="no driver drives both generations of GPU in this box",
        why=f"{name_all(new)} runs with the open kernel modules only, and they refuse {name_all(old)}",
        hint=_one_generation(facts, request),
    )


def _one_generation(facts: Facts, request: Request) -> str:
    newest = max((each.capability for each in targets(facts, request) if each.capability), default=None)
    leave = f"leave the others unused with --cuda-compute-capabilities {newest}, " if newest else ""
    return f"{leave}take one generation out, or use --device cpu"
