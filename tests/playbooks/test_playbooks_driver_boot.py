"""The initramfs of the next boot: by the distribution's program, or by what the host has in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.provision_driver_boot import rebuild, typed
from ansible.module_utils.provision_failure import Failure
from playbook_driver_fakes import KERNEL, FakeBox

DEBIANS = ["update-initramfs", "-u", "-k", "{kernel}"]
ROCKYS = ["dracut", "--force", "--kver", "{kernel}"]
IMAGE = f"/boot/initrd.img-{KERNEL}"


@pytest.fixture
def box(tmp_path: Path) -> FakeBox:
    made = FakeBox(tmp_path)
    made.put(IMAGE, "initramfs")
    return made


def without(box: FakeBox, *programs: str) -> None:
    for program in programs:
        (box.root / "usr/sbin" / program).unlink()


def test_debians_own_program_goes_first(box: FakeBox) -> None:
    rebuild(box, DEBIANS, [KERNEL])
    assert box.commands == [f"update-initramfs -u -k {KERNEL}"]


def test_dracut_in_place_of_initramfs_tools(box: FakeBox) -> None:
    without(box, "update-initramfs")
    rebuild(box, DEBIANS, [KERNEL])
    assert box.commands == [f"dracut --force {IMAGE} {KERNEL}"]
    assert typed(box, DEBIANS, [KERNEL]) == box.commands, "what is told is what was done"


def test_rocky_has_dracut_alone(box: FakeBox) -> None:
    without(box, "update-initramfs")
    rebuild(box, ROCKYS, [KERNEL])
    assert box.commands == [f"dracut --force --kver {KERNEL}"]


def test_an_image_that_nobody_here_can_make_is_no_success(box: FakeBox) -> None:
    without(box, "update-initramfs", "dracut")
    with pytest.raises(Failure) as raised:
        rebuild(box, DEBIANS, [KERNEL])
    assert raised.value.why == f"{IMAGE}: there is neither update-initramfs nor dracut here"


def test_a_host_that_boots_without_one_needs_none(box: FakeBox) -> None:
    without(box, "update-initramfs", "dracut")
    (box.root / IMAGE.lstrip("/")).unlink()
    rebuild(box, DEBIANS, [KERNEL])
    assert box.commands == []
