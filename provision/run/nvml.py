"""This machine's driver asked through NVML, in a process of its own.

A driver in trouble can hang in a system call or end the process that asks it, and `provision detect` is what people run
then. The process costs 30 ms on top of the 25 ms that NVML itself takes, and only where its library is installed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from provision.detect.seen import DIED, HUNG
from provision.run.command import TIMED_OUT, run

LIBRARY = "libnvidia-ml.so.1"
TIMEOUT_S = 60.0
"""Without persistence the driver starts each GPU anew, a few seconds for each on a server with eight."""

CACHE = Path("/etc/ld.so.cache")
BOUND = Path("/proc/driver/nvidia/gpus")
FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")


def nvml_reading(timeout_s: float = TIMEOUT_S) -> str | None:
    """``nvml.json`` (see provision/detect/nvml.py), or None where NVML cannot be loaded: no driver here."""
    if not is_installed():
        return None
    here = str(Path(__file__).resolve().parents[2])
    program = (
        f"import sys; sys.path[:] = {[*filter(None, sys.path), here]!r}; from provision.run.nvml import main; main()"
    )
    done = run([sys.executable, "-I", "-S", "-c", program], timeout_s=timeout_s)
    if done.status == TIMED_OUT:
        return _no_answer(HUNG, f"NVML gave no answer within {timeout_s:g} s")
    if done.status != 0:
        return _no_answer(DIED, f"NVML ended the process that asked it: {_how(done.status, done.stderr)}")
    answer = done.stdout.strip().rpartition("\n")[2]
    return None if answer == "null" else answer


def is_installed() -> bool:
    """Whether the loader would find it. Not loaded here: the relocation of a library that a full disk cut kills."""
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if any(Path(folder, LIBRARY).exists() for folder in (*folders, *FOLDERS)):
        return True
    try:
        return f"{LIBRARY}\0".encode() in CACHE.read_bytes()
    except OSError:
        return False


def is_silent(reading: str | None) -> bool:
    """Whether NVML hung: nvidia-smi, which asks it too, would hang as well."""
    return reading is not None and json.loads(reading).get("error") == HUNG


def is_whole(reading: str | None) -> bool:
    """Whether NVML was there, and it and every GPU answered."""
    document = json.loads(reading or "{}")
    return "gpus" in document and not any("error" in gpu for gpu in document["gpus"])


def _no_answer(value: int, message: str) -> str:
    return json.dumps({"error": value, "message": message})


def _how(status: int, stderr: str) -> str:
    if status >= 0:
        return (stderr.strip().splitlines() or [f"status {status}"])[-1]
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


# --- in the process of its own --------------------------------------------------------------------------------------


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
    gpus = [_gpu(nvml, index) for index in range(count)]
    _place(gpus, sorted(path.name for path in BOUND.glob("*:*:*")))
    return {
        "driver_version": _host(nvml, nvml.nvmlSystemGetDriverVersion),
        "cuda_api_version": _host(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2, nvml.nvmlSystemGetCudaDriverVersion),
        "gpus": gpus,
    }


def _place(gpus: list[dict[str, Any]], bound: list[str]) -> None:
    """Give GPUs that could not say where they are the addresses that are left, where that is certain: NVML's order is
    that of the bus."""
    known = {str(gpu.get("bus_id")).lower()[-12:] for gpu in gpus}
    left = [address for address in bound if address.lower() not in known]
    unplaced = [gpu for gpu in gpus if gpu.keys() & {"error", "denied"} and not gpu.get("bus_id")]
    if len(left) == len(unplaced):
        for gpu, address in zip(unplaced, left, strict=True):
            gpu["bus_id"] = address


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
