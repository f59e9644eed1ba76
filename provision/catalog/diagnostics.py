"""The table of failure signatures, read when doctor asks."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from provision.catalog.rows import FOLDER, make_all, table
from provision.model.diagnosis import KnownFailure, KnownXid, Symptom

FILE, KEY, XID = "diagnostics.toml", "failure", "xid"


@lru_cache(maxsize=1)
def diagnostics() -> tuple[KnownFailure, ...]:
    """In the order in which they are told. Raises CatalogBroken where a row is not as it should be."""
    return read_diagnostics(FOLDER)


def read_diagnostics(folder: Path) -> tuple[KnownFailure, ...]:
    """Each Xid as a failure of its own, "xid-48", after the others."""
    content = table(FILE, folder, keys=(KEY, XID))
    failures = make_all(KnownFailure, content.get(KEY), FILE, KEY)
    return failures + tuple(map(_failure, make_all(KnownXid, content.get(XID), FILE, XID)))


def _failure(xid: KnownXid) -> KnownFailure:
    # the text has the number: a log may have thousands of lines of another one
    symptom = Symptom(text=f"): {xid.number}", pattern=rf"NVRM: Xid \([^)]*\): {xid.number}\b")
    return KnownFailure(
        id=f"xid-{xid.number}",
        what=f"Xid {xid.number}: {xid.meaning}",
        severity=xid.severity,
        symptoms=(symptom,),
        cause=xid.cause,
        remedy=xid.remedy,
        source=xid.source,
    )
