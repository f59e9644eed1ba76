"""`provision up` on a workstation where an unattended upgrade has brought a kernel that was not booted yet: the reboot
that the driver needs goes into that one. Real apt, dkms and kmod; the boot loader is played (harness.gpu_box)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_packages_nvidia import KERNEL
from harness.stand_in import stand_ins, write_index

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network, pytest.mark.slow]


@pytest.fixture
def box(gpu_box: Callable[..., GpuBox]) -> GpuBox:
    return gpu_box(uv_cache=True)


def told(box: GpuBox, command: str, *more: str, code: int) -> dict[str, Any]:
    folder, url = box.mirror.place("simple")
    write_index(folder, stand_ins("2.16.2"))
    words = [command, "-i", str(box.inventory()), "--device", "cuda", "--index", url, "--json", *more]
    done = box.fleet.provision(*words, timeout_s=900)
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def up(box: GpuBox, *, code: int) -> dict[str, Any]:
    return told(box, "up", "--yes", "--no-verify", code=code)


def test_the_reboot_goes_into_the_other_kernel_and_the_driver_is_there(box: GpuBox) -> None:
    later = box.upgrade_kernel()
    plan = told(box, "plan", code=0)
    assert plan["nvidia"]["driver"]["next_kernel"] == later
    assert {f"linux-headers-{KERNEL}", f"linux-headers-{later}"} <= set(plan["nvidia"]["driver"]["headers"])

    first = up(box, code=5)
    assert [failure["kind"] for failure in first["failures"]] == ["reboot_needed"]
    assert {f"linux-image-{KERNEL}", f"linux-image-{later}"} <= set(first["driver"]["held"])
    assert box.dkms().count(": installed") == 2

    box.reboot()
    assert box.sh("uname -r").strip() == later
    assert "nouveau" not in box.loaded()
    resumed = up(box, code=0)
    assert resumed["driver"]["state"] == "confirmed"
    assert box.driver_version() == resumed["driver"]["version"]
    assert set(first["driver"]["held"]) == set(box.holds())
    assert up(box, code=0)["changed"] == 0


def test_a_kernel_whose_headers_cannot_be_had_stops_it_before_any_change(box: GpuBox) -> None:
    later = box.upgrade_kernel()
    box.mirror.drop(f"linux-headers-{later}")
    before = box.installed()
    (failure,) = up(box, code=5)["failures"]
    assert failure["kind"] == "no_headers"
    assert f"linux-headers-{later}" in failure["why"]
    assert f"or remove {later}" in failure["hint"]
    assert box.installed() == before


def test_the_running_kernels_headers_are_gone_and_the_other_kernel_is_the_way(box: GpuBox) -> None:
    later = box.upgrade_kernel()
    box.mirror.drop(f"linux-headers-{KERNEL}", f"linux-headers-{box.sh('dpkg --print-architecture').strip()}")
    (failure,) = up(box, code=5)["failures"]
    assert failure["hint"].startswith(f"{later} is installed, and boots next: reboot into it")
    box.reboot()
    (failure,) = up(box, code=5)["failures"]
    assert failure["kind"] == "reboot_needed"
    box.reboot()
    assert up(box, code=0)["driver"]["state"] == "confirmed"


def test_a_module_that_does_not_compile_for_the_other_kernel_leaves_the_driver_before(box: GpuBox) -> None:
    box.install_driver("535.274.02")
    later = box.upgrade_kernel()
    box.hook(
        "build", f'[ "$KERNEL_UNAME" = {later} ] && echo "error: too few arguments to function" >&2 && exit 1; true'
    )
    (failure,) = told(box, "up", "--yes", "--no-verify", "--driver", "580", code=5)["failures"]
    assert failure["kind"] == "module_build"
    assert later in failure["what"]
    assert box.driver_version() == "535.274.02"
    assert box.smi()[0] == 0
    assert box.broken() == []
    box.hook("build")
    (failure,) = told(box, "up", "--yes", "--no-verify", "--driver", "580", code=5)["failures"]
    assert failure["kind"] == "reboot_needed"
    box.reboot()
    assert told(box, "up", "--yes", "--no-verify", "--driver", "580", code=0)["driver"]["state"] == "confirmed"
