"""What NVML answers, asked through pynvml: the process that provision/run/nvml.py starts.

Imports nothing of ours: it is started anew each time, and waited for.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


def main() -> None:
    """Print the document as the last line; "null" where the library cannot be loaded."""
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        sys.stdout.write("\nnull\n")
        return
    import pynvml

    sys.stdout.write(f"\n{json.dumps(answers(pynvml))}\n")
    sys.stdout.flush()
    os._exit(0)  # the document is complete: what the library does at exit is no longer waited for


def answers(nvml: Any) -> dict[str, Any]:
    """The document, from the module pynvml."""
    try:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        return {"error": int(error.value), "message": _words(nvml, error)}
    return {
        "driver_version": _host(nvml, nvml.nvmlSystemGetDriverVersion),
        "cuda_api_version": _host(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2, nvml.nvmlSystemGetCudaDriverVersion),
        "gpus": [_gpu(nvml, index) for index in range(count)],
    }


def _host(nvml: Any, *questions: Callable[[], Any]) -> Any:
    """The first answer; None where there is none. No GPU is the worse for it."""
    for question in questions:
        try:
            return question()
        except nvml.NVMLError:
            continue
    return None


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    """What one GPU answers. One that stops answering keeps what it had said, with "error"; one that may not be asked
    (a container's device rules) has "denied"."""
    said: dict[str, Any] = {}
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        key = "denied" if error.value == nvml.NVML_ERROR_NO_PERMISSION else "error"
        return {"index": index, key: _words(nvml, error)}
    try:
        for key, value in _questions(Gpu(nvml, handle)):
            said[key] = value
    except nvml.NVMLError as error:
        return {"index": index, **said, "error": _words(nvml, error)}
    return said


def _questions(gpu: Gpu) -> Iterable[tuple[str, Any]]:
    """In an order that has the address before a GPU stops answering."""
    nvml = gpu.nvml
    pci = gpu.asked(nvml.nvmlDeviceGetPciInfo)
    yield "bus_id", _plain(pci.busId) if pci is not None else None
    yield "pci_device_id", int(pci.pciDeviceId) if pci is not None else None
    yield "name", _plain(gpu.asked(nvml.nvmlDeviceGetName, needed=True))
    yield "compute_capability", gpu.asked(nvml.nvmlDeviceGetCudaComputeCapability)
    memory = gpu.asked(nvml.nvmlDeviceGetMemoryInfo)
    yield "memory_bytes", int(memory.total) if memory is not None else None
    mode = gpu.asked(nvml.nvmlDeviceGetMigMode)
    yield "mig_mode", int(mode[0]) if mode is not None else None
    yield "mig_devices", _mig_devices(gpu) if mode is not None and mode[0] == 1 else 0
    yield from _health(gpu)


def _mig_devices(gpu: Gpu) -> int:
    most = gpu.asked(gpu.nvml.nvmlDeviceGetMaxMigDeviceCount) or 0
    found = (gpu.asked(gpu.nvml.nvmlDeviceGetMigDeviceHandleByIndex, index) for index in range(most))
    return sum(device is not None for device in found)


def _health(gpu: Gpu) -> Iterable[tuple[str, Any]]:
    nvml = gpu.nvml
    # the second one is bounded by the slot, which hides a slow slot; older drivers have only that
    newest = gpu.asked(nvml.nvmlDeviceGetGpuMaxPcieLinkGeneration)
    newest = gpu.asked(nvml.nvmlDeviceGetMaxPcieLinkGeneration) if newest is None else newest
    width, widest = gpu.asked(nvml.nvmlDeviceGetCurrPcieLinkWidth), gpu.asked(nvml.nvmlDeviceGetMaxPcieLinkWidth)
    link = [width, widest, gpu.asked(nvml.nvmlDeviceGetCurrPcieLinkGeneration), newest]
    yield "pcie", link if any(number is not None for number in link) else None
    yield "power_limit_w", _watts(gpu.asked(nvml.nvmlDeviceGetPowerManagementLimit))
    yield "power_default_w", _watts(gpu.asked(nvml.nvmlDeviceGetPowerManagementDefaultLimit))
    bits = gpu.asked(nvml.nvmlDeviceGetCurrentClocksEventReasons)
    bits = gpu.asked(nvml.nvmlDeviceGetCurrentClocksThrottleReasons) if bits is None else bits  # before driver 535
    yield "throttle", [name for bit, name in REASONS if bits & bit] if bits is not None else None
    mode = gpu.asked(nvml.nvmlDeviceGetPersistenceMode)
    yield "persistence", mode == 1 if mode is not None else None
    degrees = gpu.asked(nvml.nvmlDeviceGetTemperatureV, nvml.NVML_TEMPERATURE_GPU)
    degrees = gpu.asked(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU) if degrees is None else degrees
    yield "temperature_c", degrees
    yield "clock_sm_mhz", gpu.asked(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)
    yield "clock_sm_max_mhz", gpu.asked(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM)


# nvml.h, nvmlClocksEventReasons, in the words of nvidia-smi; idle (1) is none
REASONS = (
    (0x2, "applications_clocks_setting"), (0x4, "sw_power_cap"), (0x8, "hw_slowdown"), (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"), (0x40, "hw_thermal_slowdown"), (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clocks_setting"),
)  # fmt: skip


class Gpu:
    """One GPU to ask."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle
        # nvmlReturn_t that say something of the GPU, whatever was asked. All others are of the question: laptops have
        # an "Unknown Error" for a power limit, and work.
        self.gone = {
            nvml.NVML_ERROR_UNINITIALIZED, nvml.NVML_ERROR_INSUFFICIENT_POWER, nvml.NVML_ERROR_DRIVER_NOT_LOADED,
            nvml.NVML_ERROR_TIMEOUT, nvml.NVML_ERROR_IRQ_ISSUE, nvml.NVML_ERROR_GPU_IS_LOST,
            nvml.NVML_ERROR_RESET_REQUIRED, nvml.NVML_ERROR_OPERATING_SYSTEM,
            nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, nvml.NVML_ERROR_GPU_NOT_FOUND,
        }  # fmt: skip
        self.unknown = {
            nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NOT_FOUND,
            nvml.NVML_ERROR_NO_PERMISSION, nvml.NVML_ERROR_INVALID_ARGUMENT,
        }  # fmt: skip

    def asked(self, question: Callable[..., Any], *more: Any, needed: bool = False) -> Any:
        """The answer, or None where this GPU or driver has none (Jetson, GB10, old drivers). Raises NVMLError where
        the GPU does not answer at all; with ``needed``, where anything but "unknown here" is answered."""
        try:
            return question(self.handle, *more)
        except self.nvml.NVMLError as error:
            if error.value in self.gone or (needed and error.value not in self.unknown):
                raise
            return None


def _words(nvml: Any, error: Any) -> str:
    """NVML's own words: pynvml says "RM has detected an NVML/RM version mismatch.", and has none for newer numbers."""
    try:
        return str(_plain(nvml.nvmlErrorString(error.value)))
    except nvml.NVMLError:
        return str(error)


def _watts(milliwatts: int | None) -> float | None:
    return milliwatts / 1000 if milliwatts is not None else None


def _plain(value: Any) -> Any:
    """Older pynvml answers with bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
