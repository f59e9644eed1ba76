"""`lspci` with any of -n, -D, -v and -d: a head line a device, indented lines below it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provision.detect.pci import ADDRESS, GPU_CLASSES, VENDOR, PciGpu, canonical_address
from provision.detect.text import blocks

READINGS = (
    "lspci_nnDvvv_10de", "lspci_vnn_10de", "lspci_nn", "lspci_d10de_v", "lspci_v", "lspci_vv", "lspci",
)  # fmt: skip
"""Those that print ids first: they know the most."""

# lspci names classes in words where it prints no number
_CLASS_NAMES = {"VGA compatible controller": "0300", "3D controller": "0302"}

# "01:00.0 VGA compatible controller [0300]: NVIDIA Corporation GM206 [GeForce GTX 960] [10de:1401] (rev a1)"
_HEAD = re.compile(
    rf"^(?P<address>{ADDRESS})\s+"
    r"(?P<class_name>[^\[\]:\n]{1,80}?)(?:\s\[(?P<class_id>[0-9a-f]{4})\])?:\s+"
    r"(?P<text>[^\n]{1,400})$",
    re.MULTILINE,
)
_ID = re.compile(r"\[([0-9a-f]{4}):([0-9a-f]{4})\]")
_IN_USE = re.compile(r"^\s+Kernel driver in use:\s*(\S{1,64})\s*$", re.MULTILINE)


def read_lspci(text: str) -> list[PciGpu]:
    """`lspci` with any of -n, -D, -v and -d: a head line a device, indented lines below it."""
    found = []
    for gpu, below in _gpus(text):
        in_use = _IN_USE.search(below)
        found.append(PciGpu(address=gpu.address, device=gpu.device, name=gpu.name, driver=in_use and in_use[1]))
    return found


def gpu_blocks(text: str) -> Iterator[tuple[str, str]]:
    """(address, the indented lines below) of each GPU."""
    return ((gpu.address, below) for gpu, below in _gpus(text))


def _gpus(text: str) -> Iterator[tuple[PciGpu, str]]:
    for head, below in blocks(list(_HEAD.finditer(text)), text):
        class_id = head["class_id"] or _CLASS_NAMES.get(head["class_name"].strip())
        gpu = _gpu(head) if class_id in GPU_CLASSES else None
        if gpu is not None:
            yield gpu, below


def _gpu(head: re.Match[str]) -> PciGpu | None:
    address = canonical_address(head["address"])
    text = head["text"]
    ids = _ID.search(text)
    if address is None or (ids[1] != VENDOR if ids else "NVIDIA" not in text.split("[")[0]):
        return None
    name = text[: ids.start()] if ids else re.sub(r"\s\((?:rev|prog-if)\b.*$", "", text)
    name = re.sub(r"^nVidia Corporation|^NVIDIA Corporation", "", name, flags=re.IGNORECASE).strip()
    unnamed = re.fullmatch(r"Device(?: ([0-9a-f]{4}))?", name)
    device = int(ids[2], 16) if ids else int(unnamed[1], 16) if unnamed and unnamed[1] else None
    return PciGpu(address=address, device=device, name=None if unnamed else name or None, driver=None)
