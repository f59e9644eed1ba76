"""`nvidia-smi --query-gpu=… --format=csv`: a header line with units, then a line a GPU. Names hold no commas."""

from __future__ import annotations

import re

from provision.detect.pci import canonical_address
from provision.detect.seen import Seen, SeenGpu, device_id, mig
from provision.detect.text import known, mib, version


def read_csv(text: str) -> Seen | None:
    """None where the first line is no header of the fields that tell one GPU from another."""
    lines = [line for line in text.splitlines() if line.strip()]
    header = [_field(word) for word in lines[0].split(",")] if lines else []
    if not {"name", "pci.bus_id", "driver_version"} & set(header):
        return None
    rows = [[cell.strip() for cell in line.split(",")] for line in lines[1:]]
    rows = [row for row in rows if len(row) == len(header)]
    first = dict(zip(header, rows[0], strict=True)) if rows else {}
    return Seen(
        gpus=tuple(_gpu(dict(zip(header, row, strict=True))) for row in rows),
        driver_version=version(first.get("kmd_version")) or version(first.get("driver_version")),
        broken=len(rows) != len(lines) - 1,
    )


def _field(word: str) -> str:
    """ "memory.total [MiB]" is memory.total."""
    return word.split("[")[0].strip()


def _gpu(row: dict[str, str]) -> SeenGpu:
    capability = re.fullmatch(r"\d{1,2}\.\d", row.get("compute_cap", ""))
    return SeenGpu(
        source="nvidia-smi",
        name=known(row.get("name") or row.get("gpu_name")),
        address=canonical_address(row.get("pci.bus_id") or row.get("gpu_bus_id")),
        device=device_id(row.get("pci.device_id")),
        compute_capability=capability[0] if capability else None,
        memory_mib=mib(row.get("memory.total")),
        mig=mig(row.get("mig.mode.current"), None),
    )
