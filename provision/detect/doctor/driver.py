"""The driver: what state it is in and why, what will move it, what was left half-done."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from provision.detect.build_failures import diagnose
from provision.detect.doctor.look import Look, Rule
from provision.detect.doctor.shown import Shown
from provision.detect.next_kernel import other_modules

STATES: Mapping[str, str] = {
    "absent": "no-driver",
    "nouveau": "nouveau",
    "not_loaded": "driver-not-loaded",
    "mismatch": "mismatch",
    "no_library": "library-missing",
    "no_devices": "no-devices",
    "failed": "driver-silent",
}
"""Row by driver state; "unknown" says nothing."""
BY_MODULES = ("absent", "nouveau", "not_loaded")
"""States that the list of loaded modules shows; nvidia-smi or NVML, the others."""
BEFORE_TURING = 7.5
OPEN_ONLY = 10.0
LIBRARIES = ("libcuda1", "libnvidia-ml1", "libnvidia-compute", "libnvidia-gl", "nvidia-utils")
ONE_RELEASE = (
    "nvidia-driver", "nvidia-dkms", "nvidia-kernel-dkms", "nvidia-open-kernel-dkms", "nvidia-utils", "libcuda1",
    "libnvidia-ml1", "libnvidia-compute", "kmod-nvidia", "nvidia-kernel-common",
)  # fmt: skip
"""Packages that a driver's release has together; settings, persistenced and modprobe have numbers of their own."""
RELEASE = re.compile(r"\d{3}(?:\.\d{1,4}){1,2}")
NVIDIAS = "/cuda/repos/"
"""In the address of NVIDIA's repositories."""
BUILD_ERROR = re.compile(r"\berror: |\bError \d|fatal error|Error!")
BUILD_CAUSES = ("headers-missing", "kernel-compiler", "driver-too-old-for-kernel", "disk-full")
"""Rows that say why a build failed."""
DRIVERS = ("nvidia-driver", "nvidia-dkms", "nvidia-kernel", "nvidia-headless", "cuda-drivers", "nvidia-open")
MODULES = ("linux-modules-nvidia", "kmod-nvidia")
NO_DRIVER = ("nvidia-driver-local-repo", "nvidia-kernel-common")
"""Names that begin as a driver's package does: a repository's, and what a removal leaves."""


def _state(look: Look) -> Iterator[Shown]:
    driver = look.facts.driver
    row = STATES.get(driver.state)
    if row is None or (driver.state in ("absent", "nouveau") and not look.facts.gpus):
        return
    if driver.state == "absent" and (names := _drivers(look)):
        evidence = f"{driver.detail}; installed: {', '.join(names[:4])}"
        yield Shown(id="module-missing", evidence=evidence, where="/proc/modules and package manager")
        return
    if driver.state == "failed" and "GPU is lost" in driver.detail:
        row = "gpu-lost"
    modules = "/proc/modules" if look.readings.text("proc_modules") is not None else "lspci"
    where = modules if driver.state in BY_MODULES and "nvidia-smi says" not in driver.detail else "nvidia-smi"
    yield Shown(id=row, evidence=driver.detail, where=where)


def _drivers(look: Look) -> tuple[str, ...]:
    """Installed packages that are, or bring, a kernel module of NVIDIA's."""
    names = (each.name for each in look.nvidia.packages)
    return tuple(name for name in names if name.startswith((*DRIVERS, *MODULES)) and not name.startswith(NO_DRIVER))


def _versions(look: Look) -> Iterator[Shown]:
    """The module in the kernel against the libraries on disk, where nvidia-smi was not asked."""
    loaded, libraries = look.nvidia.loaded_version, look.nvidia.libraries
    if loaded and libraries and loaded not in libraries and look.facts.driver.state != "mismatch":
        evidence = f"loaded module {loaded}, libraries {', '.join(libraries)}"
        yield Shown(id="mismatch", evidence=evidence, where="/proc/driver/nvidia/version")
    elif len(libraries) > 1:
        yield Shown(id="library-mix", evidence=f"libraries {', '.join(libraries)}", where="library folders")


