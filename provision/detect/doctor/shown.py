"""What shows, before it has a row's words; and which findings others explain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from provision.detect.text import printable
from provision.model.diagnosis import KnownFailure
from provision.model.doctor import DoctorFinding
from provision.model.facts import Severity

LONGEST = 240
"""Characters of evidence that are shown."""

EXPLAINS: Mapping[str, frozenset[str]] = {
    "gpu-fell-off-the-bus": frozenset({"gpu-lost", "no-devices", "driver-silent"}),
    "gpu-lost": frozenset({"driver-silent"}),
    "open-module-refuses": frozenset({"no-devices", "wrong-flavour", "driver-silent"}),
    "wrong-flavour": frozenset({"no-devices"}),
    "legacy-gpu": frozenset({"no-devices", "driver-silent"}),
    "gsp-firmware": frozenset({"no-devices", "driver-silent"}),
    "module-key-rejected": frozenset({"driver-not-loaded", "not-loaded-after-reboot", "key-not-enrolled"}),
    "key-not-enrolled": frozenset({"driver-not-loaded", "not-loaded-after-reboot"}),
    "key-waits": frozenset({"driver-not-loaded", "not-loaded-after-reboot", "key-not-enrolled"}),
    "mismatch": frozenset({"driver-not-loaded", "reboot-required", "library-mix"}),
    "nouveau": frozenset({"driver-not-loaded", "not-loaded-after-reboot", "no-driver"}),
    "headers-missing": frozenset({"driver-not-loaded", "module-for-other-kernel", "not-loaded-after-reboot"}),
    "module-build-failed": frozenset({"driver-not-loaded"}),
    "module-for-other-kernel": frozenset({"driver-not-loaded", "not-loaded-after-reboot"}),
    "gpu-reserved-for-guest": frozenset({"driver-not-loaded", "no-driver", "no-devices"}),
    "half-held": frozenset({"unattended-upgrades"}),
    "skips-gpu": frozenset({"no-cuda-drivers"}),
    "docker-no-gpu": frozenset({"docker-not-configured"}),
}
"""By finding: those that are only its consequence, and are not told beside it."""

ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    id: str
    """Of a row."""
    evidence: str
    where: str
    severity: Severity | None = None
    """Where it is another one than the row's."""


def told(shown: Iterable[Shown], rows: Sequence[KnownFailure]) -> tuple[DoctorFinding, ...]:
    """With the rows' words: errors first, then in the table's order; consequences of others left out."""
    first: dict[str, Shown] = {}
    for each in shown:
        first.setdefault(each.id, each)
    explained = {other for name in first for other in EXPLAINS.get(name, ())}
    found = [_told(first[row.id], row) for row in rows if row.id in first and row.id not in explained]
    return tuple(sorted(found, key=lambda each: ORDER[each.severity]))


def _told(shown: Shown, row: KnownFailure) -> DoctorFinding:
    return DoctorFinding(
        id=row.id,
        severity=shown.severity or row.severity,
        what=row.what or row.id.replace("-", " "),
        evidence=printable(shown.evidence, LONGEST),
        where=shown.where,
        cause=row.cause,
        remedy=row.remedy,
        source=row.source,
    )
