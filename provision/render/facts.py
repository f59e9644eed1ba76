"""Facts as text: what ``detect`` prints."""

from __future__ import annotations

import textwrap

from provision.model.facts import Cpu, Driver, Facts, Finding, Gpu, System
from provision.model.nvidia import HostNvidia

WIDTH = 100
LABEL = 10
STATES = {
    "working": "works",
    "absent": "is not installed",
    "nouveau": "is not installed: nouveau has the GPU",
    "not_loaded": "is installed and not loaded",
    "mismatch": "does not match its libraries",
    "no_library": "is loaded, and its library is missing",
    "no_devices": "is loaded and finds no device",
    "failed": "failed",
    "unknown": "is in an unknown state",
}


def facts_text(facts: Facts) -> str:
    """One host, one line a thing; what is not known is said to be."""
    lines = [facts.host]
    lines += _row("CPU", _cpu(facts.cpu))
    lines += _row("", _cores(facts.cpu))
    lines += _row("memory", f"{facts.memory.total_mib} MiB" if facts.memory.total_mib else "not known")
    lines += _row("system", _system(facts.system))
    lines += _row("Python", ", ".join(facts.system.pythons) or "none found")
    lines += _row("compilers", ", ".join(f"{each} ({each.path})" for each in facts.system.compilers))
    for gpu in facts.gpus:
        lines += _row("GPU", _gpu(gpu))
    if not facts.gpus:
        lines += _row("GPU", "no NVIDIA GPU")
    if facts.gpus or facts.driver.state not in ("absent", "unknown"):
        lines += _row("driver", _driver(facts.driver))
    if facts.nvidia:
        lines += _row("", _nvidia(facts.nvidia))
    if facts.toolkit.cuda or facts.toolkit.cudnn:
        lines += _row("toolkit", f"CUDA {facts.toolkit.cuda or 'none'}, cuDNN {facts.toolkit.cudnn or 'none'}")
    for finding in facts.findings:
        lines += _finding(finding)
    return "\n".join(lines) + "\n"


def _cpu(cpu: Cpu) -> str:
    names = [name for name in (cpu.microarchitecture, cpu.level, cpu.arch) if name]
    known = f" ({', '.join(names)})" if names else ""
    return f"{cpu.model_name or cpu.vendor or 'of an unknown model'}{known}"


def _cores(cpu: Cpu) -> str:
    parts = [
        f"{cpu.physical_cores} cores" if cpu.physical_cores else "",
        f"{cpu.logical_cpus} threads" if cpu.logical_cpus else "",
        "in a virtual machine" if cpu.hypervisor else "",
    ]
    return ", ".join(part for part in parts if part)


def _system(system: System) -> str:
    name = " ".join(part for part in (system.os.id, system.os.version_id) if part) or "not known"
    parts = [
        name,
        f"kernel {system.kernel}" if system.kernel else "",
        f"glibc {system.glibc}" if system.glibc else "",
        "WSL2" if system.wsl else "",
        "in a container" if system.container else "",
        {True: "Secure Boot on", False: "Secure Boot off", None: ""}[system.secure_boot],
    ]
    return ", ".join(part for part in parts if part)


def _gpu(gpu: Gpu) -> str:
    name = gpu.name or (f"PCI {gpu.pci_id}" if gpu.pci_id else "of an unknown name")
    mig = f"MIG on, {gpu.mig.devices} devices" if gpu.mig and gpu.mig.enabled else ""
    parts = [
        f"{gpu.architecture or 'unknown architecture'}{f' {gpu.chip}' if gpu.chip else ''}",
        f"compute capability {gpu.compute_capability or 'not known'}",
        f"{gpu.memory_mib} MiB" if gpu.memory_mib else "",
        mig,
        gpu.pci_address or "",
    ]
    return f"{name}: {', '.join(part for part in parts if part)}"


def _driver(driver: Driver) -> str:
    text = f"{driver.version or 'NVIDIA'} {STATES[driver.state]}"
    if driver.module:
        text += f", {driver.module} kernel module"
    if driver.cuda_api_version:
        text += f", serves CUDA up to {driver.cuda_api_version}"
    return f"{text} ({driver.detail})" if driver.detail and driver.state != "working" else text


def _nvidia(nvidia: HostNvidia) -> str:
    """What there is to know of the driver beyond whether it works; "" where there is nothing."""
    module, record = nvidia.module, nvidia.record
    other = module is not None and module.version is not None and module.version != nvidia.loaded_version
    waits = nvidia.reboot_required or (record is not None and record.state == "installed" and record.rebooted is False)
    kept = [gpu.pci_address for gpu in nvidia.gpus if gpu.kernel_driver == "vfio-pci" and gpu.pci_address]
    mark = f" and {len(nvidia.holds) - 2} more" if len(nvidia.holds) > 3 else ""
    parts = [
        f"{module.version} on disk{f', {module.flavour}' if module.flavour else ''}" if module and other else "",
        f"held: {', '.join(nvidia.holds[:2] if mark else nvidia.holds)}{mark}" if nvidia.holds else "",
        "a reboot is due" if waits else "",
        f"{', '.join(kept)} kept for virtual machines (vfio-pci)" if kept else "",
    ]
    return "; ".join(part for part in parts if part)


def _finding(finding: Finding) -> list[str]:
    lines = _wrapped(f"{finding.severity}: {finding.what}", "")
    lines += _wrapped(finding.why, "  ") if finding.why else []
    return [*lines, *(_wrapped(f"hint: {finding.hint}", "  ") if finding.hint else [])]


def _row(label: str, value: str) -> list[str]:
    return _wrapped(f"{label:<{LABEL}}{value}", "  ", " " * LABEL) if value else []


def _wrapped(text: str, indent: str, hanging: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + hanging, break_on_hyphens=False)
