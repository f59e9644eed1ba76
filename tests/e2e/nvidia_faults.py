"""What the fault runs of the driver share: where a fault strikes, from which start, and what must hold afterwards."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.gpu_box import GpuBox
from harness.gpu_box_play import play
from harness.gpu_packages_nvidia import KERNEL

from provision.model.setup import NvidiaSetup

GpuBoxFixture = Callable[..., GpuBox]
OLD, NEW = "535.274.02", "580.95.05"
HEADERS = f"linux-headers-{KERNEL}"
POINTS = (
    "preinst:nvidia-kernel-common", "build", "postinst:nvidia-driver-cuda", "update-initramfs", "apt-mark", "modprobe",
)  # fmt: skip
"""Within each stage: packages begin, the module is built, packages end, the initramfs is made, packages are held, the
module is loaded at once."""
WAIT_S = 300.0

STARTS = ("bare", "upgrade")
LOADING = ("free", "idle")
"""Starts where the module is loaded at once, and no reboot is asked for."""
EVERY = os.environ.get("PROVISION_TEST_FAULTS") == "all"
"""Each fault from both starts; otherwise from one of them, in turn: every fault strikes at every point once."""

CONSOLE = re.compile(r"(?:type as root at a text console|at its text console as root):\s*(.*)", re.DOTALL)


def cases(points: Sequence[Any], *, shift: int = 0) -> list[tuple[str, Any]]:
    """(start, point) of a fault's tests."""
    return [*in_turn(points), *in_turn(points, shift=1)] if EVERY else in_turn(points, shift=shift)


def in_turn(points: Sequence[Any], *, shift: int = 0) -> list[tuple[str, Any]]:
    """(start, point), from the one and from the other start."""
    starts = [LOADING if point == "modprobe" else STARTS for point in points]
    return [
        (pair[(number + shift) % 2], point) for number, (pair, point) in enumerate(zip(starts, points, strict=True))
    ]


def begun(gpu_box: GpuBoxFixture, start: str) -> GpuBox:
    """A box at a start.

    "bare": nouveau has the card, no driver. "upgrade": an older driver is in use. "free": neither has the card.
    "idle": an older driver is installed and not loaded.
    """
    made = gpu_box(nouveau=start in STARTS)
    if before(start):
        made.install_driver(OLD)
        assert works(made, OLD)
    if start == "idle":
        made.sh("rmmod nvidia_drm nvidia_modeset nvidia")
    return made


def before(start: str) -> str:
    """Version of the driver that worked before the fault; "" for none."""
    return OLD if start in ("upgrade", "idle") else ""


def works(box: GpuBox, version: str) -> bool:
    """Whether the driver of this version is loaded and its tools agree with it."""
    return box.driver_version() == version and box.smi()[0] == 0


def as_before(box: GpuBox, start: str) -> bool:
    """What the box began with is there again: its driver, or none and nouveau where it had that; dpkg is content."""
    loaded = {name.partition("_")[0] for name in box.loaded()}
    there = works(box, before(start)) if before(start) else loaded == ({"nouveau"} if start == "bare" else set())
    return there and box.broken() == []


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def host_is_quiet(box: GpuBox) -> bool:
    """Nothing of a run is left at work there."""
    busy = ("dpkg", "apt-get", "apt-mark", "dkms", "AnsiballZ", "provision_driver_worker", "update-initramfs")
    return not any(word in line for line in box.processes() for word in busy)


def finish(box: GpuBox, setup: NvidiaSetup | None = None) -> None:
    """The same command again; and once more after the reboot that it asks for."""
    again = play(box, setup)
    if not again.ready:
        assert again.reboot_asked, again.told
        box.reboot()
        again = play(box, setup)
    assert again.ready, again.told
    assert works(box, NEW)
    assert box.broken() == []
    assert box.record()["state"] == "confirmed"
    assert {"nvidia-driver-cuda", "nvidia-kernel-dkms"} <= set(box.holds())


def settled(box: GpuBox, setup: NvidiaSetup | None = None) -> None:
    """Nothing is left to change."""
    once_more = play(box, setup)
    assert (once_more.ready, once_more.changed) == (True, 0), once_more.steps


def left_usable(box: GpuBox, start: str, told: str) -> None:
    """After a reboot the box is as before, or the new driver works, or what was said makes it so when it is typed."""
    box.reboot()
    assert box.ssh("true").returncode == 0
    if usable(box, start):
        return
    said = typed(box, told)
    box.reboot()
    assert usable(box, start), f"{told}\n--- and it was typed:\n{said}"


def usable(box: GpuBox, start: str) -> bool:
    return as_before(box, start) or (works(box, NEW) and box.broken() == [])


def goes_back(box: GpuBox, start: str, told: str) -> None:
    """What was said brings back what there was before, whatever has been done since."""
    said = typed(box, told)
    box.reboot()
    assert as_before(box, start), f"{box.loaded()}, {box.broken()}; {told}\n--- and it was typed:\n{said}"


def instructions(told: str) -> list[str]:
    """The lines that a failure tells its reader to type at a text console."""
    found = CONSOLE.search(told)
    return [line.strip() for line in found[1].splitlines() if line.strip()] if found else []


def typed(box: GpuBox, told: str) -> str:
    """Type what was said, line after line, as the box's user does at a text console: what came of it.

    A line that fails does not stop a reader who was given several.
    """
    lines = instructions(told)
    assert lines, f"nothing was said to be typed: {told}"
    assert "reboot" not in lines[:-1]
    heard = []
    for line in lines:
        if line != "reboot":  # of the caller
            done = box.exec(["sudo", "sh", "-c", line], user=box.user, environment={"DEBIAN_FRONTEND": "readline"})
            heard.append(f"# {line}\n{done.text}[{done.status}]")
    return "\n".join(heard)
