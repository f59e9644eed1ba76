"""Candidates: every release in every build, from wheels or from source, best first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from provision.model.catalog import Catalog, Release, WheelBuild
from provision.model.facts import Facts
from provision.model.request import Request, Wanted
from provision.model.versions import ComputeCapability, Dotted, unfinished
from provision.resolve.releases import local_build, matching, specifiers, version
from provision.resolve.targets import served_by, targets

CONFIDENCE = {"binary": 0, "documented": 1, "script": 2, "inferred": 3, "unconfirmed": 4}
"""What was read out of a wheel comes before what a page or a script says about it."""

UV_OLDEST = (3, 8)
"""The oldest CPython that uv 0.13 downloads (`uv python list --all-versions`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One release in one build. A source candidate's build is made from the release's recipe."""

    release: Release
    build: WheelBuild
    source: bool = False

    @property
    def framework(self) -> str:
        return self.release.framework

    @property
    def pythons(self) -> tuple[str, ...]:
        """Interpreters that it has wheels for."""
        return self.build.pythons or self.release.pythons

    def __str__(self) -> str:
        how = f"from source ({self.build.device})" if self.source else self.build.name
        return f"{self.framework} {self.release.version} {how}"


def candidates(wanted: Wanted, facts: Facts, request: Request, catalog: Catalog) -> tuple[Candidate, ...]:
    """Those that the request allows at all, best first: wheels before source builds (which only count where no
    wheel fits), CUDA before CPU, then the newest release, then the better build of it."""
    found = []
    for release in matching(catalog, wanted, force=request.force):
        if may_use_wheels(request) or only_wheels(wanted.framework, catalog):
            found += [Candidate(release=release, build=build) for build in _builds(release, facts)]
        if request.origin != "wheel":
            found += _source(_as_its_source_says(release, wanted, request), facts, request, catalog)
    asked = local_build(wanted.specifier)
    kept = (each for each in found if _asked_for(each, facts, request, catalog) and asked in (None, each.build.name))
    return tuple(sorted(kept, key=lambda each: _order(each, facts, request, catalog)))


def may_use_wheels(request: Request) -> bool:
    """A CPU target by name asks for a build for exactly it, which no wheel is."""
    return request.origin != "source" and request.cpu in ("native", "generic")


def only_wheels(framework: str, catalog: Catalog) -> bool:
    """Keras comes as a wheel beside whatever is built from source."""
    return not has_recipe(framework, catalog) and not has_cuda(framework, catalog)


def has_recipe(framework: str, catalog: Catalog) -> bool:
    return any(release.recipe is not None for release in catalog.of(framework))


def has_cuda(framework: str, catalog: Catalog) -> bool:
    """Whether there is any choice of device: Keras and NumPy have one build for all."""
    return any(build.device == "cuda" for release in catalog.of(framework) for build in release.builds)


def pythons(candidate: Candidate, facts: Facts, request: Request) -> tuple[str, ...]:
    """Interpreters ("3.12") that it can use, best first: the system's newest, then those that uv brings.

    Of the latter the nearest to the system's own comes first: other packages have wheels for it, which they may not
    have for the very newest. Where the system has none, the newest.
    """
    usable = [text for text in candidate.pythons if re.fullmatch(r"3\.\d+", text)]
    if request.python is not None:
        usable = [text for text in usable if text == request.python]
    here = system_pythons(facts)
    there = [text for text in usable if text not in here and _minor(text) >= UV_OLDEST]
    there.sort(key=_minor, reverse=True)
    if here:
        there.sort(key=lambda text: abs(_minor(text)[1] - _minor(here[0])[1]))
    return (*(text for text in here if text in usable), *there)


def system_pythons(facts: Facts) -> tuple[str, ...]:
    """Minors of the interpreters on PATH, newest first."""
    minors = {match[0] for text in facts.system.pythons if (match := re.match(r"3\.\d+", text))}
    return tuple(sorted(minors, key=_minor, reverse=True))


@lru_cache(maxsize=64)
def _minor(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def driver_needed(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> str | None:
    """The oldest driver that runs the candidate here: the floor of its CUDA, or the driver of that very CUDA release
    where a GPU is served by PTX alone, which minor-version compatibility does not cover. None where it is not known.
    """
    build = candidate.build
    if build.device != "cuda":
        return None
    row = next((row for row in catalog.cuda if build.cuda and row.version == _two(build.cuda)), None)
    floors = [build.driver_minimum or (row and (row.driver_minor_compat or row.driver_minimum))]
    if jit_capabilities(candidate, facts, request, catalog):
        floors.append((row and row.driver_minimum) or _branch_that_serves(build.cuda, catalog))
    known = [floor for floor in floors if floor]
    return max(known, key=Dotted) if known else None


def jit_capabilities(
    candidate: Candidate, facts: Facts, request: Request, catalog: Catalog
) -> tuple[ComputeCapability, ...]:
    """Capabilities of GPUs for which the build has PTX only, which the driver compiles at first use."""
    wanted = {target.capability for target in targets(facts, request) if target.capability is not None}
    found = {each: served_by(candidate.build.kernels, each, catalog) for each in wanted}
    return tuple(sorted(each for each, kernel in found.items() if kernel is not None and kernel.ptx))


def _branch_that_serves(cuda: str | None, catalog: Catalog) -> str | None:
    """The oldest driver branch whose CUDA driver API version is at least ``cuda``."""
    if cuda is None:
        return None
    found = [
        row.branch for row in catalog.branches if row.cuda_api_version and Dotted(row.cuda_api_version) >= Dotted(cuda)
    ]
    return min(found, key=Dotted, default=None)


def _two(text: str) -> str:
    """ "12.5.1" is release 12.5."""
    return ".".join(text.split(".")[:2])


def _as_its_source_says(release: Release, wanted: Wanted, request: Request) -> Release:
    """A release under the version that its source has, and so the wheel that is built: 2.15.0 for 2.15.0.post1, which
    is the same packed anew, and 2.21.0rc1 where that is the tree that was given."""
    tree = request.source.version if request.source is not None else None
    if tree is not None and unfinished(tree) is None and version(tree).is_prerelease:
        same = version(tree).base_version == version(release.version).base_version
        return release.at(str(version(tree))) if same else release
    plain = re.sub(r"\.post\d+$", "", release.version)
    named = plain in release.points and specifiers(wanted.specifier).contains(plain)
    return release.at(plain) if named and plain != release.version else release


def _source(release: Release, facts: Facts, request: Request, catalog: Catalog) -> list[Candidate]:
    recipe = release.recipe
    if recipe is None:
        return []
    found = []
    cuda = recipe.cuda or _newest_cuda(release, facts, request, catalog)
    for device in ("cuda", "cpu") if cuda else ("cpu",):
        build = WheelBuild(
            name="source",
            device="cuda" if device == "cuda" else "cpu",
            requirements=_own_requirements(release, device, facts.cpu.arch),
            index=None,
            archs=(),
            cuda=cuda if device == "cuda" else None,
            cudnn=recipe.cudnn if device == "cuda" else None,
            bundles_cuda=device == "cuda" and hermetic(release),
            source=recipe.source,
        )
        found.append(Candidate(release=release, build=build, source=True))
    return found


def _own_requirements(release: Release, device: str, arch: str | None) -> tuple[str, ...]:
    """Those of the wheel of the same device, under the name that our wheel has: without an index's build, and without
    an extra that brings CUDA where the box has it."""
    same = sorted((build for build in release.builds if build.device == device), key=lambda build: build.name)
    lines = min(same, key=lambda build: arch not in build.archs).requirements if same else ()
    lines = tuple(re.sub(r"\+[A-Za-z0-9.]+$", "", line) for line in lines) or (
        f"{release.framework}=={release.version}",
    )
    recipe = release.recipe
    if recipe is None or not recipe.distributions or (device == "cuda" and recipe.hermetic_cuda):
        return lines
    return (f"{recipe.distributions[0]}=={release.version}", *lines[1:])


def _newest_cuda(release: Release, facts: Facts, request: Request, catalog: Catalog) -> str | None:
    """For a recipe that leaves the CUDA release open: the newest that compiles for every GPU and runs on the driver.

    Nothing before CUDA 12: which of today's sources still build with it is not known.
    """
    if not any(build.device == "cuda" for build in release.builds):
        return None
    wanted = {str(target.capability) for target in targets(facts, request) if target.capability}
    rows = [row for row in catalog.cuda if Dotted(row.version).major >= 12 and wanted <= set(row.capabilities)]
    driver = facts.driver.version if facts.driver.state == "working" else None
    runs = [row for row in rows if not driver or Dotted(driver) >= Dotted(row.driver_minor_compat or "0")]
    newest = max(runs or rows, key=lambda row: Dotted(row.version), default=None)
    return newest.version if newest else None


def hermetic(release: Release) -> bool:
    """Whether its source build downloads CUDA by itself, so that the box needs no toolkit."""
    return release.recipe is not None and release.recipe.hermetic_cuda


def _builds(release: Release, facts: Facts) -> tuple[WheelBuild, ...]:
    """Those for this machine; where a device has none for it, all of that device, to be rejected with the reason."""
    here = {build.device for build in release.builds if facts.cpu.arch in build.archs}
    return tuple(build for build in release.builds if build.device not in here or facts.cpu.arch in build.archs)


def _asked_for(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> bool:
    """Without a GPU, "auto" means the CPU: CUDA builds are then no candidates, and need no rejecting."""
    device = candidate.build.device
    if not has_cuda(candidate.framework, catalog):
        return True
    return device == request.device or (request.device == "auto" and (device == "cpu" or bool(facts.gpus)))


def _order(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> tuple[object, ...]:
    """Smaller is better. The name comes last, so that no two are equal and the catalog's order decides nothing."""
    build = candidate.build
    cuda = tuple(-part for part in Dotted(build.cuda).key) if build.cuda else ()
    return (
        candidate.source,
        build.device != "cuda",
        _Newest(version(candidate.release.version)),
        bool(jit_capabilities(candidate, facts, request, catalog)),
        CONFIDENCE[build.confidence],
        cuda,
        build.name,
        build.archs,
    )


class _Newest:
    """Turns a version's order round."""

    def __init__(self, key: object) -> None:
        self.key = key

    def __lt__(self, other: _Newest) -> bool:
        return bool(other.key < self.key)  # type: ignore[operator]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Newest) and self.key == other.key

    __hash__ = None  # type: ignore[assignment]
