"""`nvidia-smi -q`: indented "key : value" lines in sections, a block a GPU."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provision.detect.pci import ADDRESS, canonical_address
from provision.detect.seen import Seen, SeenGpu, device_id, mig
from provision.detect.text import blocks, known, mib, version

# "GPU 00000000:41:00.0"; driver 358 and older print four digits of domain
_GPU = re.compile(rf"^GPU ({ADDRESS})\s*$", re.MULTILINE)
_LINE = re.compile(r"^( *)(\S.*?) *(?:: (.*))?$")


def read_q(text: str) -> Seen | None:
    """None where the text is no such log, such as an error message."""
    if "NVSMI LOG" not in text and not _GPU.search(text):
        return None
    heads = list(_GPU.finditer(text))
    top = dict(_leaves(text[: heads[0].start()] if heads else text))
    return Seen(
        gpus=tuple(_gpu(head[1], block) for head, block in blocks(heads, text)),
        # driver 610: "Driver Version : 610.57.04 [Deprecated; …]" and "KMD Version : 610.57.04"
        driver_version=version(top.get(("KMD Version",))) or version(top.get(("Driver Version",))),
        cuda_api_version=version(top.get(("CUDA UMD Version",))) or version(top.get(("CUDA Version",))),
    )


def gpu_leaves(text: str) -> list[tuple[str | None, dict[tuple[str, ...], str]]]:
    """(canonical address, value by path below the GPU) of each GPU."""
    found = []
    for head, block in blocks(list(_GPU.finditer(text)), text):
        leaves: dict[tuple[str, ...], str] = {}
        for path, value in _leaves(block):
            leaves.setdefault(path, value)
        found.append((canonical_address(head[1]), leaves))
    return found


def _gpu(address: str, block: str) -> SeenGpu:
    leaves: dict[tuple[str, ...], str] = {}
    devices = 0
    for path, value in _leaves(block):
        leaves.setdefault(path, value)
        devices += path == ("MIG Device", "Index")
    leaf = leaves.get
    return SeenGpu(
        source="nvidia-smi",
        name=known(leaf(("Product Name",))),
        address=canonical_address(address),
        device=device_id(leaf(("PCI", "Device Id"))),
        architecture=known(leaf(("Product Architecture",))),
        # BAR1, protected memory and MIG devices have a "Total" of their own; driver 304 calls it "Memory Usage"
        memory_mib=mib(leaf(("FB Memory Usage", "Total")) or leaf(("Memory Usage", "Total"))),
        mig=mig(leaf(("MIG Mode", "Current")), devices),
    )


def _leaves(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, value) of each line with a value; the path is the headings above it by indentation."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        indent, key, value = len(match[1]), match[2], match[3]
        while above and above[-1][0] >= indent:
            above.pop()
        if value is None:
            above.append((indent, key.rstrip(": ")))
        else:
            yield (*(heading for _, heading in above), key), value.strip()
