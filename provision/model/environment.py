"""What a host's environments are found to be: observed, never assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    number: int
    fingerprint: str | None
    """The plan's fingerprint it was made from; None where its state file is missing (a run that was killed)."""
    complete: bool
    """Everything the plan asks for is installed."""
    verified: bool
    """Its checks and smoke test passed."""
    created: str | None
    """ISO 8601, UTC."""
    summary: str = ""
    """"tensorflow 2.21.0 · cpu · python 3.11"; with " · source" where it was built."""
    drifted: bool = False
    """Its installed packages are no longer those that were locked."""
    answers: tuple[str, ...] = ()
    """Fingerprints of further plans that it stands for: of a source build that turned out slower than this wheel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentState:
    name: str
    path: str
    """The environment's folder on that host."""
    current: int | None
    generations: tuple[Generation, ...]
    plan: Mapping[str, Any] | None = None
    """The current generation's plan as its plan.json has it, without the lock; None where it cannot be read."""

    def generation(self, number: int | None) -> Generation | None:
        return next((found for found in self.generations if found.number == number), None)
