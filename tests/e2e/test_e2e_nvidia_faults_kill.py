"""Killed, interrupted, cut off: the host ends what it began, and the same command goes on.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box).
PROVISION_TEST_FAULTS=all runs each fault from both starts, a bare box and one with an older driver.
"""

from __future__ import annotations

import signal
import time

import pytest
from harness.gpu_box_play import answer, driver_setup, play, started
from nvidia_faults import (
    EVERY,
    NEW,
    POINTS,
    GpuBoxFixture,
    begun,
    cases,
    finish,
    host_is_quiet,
    in_turn,
    left_usable,
    settled,
    wait_until,
    works,
)

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]


def test_a_bare_box_goes_all_the_way(gpu_box: GpuBoxFixture) -> None:
    bare = begun(gpu_box, "bare")
    first = play(bare)
    assert first.reboot_asked, first.told
    assert "nouveau" in first.told
    assert first.driver is not None
    assert (first.driver["state"], first.driver["version"]) == ("installed", NEW)
    assert "blacklist nouveau" in bare.initramfs()
    assert bare.driver_version() == ""
    asked_again = play(bare)
    assert asked_again.reboot_asked, "until it is rebooted it says the same"
    bare.reboot()
    assert works(bare, NEW)
    finish(bare)
    settled(bare)


@pytest.mark.parametrize(("start", "point"), cases(POINTS, shift=0))
def test_the_controller_is_killed(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    box = begun(gpu_box, start)
    with box.held_at(point) as reached, started(box, driver_setup()) as run:
        reached(run)
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=30)
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == [], "a package operation is finished, whoever asked for it"
    left_usable(box, start, "")
    finish(box)
    settled(box)


@pytest.mark.parametrize(("start", "point"), in_turn(POINTS if EVERY else POINTS[1::2], shift=1))
def test_ctrl_c(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    box = begun(gpu_box, start)
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached(run)
            run.send_signal(signal.SIGINT)
            time.sleep(1)
        said = answer(run)
    assert not said.ready
    assert said.failures[0]["what"] == "interrupted"
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == []
    left_usable(box, start, said.told)
    finish(box)
