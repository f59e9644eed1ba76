"""What doctor found, as its reader sees it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from provision.model.doctor import DoctorFinding, DoctorReport

WIDTH = 100


def doctor_text(report: DoctorReport) -> str:
    """Each finding with its evidence, cause, remedy and source; then what could not be looked at."""
    lines = [report.host]
    for finding in report.findings:
        lines += ["", *finding_lines(finding)]
    if report.findings:
        lines.append("")
    lines.append(_verdict(report))
    lines += [f"  not looked at: {text}" for text in report.not_read]
    return "\n".join(lines) + "\n"


def finding_lines(finding: DoctorFinding) -> list[str]:
    return [
        f"{finding.severity}: {finding.what} ({finding.id})",
        *_part("evidence", f"{finding.where}: {finding.evidence}"),
        *_part("cause", finding.cause),
        *_part("remedy", finding.remedy),
        *_part("source", ", ".join(finding.source)),
    ]


def _part(name: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(text, WIDTH - 12, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"  {name + ':' if number == 0 else '':<10}{line}" for number, line in enumerate(wrapped)]


def _verdict(report: DoctorReport) -> str:
    looked = f"{len(report.looked_at)} readings" if len(report.looked_at) != 1 else report.looked_at[0]
    counts = {word: sum(each.severity == word for each in report.findings) for word in ("error", "warning", "info")}
    told = [f"{count} {word}{'s' if count > 1 and word != 'info' else ''}" for word, count in counts.items() if count]
    if report.ok:
        return f"no known failure shows ({looked}{'; ' + ', '.join(told) if told else ''})"
    return f"found {', '.join(told)} ({looked})"


def doctors_text(reports: Sequence[DoctorReport]) -> str:
    """Several hosts, one after the other."""
    return "\n".join(doctor_text(report) for report in reports)
