"""How each NVIDIA GPU is: link, power, clocks, throttling, and what it says instead of answering."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from provision.detect.pci import canonical_address, pci_gpus
from provision.detect.text import natural, printable
from provision.model.nvidia import GpuHealth
from provision.model.readings import Readings

LINKS_READING = "sys_pci_links"

# PCI Express, base specification: transfer rate in GT/s to generation
GENERATIONS = {"2.5": 1, "5": 2, "8": 3, "16": 4, "32": 5, "64": 6}

# NVML's clocks event reasons (nvml.h, nvmlClocksEventReasons), less idle
THROTTLE = (
    "applications_clocks_setting", "sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal_slowdown",
    "hw_thermal_slowdown", "hw_power_brake_slowdown", "display_clocks_setting",
)  # fmt: skip

Leaves = Mapping[tuple[str, ...], str]
Paths = tuple[tuple[str, ...], ...]

# Where nvidia-smi has it: the first path that is there and says something. Driver 610 puts limits one level deeper.
XML: dict[str, Paths] = {
    "pcie_width": (("pci", "pci_gpu_link_info", "link_widths", "current_link_width"),),
    "pcie_width_max": (("pci", "pci_gpu_link_info", "link_widths", "max_link_width"),),
    "pcie_generation": (("pci", "pci_gpu_link_info", "pcie_gen", "current_link_gen"),),
    "pcie_generation_max": (
        ("pci", "pci_gpu_link_info", "pcie_gen", "max_device_link_gen"),
        ("pci", "pci_gpu_link_info", "pcie_gen", "max_link_gen"),
    ),
    "power_limit_w": (
        ("gpu_power_readings", "current_power_limit"),
        ("gpu_power_readings", "gpu_ceiling_power_limit", "current_power_limit"),
        ("gpu_power_readings", "power_limit"),
        ("power_readings", "enforced_power_limit"),
        ("power_readings", "power_limit"),
    ),
    "power_default_w": (
        ("gpu_power_readings", "default_power_limit"),
        ("gpu_power_readings", "gpu_ceiling_power_limit", "default_power_limit"),
        ("power_readings", "default_power_limit"),
    ),
    "persistence": (("persistence_mode",),),
    "temperature_c": (("temperature", "gpu_temp"),),
    "clock_sm_mhz": (("clocks", "sm_clock"),),
    "clock_sm_max_mhz": (("max_clocks", "sm_clock"),),
}
LOG: dict[str, Paths] = {
    "pcie_width": (("PCI", "GPU Link Info", "Link Width", "Current"),),
    "pcie_width_max": (("PCI", "GPU Link Info", "Link Width", "Max"),),
    "pcie_generation": (("PCI", "GPU Link Info", "PCIe Generation", "Current"),),
    "pcie_generation_max": (
        ("PCI", "GPU Link Info", "PCIe Generation", "Device Max"),
        ("PCI", "GPU Link Info", "PCIe Generation", "Max"),
    ),
    "power_limit_w": (
        ("GPU Power Readings", "Current Power Limit"),
        ("GPU Power Readings", "GPU Ceiling Power Limit", "Current Power Limit"),
        ("GPU Power Readings", "Power Limit"),
        ("Power Readings", "Enforced Power Limit"),
        ("Power Readings", "Power Limit"),
    ),
    "power_default_w": (
        ("GPU Power Readings", "Default Power Limit"),
        ("GPU Power Readings", "GPU Ceiling Power Limit", "Default Power Limit"),
        ("Power Readings", "Default Power Limit"),
    ),
    "persistence": (("Persistence Mode",),),
    "temperature_c": (("Temperature", "GPU Current Temp"),),
    "clock_sm_mhz": (("Clocks", "SM"),),
    "clock_sm_max_mhz": (("Max Clocks", "SM"),),
}
_REASONS = ("clocks_event_reasons", "clocks_throttle_reasons")


def gpu_health(readings: Readings, addresses: tuple[str, ...] = ()) -> tuple[GpuHealth, ...]:
    """Of the GPUs at ``addresses`` and of any that a reading of their state shows, in bus order. The driver's
    word counts before the bus's. Where no reading has an address (Jetson), those without one."""
    views = [list(read(text)) for name, read in READERS if (text := readings.text(name))]
    bus = pci_gpus(readings)
    views += [_unanswered(readings), _links(readings.text(LINKS_READING) or ""), _lspci(readings)]
    views.append([GpuHealth(pci_address=gpu.address, kernel_driver=gpu.driver) for gpu in bus])
    views.append([GpuHealth(pci_address=address, kernel_driver=None) for address in addresses])
    ours = [gpu.address for gpu in bus if gpu.driver in (None, "nvidia")]
    views[0] = _placed(views[0], ours)
    found: dict[str, GpuHealth] = {}
    for gpu in (gpu for view in views for gpu in view):
        if gpu.pci_address is not None:
            known = found.get(gpu.pci_address)
            found[gpu.pci_address] = gpu if known is None else _merged(known, gpu)
    placed = tuple(found[address] for address in sorted(found, key=lambda each: (int(each.split(":")[0], 16), each)))
    unplaced = tuple(next(([gpu for gpu in view if gpu.pci_address is None] for view in views if view), []))
    return placed + tuple(gpu for gpu in unplaced if gpu.error or not placed)


