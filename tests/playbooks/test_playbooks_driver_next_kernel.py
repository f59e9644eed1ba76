"""An upgrade brought a kernel that was not booted yet: both get the driver, or nothing is changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_driver_absent import absent
from ansible.module_utils.provision_driver_packages import Wanted, exact
from ansible.module_utils.provision_driver_preflight import next_kernel
from ansible.module_utils.provision_driver_stages import Installation
from ansible.module_utils.provision_failure import Failure
from playbook_driver_fakes import KERNEL, FakeBox, FakeManager

NEXT = "6.1.0-31-amd64"
NEW, OLD = "580.95.05-1", "535.274.02-1"
NAMES = ("nvidia-kernel-dkms", "nvidia-driver-cuda")
HEADERS, NEXT_HEADERS = f"linux-headers-{KERNEL}", f"linux-headers-{NEXT}"
INITRAMFS = ["update-initramfs", "-u", "-k", "{kernel}"]


def want(**changes: Any) -> Wanted:
    packages = tuple({"name": name, "repository": "cuda-x", "version": "580."} for name in NAMES)
    repository = {"id": "cuda-x", "url": "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"}
    headers = (HEADERS, NEXT_HEADERS, "dkms")
    made = Wanted("580", "", "proprietary", "dkms", packages, headers, (), "", "580.*", (repository,), NEXT)
    return made._replace(**changes)


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    made = FakeBox(tmp_path)
    made.card()
    made.put(f"/lib/modules/{NEXT}/build/Makefile", "")
    return made


@pytest.fixture
def manager(box: FakeBox) -> FakeManager:
    offers = {name: [NEW] for name in NAMES}
    return FakeManager(box, {**offers, HEADERS: ["1"], NEXT_HEADERS: ["1"], "dkms": ["3.0"]})


def run(box: FakeBox, manager: FakeManager, **changes: Any) -> dict[str, Any]:
    params = {"manager": "apt", "action": "install", "initramfs": INITRAMFS, "block_nouveau": True, "want": want()}
    return Installation(box, manager, {**params, **changes}).present()


def reboot(box: FakeBox) -> None:
    """Into the other kernel, which loads the module."""
    box.kernel = NEXT
    box.put("/sys/module/nvidia/version", "580.95.05\n")
    box.put("/proc/sys/kernel/random/boot_id", "boot-2\n")


def test_both_kernels_have_the_module_and_an_initramfs_without_nouveau(box: FakeBox, manager: FakeManager) -> None:
    done = run(box, manager)
    assert box.built_for == {KERNEL, NEXT}
    images = [command for command in box.commands if command.startswith("update-initramfs")]
    assert images == [f"update-initramfs -u -k {KERNEL}", f"update-initramfs -u -k {NEXT}"]
    assert box.commands.index(f"dkms autoinstall -k {NEXT}") < box.commands.index(images[0])
    assert {HEADERS, NEXT_HEADERS} <= set(done["held"])
    assert done["undo"][-3] == (
        "sudo rm /etc/modprobe.d/provision-nouveau.conf && sudo update-initramfs -u -k 6.1.0-28-amd64 "
        "&& sudo update-initramfs -u -k 6.1.0-31-amd64"
    )


def test_after_the_reboot_into_it_nothing_is_left_to_do(box: FakeBox, manager: FakeManager) -> None:
    held = run(box, manager)["held"]
    reboot(box)
    done = run(box, manager, want=want(headers=(NEXT_HEADERS, "dkms"), next_kernel=""))
    assert done["changed"] is False
    assert done["held"] == held  # those of the kernel before too: their undo is not forgotten


def test_removal_takes_nouveaus_file_out_of_both(box: FakeBox, manager: FakeManager) -> None:
    run(box, manager)
    reboot(box)
    box.commands.clear()
    absent(box, manager, {"initramfs": INITRAMFS})
    images = [command for command in box.commands if command.startswith("update-initramfs")]
    assert images == [f"update-initramfs -u -k {NEXT}", f"update-initramfs -u -k {KERNEL}"]


def test_a_kernel_that_is_gone_since_needs_no_initramfs(box: FakeBox, manager: FakeManager) -> None:
    run(box, manager)
    reboot(box)
    (box.root / f"lib/modules/{KERNEL}/build/Makefile").unlink()
    (box.root / f"lib/modules/{KERNEL}/build").rmdir()
    (box.root / f"lib/modules/{KERNEL}").rmdir()
    box.commands.clear()
    absent(box, manager, {"initramfs": INITRAMFS})
    assert [one for one in box.commands if one.startswith("update-initramfs")] == [f"update-initramfs -u -k {NEXT}"]


def test_a_module_that_the_other_kernel_does_not_get_brings_everything_back(box: FakeBox, manager: FakeManager) -> None:
    manager.there = {**dict.fromkeys(NAMES, OLD), HEADERS: "1", NEXT_HEADERS: "1", "dkms": "3.0"}
    box.module, box.built_for = ("535.274.02", "NVIDIA"), {KERNEL, NEXT}
    box.libraries("535.274.02")
    manager.offers.update({name: [NEW, OLD] for name in NAMES})
    taken = manager.install

    def new_kernel_refuses(packages: Any, **more: Any) -> None:
        taken(packages, **more)
        if dict(packages).get("nvidia-driver-cuda") == NEW:
            box.built_for.discard(NEXT)
            box.put("/var/lib/dkms/nvidia/580.95.05/build/make.log", f"DKMS make.log for {NEXT}\nerror: no member\n")
            box.answers[f"dkms autoinstall -k {NEXT}"] = (11, "Error! Bad return status")
        else:
            box.answers.clear()

    manager.install = new_kernel_refuses  # type: ignore[method-assign]
    with pytest.raises(Failure) as raised:
        run(box, manager)
    failure = raised.value.result()
    assert f"was not built for the kernel that boots next, {NEXT}" in failure["what"]
    assert failure["state"] == "kept"
    assert manager.there["nvidia-driver-cuda"] == OLD
    assert box.built_for == {KERNEL, NEXT}


def test_cut_off_between_the_kernels_it_goes_on(box: FakeBox, manager: FakeManager) -> None:
    box.answers[f"update-initramfs -u -k {NEXT}"] = (1, "killed")
    box.answers["modinfo"] = (1, "")
    with pytest.raises(Failure):
        run(box, manager)
    box.answers.clear()
    assert run(box, manager)["state"] == "installed"
    assert json.loads((box.root / "var/lib/provision/nvidia.json").read_text())["kernels"] == [KERNEL, NEXT]


@pytest.mark.parametrize(
    ("named", "expected"), [(NEXT, NEXT), (KERNEL, ""), ("", ""), ("6.1.0-99-amd64", "")],
    ids=["not booted yet", "booted since", "none", "removed since"],
)  # fmt: skip
def test_what_the_plan_saw_counts_as_long_as_it_holds(named: str, expected: str, box: FakeBox) -> None:
    assert next_kernel(box, {"next_kernel": named}) == expected


def hint(absent_one: str) -> str:
    there = {name: [{"version": NEW, "repository": "cuda-x"}] for name in NAMES}
    headers = {name: [{"version": "1", "repository": "x"}] for name in (HEADERS, NEXT_HEADERS, "dkms")}
    with pytest.raises(Failure) as raised:
        exact(want(), {**there, **headers, absent_one: []})
    assert raised.value.kind == "no_headers"
    return raised.value.hint


def test_headers_that_cannot_be_had_any_more_send_into_the_kernel_that_is_there() -> None:
    assert hint(HEADERS) == f"{NEXT} is installed, and boots next: reboot into it (sudo reboot), and run this again"


def test_headers_of_the_next_one_that_cannot_be_had_say_how_to_stay() -> None:
    assert f"or remove {NEXT}" in hint(NEXT_HEADERS)
