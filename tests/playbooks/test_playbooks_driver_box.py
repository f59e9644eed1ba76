"""Role nvidia_driver on a workstation made of files, over SSH, with real apt, dkms and kmod."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_box_play import Played, driver_setup, play
from harness.gpu_packages_nvidia import KERNEL, debian_driver, driver
from playbook_driver import RolePlay

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
GpuBoxFixture = Callable[..., GpuBox]
OLD, NEW = "535.274.02", "580.95.05"
OWN = re.compile("modprobe|persistenced")
"""Packages with numbers of their own."""


def carried_out(box: GpuBox, **wanted: Any) -> Played:
    """The driver's part alone."""
    return play(box, replace(driver_setup(**wanted), persistenced=False))


def works(box: GpuBox, version: str) -> bool:
    return box.driver_version() == version and box.smi()[0] == 0


def test_from_nouveau_to_a_confirmed_driver_and_once_more(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    first = carried_out(box)
    assert first.reboot_asked, first.told
    assert "nouveau is loaded and has the GPU; it is kept out from the next boot on" in first.told
    assert first.driver is not None
    assert (first.driver["state"], first.driver["version"], first.driver["module"]) == ("installed", NEW, "proprietary")
    assert {"nvidia-driver-cuda", "nvidia-kernel-dkms", "libcuda1"} <= set(first.driver["held"])
    assert any(line.startswith("sudo apt-mark unhold ") for line in first.driver["undo"])
    record = box.record()
    assert (record["state"], record["version"], record["boot_id"]) == ("installed", NEW, box.boot_id())
    assert "blacklist nouveau" in box.initramfs()
    again = carried_out(box)
    assert (again.reboot_asked, again.changed) == (True, 0), again.steps
    box.reboot()
    second = carried_out(box)
    assert second.ready, second.told
    assert works(box, NEW)
    assert box.record()["state"] == "confirmed"
    third = carried_out(box)
    assert (third.ready, third.changed) == (True, 0), third.steps


def test_without_nouveau_no_reboot_is_asked_for(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    done = carried_out(box)
    assert done.ready, done.told
    assert works(box, NEW)
    assert done.driver is not None
    assert (done.driver["state"], done.driver["reboot_needed"]) == ("confirmed", False)


def test_a_driver_that_does_not_answer_is_said_before_its_daemon(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    assert play(box).reboot_asked
    assert box.sh("systemctl is-enabled nvidia-persistenced").strip() == "enabled"
    box.change_card(fails=True)
    box.reboot()
    said = play(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "no_answer"), said.told
    assert "nvidia-smi ended with status" in said.told


def test_an_older_driver_in_use_is_replaced_at_the_next_boot(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_driver(OLD)
    said = carried_out(box)
    assert said.reboot_asked, said.told
    assert f"nvidia {OLD} is loaded and in use; {NEW} is installed" in said.told
    assert box.driver_version() == OLD
    box.reboot()
    done = carried_out(box)
    assert done.ready
    assert works(box, NEW)
    assert done.driver is not None
    *undo, _ = done.driver["undo"]
    box.sh("; ".join(line.replace("sudo ", "DEBIAN_FRONTEND=noninteractive ") for line in undo))
    box.reboot()
    assert works(box, OLD)
    assert (box.holds(), box.record()) == ([], {})
    assert "provision" not in box.sh("ls /etc/apt/preferences.d")


def test_a_module_that_does_not_compile_brings_the_driver_before_back(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False)
    box.install_driver(OLD)
    before = box.installed("*nvidia*")
    box.mirror.replace([*driver(NEW, broken=("proprietary",)), *driver(OLD)])
    said = carried_out(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "module_build")
    assert "this release of the driver does not know this kernel" in said.told
    assert "error: " in said.told
    assert f"the driver that was there, {OLD}, is installed again" in said.told
    assert said.driver is not None
    assert (said.driver["state"], said.driver["version"]) == ("kept", OLD)
    assert box.installed("*nvidia*") == before
    assert box.broken() == []
    assert works(box, OLD)
    box.reboot()
    assert works(box, OLD)
    assert "provision" not in box.sh("ls /etc/modprobe.d /etc/apt/preferences.d")


def test_a_bare_box_is_bare_again_after_a_failed_build(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    box.mirror.replace(driver(NEW, broken=("proprietary",)))
    said = carried_out(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "module_build")
    assert "nothing of it was left behind" in said.told
    assert box.installed("*nvidia*") == {}
    assert box.record() == {}
    assert "blacklist nouveau" not in box.initramfs()
    assert "nouveau" in box.loaded()


def test_libraries_newer_than_the_module_are_refused_before_any_change(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    packages = box.installed()
    box.mirror.replace(driver(NEW, libraries="580.105.08"))
    said = carried_out(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "mixed_versions")
    assert "nvidia-driver-cuda 580.105.08-1, nvidia-kernel-dkms 580.95.05-1" in said.told
    assert box.installed() == packages


def test_no_headers_and_no_candidate_are_found_before_any_change(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box()
    packages = box.installed()
    box.mirror.drop(f"linux-headers-{KERNEL}", "nvidia-driver-cuda")
    said = carried_out(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "no_headers")
    assert "nvidia-driver-cuda" in said.told
    assert f"linux-headers-{KERNEL}" in said.told
    assert box.installed() == packages
    assert "provision" not in box.sh("ls /etc/apt/sources.list.d /usr/share/keyrings")


def test_secure_boot_says_what_to_do_at_the_console_until_it_is_done(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(nouveau=False, secure_boot=True)
    said = carried_out(box, secure_boot=True)
    assert said.reboot_asked, said.told
    assert "sudo mokutil --import /var/lib/dkms/mok.pub" in said.told
    assert "Enroll MOK" in said.told
    box.reboot()
    again = carried_out(box, secure_boot=True)
    assert again.reboot_asked, again.told
    assert "mokutil --import" in again.told
    box.sh("mokutil --import /var/lib/dkms/mok.pub </dev/null")
    pending = carried_out(box, secure_boot=True)
    assert "waits to be enrolled at the console" in pending.told
    assert "mokutil --import" not in pending.told
    box.confirm_key()
    box.reboot()
    done = carried_out(box, secure_boot=True)
    assert done.ready, done.told
    assert works(box, NEW)


def test_a_card_that_the_module_does_not_drive_is_undone(gpu_box: GpuBoxFixture) -> None:
    box = gpu_box(("GeForce GTX 960",), nouveau=False)
    said = carried_out(box, module="open")
    assert not said.ready
    assert "modprobe: ERROR: could not insert 'nvidia': No such device" in said.told
    assert box.installed("*nvidia*") == {}
    assert box.holds() == []
    assert "provision" not in box.sh("ls /etc/modprobe.d /etc/apt/preferences.d")


def test_the_role_alone_chooses_from_its_tables_and_takes_it_all_back(gpu_box: GpuBoxFixture, tmp_path: Path) -> None:
    box = gpu_box(nouveau=False)
    role, packages = RolePlay(box, tmp_path), box.installed()
    wanted = {"branch": "580", "module": "proprietary"}

    assert role.play("--check", **wanted) == 0, role.results
    foreseen = role.results["Install the NVIDIA driver"]
    assert (foreseen["changed"], {row["name"] for row in foreseen["packages"]}) == (
        True,
        {"nvidia-kernel-dkms", "nvidia-driver-cuda", "nvidia-persistenced"},
    )
    assert box.installed() == packages

    assert role.play(**wanted) == 0, role.results
    done = role.results["Install the NVIDIA driver"]
    assert (done["state"], done["version"], done["reboot"]["needed"]) == ("installed", NEW, False)
    assert works(box, NEW)
    assert role.play(action="confirm", **wanted) == 0, role.results
    assert role.results["Confirm the NVIDIA driver"]["state"] == "confirmed"

    for options in ((), ("--check",)):
        assert role.play(*options, **wanted) == 0, role.results
        assert role.changed() == []
    assert role.play(action="confirm", **wanted) == 0
    assert role.changed() == []

    assert role.play("--check", state="absent") == 0
    assert role.changed() == ["Remove the NVIDIA driver"]
    assert works(box, NEW)
    assert role.play(state="absent") == 0, role.results
    gone = role.results["Remove the NVIDIA driver"]
    assert (gone["state"], gone["reboot"]["why"]) == ("removed", [f"nvidia {NEW} is still in the running kernel"])
    assert (box.installed("*nvidia*"), box.holds(), box.record()) == ({}, [], {})
    assert "provision" not in box.sh("ls /etc/modprobe.d /etc/apt/preferences.d")
    assert "blacklist nouveau" not in box.initramfs()
    assert role.play(state="absent") == 0
    assert role.changed() == []


def test_debians_own_driver_is_found_under_its_own_module_name(gpu_box: GpuBoxFixture, tmp_path: Path) -> None:
    box = gpu_box(nouveau=False)
    role = RolePlay(box, tmp_path)
    assert role.play(branch="535", module="proprietary") == 0, role.results
    done = role.results["Install the NVIDIA driver"]
    assert done["version"].startswith("535."), done
    assert "contrib" in box.sh("cat /etc/apt/sources.list.d/provision-components.sources")
    assert works(box, done["version"])
    assert role.play(branch="535", module="proprietary") == 0
    assert role.changed() == []

    assert role.play(branch="580", module="proprietary") == 2
    told = role.results["Look at the box"]
    assert told["kind"] == "other_install", told
    assert "from the distribution" in told["msg"]
    assert "sudo apt-get purge " in told["hint"]


def test_debians_open_module_is_older_than_its_security_updates(gpu_box: GpuBoxFixture, tmp_path: Path) -> None:
    """As on 2026-11-23: 535.309.01 of everything but nvidia-open-kernel-dkms, which is 535.261.03."""
    box = gpu_box(["GeForce RTX 2080"], nouveau=False)
    newer = debian_driver("535.309.01", revision="-0+deb12u1")
    box.mirror.add([deb for deb in newer if "open" not in deb.name], "debian")
    role = RolePlay(box, tmp_path)
    assert role.play(branch="535", module="open") == 0, role.results
    done = role.results["Install the NVIDIA driver"]
    assert (done["version"], done["module"]) == ("535.261.03", "open")
    drivers = {name: one for name, one in box.installed("*nvidia*").items() if not OWN.search(name)}
    assert set(drivers.values()) == {"535.261.03-1"}, drivers
    assert "provision-nvidia" not in box.sh("ls /etc/apt/preferences.d"), "holds keep it from here on"
    assert works(box, "535.261.03")
    assert role.play(branch="535", module="open") == 0
    assert role.changed() == []


def test_a_wrong_input_and_a_system_without_a_row_fail_before_any_change(
    gpu_box: GpuBoxFixture, tmp_path: Path
) -> None:
    box = gpu_box()
    role, packages = RolePlay(box, tmp_path), box.installed()
    assert role.play(module="half-open") == 2
    assert "half-open" in str(role.results)
    assert role.play(branch="999", build="prebuilt") == 2
    told = role.results["Look at the box"]
    assert told["kind"] == "unknown_system"
    assert "provision has no packages of NVIDIA driver 999 (open) for this system" in told["msg"]
    assert box.installed() == packages
