"""What `provision doctor` says of a host or of a log."""

from __future__ import annotations

from dataclasses import dataclass

from provision.model.facts import Severity

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorFinding:
    """A known failure that shows. Its id is that of a row of the catalog."""

    id: str
    severity: Severity
    what: str
    evidence: str
    """The line or reading that shows it, cut where it is long."""
    where: str
    """Where the evidence stands: "dmesg", "modinfo nvidia", "nvidia-smi", "train.log"."""
    cause: str
    remedy: str
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    schema: int = SCHEMA
    ok: bool
    """No finding of severity "error" or "warning"."""
    host: str
    """A host's name, or the log's: "train.log", "-" for standard input."""
    findings: tuple[DoctorFinding, ...]
    looked_at: tuple[str, ...]
    """Readings that were there to be looked at."""
    not_read: tuple[str, ...] = ()
    """What could not be looked at, and why: "dmesg: needs root"."""
