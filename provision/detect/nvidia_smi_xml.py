"""`nvidia-smi -q -x`. Only expat's events are used: nothing is fetched, no entity is expanded."""

from __future__ import annotations

import re
from xml.parsers import expat

from provision.detect.pci import canonical_address
from provision.detect.seen import Seen, SeenGpu, device_id, mig
from provision.detect.text import known, mib, version

DEEPEST = 32
"""nvidia-smi nests eight deep. Text that nests further is not its own."""

# What is wanted, by path below <gpu>. FB, BAR1, protected memory and every MIG device have a <total> each.
_FIELDS = {
    ("product_name",), ("product_architecture",), ("pci", "pci_device_id"), ("pci", "pci_bus_id"),
    ("fb_memory_usage", "total"), ("mig_mode", "current_mig"),
}  # fmt: skip
_LONG = (("supported_clocks",), ("processes",), ("accounted_processes",), ("mig_devices",))


def read_xml(text: str) -> Seen | None:
    """None where the text is no XML at all, such as an error message. Cut XML gives the GPUs that were complete."""
    reader = _Reader()
    broken = _walk(reader, text)
    if broken is None:
        return None
    return Seen(
        gpus=tuple(reader.finished),
        driver_version=version(reader.top.get("kmd_version") or reader.top.get("driver_version")),
        cuda_api_version=version(reader.top.get("cuda_umd_version") or reader.top.get("cuda_version")),
        broken=broken,
    )


def gpu_leaves(text: str) -> list[tuple[str | None, dict[tuple[str, ...], str]]]:
    """(canonical address, value by path below <gpu>) of each GPU that is complete. Without the lists of clocks and
    processes, which are the most of the text."""
    reader = _Reader(all_leaves=True)
    _walk(reader, text)
    return reader.leaves


def _walk(reader: _Reader, text: str) -> bool | None:
    """Whether the XML is broken; None where there is none."""
    start = re.search(r"<\?xml|<nvidia_smi_log", text)
    if start is None:
        return None
    try:
        reader.parser.Parse(text[start.start() :], True)
    except (expat.ExpatError, _NotNvidiaSmi, ValueError):
        return True
    return False


class _NotNvidiaSmi(Exception):
    """Declares entities or nests too deep: a bomb, not a reading."""


class _Reader:
    """Keeps the wanted leaves of each <gpu> while expat walks by."""

    def __init__(self, *, all_leaves: bool = False) -> None:
        self.all_leaves = all_leaves
        self.finished: list[SeenGpu] = []
        self.leaves: list[tuple[str | None, dict[tuple[str, ...], str]]] = []
        self.top: dict[str, str] = {}
        self.path: list[str] = []
        self.text: list[str] = []
        self.gpu: dict[tuple[str, ...], str] = {}
        self.address = ""
        self.mig_devices = 0
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self.text.append
        self.parser.EntityDeclHandler = self._refuse

    def _refuse(self, *_: object) -> None:
        raise _NotNvidiaSmi

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.path.append(name)
        self.text.clear()
        if len(self.path) > DEEPEST:
            raise _NotNvidiaSmi
        if self.path[1:] == ["gpu"]:
            self.gpu, self.mig_devices, self.address = {}, 0, attributes.get("id", "")
        elif self.path[1:] == ["gpu", "mig_devices", "mig_device"]:
            self.mig_devices += 1

    def _end(self, _: str) -> None:
        below, value = tuple(self.path[1:]), "".join(self.text).strip()
        if below == ("gpu",):
            self.finished.append(self._finished())
            self.leaves.append((self.finished[-1].address, self.gpu))
        elif below[:1] == ("gpu",) and (below[1:] in _FIELDS or self._is_leaf(below[1:])):
            self.gpu.setdefault(below[1:], value)
        elif len(below) == 1:
            self.top.setdefault(below[0], value)
        self.text.clear()
        self.path.pop()

    def _is_leaf(self, path: tuple[str, ...]) -> bool:
        return self.all_leaves and path[:1] not in _LONG and len(path) <= 5

    def _finished(self) -> SeenGpu:
        leaf = self.gpu.get
        return SeenGpu(
            source="nvidia-smi",
            name=known(leaf(("product_name",))),
            address=canonical_address(leaf(("pci", "pci_bus_id"))) or canonical_address(self.address),
            device=device_id(leaf(("pci", "pci_device_id"))),
            architecture=known(leaf(("product_architecture",))),
            memory_mib=mib(leaf(("fb_memory_usage", "total"))),
            mig=mig(leaf(("mig_mode", "current_mig")), self.mig_devices),
        )
