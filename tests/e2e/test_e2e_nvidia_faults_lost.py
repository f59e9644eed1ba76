"""The connection, or what works on the host, is gone in the middle.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box).
PROVISION_TEST_FAULTS=all runs each fault from both starts, a bare box and one with an older driver.
"""

from __future__ import annotations

import pytest
from harness.gpu_box_play import answer, driver_setup, started
from nvidia_faults import (
    POINTS,
    GpuBoxFixture,
    begun,
    cases,
    finish,
    host_is_quiet,
    left_usable,
    wait_until,
)

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]


@pytest.mark.parametrize(("start", "point"), cases(POINTS, shift=1))
def test_the_connection_is_lost(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    box = begun(gpu_box, start)
    before = box.driver_version()
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached()
            box.cut_ssh()
        said = answer(run)
    assert not said.ready
    assert "keeps the state of it" in said.told
    assert "dpkg --configure -a" in said.told
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == []
    box.mend_ssh()
    left_usable(box, before, said.told)
    finish(box)


@pytest.mark.parametrize("point", POINTS)
def test_the_module_on_the_host_is_killed(gpu_box: GpuBoxFixture, point: str) -> None:
    """As by the kernel when memory runs out: nothing gets to tidy up, dpkg least of all."""
    old = begun(gpu_box, "upgrade")
    with started(old, driver_setup()) as run:
        with old.held_at(point) as reached:
            reached()
            names = ("[A]nsiballZ", "[p]rovision_driver_worker", "^apt-get", "^/usr/bin/dpkg", "^dpkg", "[/]dkms")
            old.sh("".join(f"pkill -KILL -f '{name}' || true\n" for name in names))
        said = answer(run)
    assert not said.ready
    assert said.failures[0]["hint"], said.told
    wait_until("what was killed is gone", lambda: host_is_quiet(old))
    finish(old)
