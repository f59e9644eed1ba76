"""Objections before any change, on machines made of files: each with what, why and hint; and what is only said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_driver_preflight import look
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_packages_run import BROKEN
from playbook_driver_fakes import KERNEL, FakeBox, FakeManager

NAMES = ("nvidia-kernel-dkms", "nvidia-driver-cuda")
HEADERS = f"linux-headers-{KERNEL}"
HOME = {"id": "cuda-x", "url": "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"}


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    made = FakeBox(tmp_path)
    made.card()
    made.answers["gcc"] = (0, "12.2.0\n")
    return made


@pytest.fixture
def manager(box: FakeBox) -> FakeManager:
    return FakeManager(box, {**{name: ["580.95.05-1"] for name in NAMES}, HEADERS: ["1"], "dkms": ["3"]})


def seen(box: FakeBox, manager: FakeManager, **changes: Any) -> dict[str, Any]:
    params = {
        "action": "install", "manager": "apt", "branch": "580", "version": "", "module": "proprietary", "build": "dkms",
        "packages": [{"name": name, "repository": "cuda-x", "version": "580."} for name in NAMES],
        "headers": [HEADERS, "dkms"], "components": [], "stream": "", "lock": "", "next_kernel": "",
        "repositories": [HOME], "sets": [], "set_repositories": [], "distribution": "Debian", "release": "12",
        "secure_boot": [], "mirror": "", "key_url": "", "fingerprint": "",
    }  # fmt: skip
    return look(box, manager, {**params, **changes})


def objection(box: FakeBox, manager: FakeManager, **changes: Any) -> Failure:
    with pytest.raises(Failure) as raised:
        seen(box, manager, **changes)
    assert not [call for call in manager.calls if call != "rehearse"], "nothing is changed"
    return raised.value


def test_a_box_with_a_card_is_told_exact_versions_and_nothing_is_changed(box: FakeBox, manager: FakeManager) -> None:
    found = seen(box, manager)
    assert found["packages"] == [{"name": name, "version": "580.95.05-1"} for name in sorted(NAMES)]
    assert found["chosen"]["repositories"] == [HOME]
    assert (found["changed"], found["notes"], found["console"], found["gpus"]) == (False, [], [], 1)
    assert manager.calls == ["rehearse"]


def test_wsl2(box: FakeBox, manager: FakeManager) -> None:
    box.put("/proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
    failure = objection(box, manager)
    assert (failure.kind, failure.what) == ("wsl", "this is WSL2, where the driver is Windows's")
    assert failure.hint == "install or update the NVIDIA driver on Windows"


@pytest.mark.parametrize("path", ["/.dockerenv", "/run/.containerenv"])
def test_a_container(box: FakeBox, manager: FakeManager, path: str) -> None:
    box.put(path, "")
    failure = objection(box, manager)
    assert (failure.kind, failure.why) == ("container", f"{path} is there")
    assert failure.hint == "run provision on the host itself"


def test_a_container_by_its_group(box: FakeBox, manager: FakeManager) -> None:
    box.put("/proc/1/cgroup", "12:devices:/docker/0123abc\n")
    assert objection(box, manager).why == "/proc/1/cgroup says so"


def test_no_card_on_real_and_on_virtual_machines(tmp_path: Path) -> None:
    box = FakeBox(tmp_path)
    manager = FakeManager(box, {})
    assert objection(box, manager).what == "there is no NVIDIA GPU here"
    box.put("/sys/class/dmi/id/sys_vendor", "QEMU\n")
    box.put("/sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)\n")
    failure = objection(box, manager)
    assert failure.what == "no NVIDIA card is passed through to this virtual machine"
    assert failure.why == "it is a virtual machine (QEMU Standard PC (Q35 + ICH9, 2009))"


def test_a_virtual_machine_with_a_card_is_only_told(box: FakeBox, manager: FakeManager) -> None:
    box.put("/sys/class/dmi/id/sys_vendor", "QEMU\n")
    assert seen(box, manager)["notes"] == ["this is a virtual machine (QEMU) that a card is passed through to"]


def test_a_card_that_is_set_aside_for_a_guest(tmp_path: Path) -> None:
    box = FakeBox(tmp_path)
    box.card(driver="vfio-pci")
    failure = objection(box, FakeManager(box, {}))
    assert (failure.kind, failure.why) == ("passthrough", "0000:01:00.0: bound to vfio-pci")
    assert "inside the machine that the card is passed to" in failure.hint


def test_nvidias_own_installer(box: FakeBox, manager: FakeManager) -> None:
    box.put("/usr/bin/nvidia-uninstall", "")
    box.answers["dpkg -S"] = (1, "dpkg-query: no path found matching pattern")
    failure = objection(box, manager)
    assert failure.kind == "other_install"
    assert failure.hint == "remove it first: sudo /usr/bin/nvidia-uninstall --silent"
    box.answers["dpkg -S"] = (0, "nvidia-installer: /usr/bin/nvidia-uninstall")
    assert seen(box, manager)["changed"] is False


def test_lambda_stack(box: FakeBox, manager: FakeManager) -> None:
    manager.there["lambda-stack-cuda"] = "0.1.14"
    failure = objection(box, manager)
    assert (failure.kind, failure.what) == ("other_install", "Lambda Stack has a driver here")
    assert failure.hint == "remove it first: sudo apt-get purge lambda-stack-cuda"


def test_the_distributions_driver_where_nvidias_is_planned(box: FakeBox, manager: FakeManager) -> None:
    manager.there = {"nvidia-driver": "535.261.03-1", "libcuda1": "535.261.03-1"}
    manager.repository = "distribution"
    failure = objection(box, manager)
    assert failure.kind == "other_install"
    assert failure.why == ("libcuda1, nvidia-driver: from the distribution; packages of both together break each other")
    assert failure.hint == "stay with the distribution, or remove it first: sudo apt-get purge libcuda1 nvidia-driver"


def test_everything_that_stands_against_it_is_said_at_once(box: FakeBox, manager: FakeManager) -> None:
    manager.there["lambda-stack-cuda"] = "0.1.14"
    box.put("/usr/bin/nvidia-uninstall", "")
    box.answers["dpkg -S"] = (1, "")
    failure = objection(box, manager)
    assert failure.what == "2 things stand against installing the NVIDIA driver"
    assert "(.run)" in failure.why
    assert "Lambda Stack" in failure.why
    assert len(failure.hint.splitlines()) == 2


def test_a_disk_without_room(box: FakeBox, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"/usr": 100, "/boot": 20}
    monkeypatch.setattr(box, "free_mib", lambda path: free.get(path, 90000))
    box.put(f"/boot/initrd.img-{KERNEL}", b"\0" * (30 << 20))
    failure = objection(box, manager)
    assert failure.kind == "disk_full"
    assert failure.why == "/usr has 100 MiB free, and 1200 MiB are needed\n/boot has 20 MiB free, and 46 MiB are needed"


def test_no_candidate_and_no_headers(box: FakeBox, manager: FakeManager) -> None:
    manager.offers["nvidia-driver-cuda"] = []
    assert objection(box, manager).kind == "no_candidate"
    manager.offers[HEADERS] = []
    (box.root / f"lib/modules/{KERNEL}/build/Makefile").unlink()
    failure = objection(box, manager)
    assert failure.kind == "no_headers"
    assert f"no candidate for nvidia-driver-cuda, {HEADERS}" in failure.why


def test_headers_that_are_there_need_no_package(box: FakeBox, manager: FakeManager) -> None:
    """A kernel of its owner's, or one that the archive has no more."""
    manager.offers[HEADERS] = []
    assert seen(box, manager)["chosen"]["headers"] == ["dkms"]


