"""The GPUs that a stack must serve, and the ways in which compiled kernels reach them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from provision.model.catalog import Catalog, KernelRules
from provision.model.chips import Chip
from provision.model.facts import Facts, Gpu
from provision.model.request import Request
from provision.model.versions import ComputeCapability

INTEGRATED = frozenset({"3.2", "5.3", "6.2", "7.2", "8.7", "10.1", "11.0", "12.1"})
"""Capabilities of chips that are part of a board's processor (Jetson, GB10): facts/gpus.toml lists no PCI card
for them. Their driver comes with the board's own operating system."""

ONLY_THEMSELVES = ("5.3", "6.2", "7.2", "8.7")
SAME_CHIP = (("10.1", "11.0"),)
"""Used where a catalog has no ``kernel_rules``: torch's DEVICE_REQUIREMENT table, and CUDA 13.0's renaming."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A GPU of the box, or a compute capability that was asked for without one."""

    capability: ComputeCapability | None
    ptx: bool = False
    gpu: Gpu | None = None

    @property
    def label(self) -> str:
        """ "NVIDIA GeForce GTX 960 (compute capability 5.2)"."""
        known = f"compute capability {self.capability or 'not known'}"
        name = self.gpu and (self.gpu.name or self.gpu.chip or self.gpu.pci_id)
        return f"{name} ({known})" if name else f"a GPU of {known}"


@lru_cache(maxsize=512)
def capability(text: str | None) -> ComputeCapability | None:
    if text is None:
        return None
    try:
        return ComputeCapability.parse(text)
    except ValueError:
        return None


def box(facts: Facts) -> tuple[Target, ...]:
    """Every GPU of the box."""
    return _box(facts.gpus)


@lru_cache(maxsize=64)
def _box(gpus: tuple[Gpu, ...]) -> tuple[Target, ...]:
    return tuple(Target(capability=capability(gpu.compute_capability), gpu=gpu) for gpu in gpus)


def targets(facts: Facts, request: Request) -> tuple[Target, ...]:
    """Every GPU of the box; where capabilities were asked for, the GPUs that have them, and those that none has."""
    return _targets(facts.gpus, request.compute_capabilities)


@lru_cache(maxsize=64)
def _targets(gpus: tuple[Gpu, ...], wanted: tuple[str, ...]) -> tuple[Target, ...]:
    if not wanted:
        return _box(gpus)
    found: list[Target] = []
    for text in wanted:
        asked = capability(text.removesuffix("+PTX"))
        here = [target for target in _box(gpus) if target.capability == asked]
        found += here or [Target(capability=asked, ptx=text.endswith("+PTX"))]
    return tuple(found)


def kinds(found: tuple[Target, ...]) -> tuple[Target, ...]:
    """One of each sort: eight equal GPUs need no eight looks at the tables."""
    return tuple({(each.label, each.gpu and (each.gpu.chip, each.gpu.source)): each for each in found}.values())


def left_out(facts: Facts, request: Request) -> tuple[Target, ...]:
    """GPUs of the box that the asked compute capabilities leave unused."""
    served = targets(facts, request)
    return tuple(target for target in box(facts) if target not in served)


def name_all(found: tuple[Target, ...]) -> str:
    """ "2 × NVIDIA GeForce RTX 4090 (compute capability 8.9) and …", in the order found."""
    counts: dict[str, int] = {}
    for target in found:
        counts[target.label] = counts.get(target.label, 0) + 1
    parts = [f"{count} × {label}" if count > 1 else label for label, count in counts.items()]
    return " and ".join(parts)


def integrated(target: Target) -> bool:
    return str(target.capability) in INTEGRATED


@dataclass(frozen=True, slots=True)
class Kernel:
    """One entry of a build's list: "sm_86", "sm_90a", "sm_100f", "compute_90"."""

    text: str
    capability: ComputeCapability
    ptx: bool
    suffix: str


@lru_cache(maxsize=512)
def kernel(text: str) -> Kernel | None:
    match = re.fullmatch(r"(sm|compute)_(\d{2,3})([af]?)", text)
    if match is None:
        return None
    return Kernel(text, ComputeCapability.parse(match[2]), match[1] == "compute", match[3])


def served_by(kernels: tuple[str, ...], wanted: ComputeCapability, catalog: Catalog) -> Kernel | None:
    """The kernel that runs on ``wanted``: compiled code before PTX, the nearest first. None where none does."""
    return _served_by(kernels, wanted, catalog.kernel_rules)


@lru_cache(maxsize=4096)
def _served_by(kernels: tuple[str, ...], wanted: ComputeCapability, rules: KernelRules | None) -> Kernel | None:
    found = [entry for entry in map(kernel, kernels) if entry and _runs(entry, _one_name(wanted, rules), rules)]
    return max(found, key=lambda entry: (not entry.ptx, entry.capability, entry.text), default=None)


def _runs(entry: Kernel, wanted: ComputeCapability, rules: KernelRules | None) -> bool:
    has = _one_name(entry.capability, rules)
    if entry.suffix == "a":
        return has == wanted
    if entry.ptx:
        return has <= wanted and (entry.suffix != "f" or has.major == wanted.major)
    alone = rules.only_themselves if rules else ONLY_THEMSELVES
    if str(has) in alone or str(wanted) in alone:
        return has == wanted
    return has.major == wanted.major and has.minor <= wanted.minor


@lru_cache(maxsize=256)
def _named(text: str, same: tuple[tuple[str, ...], ...]) -> ComputeCapability:
    return ComputeCapability.parse(next((names[-1] for names in same if text in names), text))


def _one_name(wanted: ComputeCapability, rules: KernelRules | None) -> ComputeCapability:
    return _named(str(wanted), rules.same_chip if rules else SAME_CHIP)


@lru_cache(maxsize=4096)
def _is_chip(match: str, code: str) -> bool:
    return re.match(match, code) is not None


def chip_of(target: Target, catalog: Catalog) -> Chip | None:
    """The chip table's row: by the chip's code where it is known, else the first of the same compute capability."""
    rows = catalog.chips.chips
    if target.gpu is not None and target.gpu.chip:
        for row in rows:
            if _is_chip(row.match, target.gpu.chip):
                return row
    if target.capability is None:
        return None
    return next((row for row in rows if row.compute_capability == str(target.capability)), None)
