"""The cards: on the bus, in the kernel log, slowed down, hidden, handed away."""

from __future__ import annotations

from collections.abc import Iterator

from provision.detect.build_failures import diagnose
from provision.detect.doctor.look import Look, Rule
from provision.detect.doctor.shown import Shown
from provision.model.facts import Severity
from provision.model.nvidia import GpuHealth

LOGGED = frozenset({"gpu-fell-off-the-bus", "xid-hardware", "xid-firmware", "xid-driver", "xid-program"})
"""Rows that a line of the kernel log proves, whatever the driver says now."""
NOW = frozenset(
    {"open-module-refuses", "legacy-gpu", "gsp-firmware", "module-key-rejected", "mismatch", "module-for-other-kernel"}
)
"""Rows that a line proves only while the driver does not work: it may be of before a repair."""
SLOWED = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown")
"""NVML's reasons that mean heat or power beyond what the card may have; a power cap that is kept to is none."""
WATTS = 1.0
"""nvidia-smi rounds: less than that is no cap."""


def _kernel_log(look: Look) -> Iterator[Shown]:
    wanted = LOGGED if look.works else LOGGED | NOW
    rows = [row for row in look.rows if row.id in wanted]
    for each in diagnose(look.readings.text("dmesg_nvidia") or "", rows):
        yield Shown(id=each.id, evidence=each.line, where="dmesg")


def _lost(look: Look) -> Iterator[Shown]:
    for gpu in look.nvidia.gpus:
        if gpu.error:
            yield Shown(id="gpu-lost", evidence=f"{_name(gpu)}: {gpu.error}", where="NVML")


def _reserved(look: Look) -> Iterator[Shown]:
    for gpu in look.nvidia.gpus:
        if gpu.kernel_driver == "vfio-pci":
            evidence = f"{_name(gpu)}: kernel driver in use: vfio-pci"
            yield Shown(id="gpu-reserved-for-guest", evidence=evidence, where="sysfs")


def _narrow(look: Look) -> Iterator[Shown]:
    """Width alone: an idle card lowers its speed by itself. Half of it is what laptops and boards with two slots for
    cards have by design."""
    for gpu in look.nvidia.gpus:
        width, most = gpu.pcie_width, gpu.pcie_width_max
        if width and most and width < most:
            severity: Severity = "info" if 2 * width >= most else "warning"
            evidence = f"{_name(gpu)}: x{width}, the card's own maximum is x{most}"
            yield Shown(id="pcie-width", evidence=evidence, where="PCIe", severity=severity)


def _slowed(look: Look) -> Iterator[Shown]:
    for gpu in look.nvidia.gpus:
        reasons = [reason for reason in gpu.throttle if reason in SLOWED]
        if reasons:
            heat = f" at {gpu.temperature_c} °C" if gpu.temperature_c is not None else ""
            yield Shown(id="thermal-throttle", evidence=f"{_name(gpu)}: {', '.join(reasons)}{heat}", where="nvidia-smi")


def _capped(look: Look) -> Iterator[Shown]:
    for gpu in look.nvidia.gpus:
        cap, default = gpu.power_limit_w, gpu.power_default_w
        if cap is not None and default is not None and cap < default - WATTS:
            yield Shown(id="power-cap", evidence=f"{_name(gpu)}: {cap:g} W of {default:g} W", where="nvidia-smi")


def _asleep(look: Look) -> Iterator[Shown]:
    """Where somebody sits at a screen on it, the display keeps the card awake."""
    if look.nvidia.display or look.nvidia.persistenced in (None, "active") or not look.works:
        return
    off = [gpu for gpu in look.nvidia.gpus if gpu.persistence is False]
    if off:
        yield Shown(id="persistence-off", evidence=f"{_name(off[0])}: persistence mode is off", where="nvidia-smi")


def _mig(look: Look) -> Iterator[Shown]:
    for gpu in look.facts.gpus:
        if gpu.mig is not None and gpu.mig.enabled and not gpu.mig.devices:
            yield Shown(id="mig-without-slices", evidence=f"{gpu.name}: MIG mode on, 0 MIG devices", where="nvidia-smi")


def _name(gpu: GpuHealth) -> str:
    return f"GPU {gpu.pci_address or 'of an unknown address'}"


GPU_RULES: tuple[Rule, ...] = (_kernel_log, _lost, _reserved, _narrow, _slowed, _capped, _asleep, _mig)
