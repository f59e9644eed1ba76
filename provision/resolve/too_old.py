"""GPUs that nothing in the catalog is compiled for: no driver branch, kernel or repository would help them."""

from __future__ import annotations

from provision.model.catalog import Catalog, WheelBuild
from provision.model.facts import Facts
from provision.model.plan import Objection
from provision.model.request import Request
from provision.model.versions import ComputeCapability, Dotted
from provision.resolve.branches import branch_drives
from provision.resolve.targets import Target, name_all, served_by, targets


def too_old_gpus(facts: Facts, request: Request, catalog: Catalog) -> tuple[Target, ...]:
    """Of the GPUs to be used."""
    return tuple(each for each in targets(facts, request) if each.gpu and is_too_old(each.capability, catalog))


def is_too_old(capability: ComputeCapability | None, catalog: Catalog) -> bool:
    """Whether no release of any framework has, or could be compiled to have, kernels for it."""
    if capability is None:
        return False
    releases = [release for name in catalog.frameworks for release in catalog.of(name)]
    if any(_may_run(build, capability, catalog) for release in releases for build in release.builds):
        return False
    recipes = [release.recipe for release in releases if release.recipe is not None]
    return not any(recipe.cuda and _compiles(recipe.cuda, capability, catalog) for recipe in recipes)


def _may_run(build: WheelBuild, capability: ComputeCapability, catalog: Catalog) -> bool:
    if build.device != "cuda":
        return False
    if build.kernels:
        return served_by(build.kernels, capability, catalog) is not None
    return build.cuda is None or _compiles(build.cuda, capability, catalog)


def _compiles(cuda: str, capability: ComputeCapability, catalog: Catalog) -> bool:
    """Whether that CUDA's compiler knows it. One that the table does not have may."""
    row = next((row for row in catalog.cuda if row.version.split(".")[:2] == cuda.split(".")[:2]), None)
    return row is None or str(capability) in row.capabilities


def too_old_problem(facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    old = too_old_gpus(facts, request, catalog)
    if not old:
        return None
    capabilities = sorted({each.capability for each in old if each.capability})
    rest = sorted({each.capability for each in targets(facts, request) if each.capability} - set(capabilities))
    leave = f"leave it unused with --cuda-compute-capabilities {','.join(map(str, rest))}, " if rest else ""
    words = " or ".join(map(str, capabilities))
    return Objection(
        what=f"{name_all(old)} is too old for every framework in the catalog",
        why=f"none has kernels for compute capability {words}{_last_branch(old, catalog)}",
        hint=f"{leave}take another card, or use --device cpu",
    )


def _last_branch(old: tuple[Target, ...], catalog: Catalog) -> str:
    rows = [row.branch for row in catalog.branches if all(branch_drives(row, each, catalog) for each in old)]
    last = max(rows, key=Dotted, default=None)
    return f", and {last} was the newest driver branch that drove it" if last else ""