def _kernel(look: Look) -> Iterator[Shown]:
    nvidia, kernel = look.nvidia, look.facts.system.kernel
    if look.works or kernel is None:
        return
    built = nvidia.module.kernel if nvidia.module else None
    if nvidia.headers is False and built != kernel and (nvidia.dkms or built):
        yield Shown(id="headers-missing", evidence=f"/lib/modules/{kernel}/build is not there", where="/lib/modules")
    elif built is not None and built != kernel:
        yield Shown(
            id="module-for-other-kernel", evidence=f"built for {built}, running {kernel}", where="modinfo nvidia"
        )
    elif built is None and look.facts.gpus and look.facts.driver.state in ("absent", "not_loaded"):
        there = [f"{release} ({version})" for release, version in other_modules(look.readings) if release != kernel]
        if there:
            evidence = f"there is a module for {', '.join(there[:2])}, and none for {kernel}, which is running"
            yield Shown(id="module-for-other-kernel", evidence=evidence, where="/lib/modules")


def _next_kernel(look: Look) -> Iterator[Shown]:
    """A driver that is there now, and gone after a reboot."""
    nvidia, running = look.nvidia, look.facts.system.kernel
    there = look.works or (nvidia.module is not None and nvidia.module.kernel == running)
    if there and nvidia.next_kernel and nvidia.next_module_version is None:
        evidence = f"{nvidia.next_kernel} boots next, {running} is running"
        yield Shown(id="next-kernel-without-module", evidence=evidence, where="/boot and modinfo")


def _build(look: Look) -> Iterator[Shown]:
    """The last build of the module by DKMS, where it failed; while the driver works it is another kernel's."""
    if look.works:
        return
    log = look.readings.text("dkms_make_log") or ""
    for each in diagnose(log, [row for row in look.rows if row.id in BUILD_CAUSES]):
        yield Shown(id=each.id, evidence=each.line, where="DKMS's make.log")
    line = next((line for line in log.splitlines() if BUILD_ERROR.search(line)), None)
    broken = next((each for each in look.nvidia.dkms if each.state == "broken"), None)
    if line is not None:
        yield Shown(id="module-build-failed", evidence=line, where="DKMS's make.log")
    elif broken is not None:
        evidence = f"{broken.name}/{broken.version}, {broken.kernel or 'no kernel'}: broken"
        yield Shown(id="module-build-failed", evidence=evidence, where="dkms status")


def _flavour(look: Look) -> Iterator[Shown]:
    flavour = look.nvidia.loaded_flavour or look.facts.driver.module
    for gpu in look.facts.gpus:
        capability = float(gpu.compute_capability) if gpu.compute_capability else None
        if capability is None or flavour is None:
            continue
        old, new = (
            flavour == "open" and capability < BEFORE_TURING,
            flavour == "proprietary" and capability >= OPEN_ONLY,
        )
        if old or new:
            evidence = f"the {flavour} module, and {gpu.name or gpu.pci_id} ({gpu.architecture})"
            yield Shown(id="wrong-flavour", evidence=evidence, where="/proc/driver/nvidia/version")


def _keys(look: Look) -> Iterator[Shown]:
    nvidia = look.nvidia
    if look.works or look.facts.system.secure_boot is not True:
        return
    if nvidia.mok_pending:
        yield Shown(id="key-waits", evidence="mokutil --list-new names a key", where="mokutil")
    elif nvidia.key_enrolled is False and nvidia.module is not None:
        signer = nvidia.module.signer or "nobody that the firmware knows"
        yield Shown(id="key-not-enrolled", evidence=f"Secure Boot is on; signer: {signer}", where="mokutil")


def _installs(look: Look) -> Iterator[Shown]:
    nvidia = look.nvidia
    if nvidia.unfinished:
        names = ", ".join(each.name for each in nvidia.unfinished)
        yield Shown(id="half-installed", evidence=f"not finished: {names}", where="package manager")
    runfile = next((each for each in nvidia.other_installs if each.kind == "runfile"), None)
    if runfile is not None and any(each.name.startswith(DRIVERS) for each in nvidia.packages):
        yield Shown(id="two-installers", evidence=f"{runfile.evidence}, and driver packages", where="package manager")


