"""What a reader should know of NVIDIA's software before anything is changed. What ails it in detail is doctor's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from provision.model.facts import Driver, Finding, System
from provision.model.nvidia import HostNvidia

PASSED_THROUGH = "vfio-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    nvidia: HostNvidia
    system: System
    driver: Driver


def nvidia_findings(nvidia: HostNvidia | None, *, system: System, driver: Driver) -> Iterable[Finding]:
    if nvidia is not None:
        found = Found(nvidia=nvidia, system=system, driver=driver)
        for rule in RULES:
            yield from rule(found)


def passed_through(nvidia: HostNvidia | None) -> frozenset[str]:
    """Addresses of GPUs that are kept for virtual machines: no driver of this system is meant to have them."""
    gpus = nvidia.gpus if nvidia else ()
    return frozenset(gpu.pci_address for gpu in gpus if gpu.pci_address and gpu.kernel_driver == PASSED_THROUGH)


def lost(nvidia: HostNvidia | None) -> frozenset[str]:
    """Addresses of GPUs that the driver lists and that do not answer it."""
    return frozenset(gpu.pci_address for gpu in (nvidia.gpus if nvidia else ()) if gpu.pci_address and gpu.error)


def _passed_through(found: Found) -> Iterable[Finding]:
    for address in sorted(passed_through(found.nvidia)):
        yield Finding(
            id="gpu_passed_through",
            severity="info",
            what=f"the GPU at {address} is kept for virtual machines",
            why=f"the kernel driver {PASSED_THROUGH} holds it",
            hint="to use it here, take its id from vfio-pci's (modprobe.d, kernel command line), and reboot",
        )


def _record(found: Found) -> Iterable[Finding]:
    record = found.nvidia.record
    if record is None or found.driver.state == "working":
        return
    name = f"driver {record.version or record.branch}"
    if record.state == "changing":
        yield Finding(
            id="driver_change_unfinished",
            severity="error",
            what=f"provision was stopped while it installed {name}",
            why='/var/lib/provision/nvidia.json says "changing"',
            hint="run provision up again: it goes on where it stopped",
        )
    elif record.state == "installed" and record.rebooted is False:
        yield Finding(
            id="reboot_pending",
            severity="warning",
            what=f"{name} is installed and waits for a reboot",
            why="the host has not been started anew since provision installed it",
            hint="reboot, then run provision up again: it checks the driver and goes on",
        )


def _key(found: Found) -> Iterable[Finding]:
    nvidia = found.nvidia
    if not found.system.secure_boot or found.driver.state == "working" or not (nvidia.dkms or nvidia.module):
        return
    if nvidia.key_enrolled is False:
        yield Finding(
            id="secure_boot_key_not_enrolled",
            severity="error" if nvidia.module else "warning",
            what="Secure Boot keeps NVIDIA's kernel module out: its key is not enrolled",
            why="the key waits to be confirmed at the console"
            if nvidia.mok_pending
            else "mokutil does not know the key that DKMS signs with",
            hint="reboot, and choose Enroll MOK on the blue screen at the machine's own console"
            if nvidia.mok_pending
            else "mokutil --import that key, reboot, and choose Enroll MOK at the machine's own console",
        )


def _headers(found: Found) -> Iterable[Finding]:
    nvidia, kernel = found.nvidia, found.system.kernel
    modules = [each for each in nvidia.dkms if each.name.startswith("nvidia")]
    built = nvidia.module is not None and nvidia.module.kernel == kernel
    if nvidia.headers is not False or not modules or built or any(each.kernel == kernel for each in modules):
        return
    kernels = ", ".join(sorted({each.kernel for each in modules if each.kernel})) or "no kernel"
    yield Finding(
        id="kernel_headers_missing",
        severity="error" if found.driver.state != "working" else "warning",
        what="NVIDIA's kernel module cannot be built: the running kernel's headers are missing",
        why=f"/lib/modules/{kernel}/build is not there; DKMS has the module for {kernels}",
        hint=f"install the headers of {kernel}, then run dkms autoinstall",
    )


def _lost(found: Found) -> Iterable[Finding]:
    for gpu in found.nvidia.gpus:
        if gpu.error is not None:
            yield Finding(
                id="gpu_lost",
                severity="error",
                what=f"the GPU at {gpu.pci_address} does not answer" if gpu.pci_address else "a GPU does not answer",
                why=f'the driver says: "{gpu.error}"',
                hint="look at `dmesg | grep Xid`, then power off and on; if it comes back: power plugs, slot, cooling",
            )


RULES: tuple[Callable[[Found], Iterable[Finding]], ...] = (_record, _key, _headers, _lost, _passed_through)
