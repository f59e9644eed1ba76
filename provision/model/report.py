"""What `up`, `apply` and `verify` leave behind: outcomes, checks, the smoke test and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    id: str
    title: str
    status: Literal["ok", "changed", "failed", "skipped"]
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """One check script's answer: exit 0 is pass, 1 fail, 2 (cannot tell) skip."""

    id: str
    status: Literal["pass", "fail", "skip"]
    what: str
    why: str = ""
    hint: str = ""
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    framework: str
    device: str
    dataset: Literal["mnist", "synthetic"]
    samples: int
    train_s: float
    samples_per_s: float
    accuracy: float
    peak_fraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    name: str
    generation: int | None
    path: str
    activate: str
    """The one line that activates it."""
    previous: int | None = None
    """The generation that this run's switch put aside. None where it was the first, or nothing was switched."""
    switched: bool = False
    """Whether this run changed which generation is current."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    what: str
    why: str = ""
    hint: str = ""
    exit_code: int = 5
    kind: str = ""
    """For programs, where it is known: "refused", "host_key_changed" (run/ssh_failures.py), "disk_full" …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    schema: int = SCHEMA
    ok: bool
    host: str
    environment: Environment | None
    changed: int
    steps: tuple[StepOutcome, ...]
    checks: tuple[CheckOutcome, ...]
    smoke: Smoke | None
    """The first framework's smoke test; every one is among ``checks`` as mnist:FRAMEWORK."""
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Something that a host does right now; the live display and the plain lines are made from these."""

    host: str
    kind: Literal["step", "progress", "changed", "done", "failed", "note"]
    step: str
    """Step or task title."""
    text: str = ""
    done_mib: float | None = None
    total_mib: float | None = None
