"""What the probe reads on a workstation with real dpkg, apt, dkms and kmod, over real SSH, as an ordinary user."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.gpu_box import RECORD, GpuBox
from harness.gpu_packages_nvidia import KERNEL

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
GpuBoxFixture = Callable[..., GpuBox]
VERSION = "580.95.05"


def facts(box: GpuBox) -> Any:
    done = box.fleet.provision("detect", "-i", str(box.inventory()), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_bare_box(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.sh("apt-get update -q")
    found = facts(box)["nvidia"]
    assert found["packages"] == []
    assert found["components"] == ["main"]
    assert f"linux-headers-{KERNEL}" in [each["name"] for each in found["candidates"]]
    assert "nvidia-driver" not in [each["name"] for each in found["candidates"]]
    assert found["headers"] is False
    assert found["nouveau_blocked"] is False
    assert found["module"] is None
    assert [(gpu["pci_address"], gpu["kernel_driver"]) for gpu in found["gpus"]] == [("0000:01:00.0", "nouveau")]
    assert found["record"] is None
    assert min(found["disk_free_mib"].values()) > 0


def test_a_driver_that_was_upgraded_under_its_module(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_driver("535.274.02")
    box.sh("apt-mark hold nvidia-driver-cuda")
    found = facts(box)["nvidia"]
    assert (found["loaded_version"], found["module"]["version"]) == ("535.274.02", "535.274.02")
    assert found["module"]["flavour"] == found["loaded_flavour"] == "proprietary"
    assert found["module"]["kernel"] == KERNEL
    assert found["headers"] is True
    assert found["nouveau_blocked"] is True
    assert found["libraries"] == ["535.274.02"]
    assert found["dkms"] == [{"name": "nvidia", "version": "535.274.02", "kernel": KERNEL, "state": "installed"}]
    assert found["holds"] == ["nvidia-driver-cuda"]
    assert found["reboot_required"] is False
    candidate = next(each for each in found["candidates"] if each["name"] == "nvidia-kernel-dkms")
    assert candidate["version"] == f"{VERSION}-1"
    assert candidate["repository"].endswith("/debian12/x86_64")
    box.sh("apt-mark unhold nvidia-driver-cuda && DEBIAN_FRONTEND=noninteractive apt-get dist-upgrade -y -q")
    moved = facts(box)["nvidia"]
    assert (moved["loaded_version"], moved["module"]["version"], moved["libraries"]) == (
        "535.274.02", VERSION, [VERSION],
    )  # fmt: skip
    assert moved["reboot_required"] is True


def test_debians_own_module_and_provisions_record(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_debian_driver()
    record = {"schema": 1, "state": "installed", "branch": "535", "version": "535.261.03", "module": "proprietary"}
    box.write(RECORD, json.dumps({**record, "boot_id": box.boot_id()}).encode())
    found = facts(box)["nvidia"]
    assert found["module"]["version"].startswith("535.261")
    assert found["components"] == ["contrib", "main", "non-free", "non-free-firmware"]
    assert found["record"]["rebooted"] is False
    box.reboot()
    assert facts(box)["nvidia"]["record"]["rebooted"] is True


def test_a_key_that_the_firmware_does_not_know(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False, secure_boot=True)
    box.use_nvidia_repository()
    box.apt_install(f"linux-headers-{KERNEL}", "nvidia-driver-cuda", "nvidia-kernel-dkms")
    found = facts(box)
    assert found["nvidia"]["key_enrolled"] is False
    assert found["nvidia"]["mok_pending"] is False
    assert "secure_boot_key_not_enrolled" in [each["id"] for each in found["findings"]]


def test_an_ill_card(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_driver(VERSION)
    box.change_card(width=4, power_limit_w=80, throttle=["hw_thermal_slowdown"], temperature_c=96)
    (gpu,) = facts(box)["nvidia"]["gpus"]
    assert (gpu["pcie_width"], gpu["pcie_width_max"]) == (4, 16)
    assert (gpu["power_limit_w"], gpu["power_default_w"]) == (80.0, 160.0)
    assert (gpu["throttle"], gpu["temperature_c"]) == (["hw_thermal_slowdown"], 96)
    box.change_card(vfio=True)
    box.reboot()
    (gpu,) = facts(box)["nvidia"]["gpus"]
    assert gpu["kernel_driver"] == "vfio-pci"
