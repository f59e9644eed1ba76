"""What a reader should know about the host. Ids are stable: other tools match on them.

A healthy machine has findings of severity "info" at most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from provision.detect.cpu import READERS, cpu_reading
from provision.detect.cpu_models import x86_names
from provision.detect.gpus import driver_views, merged
from provision.detect.levels import LEVELS, level, missing_for
from provision.detect.nvidia_findings import lost, nvidia_findings, passed_through
from provision.detect.proc_driver import module_version
from provision.detect.secure_boot import shim_validation_off
from provision.detect.system import is_musl
from provision.detect.text import natural, printable, version
from provision.model.facts import Cpu, Driver, Finding, Gpu, Severity, System
from provision.model.nvidia import HostNvidia
from provision.model.readings import Readings


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a rule looks at."""

    readings: Readings
    cpu: Cpu
    system: System
    driver: Driver
    gpus: tuple[Gpu, ...]
    nvidia: HostNvidia | None


def findings(
    readings: Readings, *, cpu: Cpu, system: System, driver: Driver, gpus: tuple[Gpu, ...], nvidia: HostNvidia | None
) -> tuple[Finding, ...]:
    """Errors first, then warnings; within them in the order of ``RULES``."""
    found = Found(readings=readings, cpu=cpu, system=system, driver=driver, gpus=gpus, nvidia=nvidia)
    everything = [finding for rule in RULES for finding in rule(found)]
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(everything, key=lambda finding: order[finding.severity]))


# --- CPU ------------------------------------------------------------------------------------------------------------


def _no_cpu(found: Found) -> Iterable[Finding]:
    names = [name for name, _ in READERS]
    if cpu_reading(found.readings) is not None:
        return
    there = [name for name in names if found.readings.text(name) is not None]
    yield Finding(
        id="no_cpu_reading",
        severity="error" if there else "warning",
        what="nothing is known about the CPU",
        why=f"{there[0]} has no processor in it" if there else f"none of the readings {', '.join(names)} is there",
        hint="take the readings again: provision detect --dump DIR on that host",
    )


# Models that hypervisors invent; they carry the flags of CPUs of 2006 whatever the silicon is
_GENERIC_MODELS = r"Common (?:KVM|32-bit KVM) processor|QEMU (?:Virtual CPU|TCG CPU)|^(?:kvm64|qemu64)$"


def _masked_flags(found: Found) -> Iterable[Finding]:
    """A guest whose hypervisor hides what the silicon has."""
    cpu = found.cpu
    if not cpu.hypervisor or cpu.arch != "x86_64" or not cpu.flags:
        return
    generic = re.search(_GENERIC_MODELS, cpu.model_name or "")
    names = x86_names(cpu.vendor, cpu.family, cpu.model) if cpu.family is not None and cpu.model is not None else ()
    if not generic and not (names and cpu.microarchitecture is None):
        return
    next_level = next((name for name, _ in LEVELS if name > (level(cpu.flags) or "")), None)
    missing = missing_for(next_level, cpu.flags) if next_level else ()
    shown = f'"{printable(cpu.model_name or "", 60)}"' if generic else f"a guest on {names[0]} silicon"
    yield Finding(
        id="masked_flags",
        severity="warning",
        what="the hypervisor hides CPU flags from this guest",
        why=f"it shows {shown}, level {cpu.level or 'unknown'}"
        + (f"; for {next_level} it lacks {' '.join(missing)}" if missing else ""),
        hint='give the guest the host\'s own CPU: type "host" in Proxmox or libvirt, "-cpu host" in QEMU',
    )


def _unnamed(found: Found) -> Iterable[Finding]:
    cpu = found.cpu
    if cpu.microarchitecture is None and cpu.flags:
        numbers = f", family {cpu.family} model {cpu.model}" if cpu.family is not None else ""
        yield Finding(
            id="microarchitecture_unknown",
            severity="info",
            what="the CPU's microarchitecture has no sure name",
            why=f"{printable(cpu.model_name or cpu.vendor or 'this CPU', 80)}{numbers}: no name in archspec fits "
            "both its numbers and its flags",
            hint="nothing depends on the name: compiler options and wheels are chosen by flags",
        )


# OpenBLAS core names and a flag without which their kernels are illegal instructions (OpenBLAS, TargetList.txt)
_CORETYPE_FLAGS = {
    "sandybridge": "avx", "haswell": "avx2", "zen": "avx2", "skylakex": "avx512f", "cooperlake": "avx512_bf16",
    "sapphirerapids": "avx512_bf16", "bulldozer": "avx", "piledriver": "fma", "steamroller": "fma", "excavator": "fma",
}  # fmt: skip


