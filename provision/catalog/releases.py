"""Framework tables: releases, their builds, pins and recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provision.catalog.rows import FOLDER, make, make_all, table
from provision.errors import CatalogBroken
from provision.model.catalog import Release, ReleaseFault, ReleasePin, WheelBuild
from provision.model.recipes import SourceRecipe
from provision.model.versions import numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReleaseRow:
    version: str
    series: str
    points: tuple[str, ...]
    pythons: tuple[str, ...]
    cpu_flags: Mapping[str, tuple[str, ...]]
    glibc: str | None
    source: tuple[str, ...]
    build: tuple[WheelBuild, ...]
    pin: tuple[ReleasePin, ...] = ()
    fault: tuple[ReleaseFault, ...] = ()
    recipe: SourceRecipe | None = None
    onednn: str = ""
    backends: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameworkTable:
    """A whole file. ``recipe`` is that of every release without its own."""

    framework: str
    release: tuple[Any, ...]
    recipe: SourceRecipe | None = None
    aliases: tuple[str, ...] = field(default=())


def framework_releases(file: str, folder: Path = FOLDER) -> tuple[tuple[Release, ...], tuple[str, ...]]:
    """The releases of one framework's table, newest first, and the framework's other names.

    Raises CatalogBroken where a row is not as it should be.
    """
    content = table(file, folder)
    whole = make(_FrameworkTable, content, file, "the whole file")
    rows = make_all(_ReleaseRow, content["release"], file, "release")
    releases = [_release(whole, row, file) for row in rows]
    return tuple(sorted(releases, key=_order, reverse=True)), whole.aliases


def _release(whole: _FrameworkTable, row: _ReleaseRow, file: str) -> Release:
    if row.points[-1:] != (row.version,):
        raise CatalogBroken(
            what=f"the catalog's table {file} has a broken row",
            why=f"{file}, [[release]] (version = {row.version!r}): points: its last is not the version",
            hint="points lists every point release, oldest first; version is the last of them",
        )
    return Release(
        framework=whole.framework,
        version=row.version,
        series=row.series,
        points=row.points,
        pythons=row.pythons,
        cpu_flags=row.cpu_flags,
        glibc=row.glibc,
        builds=tuple(_filled(build, row.version) for build in row.build),
        pins=tuple(pin.requirement for pin in row.pin),
        onednn=row.onednn,
        recipe=row.recipe or whole.recipe,
        pin_reasons=row.pin,
        faults=row.fault,
        backends=row.backends,
        source=row.source,
        notes=row.notes,
    )


def _filled(build: WheelBuild, version: str) -> WheelBuild:
    lines = tuple(line.replace("{version}", version) for line in build.requirements)
    return replace(build, requirements=lines)


def _order(release: Release) -> tuple[int, ...]:
    return numbers(release.version)
