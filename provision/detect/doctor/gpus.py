"""The cards: on the bus, in the kernel log, slowed down, hidden, handed away."""

from __future__ import annotations

from collections.abc import Iterator

from provision.detect.build_failures import diagnose
from provision.detect.doctor.look import Look, Rule
from provision.detect.doctor.shown import Shown
from provision.model.facts import Severity
from provision.model.nvidia import GpuHealth

LOGGED = frozenset({"gpu-fell-off-the-bus", "sxid", "oom-killed"})
"""Rows that a line of the kernel log proves, whatever the driver says now; those of Xids as well."""
PROGRAM = "illegal-instruction"
"""A row that is an error in a program's log; in the kernel's it says that some program ended so, and no more."""
NOW = frozenset(
    {
        "open-module-refuses",
        "legacy-gpu",
        "gsp-firmware",
        "gpu-not-of-release",
        "module-key-rejected",
        "mismatch",
        "module-for-other-kernel",
        "module-finds-no-gpu",
    }
)
"""Rows that a line proves only while the driver does not work: it may be of before a repair."""
SLOWED = ("hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown")
"""NVML's reasons that mean heat or power beyond what the card may have; a power cap that is kept to is none."""
WATTS = 1.0
"""nvidia-smi rounds: less than that is no cap."""


def _kernel_log(look: Look) -> Iterator[Shown]:
    wanted = (LOGGED if look.works else LOGGED | NOW) | {PROGRAM}
    wanted -= {look.facts.driver.state}  # "mismatch": nvidia-smi's words say more than half a message
    rows = [row for row in look.rows if row.id in wanted or row.id.startswith("xid-")]
    for each in diagnose(look.readings.text("dmesg_nvidia") or "", rows):
        yield Shown(id=each.id, evidence=each.line, where="dmesg", severity="warning" if each.id == PROGRAM else None)


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
            evidence = f"{_name(gpu)}: {', '.join(reasons)}{heat}"
            yield Shown(id="thermal-throttle", evidence=evidence, where=_asked(look))


def _capped(look: Look) -> Iterator[Shown]:
    for gpu in look.nvidia.gpus:
        cap, default = gpu.power_limit_w, gpu.power_default_w
        if cap is not None and default is not None and cap < default - WATTS:
            yield Shown(id="power-cap", evidence=f"{_name(gpu)}: {cap:g} W of {default:g} W", where=_asked(look))


def _asleep(look: Look) -> Iterator[Shown]:
    """Where somebody sits at a screen on it, the display keeps the card awake."""
    if look.nvidia.display or look.nvidia.persistenced in (None, "active") or not look.works:
        return
    for gpu in look.nvidia.gpus:
        if gpu.persistence is False:
            yield Shown(id="persistence-off", evidence=f"{_name(gpu)}: persistence mode is off", where=_asked(look))


def _mig(look: Look) -> Iterator[Shown]:
    for gpu in look.facts.gpus:
        if gpu.mig is not None and gpu.mig.enabled and not gpu.mig.devices:
            yield Shown(id="mig-without-slices", evidence=f"{gpu.name}: MIG mode on, 0 MIG devices", where=_asked(look))


def _not_driven(look: Look) -> Iterator[Shown]:
    """Found by detection, which compares the bus with what the driver lists."""
    for found in look.facts.findings:
        if found.id == "gpu_not_driven":
            yield Shown(id="gpu-not-driven", evidence=f"{found.what}: {found.why}", where="PCIe")


def _no_uvm(look: Look) -> Iterator[Shown]:
    """nvidia-modprobe makes the file when the first program asks for CUDA; without it nobody may. Jetson, WSL and
    containers have other files, or none."""
    files = look.nvidia.device_files
    if not look.works or files is None or "nvidiactl" not in files or "nvidia-uvm" in files:
        return
    names = {each.name for each in look.nvidia.packages}
    made = not names or any(name.startswith("nvidia-modprobe") for name in names)
    evidence = f"{', '.join(sorted(files)[:8])}; no nvidia-uvm" + ("" if made else ", and no package nvidia-modprobe")
    yield Shown(id="uvm-missing", evidence=evidence, where="/dev", severity="info" if made else "warning")


def _asked(look: Look) -> str:
    """Who told the state of the GPUs."""
    return "NVML" if look.readings.text("nvml.json") is not None else "nvidia-smi"


def _name(gpu: GpuHealth) -> str:
    return f"GPU {gpu.pci_address or 'of an unknown address'}"


GPU_RULES: tuple[Rule, ...] = (
    _kernel_log,
    _lost,
    _reserved,
    _narrow,
    _not_driven,
    _slowed,
    _capped,
    _asleep,
    _mig,
    _no_uvm,
)