def _blas_pinned(found: Found) -> Iterable[Finding]:
    match = re.search(r"^OPENBLAS_CORETYPE=(\S{1,40})\s*$", found.readings.text("user_environment") or "", re.MULTILINE)
    if match is None:
        return
    core = printable(match[1], 40)
    needed = _CORETYPE_FLAGS.get(core.lower())
    breaks = found.cpu.arch == "x86_64" and bool(found.cpu.flags) and needed is not None
    breaks = breaks and needed not in found.cpu.flags
    yield Finding(
        id="blas_pinned",
        severity="error" if breaks else "info",
        what=f"the environment variable OPENBLAS_CORETYPE pins NumPy's BLAS to {core}",
        why=f"this CPU has no {needed}: NumPy dies with an illegal instruction"
        if breaks
        else "OpenBLAS no longer chooses its kernels by the CPU it runs on",
        hint="unset OPENBLAS_CORETYPE",
    )


# --- system ---------------------------------------------------------------------------------------------------------


def _not_glibc(found: Found) -> Iterable[Finding]:
    if is_musl(found.readings):
        yield Finding(
            id="not_glibc",
            severity="warning",
            what="this system's C library is musl",
            why="the wheels of TensorFlow, PyTorch and JAX are built for glibc",
            hint="use a distribution with glibc, or a container image",
        )


_REJECTED = (
    r"Key was rejected by service|Required key not available|Loading of unsigned module is rejected"
    r"|Lockdown: .*unsigned module loading is restricted"
)


def _secure_boot(found: Found) -> Iterable[Finding]:
    """Only with evidence: that Secure Boot is on is no problem in itself."""
    if shim_validation_off(found.readings):
        yield Finding(
            id="secure_boot_not_enforced",
            severity="info",
            what="Secure Boot is on in the firmware, and shim does not enforce it",
            why="mokutil: SecureBoot validation is disabled in shim, so the kernel loads unsigned modules",
            hint="mokutil --enable-validation switches it on again",
        )
    line = next(
        (text for text in (found.readings.text("dmesg_nvidia") or "").splitlines() if re.search(_REJECTED, text)), None
    )
    known = found.nvidia is not None and found.nvidia.key_enrolled is False  # then that is said, and no guess
    if found.system.secure_boot and not known and (line or found.driver.state == "not_loaded"):
        yield Finding(
            id="secure_boot_unsigned_module",
            severity="warning",
            what="Secure Boot may keep NVIDIA's kernel module out",
            why=f'the kernel says: "{printable(line)}"'
            if line
            else "Secure Boot is on, and the module that is installed is not loaded",
            hint="enrol the key that signs the module (mokutil --import), or use the distribution's signed modules",
        )


# --- driver and GPUs ------------------------------------------------------------------------------------------------

_DRIVER: dict[str, tuple[Severity, str, str]] = {
    "absent": ("warning", "the GPU has no NVIDIA driver", "provision up installs one"),
    "nouveau": ("warning", "the GPU is driven by nouveau, which cannot run CUDA", "provision up installs NVIDIA's"),
    "not_loaded": (
        "error",
        "NVIDIA's driver is installed and not loaded",
        "look at `dkms status` and `modprobe nvidia`: most often the module is missing for this kernel",
    ),
    "mismatch": (
        "error",
        "NVIDIA's libraries and the loaded kernel module have different versions",
        "reboot, or unload and load the nvidia modules: the driver was upgraded while it was in use",
    ),
    "no_library": (
        "error",
        "NVIDIA's kernel module is loaded and its libraries are missing",
        "install the driver's libraries of the same version; in a container, start it with the GPU (--gpus all)",
    ),
    "no_devices": (
        "error",
        "NVIDIA's driver is loaded and finds no GPU",
        "look at `dmesg | grep NVRM`: an unsupported GPU, the wrong flavour of the module, or its GSP firmware",
    ),
    "failed": ("error", "NVIDIA's driver does not answer", "look at `dmesg | grep -i nvrm`, then reboot"),
    "unknown": ("info", "it is not known whether NVIDIA's driver works", "run nvidia-smi on that host"),
}


def _driver(found: Found) -> Iterable[Finding]:
    state = found.driver.state
    kept = bool(found.gpus) and {gpu.pci_address for gpu in found.gpus} <= passed_through(found.nvidia)
    silent = kept or (state in ("absent", "unknown", "nouveau") and not found.gpus)
    if state in _DRIVER and not silent:
        severity, what, hint = _DRIVER[state]
        yield Finding(id=f"driver_{state}", severity=severity, what=what, why=found.driver.detail, hint=hint)


