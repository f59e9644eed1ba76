"""Runs that are killed: what was there stays usable, the next run finishes, nothing is there twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from playbook_target import Target, kill_marked, marked
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]


@pytest.fixture
def heavy(target: Target, demo: Demo) -> str:
    """A lock whose installation takes about a second: many files, and compiled."""
    wheels = [
        demo(f"heavy{one}", "1.0", {f"heavy{one}/m{number}.py": f"x = {number}\n" * 40 for number in range(700)})
        for one in range(3)
    ]
    return target.lock(demo(), *wheels)


@pytest.fixture
def usable(target: Target, demo: Demo) -> Target:
    """Generation 1 is there and current."""
    target.make(target.plan(target.lock(demo()), "f1"))
    target.verified(1)
    target.switch("current", generation=1)
    return target


def works(target: Target) -> bool:
    """The current generation imports what it should."""
    python = target.environment / "current" / "venv" / "bin" / "python"
    done = subprocess.run(
        [python, "-c", "import demo; print(demo.VERSION)"], capture_output=True, text=True, check=False
    )
    return done.stdout == "1.0\n"


def began(process: subprocess.Popen[str], target: Target, number: int) -> None:
    """Wait until uv fills generation ``number``."""
    deadline = time.monotonic() + 20
    while not (target.generation(number) / "venv" / "bin" / "python").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_sigterm_stops_everything_at_once_and_the_next_run_finishes(usable: Target, heavy: str) -> None:
    plan = usable.plan(heavy, "f2")
    with usable.start(plan, compile_bytecode=True) as process:
        began(process, usable, 2)
        begun = time.monotonic()
        kill_marked(str(usable.root), signal.SIGTERM)
        out, err = process.communicate(timeout=10)
    assert (json.loads(out)["kind"], err) == ("interrupted", "")
    assert time.monotonic() - begun < 8
    assert marked(str(usable.root)) == []
    assert works(usable)
    assert not (usable.generation(2) / "state.json").exists()
    assert list(usable.layout.runs.iterdir()) == []
    result = usable.make(plan, compile_bytecode=True)
    assert (result["generation"], result["removed"], usable.numbers()) == (2, [2], [1, 2])


def test_sigkill_of_the_module_alone_takes_uv_along(usable: Target, heavy: str) -> None:
    plan = usable.plan(heavy, "f2")
    with usable.start(plan, compile_bytecode=True) as process:
        began(process, usable, 2)
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 3
    while marked(str(usable.root)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marked(str(usable.root)) == []
    assert works(usable)
    assert usable.make(plan)["generation"] == 2


@pytest.mark.slow
def test_killing_everything_at_any_moment(usable: Target, heavy: str) -> None:
    plan = usable.plan(heavy, "f2")
    begun = time.monotonic()
    with usable.start(usable.plan(heavy, "f0"), compile_bytecode=True) as process:
        process.communicate()
    whole = time.monotonic() - begun
    usable.switch("absent", generation=2)
    chance = random.Random(2)  # noqa: S311
    for _ in range(15):
        with usable.start(plan, compile_bytecode=True, then_switch=True) as process:
            time.sleep(chance.uniform(0, whole))
            kill_marked(str(usable.root))
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert works(usable)
        assert usable.numbers() in ([1], [1, 2])
    result = usable.make(plan)
    assert (result["generation"], usable.numbers()) == (2, [1, 2])
    assert usable.make(plan)["changed"] is False
    assert result["packages"] == 4
    usable.switch("current", generation=2)
    python = usable.environment / "current" / "venv" / "bin" / "python"
    every = "import importlib; [importlib.import_module(f'heavy{i}.m{n}') for i in range(3) for n in range(700)]"
    subprocess.run([python, "-c", every], check=True)


def test_two_runs_at_once_make_one_generation(usable: Target, heavy: str) -> None:
    plan = usable.plan(heavy, "f2")
    with usable.start(plan) as first, usable.start(plan) as second:
        results = [json.loads(process.communicate()[0]) for process in (first, second)]
    assert sorted(result["created"] for result in results) == [False, True]
    assert {result["generation"] for result in results} == {2}
    assert usable.numbers() == [1, 2]
