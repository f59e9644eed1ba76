"""Image references: read, checked, and worked out for several CPUs in one call.

The grammar is that of github.com/distribution/reference (reference.go, regexp.go): [registry[:port]/]path[:tag][@digest].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from provision.errors import UsageError

COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
REGISTRY = re.compile(
    r"(?:(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])(?:\.(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9]))*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG_MAX, NAME_MAX = 128, 255
LEVEL = "{level}"
"""Stands in a tag for the CPU's word: "me/tf:2.21-{level}-slim"."""
HINT = "a reference is [registry[:port]/]name[:tag], as in me/tensorflow:2.21"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    registry: str | None
    """"localhost:5000"; None where none is named, which an engine takes for Docker Hub."""
    repository: str
    """"me/tf"."""
    tag: str | None
    digest: str | None
    """"sha256:…"."""

    def __str__(self) -> str:
        name = f"{self.registry}/{self.repository}" if self.registry else self.repository
        return f"{name}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


def checked_reference(text: str, what: str = "an image reference") -> Reference:
    """``text`` in its parts. Raises UsageError that says what is wrong with it; ``what`` is what it should be."""
    raise NotImplementedError


def tags_for(tag: str, cpus: Sequence[str]) -> tuple[str, ...]:
    """One tag for each of ``cpus``, in their order. Raises UsageError for what is no tag, and for two that are one."""
    raise NotImplementedError
