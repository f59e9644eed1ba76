"""What the loaded kernel module says of itself: /proc/driver/nvidia, /proc/modules, `modinfo`."""

from __future__ import annotations

import re
from typing import Literal

from provision.detect.pci import canonical_address
from provision.detect.seen import Seen, SeenGpu
from provision.detect.text import known, pairs, version
from provision.model.readings import Readings

VERSION_READING = "proc_driver_nvidia_version"
MODULES_READING = "proc_modules"

Module = Literal["open", "proprietary"]

# "NVRM version: NVIDIA UNIX x86_64 Kernel Module  510.85.02  Tue Jul 12 16:51:23 UTC 2022"
# "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.126.09  Release Build …"
_NVRM = re.compile(r"^NVRM version:\s+(NVIDIA [^\n]*?Kernel Module[^\n]*)$", re.MULTILINE)


def module_version(readings: Readings) -> str | None:
    match = _NVRM.search(readings.text(VERSION_READING) or "")
    return version(re.split(r"Kernel Module", match[1], maxsplit=1)[1]) if match else None


def module_flavour(readings: Readings) -> Module | None:
    match = _NVRM.search(readings.text(VERSION_READING) or "")
    if match:
        return "open" if "Open Kernel Module" in match[1] else "proprietary"
    # "nvidia 39141376 111 nvidia_uvm,nvidia_modeset, Live 0xffffffffc15b1000 (PO)": P is a proprietary licence
    taint = re.search(r"^nvidia \d.*\(([A-Z]{1,8})\)\s*$", readings.text(MODULES_READING) or "", re.MULTILINE)
    return None if taint is None else "proprietary" if "P" in taint[1] else "open"


def loaded_modules(readings: Readings) -> frozenset[str] | None:
    """Names, or None where /proc/modules was not read. The I2C driver i2c_nvidia_gpu is not NVIDIA's driver."""
    text = readings.text(MODULES_READING)
    return None if text is None else frozenset(re.findall(r"^([A-Za-z0-9_-]{1,64})(?:\s|$)", text, re.MULTILINE))


def read_gpus(readings: Readings) -> Seen:
    """/proc/driver/nvidia/gpus/*/information: "Model: NVIDIA RTX 6000 Ada Generation", "Bus Location: 0000:01:00.0"."""
    found = []
    for name in sorted(readings.files):
        if not name.startswith("proc_driver_nvidia_gpus_") or not name.endswith("_information"):
            continue
        values = dict(pairs(readings.files[name]))
        address = canonical_address(values.get("Bus Location"))
        if address is not None:
            model = known(values.get("Model"))
            found.append(SeenGpu(source="pci", address=address, name=None if model == "Unknown" else model))
    return Seen(gpus=tuple(found))
