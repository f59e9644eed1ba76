"""From PCI name, device id or product name to chip, architecture and compute capability: no driver is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from provision.detect.product_names import PRODUCTS
from provision.model.chips import Chips, DeviceRange


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    chip: str | None = None
    """"GM206", letters that tell the package dropped ("TU104GL" is TU104)."""
    architecture: str | None = None
    compute_capability: str | None = None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def identify(chips: Chips, *, pci_name: str | None, device: int | None, product: str | None) -> Identity:
    """The chip code decides; then the device id; the product name alone comes last, for it can be ambiguous."""
    word = _first_word(pci_name)
    rule = next((chip for chip in chips.chips if word and _compiled(chip.match).search(word)), None)
    if rule:
        return Identity(
            chip=chip_code(pci_name) or word,
            architecture=rule.architecture,
            compute_capability=rule.compute_capability,
        )
    segment = _range(chips, device)
    if segment:
        return Identity(architecture=segment.architecture, compute_capability=segment.compute_capability)
    for match, architecture, compute_capability in PRODUCTS:
        if product and _compiled(match).match(product):
            return Identity(architecture=architecture, compute_capability=compute_capability)
    return Identity()


def chip_code(pci_name: str | None) -> str | None:
    """ "TU104GL [Quadro RTX 5000]" is TU104: what stands before the first blank or bracket, package letters dropped."""
    match = re.match(r"(G[A-Z]?\d{2,3}[A-Z]?|[A-Z]{2}\d{2,3}[A-Z]?|GB6-\S+)", _first_word(pci_name))
    if match is None:
        return None
    # a letter that is part of the code (GK20A, GM20B, GA10B) against one of a mobile or workstation part (TU117M)
    return match[0] if re.match(r"[A-Z]{2}\d{2}[AB]", match[0]) else re.sub(r"[A-Z]$", "", match[0])


def _first_word(pci_name: str | None) -> str:
    return re.split(r"[\s\[]", (pci_name or "").strip(), maxsplit=1)[0]


def product_name(pci_name: str | None) -> str | None:
    """ "GM206 [GeForce GTX 960]" is "NVIDIA GeForce GTX 960", as new drivers call it; None without brackets."""
    match = re.search(r"\[([^\[\]]{1,200})\]", pci_name or "")
    if match is None:
        return None
    name = match[1].strip()
    return name if name.startswith("NVIDIA") else f"NVIDIA {name}"


def _range(chips: Chips, device: int | None) -> DeviceRange | None:
    if device is None:
        return None
    return next((segment for segment in chips.ranges if segment.first <= device <= segment.last), None)
