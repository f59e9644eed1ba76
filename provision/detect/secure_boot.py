"""Whether the firmware makes the kernel refuse unsigned modules."""

from __future__ import annotations

import re

from provision.model.readings import Readings


def secure_boot(readings: Readings) -> bool | None:
    """True, False or not known. Validation that is switched off in shim is False: the kernel then enforces nothing.

    Linux, drivers/firmware/efi/libstub/secureboot.c: MokSBState set by shim means "secure boot disabled".
    """
    for name, read in _READERS:
        found = read(readings.text(name) or "")
        if found is not None:
            return found
    return None


def shim_validation_off(readings: Readings) -> bool:
    text = readings.text("mokutil_sb_state") or ""
    return "SecureBoot enabled" in text and _SHIM_OFF in text


_SHIM_OFF = "SecureBoot validation is disabled in shim"


def _mokutil(text: str) -> bool | None:
    if _SHIM_OFF in text or "SecureBoot disabled" in text or "doesn't support Secure Boot" in text:
        return False
    return True if "SecureBoot enabled" in text else None


_VARIABLE = r"(?:\d{1,3}\s+){4}([01])"


def _efivar(text: str) -> bool | None:
    """The probe's "bios", or the variable SecureBoot as `od -An -tu1` prints it: four attribute bytes, a value. Then,
    where shim set it, "shim" and the variable MokSBStateRT alike."""
    if text.strip() == "bios":
        return False
    match = re.fullmatch(rf"\s*{_VARIABLE}(?:\s+shim\s*{_VARIABLE})?\s*", text)
    return match[1] == "1" and match[2] != "1" if match else None


def _dmesg(text: str) -> bool | None:
    """Not the Bluetooth adapter's own "hci0: Secure boot is enabled"."""
    # "[    0.000000] secureboot: Secure boot disabled"
    found = re.findall(r"\bsecureboot: Secure boot (enabled|disabled)", text)
    return found[-1] == "enabled" if found else None


_READERS = (("mokutil_sb_state", _mokutil), ("efi_secure_boot", _efivar), ("dmesg_nvidia", _dmesg))
