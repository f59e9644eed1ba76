"""Full disks, a mirror that goes away, two at once.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box).
PROVISION_TEST_FAULTS=all runs each fault from both starts, a bare box and one with an older driver.
"""

from __future__ import annotations

import subprocess
import time

import pytest
from harness.gpu_box_play import Played, answer, driver_setup, play, started
from nvidia_faults import (
    EVERY,
    NEW,
    OLD,
    GpuBoxFixture,
    begun,
    cases,
    finish,
    left_usable,
    works,
)

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]
FULL = ["/boot", "/var/lib/dpkg", *(["/var/lib/dkms", "/usr/src", "/var/cache/apt"] if EVERY else [])]
RECORD = "/var/lib/provision"
FILLED = [
    ("preinst:nvidia-kernel-common", "/usr/src"), ("build", "/var/lib/dkms"), ("update-initramfs", "/boot"),
    ("update-initramfs", RECORD), ("apt-mark", RECORD),
]  # fmt: skip
"""Where in the installation, and which file system: the record of it has to be written, too."""


@pytest.mark.parametrize("path", FULL)
def test_a_full_disk_before_anything_is_changed(gpu_box: GpuBoxFixture, path: str) -> None:
    bare = begun(gpu_box, "bare")
    packages = bare.installed()
    with bare.small_disk(path, 0.5):
        bare.sh(bare.fill(path))
        said = play(bare)
        assert (said.ready, said.failures[0]["kind"]) == (False, "disk_full"), said.told
    assert bare.installed() == packages
    finish(bare)


@pytest.mark.parametrize(
    ("start", "where"), cases(FILLED, shift=1), ids=lambda value: value if isinstance(value, str) else ",".join(value)
)
def test_a_disk_that_fills_up_on_the_way(gpu_box: GpuBoxFixture, start: str, where: tuple[str, str]) -> None:
    point, path = where
    box = begun(gpu_box, start)
    box.sh(f"mkdir -p {path}")
    with box.small_disk(path, 4096):
        box.hook(point, box.fill(path))
        said = play(box)
        box.hook(point)
        assert not said.ready
        assert "No space left on device" in said.told or said.failures[0]["kind"] == "disk_full", said.told
    left_usable(box, start, said.told)
    finish(box)


@pytest.mark.parametrize("status", [0, 503] if EVERY else [0])
def test_the_mirror_goes_away_in_the_middle(gpu_box: GpuBoxFixture, status: int) -> None:
    old = begun(gpu_box, "upgrade")
    old.mirror.answer(lambda path: status if path.endswith(f"nvidia-driver-cuda_{NEW}-1_amd64.deb") else None)
    said = play(old)
    assert not said.ready
    assert said.failures[0]["hint"]
    assert works(old, OLD)
    assert old.broken() == []
    old.mirror.answer(None)
    finish(old)


def test_two_runs_at_once(gpu_box: GpuBoxFixture) -> None:
    bare = begun(gpu_box, "bare")
    with started(bare, driver_setup()) as first, started(bare, driver_setup()) as second:
        said: list[Played] = [answer(first), answer(second)]
    assert all(each.reboot_asked for each in said), [each.told for each in said]
    assert bare.broken() == []
    finish(bare)


def test_an_unattended_upgrade_holds_the_lock(gpu_box: GpuBoxFixture) -> None:
    """Another package manager at work is waited for."""
    bare = begun(gpu_box, "bare")
    lock = (
        "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(8)"
    )
    holder = subprocess.Popen(
        ["ssh", "-p", str(bare.port), f"{bare.user}@{bare.address}", f'sudo python3 -c "{lock}"'],
        env=bare.fleet.environment(), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(1)
        assert play(bare).reboot_asked
    finally:
        holder.wait(timeout=60)
    finish(bare)
