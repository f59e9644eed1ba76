"""What doctor reads beside a host's readings: a log, and the CPU through another library."""

from __future__ import annotations

import codecs
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provision.detect.doctor.shown import Shown
from provision.errors import UsageError
from provision.model.facts import Cpu

LIMIT_BYTES = 32 * 1024 * 1024
"""Of a log. A longer one is read at both its ends: the beginning says what runs, the end how it ended."""
HALF = LIMIT_BYTES // 2
MOST_BYTES = 1024 * 1024 * 1024
"""Of an endless one, after which its end is no longer waited for."""
CHUNK = 1024 * 1024
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    name: str
    text: str
    cut: str = ""


def read_log(path: Path) -> Log:
    """The log, whatever bytes are in it. Raises UsageError where there is none."""
    if str(path) == STDIN:
        return _read(sys.stdin.buffer, "standard input")
    try:
        with path.open("rb") as file:
            return _read(file, path.name)
    except OSError as error:
        raise UsageError(
            what=f"the log {path} cannot be read",
            why=error.strerror or str(error),
            hint="give a text file, or - for standard input: journalctl -k | provision doctor --log -",
        ) from None


def _read(file: BinaryIO, name: str) -> Log:
    """Of an endless one as much as fits; of a longer one its beginning and its end."""
    begin = file.read(HALF)
    end: deque[bytes] = deque()
    kept = read = 0
    while read < MOST_BYTES and (chunk := file.read(CHUNK)):
        end.append(chunk)
        read, kept = read + len(chunk), kept + len(chunk)
        while kept - len(end[0]) >= HALF:
            kept -= len(end.popleft())
    dropped = read - kept
    cut = f"{dropped / CHUNK:.0f} MiB in the middle of {name}: it is longer than is read" if dropped else ""
    if read >= MOST_BYTES:
        cut += f", and whatever comes after {(HALF + read) / CHUNK:.0f} MiB"
    return Log(name=name, text=_text(begin + (b"\n" if dropped else b"") + b"".join(end)), cut=cut)


def _text(data: bytes) -> str:
    """Whatever bytes they are. Windows' shells write logs in UTF-16, and say so in the first two bytes."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8", "replace")


def cpu_cross_check(cpu: Cpu) -> tuple[Shown, ...]:
    """What py-cpuinfo says otherwise of this machine's CPU. It takes a second, and starts processes of its own."""
    import cpuinfo

    found = cpuinfo.get_cpu_info()
    pairs = (
        ("model name", cpu.model_name, found.get("brand_raw")),
        ("family", cpu.family, found.get("family")),
        ("model", cpu.model, found.get("model")),
    )
    differing = [
        f"{name}: {ours!r} in /proc/cpuinfo, {theirs!r} by py-cpuinfo"
        for name, ours, theirs in pairs
        if ours is not None and theirs not in (None, "") and str(ours).split() != str(theirs).split()
    ]
    return tuple(
        Shown(id="cpu-readings-differ", evidence="; ".join(differing), where="py-cpuinfo") for _ in differing[:1]
    )
