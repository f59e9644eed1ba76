#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Is NVIDIA's driver whole: one version in kernel and library, every GPU seen?

Compares the loaded module's version with the library's, the GPUs that the driver lists with those on the PCI bus, and
looks at flavour and persistence. Asks the driver through NVML by ctypes: no framework and no nvidia-smi is needed.
gpu_nvml.py must lie beside this script. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell (no NVIDIA GPU here); one
JSON line on stdout.

    python gpu_driver.py
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import gpu_nvml

VENDOR = "0x10de"
DISPLAYS = ("0x0300", "0x0302")
"""PCI classes: VGA controller, 3D controller."""


def module(root: Path) -> dict[str, Any]:
    """The loaded module's version and flavour; None where it is not loaded, or not said."""
    # NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.274.02  Thu Sep 11 08:00:00 UTC 2025
    # NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@…)
    text = read(root / "proc/driver/nvidia/version")
    line = next((line for line in text.splitlines() if line.startswith("NVRM version:")), "")
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", line + " ")
    version = read(root / "sys/module/nvidia/version").strip() or (found.group(1) if found else None)
    flavour = ("open" if "Open Kernel Module" in line else "proprietary") if line else None
    return {"version": version, "flavour": flavour}


def on_the_bus(root: Path) -> dict[str, str | None]:
    """NVIDIA's GPUs by PCI address, with the kernel driver bound to each."""
    found: dict[str, str | None] = {}
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if read(device / "vendor").strip() == VENDOR and read(device / "class").startswith(DISPLAYS):
            link = device / "driver"
            found[device.name.lower()] = link.resolve().name if link.exists() else None
    return found


def ask(library: str) -> dict[str, Any]:
    """What NVML says: its version, each GPU, or why it says nothing."""
    found: dict[str, Any] = {"library": None, "version": None, "gpus": [], "error": None, "words": ""}
    try:
        with gpu_nvml.Nvml(library) as nvml:
            found["version"] = nvml.driver_version()
            found["gpus"] = [look_at(nvml, index) for index in range(nvml.count())]
    except gpu_nvml.Refused as refused:
        found.update(error=refused.value, words=refused.words)
    found["library"] = gpu_nvml.loaded_version() or found["version"]
    return found


def look_at(nvml: gpu_nvml.Nvml, index: int) -> dict[str, Any]:
    try:
        gpu = nvml.gpu(index)
    except gpu_nvml.Refused as refused:
        return {"index": index, "name": None, "address": None, "persistence": None, "error": refused.words}
    return {
        "index": index,
        "name": gpu.name(),
        "address": gpu.address(),
        "persistence": gpu.persistence(),
        "error": gpu.gone() or None,
    }


def judge(loaded: dict[str, Any], bus: dict[str, str | None], said: dict[str, Any], contained: bool) -> dict[str, Any]:
    """``contained``: in a container, which may be given fewer GPUs than the bus shows."""
    version, flavour = loaded["version"], loaded["flavour"]
    data = {"module": version, "flavour": flavour, "library": said["library"], "gpus": said["gpus"], "bus": bus}
    if not bus and said["error"] is not None and version is None:
        return answer("skip", "there is no NVIDIA GPU here", "none on the PCI bus, and no driver", "", data)
    for problem in (versions, silent, lost, missing):
        found = problem(loaded, bus, said, contained)
        if found is not None:
            return answer("fail", *found, data)
    number = len(said["gpus"])
    named = ", ".join(str(gpu["name"]) for gpu in said["gpus"])
    kind = f"{flavour} module" if flavour else "module's flavour not known"
    what = f"driver {said['version']} ({kind}) sees {number} GPU{'' if number == 1 else 's'}: {named}"
    return answer("pass", what, "; ".join(remarks(bus, said, contained)), "", data)


