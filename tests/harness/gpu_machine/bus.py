"""The PCI bus: NVIDIA's cards and which kernel driver has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.gpu_machine.files import at, link, machine, write

Card = Mapping[str, Any]


def folder(card: Card) -> str:
    return f"/sys/bus/pci/devices/{card['address']}"


def bound(card: Card) -> str | None:
    driver = at(f"{folder(card)}/driver")
    return driver.readlink().name if driver.is_symlink() else None


def bind(card: Card, driver: str) -> None:
    at(f"/sys/bus/pci/drivers/{driver}").mkdir(parents=True, exist_ok=True)
    link(f"{folder(card)}/driver", f"../../drivers/{driver}")


def unbind(driver: str) -> None:
    for card in machine()["cards"]:
        if bound(card) == driver:
            at(f"{folder(card)}/driver").unlink()


def plug(card: Card) -> None:
    values = {
        "vendor": "0x10de", "device": f"0x{card['device']:04x}", "class": "0x030000", "boot_vga": "1",
        "current_link_speed": "8.0 GT/s PCIe", "max_link_speed": "8.0 GT/s PCIe",
        "current_link_width": str(card.get("width", 16)), "max_link_width": "16",
    }  # fmt: skip
    for name, value in values.items():
        write(f"{folder(card)}/{name}", f"{value}\n")
    if card.get("vfio"):
        bind(card, "vfio-pci")
