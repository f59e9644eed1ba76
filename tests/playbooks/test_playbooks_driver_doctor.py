"""What the driver's role knows of modprobe and of a build's log, doctor knows too: the two tables cannot part."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.provision_driver_kernel import CAUSES
from ansible.module_utils.provision_driver_load import REFUSALS

from provision.catalog.diagnostics import diagnostics
from provision.catalog.failures import build_failures
from provision.detect.doctor import doctor_log

ROWS = tuple({row.id: row for row in (*build_failures(), *diagnostics())}.values())
INSERT = "modprobe: ERROR: could not insert 'nvidia': "
SOURCE = "/var/lib/dkms/nvidia/535.98/build/nvidia/nv.c:598:5: error: "
KERNEL = "6.8.0-60-generic"

# By one alternative of the role's words each: how it is printed, and doctor's row.
PRINTED: dict[str, tuple[str, str]] = {
    "Key was rejected by service": (f"{INSERT}Key was rejected by service", "module-key-rejected"),
    "Required key not available": (f"{INSERT}Required key not available", "module-key-rejected"),
    "No such device": (f"{INSERT}No such device", "module-finds-no-gpu"),
    "Exec format error": (f"{INSERT}Exec format error", "module-for-other-kernel"),
    "disagrees about version": ("nvidia: disagrees about version of symbol module_layout", "module-for-other-kernel"),
    "Invalid module format": (
        "insmod: ERROR: could not insert module nvidia.ko: Invalid module format",
        "module-for-other-kernel",
    ),
    "not found in directory": (
        f"modprobe: FATAL: Module nvidia not found in directory /lib/modules/{KERNEL}",
        "module-missing",
    ),
    "Operation not permitted": (f"{INSERT}Operation not permitted", "module-not-permitted"),
    "No space left on device": (
        "cc1: fatal error: error writing to /tmp/ccd2dDMS.s: No space left on device",
        "disk-full",
    ),
    "Killed(?: signal)?(?: terminated)?": ("gcc: fatal error: Killed signal terminated program cc1", "out-of-memory"),
    "Cannot allocate memory": ("virtual memory exhausted: Cannot allocate memory", "out-of-memory"),
    "out of memory": ("cc1: out of memory allocating 65536 bytes after a total of 8192 bytes", "out-of-memory"),
    "unrecognized (?:command[- ]line )?option": (
        "gcc: error: unrecognized command-line option ‘-ftrivial-auto-var-init=zero’",
        "kernel-compiler",
    ),
    "compiler version check failed": ("Compiler version check failed:", "kernel-compiler"),
    "gcc: not found": ("/bin/sh: 1: gcc: not found", "compiler-missing"),
    "cc1: not found": ("/bin/sh: 1: cc1: not found", "compiler-missing"),
    "implicit declaration of function": (
        f"{SOURCE}implicit declaration of function ‘sys_close’",
        "driver-too-old-for-kernel",
    ),
    "unknown type name": (f"{SOURCE}unknown type name ‘drm_mode_t’", "driver-too-old-for-kernel"),
    "incompatible pointer type": (
        f"{SOURCE}initialization of ‘int’ from incompatible pointer type",
        "driver-too-old-for-kernel",
    ),
    "has no member named": (
        f"{SOURCE}‘struct drm_mode_config’ has no member named ‘fb_base’",
        "driver-too-old-for-kernel",
    ),
    "too (?:many|few) arguments to function": (
        f"{SOURCE}too few arguments to function ‘get_user_pages’",
        "driver-too-old-for-kernel",
    ),
    "Unable to find the kernel source": (
        "ERROR: Unable to find the kernel source tree for the currently running kernel.",
        "headers-missing",
    ),
    "kernel headers .* (?:do not seem to be|cannot be found)": (
        f"Error! Your kernel headers for kernel {KERNEL} cannot be found at /lib/modules/{KERNEL}/build",
        "headers-missing",
    ),
    "No such file.*build": (
        f"FileNotFoundError: [Errno 2] No such file or directory: '/lib/modules/{KERNEL}/build'",
        "headers-missing",
    ),
}


def alternatives(words: str) -> list[str]:
    """ "a|b (?:c|d)": "a" and "b (?:c|d)"."""
    return re.split(r"\|(?![^(]*\))", words)


@pytest.mark.parametrize("words", [words for row in (*REFUSALS, *CAUSES) for words in alternatives(row.words)])
def test_doctor_knows_what_the_role_knows(words: str) -> None:
    line, row = PRINTED[words]
    assert re.search(words, line, re.IGNORECASE)
    log = f"Building module:\n{line}\nmodprobe nvidia: done with status 1\n"
    assert [each.id for each in doctor_log(log, "log", ROWS).findings] == [row]