def test_headers_that_no_package_is_named_for(box: FakeBox, manager: FakeManager) -> None:
    (box.root / f"lib/modules/{KERNEL}/build/Makefile").unlink()
    failure = objection(box, manager, headers=[])
    assert failure.what == f"there are no headers of the running kernel, {KERNEL}"


def test_a_desktop_is_never_removed(box: FakeBox, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rehearsal:
        removed = ("nvidia-driver-libs", "ubuntu-desktop", "gdm3")

    monkeypatch.setattr(manager, "rehearse", lambda *_, **__: Rehearsal())
    failure = objection(box, manager)
    assert (failure.kind, failure.why) == ("would_remove", "gdm3, ubuntu-desktop")


def test_packages_that_do_not_go_together_are_found_before_any_change(box: FakeBox, manager: FakeManager) -> None:
    failure = Failure(BROKEN, "the packages do not go together", "nvidia-smi : Depends: libnvidia-ml1 (= 580.95.05-1)")
    manager.fails["rehearse"] = failure
    found = objection(box, manager)
    assert (found.kind, found.why) == (BROKEN, failure.why)
    manager.there["libnvidia-ml1"] = "580.82.07-1"
    manager.holds = ["libnvidia-ml1"]
    assert seen(box, manager)["changed"] is False, "with a driver here, holds are lifted before the installation"


def test_what_shows_pictures_is_only_told(box: FakeBox, manager: FakeManager) -> None:
    box.put("/proc/812/comm", "Xorg\n")
    box.put("/proc/813/comm", "gnome-shell\n")
    (note,) = seen(box, manager)["notes"]
    assert note.startswith("Xorg, gnome-shell shows pictures here, and nvidia-driver-cuda draws nothing: name nvidia-d")
    manager.offers["nvidia-driver"] = manager.offers["nvidia-driver-cuda"]
    packages = [{"name": name, "repository": "cuda-x", "version": "580."} for name in (*NAMES, "nvidia-driver")]
    assert seen(box, manager, packages=packages)["notes"] == [
        "Xorg, gnome-shell shows pictures here: it is left running, and uses the new driver after a reboot"
    ]


def test_another_compiler_than_the_kernels_is_told(box: FakeBox, manager: FakeManager) -> None:
    box.put("/proc/version", "Linux version 6.1.0 (x@y) (gcc-13 (Debian 13.3.0-1) 13.3.0, GNU ld 2.40) #1 SMP\n")
    (note,) = seen(box, manager)["notes"]
    assert note.startswith("the kernel was made by gcc 13, and gcc here is 12")
    box.put("/proc/version", "Linux version 5.14.0 (x@y) (gcc (GCC) 12.4.1 20231218 (Red Hat), GNU ld) #1 SMP\n")
    assert seen(box, manager)["notes"] == []


def test_a_driver_that_cannot_be_had_again_is_told(box: FakeBox, manager: FakeManager) -> None:
    manager.there = {"nvidia-driver-cuda": "535.274.02-1", "dkms": "3.0.3"}  # the tools stay whatever comes
    (note,) = seen(box, manager)["notes"]
    assert note == "cannot be had again if it has to be gone back to: nvidia-driver-cuda 535.274.02-1"


def test_secure_boot_names_the_console_work_before_it_begins(box: FakeBox, manager: FakeManager) -> None:
    box.put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\1")
    first, *rest = seen(box, manager)["console"]
    assert first.startswith("sudo mokutil --import /var/lib/dkms/mok.pub")
    assert any("Enroll MOK" in line for line in rest)
    assert seen(box, manager, build="prebuilt")["console"] == []
    box.put("/var/lib/dkms/mok.pub", "key")
    box.answers["mokutil --test-key"] = (1, "/var/lib/dkms/mok.pub is already enrolled")
    assert seen(box, manager)["console"] == []


def test_secure_boot_brings_what_enrols_a_key(box: FakeBox, manager: FakeManager) -> None:
    manager.offers["mokutil"] = ["0.6.0-2"]
    tables = {"secure_boot": ["mokutil"]}
    assert "mokutil" not in seen(box, manager, **tables)["chosen"]["headers"]
    box.put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\1")
    assert seen(box, manager, **tables)["chosen"]["headers"].count("mokutil") == 1
    assert "mokutil" not in seen(box, manager, build="prebuilt", **tables)["chosen"]["headers"]
    box.put("/sys/firmware/efi/efivars/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23", b"\6\0\0\0\1")
    found = seen(box, manager, **tables)
    assert (found["chosen"]["headers"], found["console"]) == (["dkms"], [])  # shim was told not to look


def test_what_is_installed_already_asks_no_repository(box: FakeBox, manager: FakeManager) -> None:
    manager.there = {**dict.fromkeys(NAMES, "580.82.07-1"), HEADERS: "1", "dkms": "3"}
    manager.offers = {}
    assert seen(box, manager)["packages"] == []
