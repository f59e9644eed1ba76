"""What NVML says on this machine, for the library that harness.nvml plays it with: its host file, kept as the kernel's
module comes and goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.gpu_machine.files import write

HOST_FILE = "/nvml_host"
NOT_LOADED = "driver 0.0\nanswer nvmlInit 9\n"
GPU = """\
gpu
  name NVIDIA {name}
  uuid {uuid}
  bus_id 0000{address}
  device_id 0x{device:04x}10DE
  memory_mib {memory_mib} 300
  compute_capability {capability}
  pcie 16 16 3 3
  power_mw 12000 160000 160000
  throttle 0x1
  persistence 1
  temperature_c 41
  utilization 0 0
"""


def loaded(version: str, cards: Sequence[Mapping[str, Any]]) -> None:
    """The module of this version drives these cards."""
    gpus = (GPU.format(**card, capability=card["compute_capability"].replace(".", " ")) for card in cards)
    write(HOST_FILE, f"driver {version}\nnvml 13.{version}\ncuda 13000\n" + "".join(gpus))


def unloaded() -> None:
    write(HOST_FILE, NOT_LOADED)
