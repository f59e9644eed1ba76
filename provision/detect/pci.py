"""NVIDIA's GPUs on the PCI bus: the probe's own listing of /sys, pci.ids, and every form of `lspci` (lspci.py)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provision.model.readings import Readings

VENDOR = "10de"
GPU_CLASSES = ("0300", "0302")
"""VGA compatible controller, 3D controller. NVIDIA's audio, USB and UCSI functions are other classes."""

SYS_READING = "sys_bus_pci_devices"
# "0000:01:00.0", "01:00.0" and nvidia-smi's "0000000F:01:00.0"
ADDRESS = r"(?:(?P<domain>[0-9a-fA-F]{4,8}):)?(?P<bus>[0-9a-fA-F]{2}):(?P<slot>[0-9a-fA-F]{2})\.(?P<function>[0-7])"
_ADDRESS = re.compile(ADDRESS)

_SYS_LINE = re.compile(
    rf"(?P<address>{ADDRESS}) 10de:(?P<device>[0-9a-f]{{4}}) "
    r"(?P<class_id>[0-9a-f]{4})[0-9a-f]{2} (?P<driver>\S{1,64})\s*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PciGpu:
    address: str
    """Canonical: "0000:01:00.0", lower case."""
    device: int | None
    """PCI device id under vendor 10de; None where the listing has no numbers and the name is known."""
    name: str | None
    """As pci.ids has it, "GM206 [GeForce GTX 960]"; None where it has none ("Device 2684")."""
    driver: str | None
    """Kernel driver bound to it; None where none is, or where the listing does not tell."""


def canonical_address(text: str | None) -> str | None:
    """ "0000:01:00.0" of any form, or None."""
    match = _ADDRESS.fullmatch((text or "").strip())
    if match is None:
        return None
    domain = int(match["domain"] or "0", 16)
    return f"{domain:04x}:{match['bus']}:{match['slot']}.{match['function']}".lower()


def pci_gpus(readings: Readings) -> tuple[PciGpu, ...]:
    """In bus order, each once, each field from the first listing that knows it."""
    found: dict[str, PciGpu] = {}
    for gpu in _all(readings):
        known = found.get(gpu.address)
        found[gpu.address] = gpu if known is None else _merged(known, gpu)
    return tuple(found[address] for address in sorted(found, key=_bus_order))


def lists_devices(readings: Readings) -> bool:
    """Whether some listing of the whole bus was read: only then does "no GPU in it" mean that there is none."""
    whole = ("lspci_nn", "lspci_v", "lspci_vv", SYS_READING)
    return any(readings.text(name) is not None for name in whole) or bool((readings.text("lspci") or "").strip())


def _all(readings: Readings) -> list[PciGpu]:
    found = read_sys(readings.text(SYS_READING) or "")
    if any(name.startswith("lspci") for name in readings.files):
        from provision.detect.lspci import READINGS, read_lspci  # not on the way of a live host: its patterns cost 2 ms

        for name in READINGS:
            found += read_lspci(readings.text(name) or "")
    names = read_pci_ids(readings.text("pci_ids") or "")
    return [
        gpu
        if gpu.name is not None or gpu.device is None
        else PciGpu(address=gpu.address, device=gpu.device, name=names.get(gpu.device), driver=gpu.driver)
        for gpu in found
    ]


def _merged(first: PciGpu, other: PciGpu) -> PciGpu:
    return PciGpu(
        address=first.address,
        device=first.device if first.device is not None else other.device,
        name=first.name or other.name,
        driver=first.driver or other.driver,
    )


def _bus_order(address: str) -> tuple[int, str]:
    return (int(address.partition(":")[0], 16), address)


def read_sys(text: str) -> list[PciGpu]:
    """The probe's lines "0000:01:00.0 10de:1401 030000 nouveau", "-" where no driver is bound."""
    found = []
    for line in text.splitlines():
        match = _SYS_LINE.fullmatch(line)
        address = canonical_address(match["address"]) if match else None
        if match and address and match["class_id"] in GPU_CLASSES:
            driver = None if match["driver"] == "-" else match["driver"]
            found.append(PciGpu(address=address, device=int(match["device"], 16), name=None, driver=driver))
    return found


# HGX-2 (V100), HGX A100, HGX H100 and H200: docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide, and pci.ids.
# The class alone does not tell: NVIDIA's nForce boards have bridges of it too.
NVSWITCHES = frozenset({0x1AC2, 0x1AF1, 0x22A3})
OTHER_BRIDGE = "0680"
# "54:00.0 Bridge [0680]: NVIDIA Corporation GA100 [A100 NVSwitch] [10de:1af1] (rev a1)"
_NVSWITCH = re.compile(rf"^(?P<address>{ADDRESS})\s[^\n]{{0,200}}\bNVSwitch\b", re.MULTILINE)


def nvswitches(readings: Readings) -> int:
    """How many the listings of the bus show."""
    names = read_pci_ids(readings.text("pci_ids") or "")
    found = set()
    for match in map(_SYS_LINE.fullmatch, (readings.text(SYS_READING) or "").splitlines()):
        device = int(match["device"], 16) if match and match["class_id"] == OTHER_BRIDGE else None
        if match and device is not None and (device in NVSWITCHES or "NVSwitch" in names.get(device, "")):
            found.add(canonical_address(match["address"]))
    for name in (name for name in readings.files if name.startswith("lspci")):
        found |= {canonical_address(match["address"]) for match in _NVSWITCH.finditer(readings.text(name) or "")}
    return len(found)


def read_pci_ids(text: str) -> dict[int, str]:
    """Names of NVIDIA's devices from pci.ids text: a line "10de  NVIDIA Corporation", then "<tab>1401  GM206 […]"."""
    names: dict[int, str] = {}
    ours = False
    for line in text.splitlines():
        if re.match(r"[0-9a-f]{4}\s", line):
            ours = line.startswith(VENDOR)
        match = re.match(r"\t([0-9a-f]{4})\s+(\S.{0,200})$", line) if ours else None
        if match:
            names.setdefault(int(match[1], 16), match[2].strip())
    return names
