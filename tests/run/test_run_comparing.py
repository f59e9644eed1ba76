"""A build against the stock wheel through a real play on this machine, in generations made for it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_values import plan, stack

from provision.model.build import Build, Needs, Source
from provision.model.environment import EnvironmentState, Generation
from provision.model.host import LOCALHOST
from provision.model.plan import Plan
from provision.model.report import CheckOutcome, Environment, Progress, Report
from provision.render.report import report_text
from provision.run import checks, comparing, execute
from provision.run.comparing import Contest
from provision.run.execute import Options, Target

WORKLOAD = """
import json, os
rate = float(os.environ["RATE"])
print(json.dumps({"what": "trained", "data": {"samples_per_s": rate}}))
"""
BUILD = Build(
    framework="numpy", version="2.4.6", device="cpu", engine="uv", python="3.11", distributions=("numpy",),
    source=Source(kind="index", location="numpy==2.4.6"), compiler=None, cpu="native", copts=(), expect=(), allow=(),
    runs_here=True, environment={}, needs=Needs(memory_mib_per_job=1, disk_mib=1, tmp_mib=1),
)  # fmt: skip
STOCK = plan(stack("pytorch"), stack("numpy", version="2.4.6"), fingerprint="stock")


def source_plan(**request: Any) -> Plan:
    """NumPy is built, and it is not the first of its frameworks."""
    made = plan(stack("pytorch"), stack("numpy", version="2.4.6", origin="source"), fingerprint="built", **request)
    return replace(made, builds=(BUILD,), stock=STOCK)


def report(generation: int, word: str) -> Report:
    return Report(
        ok=True, host="localhost", environment=None, changed=0, steps=(), smoke=None, failures=(),
        checks=(CheckOutcome(id="mnist:numpy", status="pass", what=f"{word} in generation {generation}"),),
    )  # fmt: skip


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Generations 1 (the wheel: 1000 samples/s) and 2 (the build: 1500), neither current."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(checks, "check_files", lambda commands: {commands[0].argv[0]: WORKLOAD})
    folder = tmp_path / "provision" / "envs" / "default"
    for number, rate in ((1, "1000"), (2, "1500")):
        path = folder / "generations" / str(number)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", path / "venv"], check=True)
        variables = {"RATE": rate}
        (path / "plan.json").write_text(json.dumps({"stack": [{"environment": variables}]}))
        state = {"complete": True, "fingerprint": f"f{number}", "packages_sha256": hashlib.sha256().hexdigest()}
        (path / "state.json").write_text(json.dumps(state))
    return folder


def decide(build: int, wheel: int, **request: Any) -> tuple[Report, list[Progress]]:
    told: list[Progress] = []
    target = Target(host=LOCALHOST, plan=source_plan(**request))
    contest = Contest(
        target=target, report=report(build, "built"), stock=report(wheel, "stock"), build_generation=build,
        wheel_generation=wheel,
    )  # fmt: skip
    found = comparing.compare([contest], Options(pairs=2), told.append, threading.Event(), "/nowhere")
    return found["localhost"], told


def test_the_build_that_is_faster_is_current(environment: Path) -> None:
    found, told = decide(build=2, wheel=1)
    assert found.ok, found.failures
    (comparison,) = found.comparisons
    assert (comparison.framework, comparison.ratio, comparison.kept) == ("numpy", 1.5, "build")
    assert found.environment == Environment(
        name="default", generation=2, path=str(environment), activate=f". {environment}/current/activate",
        previous=None, switched=True,
    )  # fmt: skip
    assert found.checks[0].what == "built in generation 2"
    assert {(each.kind, each.step) for each in told} >= {("changed", "Compare the build with the stock wheel")}
    said = (
        "numpy: the build runs 1.50× as fast as the stock wheel (1.50 to 1.50, 2 pairs: 1,500 against 1,000 samples/s)"
    )
    assert said in report_text(found)


def test_the_wheel_that_wins_settles_the_builds_plan(environment: Path) -> None:
    found, _ = decide(build=1, wheel=2)
    (comparison,) = found.comparisons
    assert (comparison.kept, found.environment.generation if found.environment else None) == ("wheel", 2)
    assert found.checks[0].what == "stock in generation 2"
    answers = json.loads((environment / "generations" / "2" / "state.json").read_text())["answers"]
    current = Generation(
        number=2, fingerprint="stock", complete=True, verified=True, created=None, answers=tuple(answers)
    )
    state = EnvironmentState(name="default", path=str(environment), current=2, generations=(current,))
    again = Target(host=LOCALHOST, plan=source_plan(), state=state)
    assert execute.settled(again)
    assert not execute.settled(replace(again, plan=source_plan(keep="build")))


def test_where_they_cannot_be_compared_nothing_is_current(environment: Path) -> None:
    found, _ = decide(build=2, wheel=7)
    assert not found.ok
    assert found.failures[0].what == "environment default has no generation 7"
    assert found.comparisons == ()
    assert not (environment / "current").is_symlink()
