"""Installed memory that the kernel manages."""

from __future__ import annotations

import re

from provision.detect import sysctl
from provision.detect.text import natural
from provision.model.facts import Memory
from provision.model.readings import Readings

READING = "proc_meminfo"
LARGEST_MIB = 1 << 40
"""2^60 bytes: more is a broken reading, not a machine."""


def memory_facts(readings: Readings) -> Memory:
    # "MemTotal:       24683764 kB"
    match = re.search(r"^MemTotal:\s*([0-9]{1,18})\s*kB", readings.text(READING) or "", re.MULTILINE)
    if match:
        return Memory(total_mib=_sane(int(match[1]) // 1024))
    # macOS: "hw.memsize: 17179869184"
    size = natural(sysctl.keys(readings.text(sysctl.READING) or "").get("hw.memsize"))
    return Memory(total_mib=_sane(size // (1024 * 1024)) if size is not None else None)


def _sane(mib: int) -> int | None:
    return mib if 0 < mib < LARGEST_MIB else None