def versions(loaded: dict[str, Any], _bus: Any, said: dict[str, Any], _contained: bool) -> tuple[str, str, str] | None:
    module_version, library = loaded["version"], said["library"]
    differ = module_version and library and module_version != library
    if said["error"] != gpu_nvml.MISMATCH and not differ:
        return None
    why = f"the loaded module is {module_version or 'not known'}, the library is {library or 'not known'}"
    hint = "reboot: packages were upgraded under the running module; where that does not help, install one version"
    return "the driver's module and library are of two versions", why, hint


def silent(loaded: dict[str, Any], bus: dict[str, str | None], said: dict[str, Any], _: bool) -> Any:
    if said["error"] is None:
        return None
    if said["error"] == gpu_nvml.NOT_FOUND:
        hint = "install the driver's libraries (libnvidia-compute, libnvidia-ml1); in a container start it with --gpus"
        return "the driver's library is missing", said["words"], hint
    if loaded["version"] is None:
        taken = sorted({driver for driver in bus.values() if driver and driver != "nvidia"})
        why = f"bound to the GPU: {', '.join(taken)}" if taken else "no module nvidia is loaded"
        hint = "provision up installs the driver; after an installation a reboot is needed: `modinfo nvidia` shows it"
        return "NVIDIA's kernel module is not loaded", why, hint
    hint = "`dmesg | grep -i nvrm` says why; provision doctor explains it"
    return "the driver does not answer", f"NVML: {said['words']}", hint


def lost(_loaded: Any, _bus: Any, said: dict[str, Any], _contained: bool) -> tuple[str, str, str] | None:
    gone = [f"GPU {gpu['index']}: {gpu['error']}" for gpu in said["gpus"] if gpu["error"]]
    if not gone:
        return None
    hint = "`dmesg | grep Xid` says why; power off and on; then look at the card's power plugs, slot and cooling"
    return f"{len(gone)} of {len(said['gpus'])} GPUs do not answer", "; ".join(gone), hint


def missing(_loaded: Any, bus: dict[str, str | None], said: dict[str, Any], contained: bool) -> Any:
    """GPUs that another driver was bound to on purpose (a virtual machine's) are not missed."""
    if not said["gpus"]:
        return (
            "the driver sees no GPU",
            f"on the PCI bus: {', '.join(bus) or 'none'}",
            "`dmesg | grep -i nvrm` says why",
        )
    seen = {gpu["address"] for gpu in said["gpus"]}
    unseen = {address: driver for address, driver in bus.items() if address not in seen and driver != "vfio-pci"}
    if not unseen or contained:
        return None
    words = [
        f"{address} ({f'bound to {driver}' if driver else 'no driver bound'})" for address, driver in unseen.items()
    ]
    hint = "`dmesg | grep -i nvrm` says why: a card too old or too new for this driver, or too little power"
    return f"the driver sees {len(seen)} of {len(bus)} NVIDIA GPUs", f"not seen: {', '.join(words)}", hint


def remarks(bus: dict[str, str | None], said: dict[str, Any], contained: bool) -> list[str]:
    found = []
    cold = [str(gpu["index"]) for gpu in said["gpus"] if gpu["persistence"] is False]
    if cold:
        which = f"GPU {', '.join(cold)}" if len(said["gpus"]) > 1 else "the GPU"
        found.append(f"persistence is off for {which}: each first program waits for it (nvidia-persistenced mends it)")
    kept = [address for address, driver in bus.items() if driver == "vfio-pci"]
    if kept:
        found.append(f"kept for virtual machines: {', '.join(kept)}")
    if contained and len(bus) > len(said["gpus"]):
        found.append(f"this container was given {len(said['gpus'])} of {len(bus)}")
    return found


def read(path: Path) -> str:
    """Empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    return {"id": "gpu_driver", "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="holds proc and sys (/)")
    parser.add_argument("--library", default=gpu_nvml.LIBRARY, metavar="FILE", help=f"NVML ({gpu_nvml.LIBRARY})")
    options = parser.parse_args()
    contained = any((options.root / name).exists() for name in (".dockerenv", "run/.containerenv"))
    result = judge(module(options.root), on_the_bus(options.root), ask(options.library), contained)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
