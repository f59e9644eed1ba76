"""NVIDIA's kernel module on disk and what goes with it: libraries, nouveau, keys, other installs, our own record."""

from __future__ import annotations

import json
import re
from typing import Any

from provision.detect.text import known, natural, pairs, version
from provision.model.nvidia import DriverRecord, Flavour, KernelModule, OtherInstall, Package
from provision.model.readings import Readings
from provision.model.versions import numbers

MODINFO_READING = "modinfo_nvidia"
VERMAGIC_READING = "modinfo_nvidia_vermagic"
LIBRARIES_READING = "nvidia_libraries"
NOUVEAU_READING = "nvidia_nouveau_conf"
MOK_READING = "mok_state"
INSTALLS_READING = "driver_installs"
RECORD_READING = "provision_nvidia_record"
BOOT_READING = "boot_id"


def module_on_disk(readings: Readings) -> KernelModule | None:
    """Of `modinfo nvidia`; of an older dump the vermagic line alone."""
    found = readings.first(MODINFO_READING, VERMAGIC_READING)
    if found is None:
        return None
    values: dict[str, str] = {}
    for key, value in pairs(found[1]):
        values.setdefault(key, value)
    magic = values.get("vermagic", "").split()
    if not magic or not magic[0].isprintable():
        return None
    return KernelModule(
        version=version(values.get("version")),
        flavour=_flavour(values.get("license", "")),
        signer=known(values.get("signer")),
        kernel=magic[0],
    )


def _flavour(licence: str) -> Flavour | None:
    return "open" if licence.startswith("Dual MIT/GPL") else "proprietary" if licence.startswith("NVIDIA") else None


def libraries(readings: Readings) -> tuple[str, ...]:
    # "/usr/lib/x86_64-linux-gnu/libcuda.so.580.95.05"; libcuda.so.1.1 is WSL2's
    found = re.findall(
        r"/lib(?:nvidia-ml|cuda)\.so\.(\d{2,4}(?:\.\d{1,4}){1,3})$",
        readings.text(LIBRARIES_READING) or "",
        re.MULTILINE,
    )
    return tuple(sorted(set(found), key=numbers, reverse=True))


# "/etc/modprobe.d/blacklist-nouveau.conf:blacklist nouveau", "cmdline: modprobe.blacklist=nouveau". modeset=0 keeps
# nouveau from the card although it may be loaded.
_BLOCKS = re.compile(
    r":\s*(?:blacklist\s+nouveau|install\s+nouveau\s+/\S*(?:false|true)|alias\s+nouveau\s+off"
    r"|options\s+nouveau\s+(?:\S+\s+)?modeset=0)\s*$"
    r"|^cmdline: (?:(?:rd\.driver|modprobe|module)[._]blacklist=(?:\S*,)?nouveau(?:,\S*)?|nouveau\.modeset=0"
    r"|nouveau\.blacklist=1)$"
)


def nouveau_blocked(readings: Readings) -> bool | None:
    text = readings.text(NOUVEAU_READING)
    if text is None:
        return None
    return any(_BLOCKS.search(line) for line in text.splitlines() if len(line) < 1000)


def mok_pending(readings: Readings) -> bool | None:
    match = re.search(r"^pending (\d{1,3})$", readings.text(MOK_READING) or "", re.MULTILINE)
    return int(match[1]) > 0 if match else None


def key_enrolled(readings: Readings) -> bool | None:
    """By mokutil's words of the first key that could be asked about."""
    # "key /var/lib/dkms/mok.pub: /var/lib/dkms/mok.pub is already enrolled"
    for line in (readings.text(MOK_READING) or "").splitlines():
        if line.startswith("key "):
            if "is already enrolled" in line:
                return True
            if "is not enrolled" in line or "already in the enrollment request" in line:
                return False
    return None


def other_installs(readings: Readings) -> tuple[OtherInstall, ...]:
    found = re.findall(r"^(runfile|lambda) (/\S{1,200})$", readings.text(INSTALLS_READING) or "", re.MULTILINE)
    return tuple(OtherInstall(kind=kind, evidence=path) for kind, path in dict.fromkeys(found))


def record(readings: Readings) -> DriverRecord | None:
    """None where there is none, or where it is not one of provision's."""
    try:
        data = json.loads(readings.text(RECORD_READING) or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("schema") != 1:
        return None
    state, branch, module = data.get("state"), data.get("branch"), data.get("module")
    if state not in ("changing", "installed", "confirmed") or module not in ("open", "proprietary"):
        return None
    if not isinstance(branch, str):
        return None
    return DriverRecord(
        state=state,
        branch=branch,
        version=_text(data.get("version")),
        module=module,
        packages=_packages(data.get("packages")),
        rebooted=_rebooted(_text(data.get("boot_id")), (readings.text(BOOT_READING) or "").strip()),
    )


def _rebooted(then: str | None, now: str) -> bool | None:
    return then != now if then and now else None


def _packages(value: Any) -> tuple[Package, ...]:
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    named = [(_text(row.get("name")), _text(row.get("version")) or "") for row in rows]
    return tuple(Package(name=name, version=number) for name, number in named if name)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value and value.isprintable() else None


def disk_free_mib(readings: Readings) -> dict[str, int]:
    # "/boot /dev/nvme0n1p2   1992552  312380 1559136      17% /boot", in KiB
    found: dict[str, int] = {}
    for line in (readings.text("disk_free") or "").splitlines():
        match = re.match(r"(/[a-z]{0,20}) .{0,400}\s(\d{1,18})\s+\d{1,3}%\s+/", line)
        kib = natural(match[2]) if match else None
        if match and kib is not None:
            found.setdefault(match[1], kib // 1024)
    return found
