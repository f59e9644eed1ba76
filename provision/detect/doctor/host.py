"""A host's readings: what is known to go wrong, with the line or reading that shows it.

The order of looking is that of the facts: bus, module and its flavour, kernel log, versions, nvidia-smi, environment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from provision.detect.doctor.driver import DRIVER_RULES
from provision.detect.doctor.gpus import GPU_RULES
from provision.detect.doctor.look import Look, Rule
from provision.detect.doctor.shown import Shown, told
from provision.detect.doctor.system import SYSTEM_RULES
from provision.model.diagnosis import KnownFailure
from provision.model.doctor import DoctorReport
from provision.model.facts import Facts
from provision.model.readings import Readings

RULES: tuple[Rule, ...] = (*GPU_RULES, *DRIVER_RULES, *SYSTEM_RULES)

NEEDED: tuple[tuple[str, str], ...] = (
    ("dmesg_nvidia", "the kernel log: it needs root, or kernel.dmesg_restrict=0"),
    ("sys_pci_links", "the PCIe links"),
    ("packages_nvidia", "the installed packages"),
)
"""Readings that doctor misses most where they are not there, of a host with a GPU."""


def doctor_host(
    readings: Readings, facts: Facts, rows: Sequence[KnownFailure], *, more: Iterable[Shown] = ()
) -> DoctorReport:
    """``more``: what was found otherwise, such as by asking another library."""
    look = Look(readings=readings, facts=facts, rows=tuple(rows))
    shown = [each for rule in RULES for each in rule(look)]
    findings = told([*shown, *more], rows)
    return DoctorReport(
        ok=all(each.severity == "info" for each in findings),
        host=facts.host,
        findings=findings,
        looked_at=tuple(sorted(name for name in readings.files if not name.endswith(".status"))),
        not_read=tuple(text for name, text in NEEDED if facts.gpus and readings.text(name) is None),
    )
