"""GPUs of the box that no program can use as things are: lost, empty of MIG devices, kept for a virtual machine.

One of them among others is left out, and the plan says so; where no other is left, the rules object.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from provision.model.facts import Facts, Gpu
from provision.model.nvidia import GpuHealth
from provision.model.plan import Objection, Reason
from provision.model.request import Request
from provision.resolve.targets import Target, box, name_all, targets

VFIO = "vfio-pci"
"""The kernel driver of a card that a virtual machine is to have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A GPU, and what is known of its state."""

    gpu: Gpu
    health: GpuHealth
    lists_others: bool
    """Whether the driver works and shows GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to be unusable."""

    id: str
    holds: Callable[[Seen], bool]
    what: str
    """After the cards' names."""
    why: str
    hint: str


def _lost(seen: Seen) -> bool:
    """The driver says so; or it has taken the card from the bus, and lists others and not this one."""
    silent = seen.gpu.source == "pci" and seen.health.kernel_driver == "nvidia"
    return seen.health.error is not None or (silent and seen.lists_others)


def _without_slices(seen: Seen) -> bool:
    mig = seen.gpu.mig
    return mig is not None and mig.enabled and not mig.devices


KINDS: tuple[Kind, ...] = (
    Kind(
        id="lost",
        holds=_lost,
        what="does not answer",
        why="it is on the bus and bound to NVIDIA's driver, which does not list it",
        # what doctor says of it (diagnostics.toml, gpu-lost)
        hint="switch the box off and on, then look for its cause: power, heat, the riser, the slot",
    ),
    Kind(
        id="mig",
        holds=_without_slices,
        what="is of no use: MIG is on and has no devices",
        why="with MIG on, CUDA sees only MIG devices, and none was made",
        hint="make some (`nvidia-smi mig -cgi … -C`) or switch MIG off (`nvidia-smi -mig 0`)",
    ),
    Kind(
        id="reserved",
        holds=lambda seen: seen.health.kernel_driver == VFIO,
        what="is reserved for a virtual machine",
        why=f"the kernel driver {VFIO} holds it, so that a guest can have it, and NVIDIA's driver cannot",
        hint="plan inside that guest; or give it back (its ids out of vfio-pci.ids, rebuild the initramfs, reboot)",
    ),
)


def unusable(kind: Kind, facts: Facts, among: tuple[Target, ...]) -> tuple[Target, ...]:
    listed = facts.driver.state == "working" and any(gpu.source != "pci" for gpu in facts.gpus)
    return tuple(
        each
        for each in among
        if each.gpu and kind.holds(Seen(gpu=each.gpu, health=_health(each.gpu, facts), lists_others=listed))
    )


def usable_gpus(facts: Facts) -> tuple[Gpu, ...]:
    bad = [each.gpu for kind in KINDS for each in unusable(kind, facts, box(facts))]
    return tuple(gpu for gpu in facts.gpus if gpu not in bad)


def without_unusable(facts: Facts, request: Request) -> Facts:
    """The facts less the GPUs that nothing can use; as they are where none would be left of those asked for."""
    left = replace(facts, gpus=usable_gpus(facts))
    return left if any(each.gpu for each in targets(left, request)) else facts


def unusable_problem(id: str, facts: Facts, request: Request) -> Objection | None:
    """Why the GPUs that are asked for cannot be used: all of them, else these had been left out."""
    kind = next(each for each in KINDS if each.id == id)
    found = unusable(kind, facts, targets(facts, request))
    if not found or found[0].gpu is None:
        return None
    why = _why(kind, _health(found[0].gpu, facts))
    return Objection(what=f"{name_all(found)} {kind.what}", why=why, hint=kind.hint)


def unusable_reasons(read: Facts, used: Facts) -> tuple[Reason, ...]:
    """Of each GPU that ``used`` lacks, and of those that answer so little that nobody knows what they are."""
    found = []
    for kind in KINDS:
        for each in unusable(kind, read, box(read)):
            if each.gpu and each.gpu not in used.gpus:
                found.append(_reason(kind, each.label, _health(each.gpu, read)))
    known = {gpu.pci_address for gpu in read.gpus}
    for health in read.nvidia.gpus if read.nvidia else ():
        if health.error is not None and (health.pci_address is None or health.pci_address not in known):
            found.append(_reason(KINDS[0], "a GPU", health))
    return tuple(found)


def _reason(kind: Kind, name: str, health: GpuHealth) -> Reason:
    place = f" at {health.pci_address}" if health.pci_address else ""
    return Reason(
        rule=f"gpu.{kind.id}",
        text=f"{name}{place} {kind.what} ({_why(kind, health)}). It is left out; to have it: {kind.hint}",
    )


def _why(kind: Kind, health: GpuHealth) -> str:
    """A driver's own words say more."""
    return f'the driver says: "{health.error}"' if kind.id == "lost" and health.error else kind.why


def _health(gpu: Gpu, facts: Facts) -> GpuHealth:
    """Of that address; nothing is known of one that has none."""
    health = facts.nvidia.gpus if facts.nvidia else ()
    found = (each for each in health if gpu.pci_address is not None and each.pci_address == gpu.pci_address)
    return next(found, GpuHealth(pci_address=gpu.pci_address, kernel_driver=None))
