"""The driver in a report, as its reader sees it."""

from __future__ import annotations

from dataclasses import replace

from provision.model.report import DriverOutcome, Failure, Report
from provision.render.driver import driver_lines
from provision.render.report import report_text

INSTALLED = DriverOutcome(
    version="580.178.04", branch="580", module="proprietary", state="installed", reboot_needed=True,
    reboot_why=("nouveau drives the GPU, and cannot be replaced while it does",),
    console=("sudo mokutil --import /var/lib/dkms/mok.pub",), held=("nvidia-driver-cuda", "nvidia-kernel-dkms"),
    undo=("sudo apt-mark unhold nvidia-driver-cuda nvidia-kernel-dkms",),
)  # fmt: skip
REPORT = Report(
    ok=False, host="me@box", environment=None, changed=1, steps=(), checks=(), smoke=None, driver=INSTALLED,
    failures=(Failure(what="me@box has to be rebooted before its GPU can be used", kind="reboot_needed"),),
)  # fmt: skip


def test_an_installed_driver_says_why_it_waits_what_holds_it_and_how_to_take_it_back() -> None:
    assert driver_lines(INSTALLED) == [
        "driver: NVIDIA 580.178.04 (proprietary module) is installed, and not loaded yet",
        "  reboot: nouveau drives the GPU, and cannot be replaced while it does",
        "  at the console: sudo mokutil --import /var/lib/dkms/mok.pub",
        "  held against upgrades: nvidia-driver-cuda, nvidia-kernel-dkms",
        "  undo: sudo apt-mark unhold nvidia-driver-cuda nvidia-kernel-dkms",
    ]


def test_kernel_security_updates_that_wait_are_named_with_the_line_that_lets_them_in() -> None:
    names = ("linux-image-6.8.0-60-generic", "linux-image-generic", "linux-modules-nvidia-580-6.8.0-60-generic")
    held = replace(INSTALLED, held=names, undo=(f"sudo apt-mark unhold {' '.join(names)}", "sudo reboot"))
    assert driver_lines(held)[-5:-2] == [
        "  kernel security updates wait meanwhile",
        "  to let them in: sudo apt-mark unhold linux-image-6.8.0-60-generic linux-image-generic",
        "    before you reboot into a new kernel, see that it has the module: provision doctor",
    ]
    rocky = replace(INSTALLED, held=("kernel-core", "nvidia-driver"), undo=("sudo dnf versionlock delete kernel-core",))
    assert "  to let them in: sudo dnf versionlock delete kernel-core" in driver_lines(rocky)


def test_a_driver_that_was_not_confirmed_is_not_said_to_wait_for_a_reboot() -> None:
    loaded = replace(INSTALLED, reboot_needed=False, console=(), held=(), undo=())
    assert driver_lines(loaded) == [
        "driver: NVIDIA 580.178.04 (proprietary module) is installed, and was not seen to work"
    ]


def test_a_confirmed_driver_needs_no_words_about_reboots() -> None:
    confirmed = replace(INSTALLED, state="confirmed", reboot_needed=False, console=(), held=(), undo=(), version=None)
    assert driver_lines(confirmed) == [
        "driver: NVIDIA of branch 580 (proprietary module) is loaded, its versions agree, and every GPU is seen"
    ]


def test_a_report_that_waits_for_a_reboot_is_not_called_a_failed_proof() -> None:
    text = report_text(REPORT)
    assert text.endswith("verdict: not finished; a reboot is asked for\n")
    assert "verdict: NOT proved" in report_text(replace(REPORT, failures=(Failure(what="broken"),)))
