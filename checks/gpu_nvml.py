# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""NVML, the driver's own library, by ctypes: what nvidia-smi asks, without nvidia-smi.

A part of gpu_driver.py, gpu_state.py and mnist.py, which load it from their own folder. Names, numbers and structures
are those of nvml.h (https://docs.nvidia.com/deploy/nvml-api/). Changes nothing.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

LIBRARY = "libnvidia-ml.so.1"
NOT_FOUND, MISMATCH = 12, 18
"""NVML_ERROR_LIBRARY_NOT_FOUND (also what a library that cannot be loaded counts as here), LIB_RM_VERSION_MISMATCH."""
GONE = (15, 16)
"""GPU_IS_LOST, RESET_REQUIRED."""
ERRORS = {  # nvmlReturn_t
    1: "uninitialized", 2: "invalid argument", 3: "not supported", 4: "no permission", 5: "already initialized",
    6: "not found", 7: "insufficient size", 8: "insufficient power", 9: "driver not loaded", 10: "timeout",
    11: "IRQ issue", 12: "library not found", 13: "function not found", 14: "corrupted infoROM", 15: "GPU is lost",
    16: "reset required", 17: "operating system", 18: "driver/library version mismatch", 19: "in use", 20: "memory",
    21: "no data", 22: "vGPU: ECC not supported", 23: "insufficient resources", 24: "frequency not supported",
    25: "argument version mismatch", 26: "deprecated", 27: "not ready", 28: "GPU not found", 29: "invalid state",
    30: "reset type not supported", 999: "unknown error",
}  # fmt: skip
REASONS = {  # nvmlClocksEventReasons: bit -> word; those that cost speed. Idle (1) and a chosen clock (2) do not.
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}
SM_CLOCK, MEMORY_CLOCK = 1, 2


class Refused(Exception):
    """NVML's answer where it is not the value: its number, and what that means."""

    def __init__(self, value: int, words: str = "") -> None:
        self.value = value
        self.words = words or ERRORS.get(value, f"error {value}")
        super().__init__(self.words)


class PciInfo(ctypes.Structure):
    """nvmlPciInfo_t since version 3."""

    _fields_ = [
        ("busIdLegacy", ctypes.c_char * 16),
        ("domain", ctypes.c_uint),
        ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint),
        ("pciDeviceId", ctypes.c_uint),
        ("pciSubSystemId", ctypes.c_uint),
        ("busId", ctypes.c_char * 32),
    ]


class Utilization(ctypes.Structure):
    """nvmlUtilization_t: percent of the last sixth of a second to a second."""

    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


class Nvml:
    """The library, started. Raises Refused, with NOT_FOUND where it cannot be loaded."""

    def __init__(self, name: str = LIBRARY) -> None:
        try:
            self.library = ctypes.CDLL(name)
        except OSError as error:
            raise Refused(NOT_FOUND, str(error)) from error
        self.call("nvmlInit_v2")

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, *_: object) -> None:
        self.call("nvmlShutdown")

    def call(self, function: str, *arguments: Any) -> None:
        try:
            found = getattr(self.library, function)
        except AttributeError:
            raise Refused(13, f"this driver has no {function}") from None
        value = found(*arguments)
        if value != 0:
            raise Refused(int(value))

    def driver_version(self) -> str:
        text = ctypes.create_string_buffer(96)
        self.call("nvmlSystemGetDriverVersion", text, ctypes.c_uint(96))
        return text.value.decode()

    def count(self) -> int:
        number = ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", ctypes.byref(number))
        return number.value

    def gpu(self, index: int) -> Device:
        """Raises Refused: GPU is lost, no permission."""
        handle = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
        return Device(self, handle)


