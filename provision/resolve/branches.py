"""Which driver branch drives which GPU, by the tables alone: whether it can be had on a host is driver.py's."""

from __future__ import annotations

from provision.model.catalog import Catalog, DriverBranch
from provision.model.facts import Facts
from provision.model.request import Request
from provision.model.versions import Dotted
from provision.resolve.targets import Target, chip_of, kinds, targets


def branch_of(version: str | None) -> str | None:
    return None if version is None else version.split(".")[0]


def drives(version: str, target: Target, catalog: Catalog) -> bool:
    """Whether the driver drives the GPU. A GPU that the driver itself reported is old enough for it, whatever the
    table says of its newest architecture, which names families and no chips."""
    row = next((row for row in catalog.branches if row.branch == branch_of(version)), None)
    if target.gpu is None:
        return True
    if not _not_too_new(Dotted(version).major, target, catalog):
        return False
    return row is None or target.gpu.source != "pci" or branch_drives(row, target, catalog)


def _not_too_new(branch: int, target: Target, catalog: Catalog) -> bool:
    chip = chip_of(target, catalog)
    return chip is None or chip.last_driver_branch is None or branch <= Dotted(chip.last_driver_branch).major


def branch_drives(row: DriverBranch, target: Target, catalog: Catalog) -> bool:
    if not _not_too_new(Dotted(row.branch).major, target, catalog):
        return False
    age = _age(_architecture(target, catalog), catalog)
    oldest, newest = _age(row.oldest_architecture, catalog), _age(row.newest_architecture, catalog)
    if age is None:
        return True
    return (oldest is None or oldest <= age) and (newest is None or age <= newest)


def _architecture(target: Target, catalog: Catalog) -> str | None:
    chip = chip_of(target, catalog)
    if chip is not None:
        return chip.architecture
    return target.gpu.architecture if target.gpu else None


def _age(architecture: str | None, catalog: Catalog) -> int | None:
    """Place in the order of architectures, None where it is not in it."""
    return catalog.architectures.index(architecture) if architecture in catalog.architectures else None


def serving(facts: Facts, request: Request, catalog: Catalog) -> tuple[DriverBranch, ...]:
    """The branches that drive every GPU that is to be used."""
    here = kinds(tuple(target for target in targets(facts, request) if target.gpu))
    return tuple(row for row in catalog.branches if all(branch_drives(row, target, catalog) for target in here))


def branches_text(facts: Facts, request: Request, catalog: Catalog) -> str:
    """Which branches each GPU can have, for messages."""
    parts = []
    for target in kinds(targets(facts, request)):
        rows = [row.branch for row in catalog.branches if branch_drives(row, target, catalog)]
        last = max(rows, key=Dotted, default=None)
        text = f"{target.label}: {min(rows, key=Dotted)} to {last}" if rows else f"{target.label}: none"
        parts.append(text)
    return "driver branches: " + "; ".join(dict.fromkeys(parts))
