"""`provision up` on a bare workstation with a GTX 960, as its user types it: the plan, the driver, the reboot that is
asked for, the run that goes on, the verdict. The box is made of files (harness.gpu_box), so no framework sees a GPU
there: a GPU plan that ends without one must fail, and does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.gpu_box import GpuBox
from harness.stand_in import stand_ins, write_index

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network, pytest.mark.slow]

FRAMEWORK = "2.16.2"
"""The last TensorFlow with kernels for a GTX 960."""


@pytest.fixture
def box(gpu_box: Callable[..., GpuBox]) -> GpuBox:
    return gpu_box(uv_cache=True)


def words(box: GpuBox, *more: str) -> list[str]:
    folder, url = box.mirror.place("simple")
    write_index(folder, stand_ins(FRAMEWORK))
    return ["-i", str(box.inventory()), "--device", "cuda", "--index", url, *more]


def up(box: GpuBox, *more: str, code: int) -> dict[str, Any]:
    done = box.fleet.provision("up", *words(box, "--yes", "--json", *more), timeout_s=900)
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_from_bare_across_the_reboot_to_a_verdict(box: GpuBox) -> None:
    plan = json.loads(box.fleet.provision("plan", *words(box, "--json")).stdout)
    driver = plan["nvidia"]["driver"]
    assert (driver["action"], driver["branch"], driver["module"]) == ("install", "580", "proprietary")
    assert [step["id"] for step in plan["steps"]][:2] == ["nvidia_driver", "persistenced"]
    assert all(step["available"] for step in plan["steps"])

    first = up(box, code=5)
    assert [failure["kind"] for failure in first["failures"]] == ["reboot_needed"]
    assert (first["driver"]["state"], first["driver"]["reboot_needed"]) == ("installed", True)
    assert any("nouveau" in why for why in first["driver"]["reboot_why"])
    assert "nvidia-kernel-dkms" in first["driver"]["held"]
    assert box.loaded() == ("nouveau",), "nothing was forced, and nothing was rebooted"
    assert "nvidia-driver-cuda" in box.installed()

    waiting = up(box, code=5)
    assert [failure["kind"] for failure in waiting["failures"]] == ["reboot_needed"]
    assert waiting["changed"] == 0

    box.reboot()
    resumed = up(box, code=6)
    assert resumed["driver"]["state"] == "confirmed"
    checks = {check["id"]: check for check in resumed["checks"]}
    assert checks["gpu_driver"]["status"] == "pass", checks["gpu_driver"]
    assert checks["device_visible:tensorflow"]["status"] == "fail"
    assert checks["device_visible:tensorflow"]["what"] == "tensorflow sees no GPU"
    assert resumed["environment"] is None or resumed["environment"]["generation"] is None
    assert box.record()["state"] == "confirmed"

    assert up(box, "--no-verify", code=0)["changed"] > 0
    assert up(box, "--no-verify", code=0)["changed"] == 0


def test_reboot_on_request_goes_the_whole_way(box: GpuBox) -> None:
    before = box.boot_id()
    report = up(box, "--reboot", "--no-verify", code=0)
    assert box.boot_id() != before
    assert report["ok"]
    assert report["driver"]["state"] == "confirmed"
    titles = [step["title"] for step in report["steps"]]
    assert titles.index("Install the NVIDIA driver") < titles.index("Confirm the NVIDIA driver")
    assert titles.index("Confirm the NVIDIA driver") < titles.index("Make the generation")


def test_what_cannot_be_done_is_said_before_anything_is_changed(box: GpuBox) -> None:
    box.mirror.drop("nvidia-kernel-dkms")
    before = box.installed()
    report = up(box, code=5)
    (failure,) = report["failures"]
    assert failure["kind"] == "no_candidate"
    assert "nvidia-kernel-dkms" in failure["what"] + failure["why"]
    assert box.installed() == before
    assert report["changed"] == 0
