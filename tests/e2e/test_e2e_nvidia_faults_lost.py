"""The connection, what works on the host, or the host itself, is gone in the middle.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box).
PROVISION_TEST_FAULTS=all runs each fault from both starts, a bare box and one with an older driver.
"""

from __future__ import annotations

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_box_play import Played, answer, driver_setup, started
from nvidia_faults import (
    EVERY,
    POINTS,
    GpuBoxFixture,
    begun,
    cases,
    finish,
    goes_back,
    host_is_quiet,
    in_turn,
    instructions,
    left_usable,
    wait_until,
)

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]
KILLED = ("[A]nsiballZ", "[p]rovision_driver_worker", "^apt-get", "^/usr/bin/dpkg", "^dpkg", "[/]dkms", "apt-[m]ark")


@pytest.mark.parametrize(("start", "point"), cases(POINTS, shift=1))
def test_the_connection_is_lost(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    box = begun(gpu_box, start)
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached(run)
            box.cut_ssh()
        said = answer(run)
    assert not said.ready
    assert "keeps the state of it" in said.told
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == []
    box.mend_ssh()
    left_usable(box, start, said.told)
    finish(box)


@pytest.mark.parametrize(("start", "point"), in_turn(POINTS[:4] if EVERY else POINTS[:1], shift=1))
def test_the_power_fails(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    """The host is gone at once, and back with whatever its disk had: what is said of a lost host mends it."""
    box = begun(gpu_box, start)
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached(run)
            box.power_cut()
        said = answer(run)
    assert not said.ready
    assert instructions(said.told), said.told
    left_usable(box, start, said.told)
    finish(box)


def killed_at(box: GpuBox, point: str) -> Played:
    """As by the kernel when memory runs out: nothing gets to tidy up, dpkg least of all."""
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached(run)
            box.sh("".join(f"pkill -KILL -f '{name}' || true\n" for name in KILLED))
        said = answer(run)
    wait_until("what was killed is gone", lambda: host_is_quiet(box))
    return said


@pytest.mark.parametrize(("start", "point"), cases(POINTS if EVERY else POINTS[::2]))
def test_the_module_on_the_host_is_killed(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    """What is told brings back what there was."""
    box = begun(gpu_box, start)
    said = killed_at(box, point)
    assert not said.ready
    goes_back(box, start, said.told)
    finish(box)


@pytest.mark.parametrize("point", POINTS[:2] if EVERY else POINTS[:1])
def test_nobody_goes_back_after_the_module_on_the_host_is_killed(gpu_box: GpuBoxFixture, point: str) -> None:
    old = begun(gpu_box, "upgrade")
    said = killed_at(old, point)
    assert not said.ready
    assert "it goes on where it was" in said.told
    finish(old)
