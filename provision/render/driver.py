"""What a run did to the NVIDIA driver, as the reader of a report sees it."""

from __future__ import annotations

import re
import textwrap

from provision.model.report import DriverOutcome

WIDTH = 100
RELEASES = ("sudo apt-mark unhold", "sudo dnf versionlock delete")
"""How a line of the undo begins that lets held packages move again."""

STATES = {
    "installed": "is installed, and not loaded yet",
    "confirmed": "is loaded, its versions agree, and every GPU is seen",
    "kept": "is the one from before: the change was taken back",
    "removed": "is removed",
}
UNSEEN = "is installed, and was not seen to work"
"""Where no reboot is waited for: its confirmation failed, or did not come."""


def driver_lines(driver: DriverOutcome) -> list[str]:
    """What it is now, what keeps it from moving, and how to take it back."""
    version = driver.version or f"of branch {driver.branch}"
    unseen = driver.state == "installed" and not driver.reboot_needed
    lines = [f"driver: NVIDIA {version} ({driver.module} module) {UNSEEN if unseen else STATES[driver.state]}"]
    lines += [f"  reboot: {why}" for why in driver.reboot_why if driver.reboot_needed]
    lines += [f"  at the console: {line}" for line in driver.console]
    lines += [f"  note: {line}" for line in driver.notes]
    if driver.held:
        held = f"  held against upgrades: {', '.join(driver.held)}"
        lines += textwrap.wrap(held, WIDTH, subsequent_indent=" " * 4, break_long_words=False, break_on_hyphens=False)
    lines += _kernel_waits(driver)
    lines += [f"  undo: {line}" for line in driver.undo]
    return lines


def _kernel_waits(driver: DriverOutcome) -> list[str]:
    """A kernel that nobody lets in is not a safe one: who reads the report has to know."""
    kernels = [
        name for name in driver.held if re.match(r"linux-(?!(modules|objects|signatures)-nvidia-)|kernel\b", name)
    ]
    release = next((each for each in RELEASES if any(line.startswith(each) for line in driver.undo)), None)
    if not kernels or release is None:
        return []
    return [
        "  kernel security updates wait meanwhile",
        f"  to let them in: {release} {' '.join(kernels)}",
        "    before you reboot into a new kernel, see that it has the module: provision doctor",
    ]
