"""What the fault runs of the driver share: where a fault strikes, from which start, and what must hold afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from harness.gpu_box import GpuBox
from harness.gpu_box_play import play
from harness.gpu_packages_nvidia import KERNEL

GpuBoxFixture = Callable[..., GpuBox]
OLD, NEW = "535.274.02", "580.95.05"
HEADERS = f"linux-headers-{KERNEL}"
POINTS = ("preinst:nvidia-kernel-common", "build", "postinst:nvidia-driver-cuda", "update-initramfs")
"""Within each stage of the installation: packages begin, the module is built, packages end, the initramfs is made."""
WAIT_S = 300.0


STARTS = ("bare", "upgrade")
EVERY = os.environ.get("PROVISION_TEST_FAULTS") == "all"
"""Each fault from both starts; otherwise from one of them, in turn: every fault strikes at every point once."""


def cases(points: Sequence[Any], *, shift: int = 0) -> list[tuple[str, Any]]:
    """(start, point) of a fault's tests."""
    if EVERY:
        return [(start, point) for start in STARTS for point in points]
    return [(STARTS[(number + shift) % 2], point) for number, point in enumerate(points)]


def begun(gpu_box: GpuBoxFixture, start: str) -> GpuBox:
    """A box with nouveau and no driver ("bare"), or one where an older driver works ("upgrade")."""
    made = gpu_box()
    if start == "upgrade":
        made.install_driver(OLD)
        assert works(made, OLD)
    return made


def works(box: GpuBox, version: str) -> bool:
    """Whether the driver of this version is loaded and its tools agree with it."""
    return box.driver_version() == version and box.smi()[0] == 0


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def host_is_quiet(box: GpuBox) -> bool:
    """Nothing of a run is left at work there."""
    busy = ("dpkg", "apt-get", "dkms", "AnsiballZ", "provision_driver_worker", "update-initramfs")
    return not any(word in line for line in box.processes() for word in busy)


def finish(box: GpuBox) -> None:
    """The same command again, the reboot it asks for, once more; and then nothing is left to change."""
    again = play(box)
    if not again.ready:
        assert again.reboot_asked, again.told
        box.reboot()
        again = play(box)
    assert again.ready, again.told
    assert works(box, NEW)
    assert box.broken() == []
    assert box.record()["state"] == "confirmed"
    assert {"nvidia-driver-cuda", "nvidia-kernel-dkms"} <= set(box.holds())
    once_more = play(box)
    assert (once_more.ready, once_more.changed) == (True, 0), once_more.steps


def left_usable(box: GpuBox, before: str, told: str) -> None:
    """The driver from before comes up after a reboot, or what was said has the commands that mend it."""
    box.reboot()
    assert box.ssh("true").returncode == 0
    if before and not works(box, before) and not works(box, NEW):
        assert any(word in told for word in ("sudo ", "apt-get ", "dpkg ")), told
