"""A step that fails, a module that does not compile, nothing to install: the driver from before, or exact words.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box).
PROVISION_TEST_FAULTS=all runs each fault from both starts, a bare box and one with an older driver.
"""

from __future__ import annotations

import pytest
from harness.gpu_box_play import play
from harness.gpu_packages_nvidia import driver
from nvidia_faults import (
    HEADERS,
    NEW,
    OLD,
    POINTS,
    STARTS,
    GpuBoxFixture,
    as_before,
    before,
    begun,
    cases,
    finish,
    left_usable,
)

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]
SCRIPTS = [point for point in POINTS if point != "build"]


@pytest.mark.parametrize(("start", "point"), cases(SCRIPTS))
def test_a_step_fails(gpu_box: GpuBoxFixture, start: str, point: str) -> None:
    box = begun(gpu_box, start)
    box.hook(point, "echo refused by the test >&2; exit 1")
    said = play(box)
    assert not said.ready
    assert "refused by the test" in said.told
    box.hook(point)
    left_usable(box, start, said.told)
    finish(box)


@pytest.mark.parametrize("start", STARTS)
def test_the_module_does_not_compile(gpu_box: GpuBoxFixture, start: str) -> None:
    box = begun(gpu_box, start)
    older = driver(OLD) if before(start) else []
    box.mirror.replace([*driver(NEW, broken=("proprietary",)), *older])
    said = play(box)
    assert not said.ready
    assert said.failures[0]["kind"] == "module_build"
    assert "error: " in said.told, "the compiler's own words"
    assert "blacklist nouveau" not in box.initramfs() or older, "nouveau is kept until there is something better"
    left_usable(box, start, said.told)
    assert as_before(box, start), "the driver from before is back"
    box.mirror.replace([*driver(NEW), *older])
    finish(box)


@pytest.mark.parametrize(("start", "name"), cases(["nvidia-driver-cuda", "nvidia-kernel-dkms"], shift=1))
def test_no_candidate(gpu_box: GpuBoxFixture, start: str, name: str) -> None:
    box = begun(gpu_box, start)
    packages = box.installed()
    box.mirror.drop(name)
    said = play(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "no_candidate")
    assert name in said.told
    assert box.installed() == packages, "nothing was changed"
    assert as_before(box, start)
    box.mirror.add([deb for deb in driver(NEW) if deb.name == name])
    finish(box)


def test_headers_that_nobody_has(gpu_box: GpuBoxFixture) -> None:
    bare = begun(gpu_box, "bare")
    packages = bare.installed()
    bare.mirror.drop(HEADERS)
    said = play(bare)
    assert (said.ready, said.failures[0]["kind"]) == (False, "no_headers")
    assert HEADERS in said.told
    assert bare.installed() == packages
    assert "nouveau" in bare.loaded()


def test_a_repository_signed_by_somebody_else(gpu_box: GpuBoxFixture) -> None:
    bare = begun(gpu_box, "bare")
    packages = bare.installed()
    wrong = {**bare.mirror.variables(), "provision_nvidia_fingerprint": "0" * 40}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(bare.mirror), "variables", lambda _: wrong)
        said = play(bare)
    assert not said.ready
    assert bare.mirror.key.fingerprint in said.told.replace(" ", "")
    assert bare.installed() == packages
