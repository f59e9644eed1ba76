"""--reboot: which hosts get one, and what becomes of their reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provision.cli.rebooting import _joined, refuse_reboot_of_this_machine, wait_for_reboot
from provision.errors import UsageError
from provision.model.host import LOCALHOST, Host
from provision.model.report import DriverOutcome, Failure, Report, StepOutcome

BOX = Host(name="me@box", connection="ssh")
DRIVER = DriverOutcome(version="580.178.04", branch="580", module="open", state="installed", reboot_needed=True)
ASKED = Failure(what="me@box has to be rebooted before its GPU can be used", kind="reboot_needed")


def report(**fields: Any) -> Report:
    step = StepOutcome(id="nvidia_driver", title="Install the NVIDIA driver", status="changed", seconds=40.0)
    values: dict[str, Any] = {
        "ok": False, "host": "me@box", "environment": None, "changed": 1, "steps": (step,), "checks": (), "smoke": None,
        "failures": (ASKED,), "driver": DRIVER, **fields,
    }  # fmt: skip
    return Report(**values)


def test_this_machine_is_never_rebooted() -> None:
    refuse_reboot_of_this_machine([BOX], reboot=True)
    refuse_reboot_of_this_machine([LOCALHOST], reboot=False)
    with pytest.raises(UsageError) as caught:
        refuse_reboot_of_this_machine([BOX, LOCALHOST], reboot=True)
    assert caught.value.what == "--reboot is for hosts over SSH"
    assert "run the same command again" in caught.value.hint


def test_only_a_host_that_waits_for_nothing_else_is_rebooted() -> None:
    assert wait_for_reboot(report())
    assert not wait_for_reboot(report(failures=(Failure(what="no candidate", kind="no_candidate"),)))
    at_console = replace(DRIVER, console=("choose Enroll MOK",))
    assert not wait_for_reboot(report(driver=at_console)), "the key must be enrolled by somebody who sits there"
    assert not wait_for_reboot(report(driver=None))


def test_the_two_halves_make_one_report() -> None:
    confirmed = replace(DRIVER, state="confirmed", reboot_needed=False)
    step = StepOutcome(id="environment", title="Make the generation", status="changed", seconds=8.0)
    joined = _joined(report(), report(ok=True, failures=(), driver=confirmed, steps=(step,), changed=2))
    assert (joined.ok, joined.changed, joined.driver) == (True, 3, confirmed)
    assert [each.title for each in joined.steps] == ["Install the NVIDIA driver", "Make the generation"]