def _placed(gpus: list[GpuHealth], bus: list[str]) -> list[GpuHealth]:
    """GPUs that do not answer do not tell their address: they are those of the bus that no other one is, if the number
    is right."""
    answered = {gpu.pci_address for gpu in gpus}
    missing = [address for address in bus if address not in answered]
    lost = [gpu for gpu in gpus if gpu.pci_address is None and gpu.error]
    if not lost or len(lost) != len(missing):
        return gpus
    places = iter(missing)
    return [dataclasses.replace(gpu, pci_address=next(places)) if gpu in lost else gpu for gpu in gpus]


def _merged(first: GpuHealth, other: GpuHealth) -> GpuHealth:
    """Gaps filled; of two maxima the greater: a card at rest may show less to the bus."""
    changes = {
        field.name: getattr(other, field.name)
        for field in dataclasses.fields(GpuHealth)
        if getattr(first, field.name) in (None, ())
    }
    for name in ("pcie_width_max", "pcie_generation_max"):
        known = [number for number in (getattr(first, name), getattr(other, name)) if number is not None]
        changes[name] = max(known, default=None)
    return dataclasses.replace(first, **changes)


# --- NVML -----------------------------------------------------------------------------------------------------------


def _nvml(text: str) -> list[GpuHealth]:
    """nvml.json, whose form provision/detect/nvml.py has."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return []
    gpus = data.get("gpus") if isinstance(data, dict) else None
    return [_nvml_gpu(gpu) for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []


def _nvml_gpu(data: dict[str, Any]) -> GpuHealth:
    link = data.get("pcie")
    numbers = [_whole(each) for each in link] if isinstance(link, list) and len(link) == 4 else [None] * 4
    throttle, error, address = data.get("throttle"), data.get("error"), data.get("bus_id")
    persistence = data.get("persistence")
    return GpuHealth(
        pci_address=canonical_address(address) if isinstance(address, str) else None,
        kernel_driver=None,
        error=printable(error) or None if isinstance(error, str) else None,
        pcie_width=numbers[0] or None,
        pcie_width_max=numbers[1] or None,
        pcie_generation=numbers[2] or None,
        pcie_generation_max=numbers[3] or None,
        power_limit_w=_watts(data.get("power_limit_w")),
        power_default_w=_watts(data.get("power_default_w")),
        throttle=tuple(name for name in THROTTLE if name in throttle) if isinstance(throttle, list) else (),
        persistence=persistence if isinstance(persistence, bool) else None,
        temperature_c=_whole(data.get("temperature_c")),
        clock_sm_mhz=_whole(data.get("clock_sm_mhz")),
        clock_sm_max_mhz=_whole(data.get("clock_sm_max_mhz")),
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 100_000 else None


def _watts(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < 100_000 else None


# --- nvidia-smi -----------------------------------------------------------------------------------------------------


def _xml(text: str) -> list[GpuHealth]:
    from provision.detect.nvidia_smi_xml import gpu_leaves

    return [_smi(address, leaves, XML) for address, leaves in gpu_leaves(text)]


def _log(text: str) -> list[GpuHealth]:
    from provision.detect.nvidia_smi_q import gpu_leaves

    return [_smi(address, leaves, LOG) for address, leaves in gpu_leaves(text)]


READERS: tuple[tuple[str, Callable[[str], list[GpuHealth]]], ...] = (
    ("nvml.json", _nvml), ("nvidia_smi_q.xml", _xml), ("nvidia_smi_q.txt", _log),
)  # fmt: skip


def _smi(address: str | None, leaves: Leaves, paths: Mapping[str, Paths]) -> GpuHealth:
    def number(field: str, unit: str) -> float | None:
        for path in paths[field]:
            match = re.fullmatch(rf"(\d{{1,6}}(?:\.\d{{1,4}})?){unit}", leaves.get(path, "").strip())
            if match:
                return float(match[1])
        return None

    def whole(field: str, unit: str) -> int | None:
        found = number(field, unit)
        return None if found is None else int(found)

    mode = leaves.get(paths["persistence"][0], "")
    return GpuHealth(
        pci_address=address,
        kernel_driver=None,
        error=_error(leaves),
        pcie_width=whole("pcie_width", "x"),
        pcie_width_max=whole("pcie_width_max", "x"),
        pcie_generation=whole("pcie_generation", ""),
        pcie_generation_max=whole("pcie_generation_max", ""),
        power_limit_w=number("power_limit_w", " W"),
        power_default_w=number("power_default_w", " W"),
        throttle=_throttle(leaves),
        persistence={"Enabled": True, "Disabled": False}.get(mode),
        temperature_c=whole("temperature_c", " C"),
        clock_sm_mhz=whole("clock_sm_mhz", " MHz"),
        clock_sm_max_mhz=whole("clock_sm_max_mhz", " MHz"),
    )


def _throttle(leaves: Leaves) -> tuple[str, ...]:
    """From <clocks_event_reason_sw_power_cap>, <clocks_throttle_reason_…> and "SW Power Cap", as driver and form go."""
    active = set()
    for path, value in leaves.items():
        if value == "Active" and path[0].lower().replace(" ", "_") in _REASONS:
            name = path[-1].lower().replace(" ", "_")
            name = re.sub(r"^clocks_(?:event|throttle)_reason_", "", name)
            active.add("display_clocks_setting" if name == "display_clock_setting" else name)
    return tuple(name for name in THROTTLE if name in active)


# What stands in a value's place, or in the whole answer's, where a GPU does not answer (nvmlErrorString)
_LOST = re.compile(r"\[?(GPU is lost|GPU requires reset|GPU access blocked by the operating system)\]?")
# "Unable to determine the device handle for GPU 0000:82:00.0: GPU is lost.  Reboot the system to recover this GPU"
_HANDLE = re.compile(r"Unable to determine the device handle for GPU\s?([0-9A-Fa-f:.]{10,16}): ([^\n]{1,200})")


def _error(leaves: Leaves) -> str | None:
    return next((match[1] for value in leaves.values() if (match := _LOST.fullmatch(value.strip()))), None)


def _unanswered(readings: Readings) -> list[GpuHealth]:
    found = []
    for name in ("nvidia_smi_q.xml", "nvidia_smi_q.txt", "nvidia_smi.txt", "nvidia_smi_L.txt"):
        for address, words in _HANDLE.findall(readings.text(name) or ""):
            error = printable(words.rstrip())
            found.append(GpuHealth(pci_address=canonical_address(address), kernel_driver=None, error=error))
    return [gpu for gpu in found if gpu.pci_address is not None]


# --- the bus --------------------------------------------------------------------------------------------------------

_RATE = r"(?:(\d{1,2}(?:\.\d)?)\s?GT/s|-)"
_LINK_LINE = re.compile(rf"(\S{{1,20}}) {_RATE} (\d{{1,3}}|-) {_RATE} (\d{{1,3}}|-)\s*")
_LNKCAP = re.compile(
    r"^\s+LnkCap:[^\n]{0,40}? Speed (\d{1,2}(?:\.\d)?)GT/s[^\n]{0,40}?, Width x(\d{1,2})\b", re.MULTILINE
)
_LNKSTA = re.compile(r"^\s+LnkSta:\s*Speed (\d{1,2}(?:\.\d)?)GT/s[^\n]{0,40}?, Width x(\d{1,2})\b", re.MULTILINE)


def _generation(rate: str | None) -> int | None:
    return GENERATIONS.get((rate or "").removesuffix(".0"))


def _width(text: str | None) -> int | None:
    """Nought and 63 are what sysfs prints where there is no link."""
    number = natural(text)
    return number if number is not None and 0 < number <= 32 else None


def _links(text: str) -> list[GpuHealth]:
    matches = [match for line in text.splitlines() if (match := _LINK_LINE.fullmatch(line))]
    found = [(canonical_address(match[1]), match) for match in matches]
    return [_link(address, match[2], match[3], match[4], match[5]) for address, match in found if address is not None]


def _link(address: str, rate: str | None, width: str, most: str | None, width_most: str) -> GpuHealth:
    return GpuHealth(
        pci_address=address,
        kernel_driver=None,
        pcie_width=_width(width),
        pcie_width_max=_width(width_most),
        pcie_generation=_generation(rate),
        pcie_generation_max=_generation(most),
    )


def _lspci(readings: Readings) -> list[GpuHealth]:
    if not any(name.startswith("lspci") for name in readings.files):
        return []
    from provision.detect.lspci import READINGS, gpu_blocks

    found = []
    for name in READINGS:
        for address, below in gpu_blocks(readings.text(name) or ""):
            able, now = _LNKCAP.search(below), _LNKSTA.search(below)
            if able and now:
                found.append(_link(address, now[1], now[2], able[1], able[2]))
    return found
