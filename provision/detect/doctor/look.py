"""What a rule of doctor looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from provision.detect.doctor.shown import Shown
from provision.model.diagnosis import KnownFailure
from provision.model.facts import Facts
from provision.model.nvidia import HostNvidia
from provision.model.readings import Readings

NOTHING = HostNvidia()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    readings: Readings
    facts: Facts
    rows: tuple[KnownFailure, ...] = field(default=())

    @property
    def nvidia(self) -> HostNvidia:
        """With nothing known where nothing was read."""
        return self.facts.nvidia or NOTHING

    @property
    def works(self) -> bool:
        return self.facts.driver.state == "working"


Rule = Callable[[Look], Iterable[Shown]]
