"""This machine's readings: the same script as on any other host, and NVML where a driver is there."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from provision.detect.framed import is_complete, split
from provision.errors import HostError
from provision.model.readings import Readings
from provision.run.command import run

SCRIPTS = tuple(Path(__file__).with_name(name) for name in ("probe_nvidia.sh", "probe.sh"))
NO_SMI = "no-nvidia-smi"
TIMEOUT_S = 120.0
"""nvidia-smi alone may take half a minute on a box with many GPUs and no persistence daemon."""

NVML_LIBRARY = "libnvidia-ml.so.1"


def probe_script() -> str:
    """One script: given to `sh -s BOUNDARY` on its standard input, here or over SSH."""
    return "".join(script.read_text(encoding="utf-8") for script in SCRIPTS)


def probe_command(boundary: str, *, nvidia_smi: bool = True) -> str:
    """The remote command line that reads the script from standard input. ``boundary`` is ``new_boundary()``."""
    return f"sh -s -- {boundary}" + ("" if nvidia_smi else f" {NO_SMI}")


def new_boundary() -> str:
    """Letters and digits, safe in a shell, that nothing on the host can foresee."""
    return f"provision-{os.urandom(16).hex()}"


def readings_of(stdout: str, boundary: str, *, host: str) -> Readings:
    """The readings in the probe's output. Raises HostError where it did not reach its end."""
    if not is_complete(stdout, boundary):
        raise HostError(
            what=f"{host}: the probe did not finish",
            why="its output stops before the last reading" if boundary in stdout else "it printed no reading at all",
            hint="run `sh -c true` on that host: it needs a POSIX shell, and a login that prints nothing but text",
        )
    return split(stdout, boundary)


def local_readings() -> Readings:
    """Every reading of this machine. Raises HostError where there is no POSIX shell."""
    nvml = nvml_reading()
    boundary = new_boundary()
    arguments = [boundary] if nvml is None or '"error"' in nvml else [boundary, NO_SMI]
    loading = threading.Thread(target=_load_parsers, daemon=True)
    loading.start()
    done = run(["sh", "-s", "--", *arguments], stdin=probe_script(), timeout_s=TIMEOUT_S)
    loading.join()
    if done.status == 127:
        raise HostError(what="there is no `sh` on this machine", why=done.stderr, hint="install a POSIX shell")
    files = dict(readings_of(done.stdout, boundary, host="localhost").files)
    if nvml is not None:
        files["nvml.json"] = nvml
    if not {"proc_cpuinfo", "sysctl"} & files.keys():
        files.update(_cpuinfo_package())
    return Readings(files)


def _load_parsers() -> None:
    """What every caller needs next, imported while the script runs: 45 ms that would otherwise come on top of it."""
    from importlib import import_module

    import_module("archspec.cpu")
    import_module("provision.detect.host")
    import_module("provision.catalog.load").chips()


def nvml_reading() -> str | None:
    """``nvml.json`` (see provision/detect/nvml.py), or None where NVML cannot be loaded: no driver here."""
    import ctypes

    try:
        ctypes.CDLL(NVML_LIBRARY)
    except OSError:
        return None
    import pynvml  # 20 ms that only a machine with a driver has to pay

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return json.dumps({"error": int(error.value), "message": str(error)})
    try:
        return json.dumps(_nvml_document(pynvml))
    except pynvml.NVMLError as error:
        return json.dumps({"error": int(error.value), "message": str(error)})
    finally:
        pynvml.nvmlShutdown()


def _nvml_document(nvml: Any) -> dict[str, Any]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return {
        "driver_version": _answer(nvml, nvml.nvmlSystemGetDriverVersion),
        "cuda_api_version": _answer(nvml, nvml.nvmlSystemGetCudaDriverVersion_v2),
        "gpus": [_nvml_gpu(nvml, handle) for handle in handles],
    }


def _nvml_gpu(nvml: Any, handle: Any) -> dict[str, Any]:
    pci = _answer(nvml, nvml.nvmlDeviceGetPciInfo, handle)
    memory = _answer(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    mode = _answer(nvml, nvml.nvmlDeviceGetMigMode, handle)
    return {
        "name": _answer(nvml, nvml.nvmlDeviceGetName, handle),
        "bus_id": _plain(pci.busId) if pci is not None else None,
        "pci_device_id": int(pci.pciDeviceId) if pci is not None else None,
        "compute_capability": _answer(nvml, nvml.nvmlDeviceGetCudaComputeCapability, handle),
        "memory_bytes": int(memory.total) if memory is not None else None,
        "mig_mode": int(mode[0]) if mode is not None else None,
        "mig_devices": _mig_devices(nvml, handle) if mode is not None and mode[0] == 1 else 0,
    }


def _mig_devices(nvml: Any, handle: Any) -> int:
    most = _answer(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0
    found = (_answer(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index) for index in range(most))
    return sum(device is not None for device in found)


def _answer(nvml: Any, question: Any, *arguments: Any) -> Any:
    """What NVML answers, or None where this GPU or driver does not know the question (Jetson, GB10, old drivers)."""
    unknown = {nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_NOT_FOUND}
    unknown |= {nvml.NVML_ERROR_NO_PERMISSION, nvml.NVML_ERROR_INVALID_ARGUMENT}
    try:
        return _plain(question(*arguments))
    except nvml.NVMLError as error:
        if error.value in unknown:
            return None
        raise


def _plain(value: Any) -> Any:
    """Older pynvml answers with bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _cpuinfo_package() -> dict[str, str]:
    """The CPU through py-cpuinfo, in the form of /proc/cpuinfo: BSD and the like have neither file nor sysctl keys."""
    import cpuinfo  # starts processes of its own: only where nothing else reads the CPU

    from provision.detect.sysctl import kernel_flags

    found = cpuinfo.get_cpu_info()
    keys = (
        ("vendor_id", "vendor_id_raw"), ("cpu family", "family"), ("model", "model"), ("model name", "brand_raw"),
        ("stepping", "stepping"),
    )  # fmt: skip
    lines = [f"{key}\t: {found[name]}" for key, name in keys if found.get(name) not in (None, "")]
    if found.get("flags"):
        # py-cpuinfo adds names of its own (sha, rdrnd, avx512vnni) to those of the system
        lines.append("flags\t\t: " + " ".join(kernel_flags(found["flags"])))
    return {"proc_cpuinfo": "\n".join(lines) + "\n", "nproc": f"{found.get('count', '')}\n"} if lines else {}
