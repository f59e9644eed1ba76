"""`deviceQuery` of the CUDA samples: the one old reading that tells the compute capability."""

from __future__ import annotations

import re

from provision.detect.seen import Seen, SeenGpu
from provision.detect.text import blocks, known

# 'Device 0: "NVIDIA GeForce RTX 5090"'
_DEVICE = re.compile(r'^Device \d{1,3}: "([^"\n]{1,200})"', re.MULTILINE)
_CAPABILITY = re.compile(r"CUDA Capability Major/Minor version number:\s+(\d{1,2}\.\d)\b")
_LOCATION = re.compile(r"Device PCI Domain ID / Bus ID / location ID:\s+(\d{1,5}) / (\d{1,3}) / (\d{1,2})\b")
_VERSIONS = re.compile(r"CUDA Driver Version / Runtime Version\s+(\d{1,2}\.\d{1,2}) /")


def read_device_query(text: str) -> Seen | None:
    heads = list(_DEVICE.finditer(text))
    if not heads:
        return None
    versions = _VERSIONS.search(text)
    return Seen(
        gpus=tuple(_gpu(head[1], block) for head, block in blocks(heads, text)),
        cuda_api_version=versions[1] if versions else None,
    )


def _gpu(name: str, block: str) -> SeenGpu:
    capability, location = _CAPABILITY.search(block), _LOCATION.search(block)
    address = None
    if location:
        domain, bus, slot = (int(part) for part in location.groups())
        address = f"{domain:04x}:{bus:02x}:{slot:02x}.0"
    return SeenGpu(
        source="nvidia-smi",
        name=known(name),
        address=address,
        compute_capability=capability[1] if capability else None,
    )