def _not_driven(found: Found) -> Iterable[Finding]:
    """On the bus, and not in the driver's list although that works."""
    if found.driver.state != "working":
        return
    for gpu in merged(found.readings):
        if gpu.source != "pci" or gpu.address in passed_through(found.nvidia) | lost(found.nvidia):
            continue
        holder = (
            f"; the kernel driver {printable(gpu.driver, 40)} holds it" if gpu.driver not in (None, "nvidia") else ""
        )
        yield Finding(
            id="gpu_not_driven",
            severity="warning",
            what=f"NVIDIA's driver does not list the GPU at {gpu.address}",
            why=f"the PCI bus shows {gpu.name or 'it'} there{holder}",
            hint="look at `dmesg | grep NVRM`: fallen off the bus, handed to a guest, or too old for this driver",
        )


def _not_identified(found: Found) -> Iterable[Finding]:
    for gpu in found.gpus:
        if gpu.compute_capability is None:
            shown = ", ".join(part for part in (gpu.name, gpu.pci_id, gpu.pci_address) if part)
            yield Finding(
                id="gpu_not_identified",
                severity="warning",
                what="a GPU's compute capability is not known",
                why=f"the chip table has no row for {printable(shown) or 'it'}",
                hint="give it: --compute-capability; for a new card, update provision and pci.ids (update-pciids)",
            )


def _cut(found: Found) -> Iterable[Finding]:
    for name, seen in driver_views(found.readings):
        if seen.broken:
            yield Finding(
                id="reading_cut",
                severity="warning",
                what=f"the reading {name} is cut or damaged",
                why="its end is missing, or it is not in nvidia-smi's format",
                hint="take the readings again; what could be read of it was used",
            )


def _mixed(found: Found) -> Iterable[Finding]:
    """Readings that cannot be of one machine at one moment."""
    versions: dict[str, str] = {}
    for name, seen in driver_views(found.readings):
        if seen.driver_version:
            versions.setdefault(seen.driver_version, name)
    loaded = module_version(found.readings)
    if loaded:
        versions.setdefault(loaded, "proc_driver_nvidia_version")
    if len(versions) > 1:
        yield Finding(
            id="mixed_sources",
            severity="warning",
            what="the readings name different driver versions",
            why=", ".join(f"{name}: {number}" for number, name in versions.items()),
            hint="take all readings again at one time",
        )
    built = re.search(r"^vermagic:\s+(\S{1,128})", found.readings.text("modinfo_nvidia_vermagic") or "", re.MULTILINE)
    if built and found.system.kernel and version(built[1]) and built[1] != found.system.kernel:
        yield Finding(
            id="module_for_other_kernel",
            severity="warning",
            what="NVIDIA's kernel module was built for another kernel",
            why=f"built for {printable(built[1])}, running {found.system.kernel}",
            hint="install this kernel's headers and run `dkms autoinstall`",
        )


# NVIDIA's Xid list: the hardware, firmware and bus errors. The others are mostly the fault of the program that ran.
_HARDWARE_XIDS = {48, 61, 62, 63, 64, 74, 79, 92, 95, 119, 120}


def _xids(found: Found) -> Iterable[Finding]:
    # "NVRM: Xid (PCI:0000:01:00): 31, pid=…"
    numbers = re.findall(r"NVRM: Xid \([^)\n]{1,40}\): (\d{1,4})\b", found.readings.text("dmesg_nvidia") or "")
    seen = sorted({number for text in numbers if (number := natural(text)) is not None})
    if seen:
        yield Finding(
            id="xid_errors",
            severity="warning" if _HARDWARE_XIDS & set(seen) else "info",
            what="the kernel log holds GPU errors",
            why=f"Xid {', '.join(map(str, seen))}",
            hint="https://docs.nvidia.com/deploy/xid-errors/ says what each number means",
        )


def _nvidia(found: Found) -> Iterable[Finding]:
    return nvidia_findings(found.nvidia, system=found.system, driver=found.driver)


RULES: tuple[Callable[[Found], Iterable[Finding]], ...] = (
    _no_cpu, _masked_flags, _blas_pinned, _not_glibc, _nvidia, _driver, _not_driven, _not_identified, _secure_boot,
    _cut, _mixed, _xids, _unnamed,
)  # fmt: skip
