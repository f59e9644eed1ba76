"""A log that somebody brings: every known signature in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provision.detect.build_failures import diagnose
from provision.detect.doctor.shown import Shown, told
from provision.model.diagnosis import KnownFailure
from provision.model.doctor import DoctorReport

IMAGE_MARKS = ("docker", "Docker", "buildx", "buildkit", "failed to solve", "podman")
"""One of them is in the log of an image's build, a push or a pull. Without one "denied:" is some file's permission."""


def doctor_log(
    text: str, name: str, rows: Sequence[KnownFailure], *, images: Sequence[KnownFailure] = (), cut: str = ""
) -> DoctorReport:
    """``name``: what the log is called. ``images``: rows that count in a log of container images alone; those of the
    same id give ``rows`` more symptoms there. ``cut``: what of it was not read, in words."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    if any(mark in plain for mark in IMAGE_MARKS):
        more = {row.id: row for row in images}
        known = {row.id for row in rows}
        rows = (
            *(replace(row, symptoms=row.symptoms + more[row.id].symptoms) if row.id in more else row for row in rows),
            *(row for row in images if row.id not in known),
        )
    shown = [Shown(id=each.id, evidence=each.line, where=name) for each in diagnose(plain, rows)]
    findings = told(shown, rows)
    return DoctorReport(
        ok=all(each.severity == "info" for each in findings),
        host=name,
        findings=findings,
        looked_at=(_counted(plain.count("\n") + (bool(plain) and not plain.endswith("\n"))),),
        not_read=(cut,) if cut else (),
    )


def _counted(lines: int) -> str:
    return "1 line" if lines == 1 else f"{lines} lines"
