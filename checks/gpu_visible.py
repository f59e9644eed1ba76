# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Which of the driver's GPUs a program of CUDA's computes on: the driver lists all, CUDA shows a program some of them.

A part of gpu_state.py, which loads it from its own folder. ``addresses`` asks CUDA itself, ``visible`` tells it from
the variables. Their rules are the CUDA programming guide's (https://docs.nvidia.com/cuda/cuda-programming-guide, "CUDA
Environment Variables"), the MIG user guide's ("CUDA Device Enumeration"), and where these are silent those that PyTorch
found (torch/cuda/__init__.py, _parse_visible_devices).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass

LIBRARY = "libcuda.so.1"
BUS_ORDER = "PCI_BUS_ID"
"""CUDA_DEVICE_ORDER: as nvidia-smi counts. The default, FASTEST_FIRST, begins with the fastest."""


@dataclass(frozen=True)
class Gpu:
    """As NVML tells it; None where it does not."""

    name: str | None = None
    uuid: str | None = None
    """GPU-8932f937-d72c-4106-c12f-20bd9faed9f6."""
    address: str | None = None
    """0000:01:00.0."""
    slices: tuple[str, ...] | None = None
    """UUIDs of its MIG devices; None with MIG off."""


def visible(gpus: Sequence[Gpu], asked: str | None, order: str | None) -> tuple[int, ...] | None:
    """The GPUs that CUDA shows a program, as places in ``gpus``, lowest first; None where that cannot be told.

    ``asked``: CUDA_VISIBLE_DEVICES. ``order``: CUDA_DEVICE_ORDER. A list ends at the first name that is none; a GPU
    that is named twice leaves no GPU at all. Of several MIG devices CUDA shows the first, and no whole GPU beside it.
    """
    bus = sorted(range(len(gpus)), key=lambda place: (gpus[place].address or "", place))
    if asked is None:
        chosen = bus
    else:
        names = [name.strip() for name in asked.split(",")]
        numbers = not names[0].startswith(("GPU-", "MIG-"))
        found = [numbered(name, bus) if numbers else named(name, gpus, names[0][:4]) for name in names]
        chosen = found[: found.index(None)] if None in found else found
        if names[0].startswith("MIG-"):
            chosen = chosen[:1]
        if len(set(chosen)) < len(chosen):
            return ()
        alike = len({gpu.name for gpu in gpus}) == 1 and gpus[0].name is not None
        if numbers and 0 < len(chosen) < len(gpus) and order != BUS_ORDER and not alike:
            return None  # only CUDA knows which of them it takes for faster
    whole = [place for place in chosen if gpus[place].slices is None]
    sliced = [place for place in chosen if gpus[place].slices]
    return tuple(sliced[:1] or sorted(whole))


def numbered(name: str, bus: Sequence[int]) -> int | None:
    """CUDA reads numbers as strtol does: "1gpu" is 1, "gpu" is none."""
    digits = re.match(r"\+?([0-9]+)", name)
    number = int(digits.group(1)) if digits else len(bus)
    return bus[number] if number < len(bus) else None


def named(name: str, gpus: Sequence[Gpu], prefix: str) -> int | None:
    """The GPU of a UUID, or of as much of its beginning as no other one has; of a MIG device, the GPU it is cut from.

    Before driver 470 MIG devices were called MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0.
    """
    if not name.startswith(prefix):
        return None
    if name.startswith("MIG-GPU-"):
        return named(name[4:].partition("/")[0], gpus, "GPU-")
    names = [(place, uuid) for place, gpu in enumerate(gpus) for uuid in (gpu.uuid, *(gpu.slices or ())) if uuid]
    meant = [place for place, uuid in names if uuid.startswith(name)]
    return meant[0] if len(meant) == 1 else None


def addresses(ordinals: Sequence[int], library: str = LIBRARY) -> list[str | None]:
    """PCI addresses of CUDA's devices, by this process's own numbers for them; None for what CUDA does not tell."""
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return [None] * len(ordinals)
    started = cuda.cuInit(0) == 0
    return [address(cuda, ordinal) if started else None for ordinal in ordinals]


def address(cuda: ctypes.CDLL, ordinal: int) -> str | None:
    device, text = ctypes.c_int(), ctypes.create_string_buffer(32)
    if cuda.cuDeviceGet(ctypes.byref(device), ctypes.c_int(ordinal)):
        return None
    if cuda.cuDeviceGetPCIBusId(text, ctypes.c_int(len(text)), device):
        return None
    # "0000:01:00.0"
    found = re.fullmatch(r"([0-9A-Fa-f]{4,8}):(.+)", text.value.decode())
    return f"{found.group(1)[-4:]}:{found.group(2)}".lower() if found else None
