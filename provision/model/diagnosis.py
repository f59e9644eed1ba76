"""Known failures, and what they say about a log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """Something that a log says. It is found in one line: first ``text``, as it is, and then ``pattern`` around it."""

    text: str
    """Letter for letter, case and all."""
    pattern: str = ""
    """A regular expression that must match somewhere in that line; empty where the text is enough."""
    unless: str = ""
    """A regular expression that must not match in that line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownFailure:
    """A failure with its cause: a row of catalog/build_failures.toml."""

    id: str
    """"out-of-memory"."""
    symptoms: tuple[Symptom, ...]
    """Any one of them is enough."""
    cause: str
    remedy: str
    frameworks: tuple[str, ...] = ()
    """Of which it is known; empty for all."""
    since: str | None = None
    """The first release series, "2.17"; None for all before ``until``."""
    until: str | None = None
    """The last release series."""
    compilers: tuple[str, ...] = ()
    """"gcc", "clang": only with them, where the compiler is known; empty for all."""
    own_compiler: bool = False
    """Only where the user named a compiler."""
    what: str = ""
    """In a few words, for a title: "the libraries and the loaded module have different versions"."""
    severity: Literal["info", "warning", "error"] = "error"
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownXid:
    """An error number of NVIDIA's driver: a row of catalog/diagnostics.toml."""

    number: int
    also: tuple[int, ...] = ()
    """Numbers that mean the same to a user."""
    unless: str = ""
    """A regular expression: lines that it matches say that all is well again."""
    meaning: str
    cause: str
    remedy: str
    severity: Literal["info", "warning", "error"]
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A known failure that a log shows."""

    id: str
    line: str
    """The line that shows it, cut where it is long."""
    cause: str
    remedy: str
    source: tuple[str, ...]
