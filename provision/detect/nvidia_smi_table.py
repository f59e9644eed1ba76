"""`nvidia-smi` without options: the table for people, in the widths of drivers 358 to 610; and `nvidia-smi -L`."""

from __future__ import annotations

import re

from provision.detect.pci import ADDRESS, canonical_address
from provision.detect.seen import Seen, SeenGpu, SeenMig, mig
from provision.detect.text import known, mib, version

# "| NVIDIA-SMI 580.95.05              Driver Version: 580.95.05      CUDA Version: 13.0     |"
# "| NVIDIA-SMI 610.57.04              KMD Version: 610.57.04     CUDA UMD Version: 13.3     |"
_HEAD = re.compile(r"\| NVIDIA-SMI [^\n|]*")
_DRIVER = re.compile(r"(?:Driver|KMD) Version:\s*([\d.]{1,24})")
_CUDA = re.compile(r"CUDA (?:UMD )?Version:\s*([\d.]{1,12})")

# "|   0  NVIDIA GB10                    On  |   0000000F:01:00.0 Off |                  N/A |"
_GPU = re.compile(
    r"^\|\s+(?P<index>\d{1,3})\s+(?P<name>\S.*?)\s+(?:On|Off|N/A)\s*\|\s*(?P<address>" + ADDRESS + r"|N/A)\s+\S+\s*\|",
)
# "| N/A   39C    P0    57W / 149W |      0MiB / 11439MiB |      0%      Default |"
_MEMORY = re.compile(r"\|[^|]*\|\s*\d{1,18}MiB\s*/\s*(\d{1,18}MiB)\s*\|")
# "|                  |                      |              Enabled |"
_MIG_MODE = re.compile(r"^\|\s*\|\s*\|\s*(Enabled|Disabled)\*?\s*\|")
# "|  0    2   0   0  |              26MiB / 40448MiB    | 60      0 |  3   0    3    0    3 |"
_MIG_DEVICE = re.compile(r"^\|\s+(\d{1,3})\s+\d{1,3}\s+\d{1,3}\s+\d{1,3}\s*\|\s*\d+MiB\s*/")


def read_table(text: str) -> Seen | None:
    """None where the text is no such table, such as an error message."""
    head = _HEAD.search(text)
    if head is None:
        return None
    driver, cuda = _DRIVER.search(head[0]), _CUDA.search(head[0])
    lines = text.splitlines()
    devices = [match[1] for line in lines if (match := _MIG_DEVICE.match(line))]
    gpus = [
        _gpu(match, lines[at + 1 : at + 3], devices) for at, line in enumerate(lines) if (match := _GPU.match(line))
    ]
    return Seen(
        gpus=tuple(gpus),
        driver_version=version(driver[1]) if driver else None,
        cuda_api_version=version(cuda[1]) if cuda else None,
    )


def _gpu(row: re.Match[str], below: list[str], devices: list[str]) -> SeenGpu:
    memory = _MEMORY.match(below[0]) if below else None
    mode = _MIG_MODE.match(below[1]) if len(below) > 1 else None
    return SeenGpu(
        source="nvidia-smi",
        name=known(row["name"]),  # cut to the column's width: "NVIDIA GeForce RTX 2080 ..."
        address=canonical_address(row["address"]),
        memory_mib=mib(memory[1]) if memory else None,
        mig=mig(mode[1] if mode else None, devices.count(row["index"])),
    )


# "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-…)", and below it "  MIG 3g.40gb     Device  0: (UUID: MIG-…)"
_LISTED = re.compile(r"^GPU \d{1,3}: (.{1,200}?)(?: \(UUID: .*)?$")


def read_list(text: str) -> Seen | None:
    """`nvidia-smi -L`: names and MIG devices, no addresses."""
    gpus: list[SeenGpu] = []
    for line in text.splitlines():
        match = _LISTED.match(line)
        if match:
            gpus.append(SeenGpu(source="nvidia-smi", name=known(match[1])))
        elif gpus and re.match(r"\s+MIG \S+\s+Device\s+\d", line):
            last = gpus[-1]
            count = (last.mig.devices or 0 if last.mig else 0) + 1
            gpus[-1] = SeenGpu(source="nvidia-smi", name=last.name, mig=SeenMig(enabled=True, devices=count))
    return Seen(gpus=tuple(gpus)) if gpus else None


def read_version(text: str) -> Seen | None:
    """`nvidia-smi --version`: "DRIVER version      : 590.48.01"; driver 610 writes "Deprecated, see …" there."""
    values = {
        match[1].strip().lower(): version(match[2])
        for line in text.splitlines()
        if (match := re.match(r"([A-Za-z-][A-Za-z -]{0,40}?)\s*:\s*(.*)$", line))
    }
    driver = values.get("kmd version") or values.get("driver version")
    cuda = values.get("cuda umd version") or values.get("cuda version")
    return Seen(driver_version=driver, cuda_api_version=cuda) if driver or cuda else None
