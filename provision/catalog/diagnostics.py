"""The table of failure signatures, read when doctor asks."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table
from provision.model.diagnosis import KnownFailure, KnownXid, Symptom

FILE, KEY, XID = "diagnostics.toml", "failure", "xid"
OTHER = "xid-other"
"""The row for every number that has none of its own."""


@lru_cache(maxsize=1)
def diagnostics() -> tuple[KnownFailure, ...]:
    """In the order in which they are told. Raises CatalogBroken where a row is not as it should be."""
    return read_diagnostics(FOLDER)


def read_diagnostics(folder: Path) -> tuple[KnownFailure, ...]:
    """Each Xid as a failure of its own, "xid-48", after the others."""
    content = table(FILE, folder, keys=(KEY, XID))
    failures = make_all(KnownFailure, content.get(KEY), FILE, KEY)
    xids = make_all(KnownXid, content.get(XID), FILE, XID)
    known = "|".join(str(number) for xid in xids for number in _numbers(xid))
    return (*(_others(row, known) if row.id == OTHER else row for row in failures), *map(_failure, xids))


def _numbers(xid: KnownXid) -> tuple[int, ...]:
    return (xid.number, *xid.also)


def _others(row: KnownFailure, known: str) -> KnownFailure:
    """The row of Xids that have none, without those that have."""
    unless = rf"\): (?:{known})\b"
    return replace(row, symptoms=tuple(replace(each, unless=f"{each.unless}|{unless}") for each in row.symptoms))


def _failure(xid: KnownXid) -> KnownFailure:
    # the text has the number: a log may have thousands of lines of another one
    symptoms = tuple(
        Symptom(text=f"): {number}", pattern=rf"NVRM: Xid \([^)]*\): {number}\b", unless=xid.unless)
        for number in _numbers(xid)
    )
    return KnownFailure(
        id=f"xid-{xid.number}",
        what=f"Xid {xid.number}{' and its like' if xid.also else ''}: {xid.meaning}",
        severity=xid.severity,
        symptoms=symptoms,
        cause=xid.cause,
        remedy=xid.remedy,
        source=xid.source,
    )
