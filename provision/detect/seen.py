"""What one GPU reading shows, in one shape for all of them, before they are put together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provision.model.facts import GpuSource


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMig:
    enabled: bool
    devices: int | None
    """None where the reading tells the mode and not the devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenGpu:
    source: GpuSource
    name: str | None = None
    address: str | None = None
    """Canonical; None where the reading has none (Jetson, `nvidia-smi -L`)."""
    device: int | None = None
    """PCI device id under vendor 10de."""
    pci_name: str | None = None
    """As pci.ids has it: "GM206 [GeForce GTX 960]"."""
    architecture: str | None = None
    compute_capability: str | None = None
    memory_mib: int | None = None
    mig: SeenMig | None = None
    driver: str | None = None
    """Kernel driver bound to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One reading: its GPUs, and what it says about the driver."""

    gpus: tuple[SeenGpu, ...] = ()
    silent: tuple[str, ...] = ()
    """What the driver says of each GPU that it lists and that does not answer: "GPU is lost". Not in ``gpus``."""
    driver_version: str | None = None
    cuda_api_version: str | None = None
    broken: bool = False
    """The text is not whole (cut, not XML): what could be read of it counts, if no better reading is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NvmlError:
    """https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceEnumvs.html, nvmlReturn_t; or DIED or HUNG"""

    value: int
    message: str


DIED, HUNG = -1, -2
"""Instead of an nvmlReturn_t: asking NVML ended the process that asked, or it never answered."""


def device_id(text: str | None) -> int | None:
    """From nvidia-smi's "0x268410DE" or "268410DE": device, then vendor."""
    match = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{4})10[dD][eE]", (text or "").strip())
    return int(match[1], 16) if match else None


def mig(mode: str | None, devices: int | None) -> SeenMig | None:
    """From "Enabled" or "Disabled"; anything else ("N/A") is a GPU without MIG."""
    if mode == "Enabled":
        return SeenMig(enabled=True, devices=devices)
    return SeenMig(enabled=False, devices=0) if mode == "Disabled" else None
