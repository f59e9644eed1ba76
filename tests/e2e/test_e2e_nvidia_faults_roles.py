"""After the reboot: persistence, the confirmation, CUDA toolkit, cuDNN, container toolkit. Struck one after another.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box). One box is
struck at every point in turn, so that each run has to get past where the one before it was struck.
PROVISION_TEST_FAULTS=all strikes at each point in every way; otherwise in one of them, in turn.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_box_play import answer, play, started, whole_setup
from nvidia_faults import EVERY, NEW, GpuBoxFixture, finish, host_is_quiet, settled, wait_until, works

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]

POINTS = (
    "nvidia-persistenced", "nvidia-smi", "preinst:cuda-nvcc-12-6", "postinst:libcudnn9-cuda-12",
    "postinst:libnvidia-container1", "nvidia-ctk",
)  # fmt: skip
"""In the order that they are come to."""
UNIT = """\
[Service]
ExecStart=/bin/sleep infinity
ExecReload=/bin/cp /etc/docker/daemon.json /run/what-docker-read
"""


def is_killed(box: GpuBox, point: str) -> None:
    """The controller, by SIGKILL."""
    with box.held_at(point) as reached, started(box, whole_setup()) as run:
        reached(run)
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=30)


def is_interrupted(box: GpuBox, point: str) -> None:
    with started(box, whole_setup()) as run:
        with box.held_at(point) as reached:
            reached(run)
            run.send_signal(signal.SIGINT)
            wait_until("the run has heard of it", lambda: run.poll() is not None)
        assert answer(run).failures[0]["what"] == "interrupted"


def loses_its_connection(box: GpuBox, point: str) -> None:
    with started(box, whole_setup()) as run:
        with box.held_at(point) as reached:
            reached(run)
            box.cut_ssh()
        said = answer(run)
    box.mend_ssh()
    assert not said.ready
    assert "run the same command again" in said.told


def fails(box: GpuBox, point: str) -> None:
    box.hook(point, "echo refused by the test >&2; exit 1")
    said = play(box, whole_setup())
    box.hook(point)
    assert not said.ready
    (failure,) = said.failures
    assert failure["hint"] or "refused by the test" in failure["why"] or "journalctl" in failure["why"], said.told


WAYS: tuple[Callable[[GpuBox, str], None], ...] = (is_killed, loses_its_connection, fails, is_interrupted)
IN_TURN = [tuple(WAYS[number % 3] for number in range(len(POINTS)))]
JOURNEYS = [(way,) * len(POINTS) for way in WAYS] if EVERY else IN_TURN


@pytest.mark.parametrize("journey", JOURNEYS, ids=[journey[0].__name__ for journey in JOURNEYS])
def test_every_step_after_the_reboot_is_struck(
    gpu_box: GpuBoxFixture, journey: Sequence[Callable[[GpuBox, str], None]]
) -> None:
    box = gpu_box()
    box.write("/usr/bin/dockerd", b"#!/bin/sh\n", 0o755)
    box.write("/etc/systemd/system/docker.service", UNIT.encode())
    box.sh("systemctl daemon-reload; systemctl start docker")
    assert play(box, whole_setup()).reboot_asked
    box.reboot()
    box.sh("systemctl start docker; systemctl stop nvidia-persistenced")
    for point, strike in zip(POINTS, journey, strict=True):
        strike(box, point)
        wait_until("the host ends what it began", lambda: host_is_quiet(box))
        assert works(box, NEW), f"what worked still does after {strike.__name__} at {point}"
    finish(box, whole_setup())
    settled(box, whole_setup())
    assert box.exec(["systemctl", "is-active", "nvidia-persistenced"]).stdout == "active\n"
    assert {"cuda-toolkit-12-6", "cudnn9-cuda-12", "nvidia-container-toolkit"} <= set(box.installed())
    assert "nvidia" in json.loads(box.sh("cat /run/what-docker-read"))["runtimes"]