class Device:
    """One GPU. Every answer is None where the GPU or the driver has none."""

    def __init__(self, nvml: Nvml, handle: ctypes.c_void_p) -> None:
        self.nvml, self.handle = nvml, handle

    def number(self, function: str, *before: int, wide: bool = False) -> int | None:
        value = ctypes.c_ulonglong() if wide else ctypes.c_uint()
        try:
            self.nvml.call(function, self.handle, *map(ctypes.c_uint, before), ctypes.byref(value))
        except Refused:
            return None
        return value.value

    def gone(self) -> str:
        """Why the GPU answers nothing any more; empty where it does. Asks what the chip itself has to tell."""
        text, degrees = ctypes.create_string_buffer(96), ctypes.c_uint()
        try:
            self.nvml.call("nvmlDeviceGetName", self.handle, text, ctypes.c_uint(96))
            self.nvml.call("nvmlDeviceGetTemperature", self.handle, ctypes.c_uint(0), ctypes.byref(degrees))
        except Refused as refused:
            return refused.words if refused.value in GONE else ""
        return ""

    def text(self, function: str) -> str | None:
        text = ctypes.create_string_buffer(96)
        try:
            self.nvml.call(function, self.handle, text, ctypes.c_uint(96))
        except Refused:
            return None
        return text.value.decode()

    def name(self) -> str | None:
        return self.text("nvmlDeviceGetName")

    def uuid(self) -> str | None:
        return self.text("nvmlDeviceGetUUID")

    def slices(self) -> tuple[str, ...] | None:
        """UUIDs of its MIG devices; None with MIG off."""
        now, pending = ctypes.c_uint(), ctypes.c_uint()
        try:
            self.nvml.call("nvmlDeviceGetMigMode", self.handle, ctypes.byref(now), ctypes.byref(pending))
        except Refused:
            return None
        if not now.value:
            return None
        found = [self.slice(index) for index in range(self.number("nvmlDeviceGetMaxMigDeviceCount") or 0)]
        return tuple(uuid for uuid in found if uuid)

    def slice(self, index: int) -> str | None:
        handle = ctypes.c_void_p()
        try:
            self.nvml.call(
                "nvmlDeviceGetMigDeviceHandleByIndex", self.handle, ctypes.c_uint(index), ctypes.byref(handle)
            )
        except Refused:  # numbers have gaps
            return None
        return Device(self.nvml, handle).uuid()

    def address(self) -> str | None:
        """As sysfs writes it: 0000:01:00.0."""
        info = PciInfo()
        try:
            self.nvml.call("nvmlDeviceGetPciInfo_v3", self.handle, ctypes.byref(info))
        except Refused:
            return None
        # busId: "00000000:01:00.0"
        found = re.fullmatch(r"([0-9A-Fa-f]{4,8}):(.+)", info.busId.decode())
        return f"{found.group(1)[-4:]}:{found.group(2)}".lower() if found else None

    def persistence(self) -> bool | None:
        mode = self.number("nvmlDeviceGetPersistenceMode")
        return None if mode is None else mode == 1

    def utilization(self) -> int | None:
        """Percent of the time that it computed; no driver tells that of a GPU with MIG on."""
        both = Utilization()
        try:
            self.nvml.call("nvmlDeviceGetUtilizationRates", self.handle, ctypes.byref(both))
        except Refused:
            return None
        return int(both.gpu)

    def state(self) -> dict[str, Any]:
        """Clocks in MHz, power in W, temperature in degrees Celsius, the PCIe link, what slows it down."""
        power = {
            name: None if value is None else round(value / 1000, 1)
            for name, value in (
                ("power_w", self.number("nvmlDeviceGetPowerUsage")),
                ("power_limit_w", self.number("nvmlDeviceGetPowerManagementLimit")),
                ("power_default_w", self.number("nvmlDeviceGetPowerManagementDefaultLimit")),
            )
        }
        return {
            "clock_sm_mhz": self.number("nvmlDeviceGetClockInfo", SM_CLOCK),
            "clock_sm_max_mhz": self.number("nvmlDeviceGetMaxClockInfo", SM_CLOCK),
            "clock_memory_mhz": self.number("nvmlDeviceGetClockInfo", MEMORY_CLOCK),
            "temperature_c": self.number("nvmlDeviceGetTemperature", 0),
            "utilization_percent": self.utilization(),
            **power,
            "pcie_generation": self.number("nvmlDeviceGetCurrPcieLinkGeneration"),
            # the card's own; the other one is the lesser of card and slot, which hides a slow slot
            "pcie_generation_max": self.number("nvmlDeviceGetGpuMaxPcieLinkGeneration")
            or self.number("nvmlDeviceGetMaxPcieLinkGeneration"),
            "pcie_width": self.number("nvmlDeviceGetCurrPcieLinkWidth"),
            "pcie_width_max": self.number("nvmlDeviceGetMaxPcieLinkWidth"),
            "throttle": self.throttle(),
        }

    def throttle(self) -> list[str] | None:
        bits = self.number("nvmlDeviceGetCurrentClocksEventReasons", wide=True)
        if bits is None:  # its name before driver 535
            bits = self.number("nvmlDeviceGetCurrentClocksThrottleReasons", wide=True)
        return None if bits is None else [word for bit, word in REASONS.items() if bits & bit]


def loaded_version(maps: Path = Path("/proc/self/maps")) -> str | None:
    """The version in the loaded library's file name: libnvidia-ml.so.580.95.05. Also where it refused to start."""
    try:
        text = maps.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"libnvidia-ml\.so\.(\d+\.\d+(?:\.\d+)?)\s*$", text, re.MULTILINE)
    return found.group(1) if found else None
