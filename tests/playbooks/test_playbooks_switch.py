"""Which generation is in use, going back, and removing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_failure import Failure
from playbook_target import Target
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]


@pytest.fixture
def three(target: Target, demo: Demo) -> Target:
    """Generations 1 (verified), 2, 3 (verified, current)."""
    target.make(target.plan(target.lock(demo()), "f1"))
    for number in (2, 3):
        target.copied(number, f"f{number}")
    target.verified(1)
    target.verified(3)
    target.switch("current", generation=3)
    return target


def failure(call: Callable[[], Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        call()
    return caught.value


def current(target: Target) -> str:
    return os.readlink(target.environment / "current")  # noqa: PTH115  as the link has it


def test_switching(three: Target) -> None:
    result = three.switch("current", generation=2)
    assert result == {
        "changed": True,
        "name": "default",
        "path": str(three.environment),
        "generation": 2,
        "previous": 3,
        "verified": False,
        "activate": str(three.environment / "current" / "activate"),
    }
    assert current(three) == "generations/2"
    assert three.switch("current", generation=2)["changed"] is False


def test_going_back_passes_over_what_was_not_verified(three: Target) -> None:
    result = three.switch("previous")
    assert (result["generation"], result["previous"], result["verified"]) == (1, 3, True)
    assert current(three) == "generations/1"
    stop = failure(lambda: three.switch("previous"))
    assert stop.kind == "no_generation"
    assert stop.what == "environment default has no earlier generation to go back to"
    assert current(three) == "generations/1"


def test_a_generation_that_is_not_there(three: Target) -> None:
    stop = failure(lambda: three.switch("current", generation=9))
    assert (stop.kind, stop.what) == ("no_generation", "environment default has no generation 9")
    assert stop.why == "there are: 1, 2, 3"


@pytest.mark.parametrize("state", ["current", "previous"])
def test_an_environment_that_is_not_there(target: Target, state: str) -> None:
    stop = failure(lambda: target.switch(state, name="nosuch", generation=1))
    assert (stop.kind, stop.what) == ("no_generation", "there is no environment nosuch")
    assert "provision env list" in stop.hint
    assert not target.layout.environments.exists()


def test_check_mode_of_a_switch(three: Target) -> None:
    assert three.switch("current", check_mode=True, generation=2)["changed"] is True
    assert three.switch("current", check_mode=True, generation=7)["changed"] is True
    assert three.switch("previous", check_mode=True)["generation"] == 1
    assert current(three) == "generations/3"


def test_removing_one_generation(three: Target) -> None:
    assert three.switch("absent", check_mode=True, generation=2)["removed"] == [2]
    assert three.numbers() == [1, 2, 3]
    result = three.switch("absent", generation=2)
    assert (result["changed"], result["removed"], result["generation"]) == (True, [2], 2)
    assert three.numbers() == [1, 3]
    (three.generation(1) / "state.json").unlink()
    assert three.switch("absent", generation=1)["removed"] == [1], "half-made ones can be removed"


@pytest.mark.parametrize("check_mode", [False, True])
def test_removing_a_generation_that_is_not_there_removes_nothing(three: Target, check_mode: bool) -> None:
    stop = failure(lambda: three.switch("absent", check_mode, generation=9))
    assert (stop.kind, stop.what) == ("no_generation", "environment default has no generation 9")
    assert stop.why == "there are: 1, 2, 3"
    stop = failure(lambda: three.switch("absent", check_mode, name="nosuch", generation=1))
    assert stop.kind == "no_generation"
    assert three.numbers() == [1, 2, 3]


@pytest.mark.parametrize("state", ["absent", "current"])
@pytest.mark.parametrize("number", [0, -1])
@pytest.mark.parametrize("check_mode", [False, True])
def test_numbers_below_one_are_nothing_else(three: Target, state: str, number: int, check_mode: bool) -> None:
    stop = failure(lambda: three.switch(state, check_mode, generation=number))
    assert (stop.kind, stop.what) == ("bad_input", f"{number} is not the number of a generation")
    assert stop.why == "they are numbered from 1"
    assert (three.numbers(), current(three)) == ([1, 2, 3], "generations/3")


def test_the_current_generation_stays(three: Target) -> None:
    stop = failure(lambda: three.switch("absent", generation=3))
    assert (stop.kind, stop.what) == ("refused", "generation 3 of environment default is the current one and stays")
    assert "provision env rollback" in stop.hint
    assert three.numbers() == [1, 2, 3]


def test_removing_the_environment(three: Target) -> None:
    result = three.switch("absent")
    assert (result["changed"], result["removed"], result["generation"]) == (True, [1, 2, 3], None)
    assert not three.layout.environments.exists()
    assert three.switch("absent")["changed"] is False


def test_an_environment_that_a_process_runs_from_stays(three: Target) -> None:
    python = three.generation(1) / "venv" / "bin" / "python"
    with subprocess.Popen([python, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as user:
        assert user.stdout is not None
        user.stdout.readline()
        stop = failure(lambda: three.switch("absent"))
        user.communicate(b"\n")
    assert (stop.kind, stop.what) == ("refused", "generation 1 of environment default is in use and stays")
    assert stop.why == f"these processes run from it: {user.pid}"
    assert three.numbers() == [1, 2, 3]


def test_what_a_killed_removal_left_is_removed_later(target: Target) -> None:
    grave = target.layout.environments / ".removed-lab-17"
    (grave / "generations" / "1").mkdir(parents=True)
    target.switch("absent", name="other")
    assert not grave.exists()


def test_an_environment_with_its_folder_moved_is_not_followed(three: Target, tmp_path: Path) -> None:
    (three.environment / "current").unlink()
    (three.environment / "current").symlink_to(tmp_path)
    assert three.switch("current", generation=3)["previous"] is None
    assert current(three) == "generations/3"
