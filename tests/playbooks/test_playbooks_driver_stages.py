"""The stages of a driver's installation on a made-up host: order, second run, cut off anywhere, undo, what to type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_driver_absent import absent
from ansible.module_utils.provision_driver_packages import Wanted
from ansible.module_utils.provision_driver_stages import Installation
from ansible.module_utils.provision_failure import Failure
from playbook_driver_fakes import KERNEL, FakeBox, FakeManager

NEW, OLD = "580.95.05-1", "535.274.02-1"
NAMES = ("nvidia-kernel-dkms", "nvidia-driver-cuda", "nvidia-persistenced")
HEADERS = f"linux-headers-{KERNEL}"
RPM_NEW = "3:580.95.05-1.el9"
RPMS = ("kmod-nvidia-latest-dkms", "nvidia-driver", "nvidia-driver-cuda")


def want(**changes: Any) -> Wanted:
    repository = {"id": "cuda-x", "url": "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"}
    packages = tuple({"name": name, "repository": "cuda-x", "version": "580."} for name in NAMES)
    made = Wanted("580", "", "proprietary", "dkms", packages, (HEADERS, "dkms"), (), "", "580.*", (repository,))
    return made._replace(**changes)


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    made = FakeBox(tmp_path)
    made.card()
    return made


@pytest.fixture
def manager(box: FakeBox) -> FakeManager:
    offers = {name: [NEW] for name in NAMES}
    return FakeManager(box, {**offers, HEADERS: ["1"], "dkms": ["3.0"]})


def run(box: FakeBox, manager: FakeManager, name: str = "apt", **changes: Any) -> dict[str, Any]:
    params = {"manager": name, "action": "install", "initramfs": ["update-initramfs", "-u", "-k", "{kernel}"],
              "block_nouveau": True, "want": want()}  # fmt: skip
    return Installation(box, manager, {**params, **changes}).present()


def refused(box: FakeBox, manager: FakeManager, **changes: Any) -> dict[str, Any]:
    with pytest.raises(Failure) as raised:
        run(box, manager, **changes)
    return raised.value.result()


def record(box: FakeBox) -> dict[str, Any]:
    path = box.root / "var/lib/provision/nvidia.json"
    return json.loads(path.read_text()) if path.exists() else {}


def had_before(box: FakeBox, manager: FakeManager) -> None:
    """An older driver of the same repository works, and was held by its owner."""
    manager.there = dict.fromkeys(NAMES, OLD)
    manager.there.update({HEADERS: "1", "dkms": "3.0"})
    manager.holds = ["nvidia-driver-cuda"]
    box.module = ("535.274.02", "NVIDIA")
    box.libraries("535.274.02")
    box.put("/sys/module/nvidia/version", "535.274.02\n")


def test_packages_then_module_then_nouveau_then_holds(box: FakeBox, manager: FakeManager) -> None:
    done = run(box, manager)
    assert manager.calls == [
        "lock 580.*",
        f"install {HEADERS}=1 dkms=3.0",
        f"install nvidia-driver-cuda={NEW} nvidia-kernel-dkms={NEW} nvidia-persistenced={NEW}",
        f"hold {HEADERS} nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced",
    ]
    assert box.commands.index(f"modinfo -k {KERNEL} nvidia") < box.commands.index(f"update-initramfs -u -k {KERNEL}")
    assert "blacklist nouveau" in (box.root / "etc/modprobe.d/provision-nouveau.conf").read_text()
    assert (done["state"], done["version"], done["module"]) == ("installed", "580.95.05", "proprietary")
    assert done["reboot"] == {"needed": False, "why": []}
    assert "modprobe nvidia" in box.commands
    assert done["undo"] == [
        f"sudo apt-mark unhold {HEADERS} nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced",
        "sudo rm -f /etc/apt/preferences.d/provision-nvidia.pref",
        "sudo apt-get purge -y nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced",
        f"sudo rm /etc/modprobe.d/provision-nouveau.conf && sudo update-initramfs -u -k {KERNEL}",
        "sudo rm -f /var/lib/provision/nvidia.json",
        "sudo reboot",
    ]
    kept = record(box)
    assert (kept["state"], kept["stage"], kept["boot_id"]) == ("installed", "done", "boot-1")
    assert "before" not in kept


def test_the_undo_of_an_upgrade_puts_its_owners_holds_back(box: FakeBox, manager: FakeManager) -> None:
    had_before(box, manager)
    done = run(box, manager, action="upgrade")
    olds = " ".join(f"{name}={OLD}" for name in sorted(NAMES))
    assert done["undo"] == [
        f"sudo apt-mark unhold {HEADERS} nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced",
        "sudo rm -f /etc/apt/preferences.d/provision-nvidia.pref",
        f"sudo apt-get install -y --allow-downgrades {olds}",
        "sudo apt-mark hold nvidia-driver-cuda",
        "sudo rm -f /var/lib/provision/nvidia.json",
        "sudo reboot",
    ]
    assert run(box, manager)["undo"] == done["undo"], "a second run, and one after the reboot, say the same"


def test_a_second_run_changes_and_asks_nothing(box: FakeBox, manager: FakeManager) -> None:
    run(box, manager)
    box.put("/sys/module/nvidia/version", "580.95.05\n")
    before = record(box)
    manager.calls.clear()
    manager.offers = {}  # offline
    again = run(box, manager)
    assert (again["changed"], again["state"], manager.calls) == (False, "installed", [])
    assert record(box) == before


def test_an_upgrade_takes_the_newest_and_an_install_keeps_what_fits(box: FakeBox, manager: FakeManager) -> None:
    run(box, manager)
    newer = "580.105.08-1"
    for name in NAMES:
        manager.offers[name].insert(0, newer)
    manager.calls.clear()
    assert run(box, manager)["version"] == "580.95.05"
    assert run(box, manager, action="upgrade")["version"] == "580.105.08"
    assert manager.calls[:2] == [
        "fetch nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced",
        "unhold nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced",
    ]


def test_a_release_that_is_not_the_newest_is_pinned_while_it_is_installed(box: FakeBox, manager: FakeManager) -> None:
    """apt takes what a package depends on at its newest."""
    for name in NAMES[:2]:
        manager.offers[name].insert(0, "580.105.08-1")
    done = run(box, manager, want=want(version="580.95.05"))
    assert done["version"] == "580.95.05"
    assert [call for call in manager.calls if "lock" in call] == ["lock 580.95.05*", "lock 580.*"]
    assert record(box)["lock"] == "580.*"


def test_a_dangling_link_of_debians_alternatives_blocks_nothing(box: FakeBox, manager: FakeManager) -> None:
    folder = box.root / "etc/modprobe.d"
    folder.mkdir(parents=True)
    (folder / "nvidia-blacklists-nouveau.conf").symlink_to("/etc/alternatives/glx--nvidia-blacklists-nouveau.conf")
    run(box, manager)
    assert "blacklist nouveau" in (folder / "provision-nouveau.conf").read_text()


def test_the_pin_goes_where_the_plan_has_none(box: FakeBox, manager: FakeManager) -> None:
    manager.offers[NAMES[0]].insert(0, "580.105.08-1")
    run(box, manager, want=want(lock=""))
    installs = [number for number, call in enumerate(manager.calls) if call.startswith("install nvidia-")]
    assert manager.calls.index("lock 580.95.05*") < installs[0] < manager.calls.index("unlock 580.95.05*")
    assert record(box)["lock"] == ""


def test_a_failed_installation_takes_its_pin_away(box: FakeBox, manager: FakeManager) -> None:
    manager.offers[NAMES[0]].insert(0, "580.105.08-1")
    manager.builds = False
    refused(box, manager, want=want(lock=""))
    assert "unlock 580.95.05*" in manager.calls


@pytest.mark.parametrize("stage", ["packages", "module", "boot", "holds"])
def test_a_run_that_was_killed_in_any_stage_is_gone_on_with(box: FakeBox, manager: FakeManager, stage: str) -> None:
    had_before(box, manager)
    begins = {"packages": "install nvidia", "module": "", "boot": "", "holds": "hold"}[stage]

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> Any:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if begins:
            manager.fails[begins] = Killed()  # type: ignore[assignment]
        elif stage == "module":
            patch.setattr(Installation, "_module", die)
        else:
            patch.setattr("ansible.module_utils.provision_driver_stages.rebuild", die)
        with pytest.raises(Killed):
            run(box, manager)
    manager.fails.clear()
    cut = record(box)
    assert (cut["state"], {row["version"] for row in cut["previous"]}) == ("changing", {OLD})
    manager.calls.clear()
    done = run(box, manager)
    assert manager.calls[0] == "repair"
    assert (done["state"], done["version"]) == ("installed", "580.95.05")
    assert done["reboot"]["why"] == [
        "nvidia 535.274.02 is loaded and in use; 580.95.05 is installed, and its libraries need it"
    ]
    assert {row["version"] for row in record(box)["previous"]} == {OLD}, "what there was is not forgotten on the way"
    assert set(NAMES) <= set(manager.holds)
    assert run(box, manager)["changed"] is False


def test_a_module_that_is_not_built_brings_everything_back(box: FakeBox, manager: FakeManager) -> None:
    had_before(box, manager)
    packages = dict(manager.there)
    manager.builds = False
    box.libraries("580.95.05")
    box.put("/var/lib/dkms/nvidia/580.95.05/build/make.log", "CC nvidia.o\nnv.c:3: error: unknown type name 'x'\n")

    def restored(*words: str, **_: Any) -> None:
        box.module = ("535.274.02", "NVIDIA")
        FakeManager.install(manager, *words, **_)

    told = refused(box, manager)
    assert told["kind"] == "module_build"
    assert (
        f"the kernel module of driver 580.95.05 (proprietary) was not built for the running kernel, {KERNEL}"
        in told["msg"]
    )
    assert "this release of the driver does not know this kernel" in told["why"]
    assert "error: unknown type name 'x'" in told["why"]
    assert "dkms autoinstall -k" in " ".join(box.commands)
    assert (told["state"], manager.there, manager.holds) == ("kept", packages, ["nvidia-driver-cuda"])
    assert "unlock 580.*" in manager.calls
    assert record(box) == {}
    assert not (box.root / "etc/modprobe.d/provision-nouveau.conf").exists()


def test_an_initramfs_that_cannot_be_made_is_a_full_boot_and_undone(box: FakeBox, manager: FakeManager) -> None:
    box.answers["update-initramfs"] = (1, "gzip: stdout: No space left on device\nupdate-initramfs: failed")
    told = refused(box, manager)
    assert told["kind"] == "disk_full"
    assert f"the initramfs of {KERNEL} could not be rebuilt" in told["msg"]
    assert "make /boot larger" in told["hint"]
    assert "nothing of it was left behind" in told["why"]
    assert {name for name in manager.there if "nvidia" in name} == set()
    assert not (box.root / "etc/modprobe.d/provision-nouveau.conf").exists()


def test_where_going_back_fails_it_is_said_what_to_type(box: FakeBox, manager: FakeManager) -> None:
    had_before(box, manager)
    manager.fails = {
        "install nvidia": Failure("package_script", "could not install", "dpkg: error processing nvidia-kernel-dkms"),
        "downgrade": Failure("disk_full", "could not install", "No space left on device"),
    }
    told = refused(box, manager)
    assert (told["kind"], "state" in told) == ("package_script", False)
    assert "going back failed as well: could not install: No space left on device" in told["why"]
    kept = " ".join(
        str(box.root / f"var/lib/provision/nvidia-previous/{name}_{OLD}_amd64.deb") for name in sorted(NAMES)
    )
    assert told["hint"].splitlines() == [
        "to go back, type as root at a text console:",
        "rm -f /etc/apt/preferences.d/provision-nvidia.pref",
        "dpkg --configure -a",
        "apt-get -y --fix-broken install",
        f"dpkg --install {kept}",
        "apt-get -y --fix-broken install",
        "apt-mark hold nvidia-driver-cuda",
        "reboot",
    ]
    assert any(command.startswith("dpkg --install ") for command in box.commands), "tried before anybody is asked to"
    assert record(box)["state"] == "changing"


def test_the_module_of_before_is_built_again_or_that_is_told(box: FakeBox, manager: FakeManager) -> None:
    """A package that cannot be unpacked leaves the older one in place, whose module DKMS has been told to forget."""
    had_before(box, manager)
    manager.fails = {
        "install nvidia": Failure("disk_full", "could not install", "/usr/src: No space left", "free some")
    }
    install = manager.install

    def given_up(packages: Any, files: Any = (), downgrade: bool = False) -> None:
        there = dict(manager.there)
        box.module = None
        try:
            install(packages, files, downgrade)
        finally:
            manager.there = there

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "install", given_up)
        told = refused(box, manager)
    assert (
        "going back failed as well: the kernel module of the driver that was there was not built again" in told["why"]
    )
    assert [one.split()[0] for one in box.commands if one.startswith(("dkms", "dpkg --install"))] == ["dkms", "dpkg"]
    assert "dpkg --install " in told["hint"]
    assert record(box)["state"] == "changing"
    manager.fails.clear()
    assert run(box, manager)["state"] == "installed"


def test_being_asked_to_end_finishes_the_operation_and_keeps_the_state(box: FakeBox, manager: FakeManager) -> None:
    had_before(box, manager)
    install = manager.install

    def interrupted(packages: Any, files: Any = (), downgrade: bool = False) -> None:
        install(packages, files, downgrade)
        box.stop = "SIGTERM"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "install", interrupted)
        told = refused(box, manager)
    assert told["kind"] == "interrupted"
    assert "SIGTERM in stage 'packages'; the package operation that had begun was finished" in told["why"]
    assert "run the same command again: it goes on from there; do not reboot before that" in told["hint"]
    assert "dpkg --install " in told["hint"]
    assert manager.there["nvidia-driver-cuda"] == NEW
    box.stop = ""
    assert run(box, manager)["state"] == "installed"


def test_being_asked_to_end_before_anything_changes_nothing(box: FakeBox, manager: FakeManager) -> None:
    box.stop = "SIGINT"
    told = refused(box, manager)
    assert (told["what"], manager.calls) == ("stopped before anything of the NVIDIA driver was changed", [])


def test_no_candidate_changes_nothing(box: FakeBox, manager: FakeManager) -> None:
    manager.offers["nvidia-driver-cuda"] = []
    told = refused(box, manager)
    assert (told["kind"], manager.calls, record(box)) == ("no_candidate", [], {})
    assert told["why"].endswith("nothing was changed")


def test_rocky_switches_epel_and_the_stream_on_first(box: FakeBox) -> None:
    offers = {**{name: [RPM_NEW] for name in RPMS}, "epel-release": ["9-7.el9"], "kernel-devel-matched": ["5.14.0-1"]}
    manager = FakeManager(box, offers)
    packages = tuple({"name": name, "repository": "cuda-x", "version": "580."} for name in RPMS)
    headers = ("kernel-devel-matched", "epel-release", "dkms")
    install = manager.install

    def with_epel(packages: Any, files: Any = (), downgrade: bool = False) -> None:
        install(packages, files, downgrade)
        manager.offers["dkms"] = ["3.1-1.el9"]

    wanted = want(packages=packages, headers=headers, stream="nvidia-driver:580-dkms", lock="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager, "install", with_epel)
        done = run(box, manager, name="dnf", want=wanted, initramfs=["dracut", "--force", "--kver", "{kernel}"])
    assert manager.calls == [
        "stream nvidia-driver:580-dkms",
        "install epel-release=9-7.el9",
        "install kernel-devel-matched=5.14.0-1 dkms=3.1-1.el9",
        f"install kmod-nvidia-latest-dkms={RPM_NEW} nvidia-driver={RPM_NEW} nvidia-driver-cuda={RPM_NEW}",
        "hold kernel-devel-matched kmod-nvidia-latest-dkms nvidia-driver nvidia-driver-cuda",
    ]
    assert f"dracut --force --kver {KERNEL}" in box.commands
    assert done["undo"][1] == "sudo dnf -y remove kmod-nvidia-latest-dkms nvidia-driver nvidia-driver-cuda"
    assert done["undo"][0].startswith("sudo dnf versionlock delete ")


def test_fedoras_lock_keeps_the_branch_before_anything_is_installed(box: FakeBox) -> None:
    names = ("kmod-nvidia-open-dkms", "nvidia-driver")
    manager = FakeManager(box, {name: ["3:610.43.02-1.fc44", "3:580.95.05-1.fc44"] for name in names})
    packages = tuple({"name": name, "repository": "cuda-x", "version": "580."} for name in names)
    wanted = want(packages=packages, headers=(), module="open", lock="*nvidia*580*")
    done = run(box, manager, name="dnf", want=wanted, initramfs=[])
    assert manager.calls[:2] == [
        "lock *nvidia*580*",
        "install kmod-nvidia-open-dkms=3:580.95.05-1.fc44 nvidia-driver=3:580.95.05-1.fc44",
    ]
    assert (done["version"], done["module"]) == ("580.95.05", "open")


def test_nouveau_that_comes_back_after_a_boot_gets_a_new_initramfs(box: FakeBox, manager: FakeManager) -> None:
    box.put("/proc/modules", "nouveau 1 0 - Live 0x0\n")
    assert run(box, manager)["reboot"]["needed"]
    box.put("/proc/sys/kernel/random/boot_id", "boot-2\n")
    box.commands.clear()
    again = run(box, manager)
    assert again["reboot"]["needed"]
    assert f"update-initramfs -u -k {KERNEL}" in box.commands


def test_a_module_that_will_not_load_after_a_reboot_says_how_to_go_back(box: FakeBox, manager: FakeManager) -> None:
    had_before(box, manager)
    assert run(box, manager)["reboot"]["needed"]
    box.put("/proc/sys/kernel/random/boot_id", "boot-2\n")
    (box.root / "sys/module/nvidia/version").unlink()
    box.answers["modprobe nvidia"] = (1, "modprobe: ERROR: could not insert 'nvidia': No such device")
    told = refused(box, manager)
    assert told["kind"] == "module_load"
    assert "could not insert 'nvidia': No such device" in told["why"]
    assert "to go back instead, type as root at a text console:" in told["hint"]
    held = f"{HEADERS} nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced"
    assert f"\napt-mark unhold {held}\n" in told["hint"], "a hold makes apt refuse what follows"
    assert OLD in told["hint"]
    assert "provision-nouveau.conf" not in told["hint"], "the older driver needs it as well"


def test_a_bare_box_gets_nouveau_back_by_hand(box: FakeBox, manager: FakeManager) -> None:
    box.put("/proc/modules", "nouveau 1 0 - Live 0x0\n")
    assert run(box, manager)["reboot"]["needed"]
    box.put("/proc/sys/kernel/random/boot_id", "boot-2\n")
    box.put("/proc/modules", "")
    box.answers["modprobe nvidia"] = (1, "modprobe: ERROR: could not insert 'nvidia': No such device")
    names = "nvidia-driver-cuda nvidia-kernel-dkms nvidia-persistenced"
    assert refused(box, manager)["hint"].splitlines()[2:] == [
        f"apt-mark unhold {HEADERS} {names}",
        "rm -f /etc/apt/preferences.d/provision-nvidia.pref",
        "dpkg --configure -a",
        "apt-get -y --fix-broken install",
        f"apt-get purge -y {names} || dpkg --purge {names}",
        f"rm /etc/modprobe.d/provision-nouveau.conf && update-initramfs -u -k {KERNEL}",
        "reboot",
    ]


def test_holds_that_cannot_be_put_leave_the_driver_and_say_how_to_go_back(box: FakeBox, manager: FakeManager) -> None:
    manager.fails["hold"] = Failure("packages", "could not hold nvidia-driver-cuda", "apt-mark said no", "mend it")
    told = refused(box, manager)
    assert told["kind"] == "packages"
    assert told["why"].endswith("driver 580.95.05 itself is installed; it is not held or written down yet")
    assert told["hint"].startswith("mend it\nto go back instead, type as root at a text console:\napt-mark unhold ")
    assert record(box)["stage"] == "holds"
    manager.fails.clear()
    assert run(box, manager)["state"] == "installed"


def test_removal_takes_back_what_the_role_did_and_nothing_twice(box: FakeBox, manager: FakeManager) -> None:
    run(box, manager)
    params = {"initramfs": ["update-initramfs", "-u"]}
    gone = absent(box, manager, params)
    assert (gone["changed"], gone["state"]) == (True, "removed")
    assert {name for name in manager.there if "nvidia" in name} == set()
    assert not [name for name in manager.holds if "nvidia" in name]
    assert record(box) == {}
    assert absent(box, manager, params)["changed"] is False
