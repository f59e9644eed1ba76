"""Every way provision stops on purpose: one class and one exit code each.

An error is three fields, so that text and ``--json`` agree: *what* happened, *why* (wanted and found, both in full)
and a *hint* (what to do).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """One problem as its reader needs it. ``why`` and ``hint`` may be empty, ``what`` never is."""

    what: str
    why: str = ""
    hint: str = ""


@dataclass
class ProvisionError(Exception):
    """A stop that can be explained. Not raised itself: raise the child whose exit code fits."""

    what: str
    why: str = ""
    hint: str = ""
    details: tuple[Explanation, ...] = field(default=())

    exit_code = 1

    def __str__(self) -> str:
        return self.what


class CatalogBroken(ProvisionError):
    """A table of the catalog cannot be read: a mistake in provision, or in a row that was just added."""


class UsageError(ProvisionError):
    """The request cannot be understood or contradicts itself."""

    exit_code = 2


class NoStackFits(ProvisionError):
    """No candidate survives the rules. ``details`` holds every objection."""

    exit_code = 3


class HostError(ProvisionError):
    """A host is unreachable, refused us, or lacks what is needed to talk to it."""

    exit_code = 4


class StepFailed(ProvisionError):
    """A step of a plan failed, or could not be started."""

    exit_code = 5


class VerificationFailed(ProvisionError):
    """The environment is there, and does not do what it should."""

    exit_code = 6


class Interrupted(ProvisionError):
    """Ctrl-C, or a signal that means the same."""

    exit_code = 130