def _differ(look: Look) -> Iterator[Shown]:
    """Packages that are always of one release: "580.95.05-0ubuntu1" and "580.95.05-1" are one."""
    versions: dict[str, str] = {}
    for each in look.nvidia.packages:
        number = RELEASE.search(each.version) if each.name.startswith(ONE_RELEASE) else None
        if number is not None:
            versions.setdefault(number[0], each.name)
    if len(versions) > 1:
        evidence = ", ".join(f"{name} {number}" for number, name in versions.items())
        yield Shown(id="packages-differ", evidence=evidence, where="package manager")


def _origins(look: Look) -> Iterator[Shown]:
    """Installed driver packages that come from NVIDIA's repository beside such as do not."""
    installed = {(each.name, each.version) for each in look.nvidia.packages if each.name.startswith(ONE_RELEASE)}
    origins: dict[bool, str] = {}
    theirs = [each for each in look.nvidia.candidates or () if (each.name, each.version) in installed]
    own = {(each.name, each.version) for each in theirs if NVIDIAS in each.repository}
    for each in theirs:
        if NVIDIAS in each.repository or (each.name, each.version) not in own:
            origins.setdefault(NVIDIAS in each.repository, f"{each.name} {each.version} from {each.repository}")
    if len(origins) > 1:
        evidence = "; ".join(origins.values())
        yield Shown(id="mixed-repositories", evidence=evidence, where="package lists", severity="warning")


def _holds(look: Look) -> Iterator[Shown]:
    nvidia = look.nvidia
    if not nvidia.packages:
        return
    held = set(nvidia.holds)
    drivers = [each.name for each in nvidia.packages if each.name.startswith(DRIVERS)]
    libraries = [each.name for each in nvidia.packages if each.name.startswith(LIBRARIES)]
    if not drivers:
        return
    free = [name for name in libraries if name not in held]
    if any(name in held for name in drivers) and free and not any("*" in pattern for pattern in held):
        evidence = f"held: {', '.join(sorted(held & set(drivers)))}; not held: {', '.join(free)}"
        yield Shown(id="half-held", evidence=evidence, where="apt-mark showhold")
    elif nvidia.unattended_upgrades and not held:
        yield Shown(id="unattended-upgrades", evidence=f"on, and not held: {', '.join(drivers)}", where="apt.conf.d")


def _left(look: Look) -> Iterator[Shown]:
    nvidia = look.nvidia
    record = nvidia.record
    if record is not None and record.state == "changing":
        yield Shown(id="cut-off-run", evidence=f"branch {record.branch}, state changing", where="/var/lib/provision")
    if record is not None and record.state == "installed" and record.rebooted is False and not look.works:
        evidence = f"{record.version or record.branch} is installed, and the box was not rebooted since"
        yield Shown(id="waits-for-reboot", evidence=evidence, where="/var/lib/provision")
    if record is not None and record.state == "installed" and record.rebooted and not look.works:
        evidence = f"{record.version or record.branch} installed, rebooted, and the driver is {look.facts.driver.state}"
        yield Shown(id="not-loaded-after-reboot", evidence=evidence, where="/var/lib/provision")
    if nvidia.reboot_required:
        on_disk = nvidia.module.version if nvidia.module else None
        differ = nvidia.loaded_version and on_disk and nvidia.loaded_version != on_disk
        evidence = f"loaded {nvidia.loaded_version}, on disk {on_disk}" if differ else "/run/reboot-required is there"
        yield Shown(id="reboot-required", evidence=evidence, where="modinfo nvidia" if differ else "/run")


DRIVER_RULES: tuple[Rule, ...] = (
    _state, _versions, _kernel, _next_kernel, _build, _flavour, _keys, _installs, _differ, _origins, _holds, _left,
)  # fmt: skip
