"""The GPUs of the box: every reading's view of them, merged by PCI address, then identified by the chip table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from provision.detect.identify import identify, product_name
from provision.detect.pci import pci_gpus
from provision.detect.proc_driver import read_gpus
from provision.detect.seen import Seen, SeenGpu
from provision.model.chips import Chips
from provision.model.facts import Gpu, Mig
from provision.model.readings import Readings

DEVICE_QUERY = "deviceQuery.txt"

# Each reader is imported when its reading is there: a live host has one or two of them, and all their patterns take
# 5 ms to compile.


def _nvml(text: str) -> Seen | None:
    from provision.detect.nvml import read_nvml

    read = read_nvml(text)
    return read if isinstance(read, Seen) else None


def _xml(text: str) -> Seen | None:
    from provision.detect.nvidia_smi_xml import read_xml

    return read_xml(text)


def _q(text: str) -> Seen | None:
    from provision.detect.nvidia_smi_q import read_q

    return read_q(text)


def _csv(text: str) -> Seen | None:
    from provision.detect.nvidia_smi_csv import read_csv

    return read_csv(text)


def _table(text: str) -> Seen | None:
    from provision.detect.nvidia_smi_table import read_table

    return read_table(text)


def _list(text: str) -> Seen | None:
    from provision.detect.nvidia_smi_table import read_list

    return read_list(text)


def _version(text: str) -> Seen | None:
    from provision.detect.nvidia_smi_table import read_version

    return read_version(text)


def _device_query(text: str) -> Seen | None:
    from provision.detect.device_query import read_device_query

    return read_device_query(text)


# Most trusted first. `nvidia-smi -q -x` is a documented format, -q is read by people, the table is cut to its widths.
DRIVER_READERS: tuple[tuple[str, Callable[[str], Seen | None]], ...] = (
    ("nvml.json", _nvml),
    ("nvidia_smi_q.xml", _xml),
    ("nvidia_smi_q.txt", _q),
    ("nvidia_smi_query_gpu.csv", _csv),
    ("nvidia_smi.txt", _table),
    ("nvidia_smi_L.txt", _list),
    ("nvidia_smi_version.txt", _version),
    (DEVICE_QUERY, _device_query),
)


def driver_views(readings: Readings) -> tuple[tuple[str, Seen], ...]:
    """(reading name, what it shows) of each reading in which the driver itself speaks, most trusted first."""
    views = ((name, read(text)) for name, read in DRIVER_READERS if (text := readings.text(name)))
    return tuple((name, seen) for name, seen in views if seen is not None)


def merged(readings: Readings) -> tuple[SeenGpu, ...]:
    """Each GPU once. One that the PCI bus shows and the driver does not (fallen off the bus) stays listed."""
    found: list[SeenGpu] = []
    for name, seen in driver_views(readings):
        _add(found, seen.gpus, may_be_new=name != DEVICE_QUERY)
    _add(found, _pci_view(readings), may_be_new=True)
    _add(found, read_gpus(readings).gpus, may_be_new=True)
    return tuple(sorted(found, key=lambda gpu: gpu.address is None))


def _pci_view(readings: Readings) -> tuple[SeenGpu, ...]:
    return tuple(
        SeenGpu(
            source="pci",
            address=gpu.address,
            device=gpu.device,
            name=product_name(gpu.name),
            pci_name=gpu.name,
            driver=gpu.driver,
        )
        for gpu in pci_gpus(readings)
    )


def _add(found: list[SeenGpu], more: tuple[SeenGpu, ...], *, may_be_new: bool) -> None:
    """Fill the gaps of the GPUs in ``found`` from ``more``, and append those that are not there yet."""
    by_address = {gpu.address: at for at, gpu in enumerate(found) if gpu.address is not None}
    in_order = len(more) == len(found) and all(gpu.address is None for gpu in more)
    nothing_yet = not found
    for order, gpu in enumerate(more):
        at = order if in_order and not nothing_yet else by_address.get(gpu.address) if gpu.address else None
        if at is not None:
            found[at] = _filled(found[at], gpu)
        elif nothing_yet or (may_be_new and gpu.address is not None and not _unplaced(found)):
            if gpu.address is not None:
                by_address[gpu.address] = len(found)
            found.append(gpu)


def _unplaced(found: list[SeenGpu]) -> bool:
    """GPUs without an address are there: one more with an address may be the same ones, so it is not counted again."""
    return any(gpu.address is None for gpu in found)


def _filled(gpu: SeenGpu, other: SeenGpu) -> SeenGpu:
    gaps = {
        field.name: getattr(other, field.name)
        for field in dataclasses.fields(SeenGpu)
        if getattr(gpu, field.name) is None
    }
    if _is_poor(gpu.name) and other.name is not None:
        gaps["name"] = other.name
    if gpu.mig is not None and gpu.mig.devices is None and other.mig is not None:
        gaps["mig"] = other.mig
    return dataclasses.replace(gpu, **gaps)


def _is_poor(name: str | None) -> bool:
    """Cut by the table's column, or what a driver calls a card that is newer than itself."""
    return name is None or name.endswith("...") or name in ("Graphics Device", "NVIDIA Graphics Device")


def gpu_facts(readings: Readings, chips: Chips) -> tuple[Gpu, ...]:
    return tuple(_fact(gpu, chips) for gpu in merged(readings))


def _fact(gpu: SeenGpu, chips: Chips) -> Gpu:
    identity = identify(chips, pci_name=gpu.pci_name, device=gpu.device, product=gpu.name)
    return Gpu(
        name=gpu.name,
        pci_address=gpu.address,
        pci_id=f"10de:{gpu.device:04x}" if gpu.device is not None else None,
        chip=identity.chip,
        architecture=identity.architecture or gpu.architecture,
        compute_capability=gpu.compute_capability or identity.compute_capability,
        memory_mib=gpu.memory_mib,
        mig=Mig(enabled=gpu.mig.enabled, devices=gpu.mig.devices or 0) if gpu.mig else None,
        source=gpu.source,
    )
