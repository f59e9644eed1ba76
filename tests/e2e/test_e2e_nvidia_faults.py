"""What goes wrong while a driver is installed, at each of its steps: the box is left with the driver it had or with
exact instructions, the same command again finishes, and once more changes nothing.

Roles and controller are the real ones, over SSH; the box is a workstation made of files (harness.gpu_box).
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_box_play import Played, answer, driver_setup, play, started
from harness.gpu_packages_nvidia import KERNEL, driver

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.slow]
GpuBoxFixture = Callable[..., GpuBox]

OLD, NEW = "535.274.02", "580.95.05"
HEADERS = f"linux-headers-{KERNEL}"
POINTS = ("preinst:nvidia-kernel-common", "build", "postinst:nvidia-driver-cuda", "update-initramfs")
"""Within each stage of the installation: packages begin, the module is built, packages end, the initramfs is made."""
WAIT_S = 300.0


@pytest.fixture(params=["bare", "upgrade"])
def box(request: pytest.FixtureRequest, gpu_box: GpuBoxFixture) -> GpuBox:
    """A box with nouveau and no driver, and one where an older driver works."""
    made = gpu_box()
    if request.param == "upgrade":
        made.install_driver(OLD)
        assert works(made, OLD)
    return made


@pytest.fixture
def bare(gpu_box: GpuBoxFixture) -> GpuBox:
    return gpu_box()


@pytest.fixture
def old(gpu_box: GpuBoxFixture) -> GpuBox:
    made = gpu_box()
    made.install_driver(OLD)
    return made


def works(box: GpuBox, version: str) -> bool:
    """Whether the driver of this version is loaded and its tools agree with it."""
    return box.driver_version() == version and box.smi()[0] == 0


def wait_until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def host_is_quiet(box: GpuBox) -> bool:
    """Nothing of a run is left at work there."""
    busy = ("dpkg", "apt-get", "dkms", "AnsiballZ", "provision_driver_worker", "update-initramfs")
    return not any(word in line for line in box.processes() for word in busy)


def finish(box: GpuBox) -> None:
    """The same command again, the reboot it asks for, once more; and then nothing is left to change."""
    again = play(box)
    if not again.ready:
        assert again.reboot_asked, again.told
        box.reboot()
        again = play(box)
    assert again.ready, again.told
    assert works(box, NEW)
    assert box.broken() == []
    assert box.record()["state"] == "confirmed"
    assert {"nvidia-driver-cuda", "nvidia-kernel-dkms"} <= set(box.holds())
    once_more = play(box)
    assert (once_more.ready, once_more.changed) == (True, 0), once_more.steps


def left_usable(box: GpuBox, before: str, told: str) -> None:
    """The driver from before comes up after a reboot, or what was said has the commands that mend it."""
    box.reboot()
    assert box.ssh("true").returncode == 0
    if before and not works(box, before) and not works(box, NEW):
        assert any(word in told for word in ("sudo ", "apt-get ", "dpkg ")), told


def test_a_bare_box_goes_all_the_way(bare: GpuBox) -> None:
    first = play(bare)
    assert first.reboot_asked, first.told
    assert "nouveau" in first.told
    assert first.driver is not None
    assert (first.driver["state"], first.driver["version"]) == ("installed", NEW)
    assert "blacklist nouveau" in bare.initramfs()
    assert bare.driver_version() == ""
    asked_again = play(bare)
    assert asked_again.reboot_asked, "until it is rebooted it says the same"
    bare.reboot()
    assert works(bare, NEW)
    finish(bare)


@pytest.mark.parametrize("point", POINTS)
def test_the_controller_is_killed(box: GpuBox, point: str) -> None:
    before = box.driver_version()
    with box.held_at(point) as reached, started(box, driver_setup()) as run:
        reached()
        run.send_signal(signal.SIGKILL)
        run.wait(timeout=30)
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == [], "a package operation is finished, whoever asked for it"
    left_usable(box, before, "")
    finish(box)


@pytest.mark.parametrize("point", POINTS)
def test_ctrl_c(box: GpuBox, point: str) -> None:
    before = box.driver_version()
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached()
            run.send_signal(signal.SIGINT)
            time.sleep(1)
        said = answer(run)
    assert not said.ready
    assert said.failures[0]["what"] == "interrupted"
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == []
    left_usable(box, before, said.told)
    finish(box)


@pytest.mark.parametrize("point", POINTS)
def test_the_connection_is_lost(box: GpuBox, point: str) -> None:
    before = box.driver_version()
    with started(box, driver_setup()) as run:
        with box.held_at(point) as reached:
            reached()
            box.cut_ssh()
        said = answer(run)
    assert not said.ready
    assert "keeps the state of it" in said.told
    assert "dpkg --configure -a" in said.told
    wait_until("the host ends what it began", lambda: host_is_quiet(box))
    assert box.broken() == []
    box.mend_ssh()
    left_usable(box, before, said.told)
    finish(box)


@pytest.mark.parametrize("point", POINTS)
def test_the_module_on_the_host_is_killed(old: GpuBox, point: str) -> None:
    """As by the kernel when memory runs out: nothing gets to tidy up, dpkg least of all."""
    with started(old, driver_setup()) as run:
        with old.held_at(point) as reached:
            reached()
            names = ("[A]nsiballZ", "[p]rovision_driver_worker", "^apt-get", "^/usr/bin/dpkg", "^dpkg", "[/]dkms")
            old.sh("".join(f"pkill -KILL -f '{name}' || true\n" for name in names))
        said = answer(run)
    assert not said.ready
    assert said.failures[0]["hint"], said.told
    wait_until("what was killed is gone", lambda: host_is_quiet(old))
    finish(old)


@pytest.mark.parametrize("point", ["preinst:nvidia-kernel-common", "postinst:nvidia-driver-cuda", "update-initramfs"])
def test_a_step_fails(box: GpuBox, point: str) -> None:
    before = box.driver_version()
    box.hook(point, "echo refused by the test >&2; exit 1")
    said = play(box)
    assert not said.ready
    assert "refused by the test" in said.told or said.failures[0]["hint"], said.told
    box.hook(point)
    left_usable(box, before, said.told)
    finish(box)


def test_the_module_does_not_compile(box: GpuBox) -> None:
    before = box.driver_version()
    box.mirror.replace([*driver(NEW, broken=("proprietary",)), *([] if not before else driver(OLD))])
    said = play(box)
    assert not said.ready
    assert said.failures[0]["kind"] == "module_build"
    assert "error: " in said.told, "the compiler's own words"
    assert "blacklist nouveau" not in box.initramfs() or before, "nouveau is kept until there is something better"
    left_usable(box, before, said.told)
    if before:
        assert works(box, before), "the driver from before is back"
    box.mirror.replace([*driver(NEW), *([] if not before else driver(OLD))])
    finish(box)


@pytest.mark.parametrize("name", ["nvidia-driver-cuda", "nvidia-kernel-dkms"])
def test_no_candidate(box: GpuBox, name: str) -> None:
    before, packages = box.driver_version(), box.installed()
    box.mirror.drop(name)
    said = play(box)
    assert (said.ready, said.failures[0]["kind"]) == (False, "no_candidate")
    assert name in said.told
    assert box.installed() == packages, "nothing was changed"
    assert box.driver_version() == before
    box.mirror.add([deb for deb in driver(NEW) if deb.name == name])
    finish(box)


def test_headers_that_nobody_has(bare: GpuBox) -> None:
    packages = bare.installed()
    bare.mirror.drop(HEADERS)
    said = play(bare)
    assert (said.ready, said.failures[0]["kind"]) == (False, "no_headers")
    assert HEADERS in said.told
    assert bare.installed() == packages
    assert "nouveau" in bare.loaded()


@pytest.mark.parametrize("path", ["/var/lib/dkms", "/usr/src", "/boot", "/var/cache/apt", "/var/lib/dpkg"])
def test_a_full_disk_before_anything_is_changed(bare: GpuBox, path: str) -> None:
    packages = bare.installed()
    with bare.small_disk(path, 0.5):
        bare.sh(bare.fill(path))
        said = play(bare)
        assert (said.ready, said.failures[0]["kind"]) == (False, "disk_full"), said.told
    assert bare.installed() == packages
    finish(bare)


@pytest.mark.parametrize(
    ("point", "path"),
    [("preinst:nvidia-kernel-common", "/usr/src"), ("build", "/var/lib/dkms"), ("update-initramfs", "/boot")],
)
def test_a_disk_that_fills_up_on_the_way(box: GpuBox, point: str, path: str) -> None:
    before = box.driver_version()
    with box.small_disk(path, 4096):
        box.hook(point, box.fill(path))
        said = play(box)
        box.hook(point)
        assert not said.ready
        assert "No space left on device" in said.told or said.failures[0]["kind"] == "disk_full", said.told
    left_usable(box, before, said.told)
    finish(box)


@pytest.mark.parametrize("status", [0, 503])
def test_the_mirror_goes_away_in_the_middle(old: GpuBox, status: int) -> None:
    old.mirror.answer(lambda path: status if path.endswith(f"nvidia-driver-cuda_{NEW}-1_amd64.deb") else None)
    said = play(old)
    assert not said.ready
    assert said.failures[0]["hint"]
    assert works(old, OLD)
    assert old.broken() == []
    old.mirror.answer(None)
    finish(old)


def test_a_repository_signed_by_somebody_else(bare: GpuBox) -> None:
    packages = bare.installed()
    wrong = {**bare.mirror.variables(), "provision_nvidia_fingerprint": "0" * 40}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(bare.mirror), "variables", lambda _: wrong)
        said = play(bare)
    assert not said.ready
    assert bare.mirror.key.fingerprint in said.told.replace(" ", "")
    assert bare.installed() == packages


def test_two_runs_at_once(bare: GpuBox) -> None:
    with started(bare, driver_setup()) as first, started(bare, driver_setup()) as second:
        said: list[Played] = [answer(first), answer(second)]
    assert all(each.reboot_asked for each in said), [each.told for each in said]
    assert bare.broken() == []
    finish(bare)


def test_an_unattended_upgrade_holds_the_lock(bare: GpuBox) -> None:
    """Another package manager at work is waited for."""
    lock = (
        "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(8)"
    )
    holder = subprocess.Popen(
        ["ssh", "-p", str(bare.port), f"{bare.user}@{bare.address}", f'sudo python3 -c "{lock}"'],
        env=bare.fleet.environment(), stdin=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        time.sleep(1)
        assert play(bare).reboot_asked
    finally:
        holder.wait(timeout=60)
    finish(bare)
