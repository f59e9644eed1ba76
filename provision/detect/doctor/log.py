"""A log that somebody brings: every known signature in it."""

from __future__ import annotations

from collections.abc import Sequence

from provision.detect.build_failures import diagnose
from provision.detect.doctor.shown import Shown, told
from provision.model.diagnosis import KnownFailure
from provision.model.doctor import DoctorReport


def doctor_log(text: str, name: str, rows: Sequence[KnownFailure], *, cut: str = "") -> DoctorReport:
    """``name``: what the log is called. ``cut``: what of it was not read, in words."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    shown = [Shown(id=each.id, evidence=each.line, where=name) for each in diagnose(plain, rows)]
    findings = told(shown, rows)
    return DoctorReport(
        ok=all(each.severity == "info" for each in findings),
        host=name,
        findings=findings,
        looked_at=(f"{len(plain.splitlines())} lines",),
        not_read=(cut,) if cut else (),
    )
