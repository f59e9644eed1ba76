"""From a module on disk to one in the kernel: loaded at once where that can be, else why a reboot is asked for."""

from __future__ import annotations

import re
from typing import NamedTuple

from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_driver_kernel import KernelModule
from ansible.module_utils.provision_failure import Failure

KEYS = (
    "/var/lib/shim-signed/mok/MOK.der",
    "/var/lib/dkms/mok.pub",
    "/etc/pki/akmods/certs/public_key.der",
)
"""Where the key lies that signs what is built on the host: Ubuntu, DKMS elsewhere, akmods."""
LOADED_VERSION = "/sys/module/nvidia/version"
DRIVER_TEXT = "/proc/driver/nvidia/version"


class Refusal(NamedTuple):
    """Words of modprobe, what they mean, what to do. Sources: NVIDIA's driver installation guide, modprobe(8)."""

    words: str
    why: str
    hint: str


REFUSALS = (
    Refusal(
        r"Key was rejected by service|Required key not available",
        "Secure Boot is on, and the kernel does not know the key that signed the module",
        "enrol the key at the console (mokutil --import KEY, reboot, Enroll MOK), or switch Secure Boot off",
    ),
    Refusal(
        r"No such device",
        "the module drives none of the GPUs here: another driver has them, or this branch or kind does not know them",
        "see `lspci -nnk -d 10de:` and `dmesg | grep NVRM`; plan again with --driver or --driver-module",
    ),
    Refusal(
        r"Exec format error|disagrees about version|Invalid module format",
        "the module was built for another kernel, or by another compiler",
        "install the headers of the running kernel and run the same command again",
    ),
    Refusal(
        r"not found in directory",
        "there is no module for the running kernel",
        "install the headers of the running kernel and run the same command again",
    ),
    Refusal(
        r"Operation not permitted",
        "the kernel refuses to load modules (lockdown, or a container without that right)",
        "see `dmesg | tail`; on a host with Secure Boot enrol the key that signs the module",
    ),
)


class Reboot(NamedTuple):
    """Why the host has to be rebooted, and what has to be typed or chosen at its console before and during that."""

    why: tuple[str, ...] = ()
    console: tuple[str, ...] = ()

    @property
    def needed(self) -> bool:
        return bool(self.why)


def loaded_version(box: Box) -> str:
    """Of the nvidia module in the kernel; "" where none is."""
    return box.read(LOADED_VERSION)


def loaded_flavour(box: Box) -> str:
    """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build …"""
    text = box.read(DRIVER_TEXT)
    return "" if not text else "open" if "Open Kernel Module" in text else "proprietary"


def key(box: Box) -> str:
    """The key that signs what is built here; "" where there is none."""
    return next((path for path in KEYS if box.at(path).exists()), "")


def key_state(box: Box, path: str) -> str:
    """ "enrolled", "pending" (waits for the console), "unknown" to the firmware; "" where mokutil does not say."""
    words = box.run(["mokutil", "--test-key", path], timeout_s=60).words
    for pattern, state in (
        (r"already enrolled", "enrolled"),
        (r"enrollment request", "pending"),
        (r"is not enrolled", "unknown"),
    ):
        if re.search(pattern, words):
            return state
    return ""


def secure_boot_work(box: Box, module: KernelModule, build: str) -> Reboot:
    """What Secure Boot asks for before it takes this module; nothing for one that the distribution signed. Raises
    Failure where the key is known and the module is not signed: no reboot helps that."""
    if not box.secure_boot() or build == "prebuilt":
        return Reboot()
    path = key(box)
    if not path:
        return Reboot(
            ("Secure Boot is on, and the kernel module is signed by no key that this host has",),
            ("switch Secure Boot off in the firmware's settings, or let DKMS make a key and sign with it",),
        )
    state = key_state(box, path)
    if state == "enrolled" and module.signer:
        return Reboot()
    if state == "enrolled":
        raise unsigned(module, path)
    if state == "pending":
        return Reboot((f"Secure Boot is on, and {path} waits to be enrolled at the console",), enrolment())
    first = f"sudo mokutil --import {path}   (asks for a password that is used once, at the next boot)"
    known = f"the firmware does not know {path}" if state else f"mokutil does not say whether {path} is enrolled"
    return Reboot((f"Secure Boot is on, and {known}, which signs the module",), (first, *enrolment()))


def unsigned(module: KernelModule, path: str) -> Failure:
    again = f"dkms build --force -m nvidia -v {module.version} -k {module.kernel}"
    return Failure(
        "secure_boot", "Secure Boot is on, and the kernel module was built without a signature",
        f"{path} is enrolled, and modinfo shows no signer: DKMS found no sign-file, no openssl, or not that key",
        f"`sudo {again}` says which; mend that, `sudo dkms install --force` it alike, and run the same command again",
    )  # fmt: skip


def enrolment() -> tuple[str, ...]:
    """At the blue screen of MOK Manager, which shows on the console only, and for ten seconds."""
    return (
        "reboot with somebody at the box's own screen and keyboard (a KVM will do): SSH does not reach the next step",
        "at the blue screen 'Perform MOK management' press a key; Enroll MOK, Continue, Yes, that password, Reboot",
    )


def obstacles(box: Box, module: KernelModule, build: str, blocked: bool) -> Reboot:
    """Why the module cannot be loaded into the running kernel; nothing where it can, or is."""
    why: list[str] = []
    loaded = loaded_version(box)
    if loaded == module.version and loaded_flavour(box) in ("", module.flavour):
        return Reboot()
    if loaded == module.version:
        why.append(f"the {loaded_flavour(box)} module of {loaded} is loaded and in use; {module.flavour} is installed")
    elif loaded:
        why.append(f"nvidia {loaded} is loaded and in use; {module.version} is installed, and its libraries need it")
    elif box.nouveau_loaded():
        kept = "is kept out from the next boot on" if blocked else "is not kept out"
        why.append(f"nouveau is loaded and has the GPU; it {kept}")
    work = secure_boot_work(box, module, build)
    why.extend(work.why)
    if why and box.machine("/run/reboot-required").exists():
        why.append("the distribution asks for a reboot as well (/run/reboot-required)")
    return Reboot(tuple(why), work.console)


def load(box: Box, module: KernelModule) -> None:
    """The module is in the kernel. Raises Failure with modprobe's own words."""
    if loaded_version(box) == module.version:
        return
    box.say("loading the kernel module")
    said = box.run(["modprobe", "nvidia"], timeout_s=120)
    if said.status:
        raise refused(said.words)
    # CUDA's own part: nvidia-modprobe loads it at the first use where this cannot
    box.run(["modprobe", "nvidia_uvm"], timeout_s=120)


def refused(words: str) -> Failure:
    """modprobe would not load the module."""
    what = "the kernel module of the NVIDIA driver is installed and cannot be loaded"
    known = next((one for one in REFUSALS if re.search(one.words, words)), None)
    if known is None:
        return Failure("module_load", what, f"modprobe nvidia: {words}", "see `dmesg | grep -iE 'nvrm|nvidia'`")
    kind = "secure_boot" if known is REFUSALS[0] else "module_load"
    return Failure(kind, what, f"modprobe nvidia: {words}\n{known.why}", known.hint)
