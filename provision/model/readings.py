"""Readings: the raw text that a host printed, under the names of the dump folder (CONTRIBUTING.md lists them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Readings:
    """One host's raw text by reading name, such as "proc_cpuinfo" or "nvidia_smi_q.xml".

    A name that is absent was not read: that is not the same as "the command failed". A command that failed leaves
    its message as the reading, and its exit status under ``NAME.status``.
    """

    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", MappingProxyType(dict(self.files)))

    def text(self, name: str) -> str | None:
        return self.files.get(name)

    def first(self, *names: str) -> tuple[str, str] | None:
        """(name, text) of the first reading in ``names`` that is there and not blank."""
        for name in names:
            text = self.files.get(name)
            if text is not None and text.strip():
                return name, text
        return None
