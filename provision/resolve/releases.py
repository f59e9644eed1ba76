"""Which releases a request means: specifiers against the catalog's point releases."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from provision.model.catalog import Catalog, Release
from provision.model.request import Wanted


@lru_cache(maxsize=4096)
def version(text: str) -> Version:
    return Version(text)


@lru_cache(maxsize=256)
def specifiers(text: str) -> SpecifierSet:
    """The set that ``text`` means here: "==2.21" is the whole series, as people write it, and a build's name
    ("==2.14.1+cu126") is looked at by ``local_build`` alone. Raises InvalidSpecifier."""
    clauses = [clause.strip() for clause in text.split(",") if clause.strip()]
    return SpecifierSet(",".join(_series(re.sub(r"\+[A-Za-z0-9.]+$", "", clause)) for clause in clauses))


def _series(clause: str) -> str:
    match = re.fullmatch(r"==\s*(\d+(?:\.\d+)*)", clause)
    return f"=={match[1]}.*" if match else clause


def local_build(text: str) -> str | None:
    """The build that "==2.14.1+cu126" names: "cu126"."""
    match = re.search(r"\+([A-Za-z0-9.]+)\s*$", text)
    return match[1] if match else None


def matching(catalog: Catalog, wanted: Wanted, *, force: bool = False) -> tuple[Release, ...]:
    """Releases that ``wanted`` allows, each at its newest point that it allows; newest first.

    With ``force`` a release that is not in the catalog is planned like its nearest neighbour.
    """
    allowed = specifiers(wanted.specifier)
    found = []
    for release in catalog.of(wanted.framework):
        points = [point for point in release.points or (release.version,) if allowed.contains(point, prereleases=True)]
        if points:
            newest = max(points, key=version)
            found.append(release if newest == release.version else release.at(newest))
    if not found and force and (exact := exact_version(wanted.specifier)) is not None:
        found = [_like(nearest(catalog, wanted.framework, exact), exact)]
    return tuple(sorted(found, key=lambda release: version(release.version), reverse=True))


def exact_version(specifier: str) -> str | None:
    """The one version that ``specifier`` means, None where it is a range."""
    match = re.fullmatch(r"==\s*(\d+(?:\.\d+)*)(?:\.\*|\+[A-Za-z0-9.]+)?\s*", specifier)
    return match[1] if match else None


def listed(catalog: Catalog, framework: str, exact: str) -> bool:
    """Whether the catalog has ``exact`` ("2.21", "2.21.0") among the points of ``framework``."""
    allowed = specifiers(f"=={exact}")
    return any(allowed.contains(point, prereleases=True) for row in catalog.of(framework) for point in row.points)


def nearest(catalog: Catalog, framework: str, wanted: str) -> Release:
    """The release nearest to version ``wanted``: of two neighbours the older one, as newer code asks for more."""
    rows = sorted(catalog.of(framework), key=lambda release: version(release.version))
    try:
        aim = Version(wanted)
    except InvalidVersion:
        return rows[-1]
    series = [row for row in rows if version(row.series).release[:2] == aim.release[:2]]
    older = [row for row in rows if version(row.version) <= aim]
    return (series or older or rows[:1])[-1]


def _like(release: Release, point: str) -> Release:
    return replace(release.at(point), points=(*release.points, point))
