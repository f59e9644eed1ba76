"""The workstation made of files: its packages are real to apt, dkms and kmod, and its machine behaves as one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_packages_nvidia import KERNEL, driver

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
GpuBoxFixture = Callable[..., GpuBox]
VERSION = "580.95.05"
HEADERS = f"linux-headers-{KERNEL}"


def detected(box: GpuBox) -> dict[str, Any]:
    """What `provision detect` makes of it."""
    done = box.fleet.provision("detect", "-i", str(box.inventory()), "--json")
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_from_bare_to_a_working_driver_by_hand(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    assert detected(box)["driver"]["state"] == "nouveau"
    box.use_nvidia_repository()
    box.apt_install(HEADERS, "nvidia-driver-cuda", "nvidia-kernel-dkms")
    assert box.installed("nvidia-kernel-*")["nvidia-kernel-dkms"] == f"{VERSION}-1"
    assert box.dkms() == f"nvidia/{VERSION}, {KERNEL}, x86_64: installed"
    module = box.modinfo()
    assert (module["version"], module["license"], module["vermagic"].split()[0]) == (VERSION, "NVIDIA", KERNEL)
    refused = box.exec(["modprobe", "nvidia"])
    assert refused.stderr == "modprobe: ERROR: could not insert 'nvidia': No such device\n"  # nouveau has the card
    box.block_nouveau()
    assert "blacklist nouveau" in box.initramfs()
    before = box.boot_id()
    box.reboot()
    assert box.boot_id() != before
    assert box.loaded() == ("nvidia_drm", "nvidia_modeset", "nvidia")
    assert box.driver_version() == VERSION
    assert box.smi("-L") == (0, "GPU 0: NVIDIA GeForce GTX 960 (UUID: GPU-00000001-0000-4000-8000-000000000001)\n")
    assert detected(box)["driver"]["state"] == "working"


def test_without_nouveau_the_module_is_loaded_at_once(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    assert detected(box)["driver"]["state"] == "absent"
    box.use_nvidia_repository()
    box.apt_install(HEADERS, "nvidia-driver-cuda", "nvidia-kernel-dkms")
    assert box.smi() == (9, box.smi()[1])
    assert "couldn't communicate with the NVIDIA driver" in box.smi()[1]
    box.sh("modprobe nvidia nvidia_uvm")
    assert box.smi()[0] == 0
    box.display()
    assert "is in use" in box.exec(["rmmod", "nvidia"]).stderr
    box.display(running=False)
    box.sh("rmmod nvidia")
    assert box.loaded() == ()


def test_an_upgrade_without_a_reboot_is_a_mismatch(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_driver("535.274.02")
    assert box.driver_version() == "535.274.02"
    box.sh("DEBIAN_FRONTEND=noninteractive apt-get dist-upgrade -y -q")
    status, text = box.smi()
    assert (status, text.splitlines()[0]) == (18, "Failed to initialize NVML: Driver/library version mismatch")
    assert detected(box)["driver"]["state"] == "mismatch"
    box.reboot()
    assert box.driver_version() == VERSION
    assert box.smi()[0] == 0


def test_a_module_that_does_not_compile_leaves_the_package_half_configured(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.mirror.replace(driver(VERSION, broken=("proprietary",)))
    box.use_nvidia_repository()
    with pytest.raises(AssertionError, match="Sub-process /usr/bin/dpkg returned an error code"):
        box.apt_install(HEADERS, "nvidia-driver-cuda", "nvidia-kernel-dkms")
    assert "nvidia-kernel-dkms" in box.broken()
    log = box.sh(f"cat /var/lib/dkms/nvidia/{VERSION}/build/make.log")
    assert "error: implicit declaration of function" in log or "error: unknown type name" in log, log
    assert "Error 1" in log


def test_without_headers_packages_go_in_and_no_module_is_built(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.mirror.drop(HEADERS)
    box.use_nvidia_repository()
    assert "kernel headers for this kernel do not seem to be installed" in box.apt_install(
        "nvidia-driver-cuda", "nvidia-kernel-dkms"
    )
    assert box.broken() == []
    assert box.modinfo() == {}
    assert box.exec(["apt-get", "install", "-y", HEADERS]).status == 100


def test_debians_own_driver_is_installed_under_another_module_name(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.install_debian_driver()
    assert box.driver_version() == "535.261.03"
    assert box.modinfo() == {}
    assert box.modinfo("nvidia-current")["version"] == "535.261.03"
    assert box.smi()[0] == 0


@pytest.mark.parametrize(
    ("card", "module", "works"),
    [
        ("GeForce GTX 960", "open", False),
        ("GeForce RTX 5090", "proprietary", False),
        ("GeForce RTX 5090", "open", True),
    ],
)
def test_a_module_takes_the_cards_it_knows(gpu_box: GpuBoxFixture, card: str, module: str, works: bool) -> None:
    box = gpu_box((card,), nouveau=False)
    box.install_driver(VERSION, module=module)
    assert (box.driver_version() == VERSION) is works
    if not works:
        assert "None of the NVIDIA devices were initialized" in box.sh("dmesg")


def test_secure_boot_takes_a_module_once_its_key_is_enrolled_at_the_console(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False, secure_boot=True)
    assert box.sh("mokutil --sb-state") == "SecureBoot enabled\n"
    box.install_driver(VERSION)
    assert box.modinfo()["signer"] == "DKMS module signing key"
    assert "Key was rejected by service" in box.exec(["modprobe", "nvidia"]).stderr
    key = "/var/lib/dkms/mok.pub"
    assert box.sh(f"mokutil --test-key {key}") == f"{key} is not enrolled\n"
    box.sh(f"mokutil --import {key} </dev/null")
    assert "[key 1]" in box.sh("mokutil --list-new")
    box.reboot()
    assert box.loaded() == ()
    box.confirm_key()
    box.reboot()
    assert box.driver_version() == VERSION


def test_a_point_of_an_installation_can_be_held_and_failed(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.use_nvidia_repository()
    box.hook("postinst:libcuda1", "echo refused by the test; exit 1")
    with pytest.raises(AssertionError, match="refused by the test"):
        box.apt_install("libcuda1")
    box.hook("postinst:libcuda1")
    with box.held_at("update-initramfs") as reached:
        box.sh("(update-initramfs -u; touch /finished) >/dev/null 2>&1 &")
        reached()
        assert box.exec(["test", "-e", "/finished"]).status == 1
    box.sh("for i in 1 2 3 4 5 6 7 8 9; do [ -e /finished ] && exit 0; sleep 1; done; exit 1")


def test_a_disk_is_full_and_is_mended(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.sh("mkdir /var/lib/dkms/kept; echo before >/var/lib/dkms/kept/file")
    with box.small_disk("/var/lib/dkms", 1):
        assert "1.0M" in box.sh("df -h --output=avail /var/lib/dkms") or "1.3M" in box.sh("df -h /var/lib/dkms")
        box.sh(box.fill("/var/lib/dkms"))
        full = box.exec(["sh", "-c", "echo more | tee /var/lib/dkms/kept/more"])
        assert "No space left on device" in full.stderr
        box.sh("rm /var/lib/dkms/.fill; echo after >/var/lib/dkms/kept/file")
    assert box.sh("cat /var/lib/dkms/kept/file; df --output=target /var/lib/dkms | tail -1") == "after\n/\n"


def test_ssh_is_cut_and_mended(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.cut_ssh()
    assert "Connection " in box.ssh("true").stderr  # refused, reset, or closed by the engine's proxy
    box.mend_ssh()
    assert box.ssh("true").returncode == 0


def test_boxes_do_not_share_packages_or_machines(gpu_box: GpuBoxFixture) -> None:
    first, second = gpu_box(), gpu_box(("H100 PCIe", "H100 PCIe"))
    first.mirror.drop("nvidia-driver-cuda")
    for box in (first, second):
        box.use_nvidia_repository()
        box.sh("apt-get update -q")
    said = [box.sh("apt-cache policy nvidia-driver-cuda") for box in (first, second)]
    assert said[0] == "" or "Candidate: (none)" in said[0]
    assert f"Candidate: {VERSION}-1" in said[1]
    assert len(second.sh("ls /machine/sys/bus/pci/devices").split()) == 2
    assert first.boot_id() != second.boot_id()


def test_a_card_can_be_ill(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_driver(VERSION)
    box.change_card(width=8, throttle=["hw_thermal_slowdown"], power_limit_w=80)
    _, said = box.smi("-q", "-x")
    assert "<current_link_width>8x</current_link_width>" in said
    assert "<clocks_event_reason_hw_thermal_slowdown>Active<" in said
    box.change_card(fails=True)
    assert box.smi() == (6, "No devices were found\n")
    box.change_card(fails=False, vfio=True)
    box.reboot()
    assert box.loaded() == ()
    assert box.sh("basename $(readlink /machine/sys/bus/pci/devices/0000:01:00.0/driver)") == "vfio-pci\n"
