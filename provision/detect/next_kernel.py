"""Which kernel the next boot takes: after an upgrade that brought one, another than the running one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from provision.model.readings import Readings

READING = "boot_kernels"
NEWEST = frozenset({"", "0"})
"""What GRUB's choice says where nobody made one: its first entry, which is the newest kernel."""


def next_kernel(readings: Readings, running: str | None) -> str | None:
    """None where it is the running one, and where that cannot be told: its kernels are not in /boot, or the boot loader
    was told something that names none of them."""
    text = readings.text(READING) or ""
    kernels = _all(text, "kernel ")
    if running is None or running not in kernels:
        return None
    choice = _choice(text)
    taken = _newest(kernels, running) if choice in NEWEST else _named(choice, kernels)
    return None if taken == running else taken


def module_version(readings: Readings, kernel: str) -> str | None:
    """Of NVIDIA's module on disk for ``kernel``; None where there is none."""
    return next((version for release, version in other_modules(readings) if release == kernel), None)


def other_modules(readings: Readings) -> tuple[tuple[str, str], ...]:
    """Kernels that do not run and have NVIDIA's module on disk, each with the module's version; the newest first."""
    line = re.compile(r"^module ([0-9][\w.+~-]{0,100}) (\d{2,4}(?:\.\d{1,4}){1,3})$", re.MULTILINE)
    return tuple(sorted(line.findall(readings.text(READING) or ""), key=lambda found: _order(found[0]), reverse=True))


def _all(text: str, begin: str) -> tuple[str, ...]:
    lines = (line.removeprefix(begin) for line in text.splitlines() if line.startswith(begin))
    return tuple(line for line in lines if re.fullmatch(r"[0-9][\w.+~-]{0,100}", line))


def _choice(text: str) -> str:
    """The entry's words, best known first: of the next boot alone, grubby's answer, the configured one."""
    once = _last(text, "next_entry=")
    configured = _last(text, "GRUB_DEFAULT=").strip("\"'")
    saved = _last(text, "saved_entry=") if configured == "saved" else configured
    return once or _last(text, "default ") or saved


def _last(text: str, begin: str) -> str:
    """A shell takes the last of several."""
    found = [line.strip()[len(begin) :].strip() for line in text.splitlines() if line.strip().startswith(begin)]
    return found[-1] if found else ""


def _named(choice: str, kernels: Iterable[str]) -> str | None:
    """ "Advanced options for Debian>Debian, with Linux 6.1.0-28-amd64": the longest release that it has."""
    return max((each for each in kernels if each in choice), key=len, default=None)


def _newest(kernels: Iterable[str], running: str) -> str:
    """Of two flavours of one release the running one: it was taken the last time. A debug kernel is not a default."""
    usual = [each for each in kernels if not each.endswith("+debug")] or [running]
    best = max(usual, key=_order)
    return running if _order(best) == _order(running) else best


def _order(release: str) -> tuple[int, ...]:
    """As GRUB and rpm sort releases, 5.14.0-427.13.1.el9 after 5.14.0-427.el9; without the flavour, -generic."""
    kernel = re.sub(r"\.(?:el|fc)\d.*$|-[a-z][a-z0-9-]*$", "", release)
    return tuple(int(number) for number in re.findall(r"\d{1,9}", kernel))
