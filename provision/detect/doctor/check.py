"""A check that failed, explained by what the framework said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provision.detect.build_failures import diagnose
from provision.detect.doctor.shown import Shown, told
from provision.model.diagnosis import KnownFailure
from provision.model.report import CheckOutcome

LOG = "log"
"""In a check's data: the framework's own lines, where it fails and they may say why."""


def explained(check: CheckOutcome, rows: Sequence[KnownFailure]) -> CheckOutcome:
    """With cause and remedy of the gravest row that its log shows; the row's id goes into its data as "cause".

    What the check itself said stays below. It is as it was where it did not fail, or no row knows its log; a remark
    alone is no cause.
    """
    data = check.data or {}
    if check.status != "fail" or not data.get(LOG):
        return check
    lines = "\n".join(map(str, data[LOG]))
    found = told([Shown(id=each.id, evidence=each.line, where=check.id) for each in diagnose(lines, rows)], rows)
    first = next((each for each in found if each.severity != "info"), None)
    if first is None:
        return check
    why = "\n".join([f"{first.what}: {first.cause}", *_both(first.evidence, check.why)])
    return replace(check, why=why, hint=first.remedy, data={**data, "cause": first.id})


def _both(evidence: str, why: str) -> list[str]:
    """The line that shows it and what the check said, once where one of them holds the other."""
    line, said = evidence.strip("…"), " ".join(why.split())
    if line in said:
        return [why]
    return [evidence] if said in line else [evidence, why]
