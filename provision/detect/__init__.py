"""Readings to facts: raw text in, typed values out; no file, process or clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provision.model.chips import Chips
    from provision.model.facts import Facts
    from provision.model.readings import Readings

__all__ = ["host_facts"]


def host_facts(readings: Readings, chips: Chips, *, host: str) -> Facts:
    """What the host is, as far as ``readings`` tell: any subset of them, cut or damaged, gives facts and no error."""
    # The parsers take 30 ms to import; run/probe.py has them loaded while the host is being read
    from provision.detect.host import host_facts as read

    return read(readings, chips, host=host)
