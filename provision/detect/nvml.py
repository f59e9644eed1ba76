"""The probe's own reading through NVML, ``nvml.json``: the driver's answer without nvidia-smi's formats.

``{"driver_version": "580.95.05", "cuda_api_version": 13000, "gpus": [{"name", "bus_id", "pci_device_id",
"compute_capability": [8, 9], "memory_bytes", "mig_mode": 0, "mig_devices": 0}]}``, or ``{"error": 18, "message": "…"}``
where NVML could be loaded and did not start. ``pci_device_id`` is NVML's number: device in the upper 16 bits, vendor
in the lower. Keys that the driver did not answer are null.

A GPU that stopped answering has "index", and "error" with NVML's words; one that may not be asked "denied". Of its
state a GPU says "pcie" [width, widest, generation, newest], "power_limit_w", "power_default_w", "throttle" [names],
"persistence", "temperature_c", "clock_sm_mhz", "clock_sm_max_mhz": provision/detect/nvidia_health.py reads those.
"""

from __future__ import annotations

import json
from typing import Any

from provision.detect.pci import canonical_address
from provision.detect.seen import NvmlError, Seen, SeenGpu, SeenMig
from provision.detect.text import known, version


def read_nvml(text: str) -> Seen | NvmlError | None:
    """None where the text is not such a document."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("error"), int):
        return NvmlError(value=data["error"], message=str(data.get("message") or ""))
    gpus = data.get("gpus")
    if not isinstance(gpus, list):
        return None
    entries = [gpu for gpu in gpus if isinstance(gpu, dict)]
    return Seen(
        gpus=tuple(_gpu(gpu) for gpu in entries if not gpu.keys() & {"error", "denied"}),
        silent=tuple(str(gpu["error"]) for gpu in entries if "error" in gpu),
        driver_version=version(_text(data.get("driver_version"))),
        cuda_api_version=_cuda(data.get("cuda_api_version")),
    )


def _cuda(value: Any) -> str | None:
    """NVML's 12040 is 12.4."""
    number = _number(value)
    return f"{number // 1000}.{number % 1000 // 10}" if number is not None and number >= 1000 else None


def _gpu(data: dict[str, Any]) -> SeenGpu:
    pci = _number(data.get("pci_device_id"))
    memory = _number(data.get("memory_bytes"))
    mode = _number(data.get("mig_mode"))
    return SeenGpu(
        source="nvml",
        name=known(_text(data.get("name"))),
        address=canonical_address(_text(data.get("bus_id"))),
        device=pci >> 16 if pci is not None and pci & 0xFFFF == 0x10DE else None,
        compute_capability=_capability(data.get("compute_capability")),
        memory_mib=(memory // (1024 * 1024) or None) if memory is not None else None,
        mig=SeenMig(enabled=mode == 1, devices=_number(data.get("mig_devices")) or 0) if mode is not None else None,
    )


def _capability(value: Any) -> str | None:
    if isinstance(value, list) and len(value) == 2:
        major, minor = map(_number, value)
        if major is not None and minor is not None and major < 100 and minor < 10:
            return f"{major}.{minor}"
    return None


def _number(value: Any) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value < 1 << 62 else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
