"""Secure Boot: its variable, the keys of this machine's owner, and mokutil with the texts and statuses of 0.6."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.gpu_machine.files import Refused, at, machine, remove

VARIABLE = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def power_on() -> None:
    """Before the kernel: with somebody at the blue screen, the keys that wait are enrolled."""
    for folder in ("/mok/enrolled", "/mok/pending", str(Path(VARIABLE).parent), "/sys/firmware/acpi"):
        at(folder).mkdir(parents=True, exist_ok=True)
    # four bytes of attributes, then the value
    at(VARIABLE).write_bytes(b"\x06\x00\x00\x00" + (b"\x01" if machine()["secure_boot"] else b"\x00"))
    if at("/mok/confirm").exists():
        for key in at("/mok/pending").iterdir():
            key.rename(at(f"/mok/enrolled/{key.name}"))
        remove("/mok/confirm")


def enrolled(key: Path) -> bool:
    return at(f"/mok/enrolled/{_digest(key)}").exists()


def _digest(key: Path) -> str:
    return hashlib.sha1(key.read_bytes()).hexdigest()  # noqa: S324  # what mokutil shows


def mokutil(words: Sequence[str]) -> None:
    asked, *rest = words
    if asked == "--sb-state":
        print("SecureBoot", "enabled" if machine()["secure_boot"] else "disabled")  # noqa: T201
    elif asked in ("--list-enrolled", "-l"):
        _show("enrolled")
    elif asked in ("--list-new", "-N"):
        _show("pending")
    elif asked in ("--test-key", "-t"):
        _test(Path(rest[0]))
    elif asked in ("--import", "-i"):
        shutil.copy(rest[0], at(f"/mok/pending/{_digest(Path(rest[0]))}"))
    else:
        raise Refused(f"mokutil: {asked} is not one of what the tests' mokutil knows")


def _show(place: str) -> None:
    for number, key in enumerate(sorted(at(f"/mok/{place}").iterdir()), 1):
        print(f"[key {number}]\nSHA1 Fingerprint: {':'.join(re.findall('..', key.name))}\n")  # noqa: T201


def _test(key: Path) -> None:
    if enrolled(key):
        raise Refused(f"{key} is already enrolled")
    if at(f"/mok/pending/{_digest(key)}").exists():
        raise Refused(f"{key} is already in the enrollment request")
    print(f"{key} is not enrolled")  # noqa: T201
