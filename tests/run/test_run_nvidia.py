"""From what the roles returned to what the user is told: ready, reboot asked for, failed, cut off."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from run_values import plan

from provision.model.host import Host
from provision.model.report import Failure, Report, StepOutcome
from provision.model.setup import DriverSetup, NvidiaSetup, SetupPackage
from provision.run.execute import Options, Target, settled
from provision.run.nvidia import Ready, outcome_of, set_up, variables
from provision.run.play_events import HostResult

DRIVER = DriverSetup(
    action="install", branch="580", version="580.178.04", module="proprietary", build="dkms",
    packages=(SetupPackage(name="nvidia-driver-cuda", repository="cuda-debian12-x86_64", version="580."),),
)  # fmt: skip
SETUP = NvidiaSetup(manager="apt", distribution="debian 12", driver=DRIVER)
TARGET = Target(host=Host(name="me@box", connection="ssh"), plan=replace(plan(), nvidia=SETUP))
DONE = {
    "state": "installed", "version": "580.178.04", "branch": "580", "module": "proprietary", "changed": True,
    "packages": [{"name": "nvidia-driver-cuda", "version": "580.178.04-1"}],
    "reboot": {"needed": True, "why": ["nouveau drives the GPU, and cannot be replaced while it does"]},
    "console": [], "held": ["nvidia-driver-cuda"], "undo": ["sudo apt-mark unhold nvidia-driver-cuda"],
}  # fmt: skip


def result(data: dict[str, dict[str, Any]], **fields: Any) -> HostResult:
    step = StepOutcome(id="nvidia_driver", title="Install the NVIDIA driver", status="changed", seconds=40.0)
    values: dict[str, Any] = {"status": "ok", "steps": (step,), "failure": None, **fields}
    return HostResult(data=data, **values)


def report(found: Ready | Report) -> Report:
    assert isinstance(found, Report)
    return found


def test_a_reboot_is_asked_for_with_its_reason_and_what_comes_after() -> None:
    found = report(outcome_of(TARGET, SETUP, result({"Install the NVIDIA driver": DONE}), unreaped=False))
    (failure,) = found.failures
    assert (found.ok, found.changed, failure.kind, failure.exit_code) == (False, 1, "reboot_needed", 5)
    assert failure.what == "me@box has to be rebooted before its GPU can be used"
    assert failure.why == "nouveau drives the GPU, and cannot be replaced while it does"
    assert failure.hint == "reboot it when it suits you (sudo reboot)\nthen run the same command again: it goes on"
    assert found.driver is not None
    assert (found.driver.state, found.driver.held) == ("installed", ("nvidia-driver-cuda",))


def test_work_at_the_console_is_the_way_to_reboot() -> None:
    done = {**DONE, "console": ["sudo mokutil --import /var/lib/dkms/mok.pub", "reboot with somebody at the screen"]}
    found = report(outcome_of(TARGET, SETUP, result({"Install the NVIDIA driver": done}), unreaped=False))
    assert found.failures[0].hint.splitlines() == [*done["console"], "then run the same command again: it goes on"]


def test_a_driver_that_could_be_loaded_at_once_is_ready() -> None:
    confirmed = {"state": "confirmed", "version": "580.178.04", "branch": "580", "module": "proprietary"}
    installed = {**DONE, "reboot": {"needed": False, "why": []}}
    looked = {"notes": ["a desktop is running"]}
    data = {"Look at the box": looked, "Install the NVIDIA driver": installed, "Confirm the NVIDIA driver": confirmed}
    found = outcome_of(TARGET, SETUP, result(data), unreaped=False)
    assert isinstance(found, Ready)
    assert found.driver is not None
    assert (found.driver.state, found.driver.reboot_needed) == ("confirmed", False)
    assert found.driver.notes == ("a desktop is running",)
    assert found.driver.undo == ("sudo apt-mark unhold nvidia-driver-cuda",), "from the first of the two"


def test_a_toolkit_alone_says_nothing_of_a_driver() -> None:
    found = outcome_of(TARGET, replace(SETUP, driver=None), result({}), unreaped=False)
    assert found == Ready(steps=result({}).steps, driver=None)


def test_a_lost_connection_says_what_goes_on_and_what_to_type_at_the_console() -> None:
    lost = Failure(what="the connection to me@box was lost", why="Broken pipe", hint="look at the network", exit_code=4)
    found = report(outcome_of(TARGET, SETUP, result({}, status="unreachable", failure=lost), unreaped=False))
    (failure,) = found.failures
    assert failure.exit_code == 4
    assert failure.why.endswith("the host finishes what it has begun, and keeps the state of it")
    assert "run the same command again, and it goes on" in failure.hint
    assert failure.hint.endswith("at its text console as root: dpkg --configure -a; apt-get -y -f install")
    rpm = report(
        outcome_of(
            TARGET, replace(SETUP, manager="dnf"), result({}, status="unreachable", failure=lost), unreaped=False
        )
    )
    assert rpm.failures[0].hint.endswith("dnf -y distro-sync")


def test_a_host_that_was_never_reached_is_told_of_as_it_is() -> None:
    refused = Failure(what="me@box refused the connection", exit_code=4)
    found = report(
        outcome_of(TARGET, SETUP, result({}, status="unreachable", failure=refused, steps=()), unreaped=False)
    )
    assert found.failures == (refused,)


def test_an_interrupt_says_where_and_that_it_goes_on() -> None:
    cut = result({}, status="cancelled", running="Install the NVIDIA driver")
    found = report(outcome_of(TARGET, SETUP, cut, unreaped=True))
    (failure,) = found.failures
    assert failure.exit_code == 130
    assert failure.why.startswith("stopped during 'Install the NVIDIA driver': a package operation that had begun was")
    assert "something may still be running there" in failure.why
    assert failure.hint == "run the same command again, and it goes on from there; do not reboot before that"


def test_nothing_is_begun_after_an_interrupt() -> None:
    stop = threading.Event()
    stop.set()
    ready, stopped = set_up([TARGET], Options(), on_event=print, cancel=stop, control_dir="/nowhere")
    assert ready == {}
    assert stopped["me@box"].failures[0].why == "nothing was changed on this host"


def test_a_host_with_something_to_do_for_its_gpu_is_not_settled() -> None:
    assert not settled(TARGET)


def test_the_playbook_is_given_the_setup_as_data() -> None:
    given = variables(SETUP)["provision_nvidia"]
    assert given["driver"]["packages"] == [
        {"name": "nvidia-driver-cuda", "repository": "cuda-debian12-x86_64", "version": "580."}
    ]
    assert given["cuda_toolkit"] is None
