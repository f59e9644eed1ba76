"""A source build measured against the stock wheel, in two real generations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_compare import compare
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_progress import Progress
from playbook_site import Site, unsafe
from playbook_target import Target
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]

# as fast as the demo package says (a list: one figure a run, the last one again and again), and where that fails
WORKLOAD = """
import json, os, pathlib, sys
import demo
log = pathlib.Path(sys.argv[1])
turn = log.read_text().count(demo.NAME) if log.exists() else 0
with log.open("a") as file:
    file.write(demo.NAME + "\\n")
rate = demo.RATES[min(turn, len(demo.RATES) - 1)]
if rate == "dies":
    print("no such instruction", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 4)
found = {"id": "mnist:demo", "what": "learnt" if rate else "learns badly", "why": "" if rate else "accuracy 0.1"}
print(json.dumps({**found, "data": {"samples_per_s": rate, "environment": os.environ["DEMO"]}}))
sys.exit(0 if rate else 1)
"""


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else runs on this machine now."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


class Contest:
    """Generation 1 has the stock wheel, 2 the build; neither is current."""

    def __init__(self, target: Target, demo: Demo, log: Path) -> None:
        self.target, self.demo, self.log = target, demo, log

    def make(self, *, wheel: list[Any], build: list[Any]) -> None:
        for number, (name, rates) in enumerate({"wheel": wheel, "build": build}.items(), start=1):
            text = f"NAME = {name!r}\nRATES = {rates!r}\n"
            lock = self.target.lock(self.demo("demo", f"{number}.0", {"demo/__init__.py": text}))
            plan = self.target.plan(lock, f"f{number}", environment={"DEMO": name})
            if name == "build":
                plan["stock"] = {"fingerprint": "f1"}
            assert self.target.make(plan)["generation"] == number

    def params(self, **changes: Any) -> dict[str, Any]:
        return {
            **self.target.params(), "build_generation": 2, "wheel_generation": 1, "framework": "demo",
            "fingerprint": "f2", "scripts": {"work.py": WORKLOAD}, "pairs": 3, "keep": "faster",
            "command": {"id": "mnist:demo", "argv": ["work.py", str(self.log)], "timeout_s": 60.0}, **changes,
        }  # fmt: skip

    def decide(self, **changes: Any) -> dict[str, Any]:
        with Progress(self.target.layout.runs, "run-1", "comparison") as progress:
            return compare(self.target.layout, self.params(**changes), progress)

    def state(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.target.generation(number) / "state.json").read_text())
        return found

    def current(self) -> str | None:
        link = self.target.environment / "current"
        return os.readlink(link) if link.is_symlink() else None  # noqa: PTH115  as the link has it

    def turns(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture
def contest(target: Target, demo: Demo, tmp_path: Path) -> Contest:
    return Contest(target, demo, tmp_path / "turns")


def test_the_faster_build_is_made_current(contest: Contest) -> None:
    contest.make(wheel=[1.0, 100.0, 100.0, 100.0], build=[1.0, 310.0, 330.0, 320.0])
    result = contest.decide()
    assert result == {
        "changed": True, "name": "default", "path": str(contest.target.environment), "generation": 2,
        "previous": None, "verified": False,
        "activate": str(contest.target.environment / "current" / "activate"),
        "comparison": {
            "framework": "demo",
            "pairs": [{"build": rate, "wheel": 100.0} for rate in (310.0, 330.0, 320.0)],
            "ratio": 3.2, "lowest": 3.1, "highest": 3.3, "kept": "build",
            "why": "the build is faster: 3.2 times (3.1 to 3.3)", "build_generation": 2, "wheel_generation": 1,
            "decided_by": "figures",
        },
    }  # fmt: skip
    assert contest.current() == "generations/2"
    assert "answers" not in contest.state(1) and "answers" not in contest.state(2)
    # one run of each that is not counted, then in turn, with another one first in each pair
    assert contest.turns() == ["build", "wheel", "build", "wheel", "wheel", "build", "build", "wheel"]


def test_figures_of_a_busy_machine_are_called_so(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = len(os.sched_getaffinity(0))
    contest.make(wheel=[100.0], build=[300.0])
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0 * cpus, 1.0, 1.0))
    why = contest.decide()["comparison"]["why"]
    said = f"the machine was busy ({3.0 * cpus:.1f} processes wanted its {cpus} CPUs): compare again when it is idle"
    assert why.endswith(said)
    monkeypatch.setattr(os, "getloadavg", lambda: (1.0 * cpus, 9.0, 9.0))
    assert "busy" not in contest.decide()["comparison"]["why"]


def test_a_wheel_that_is_as_fast_is_made_current_and_answers_for_the_build(contest: Contest) -> None:
    contest.make(wheel=[100.0], build=[100.0])
    result = contest.decide()
    assert (result["generation"], result["changed"], result["comparison"]["kept"]) == (1, True, "wheel")
    assert contest.current() == "generations/1"
    assert contest.state(1)["answers"] == ["f2"]
    again = contest.decide()
    assert (again["changed"], contest.state(1)["answers"]) == (False, ["f2"])


def test_a_wheel_no_longer_answers_for_a_build_that_has_won(contest: Contest) -> None:
    contest.make(wheel=[100.0], build=[50.0, 50.0, 300.0])
    assert contest.decide(pairs=1)["generation"] == 1
    assert contest.decide(pairs=1, fingerprint="another")["comparison"]["kept"] == "build"
    assert contest.state(1)["answers"] == ["f2"], "that was about another build"
    result = contest.decide(pairs=1)
    assert (result["generation"], result["previous"], contest.state(1)["answers"]) == (2, 2, [])
    assert result["changed"] is True


@pytest.mark.parametrize(("keep", "generation"), [("build", 2), ("wheel", 1)])
def test_what_is_to_be_kept_is_kept_and_measured_all_the_same(contest: Contest, keep: str, generation: int) -> None:
    contest.make(wheel=[100.0], build=[50.0] if keep == "build" else [500.0])
    result = contest.decide(keep=keep, pairs=2)
    assert (result["generation"], len(result["comparison"]["pairs"])) == (generation, 2)
    assert result["comparison"]["ratio"] == (0.5 if keep == "build" else 5.0)
    assert result["comparison"]["why"].startswith(f"--keep {keep} asked for it; the build is ")


def test_a_build_that_dies_loses_even_where_it_was_to_be_kept(contest: Contest) -> None:
    contest.make(wheel=[100.0], build=["dies"])
    comparison = contest.decide(keep="build")["comparison"]
    assert (comparison["kept"], comparison["pairs"], comparison["ratio"]) == ("wheel", [], None)
    assert comparison["why"] == (
        "the workload fails on the source build: mnist:demo was ended by SIGILL: no such instruction"
    )
    assert contest.state(1)["answers"] == ["f2"]


def test_a_wheel_that_fails_later_loses_with_the_pairs_before(contest: Contest) -> None:
    contest.make(wheel=[100.0, 100.0, 0], build=[50.0])
    comparison = contest.decide()["comparison"]
    assert (comparison["kept"], comparison["pairs"]) == ("build", [{"build": 50.0, "wheel": 100.0}])
    assert comparison["why"] == "the workload fails on the stock wheel: learns badly: accuracy 0.1"
    assert contest.current() == "generations/2"


def test_where_both_fail_nothing_is_made_current(contest: Contest) -> None:
    contest.make(wheel=[0], build=["dies"])
    with pytest.raises(Failure) as caught:
        contest.decide()
    assert caught.value.kind == "comparison"
    assert caught.value.what == (
        "mnist:demo fails on the source build and on the stock wheel: neither was made current"
    )
    assert caught.value.why == (
        "source build: mnist:demo was ended by SIGILL: no such instruction\nstock wheel: learns badly: accuracy 0.1"
    )
    assert "provision verify" in caught.value.hint
    assert contest.current() is None


@pytest.mark.parametrize("rate", [float("nan"), -1.0, True, "fast"])
def test_a_figure_that_is_none_is_a_failure(contest: Contest, rate: Any) -> None:
    text = "import json\nprint(json.dumps({'what': 'w', 'data': {'samples_per_s': RATE}}))\n"
    contest.make(wheel=[1.0], build=[1.0])
    with pytest.raises(Failure) as caught:
        contest.decide(scripts={"work.py": f"RATE = {rate!r}\n".replace("nan", "float('nan')") + text})
    assert caught.value.why.splitlines()[0] == "source build: w: it gave no samples_per_s"


def test_the_workload_runs_with_each_generations_own_variables(contest: Contest) -> None:
    contest.make(wheel=[1.0], build=[2.0])
    checked = WORKLOAD.replace("sys.exit(", "sys.exit(1 if os.environ['DEMO'] != demo.NAME else ")
    assert contest.decide(pairs=1, scripts={"work.py": checked})["comparison"]["ratio"] == 2.0


def test_what_cannot_be_compared_is_refused(contest: Contest) -> None:
    contest.make(wheel=[1.0], build=[1.0])
    for changes, kind, what in (
        ({"build_generation": 9}, "no_generation", "environment default has no generation 9"),
        ({"pairs": 0}, "bad_input", "0 pairs compare nothing"),
        ({"scripts": {"../x.py": ""}}, "bad_input", "a check script cannot be called '../x.py'"),
    ):
        with pytest.raises(Failure) as caught:
            contest.decide(**changes)
        assert (caught.value.kind, caught.value.what) == (kind, what)
    (info,) = contest.target.generation(1).glob("venv/lib/python*/site-packages/demo-1.0.dist-info")
    info.rename(info.with_name("demo-9.9.dist-info"))
    with pytest.raises(Failure) as caught:
        contest.decide()
    assert (caught.value.kind, caught.value.what) == (
        "drifted", "generation 1 of environment default is no longer as it was installed"
    )  # fmt: skip
    assert contest.current() is None


def test_the_wheels_generation_is_still_there_when_a_build_comes(contest: Contest) -> None:
    """Four generations are there, the wheel's the oldest: age would take it before it can be measured."""
    contest.make(wheel=[1.0], build=[1.0])
    for number in (3, 4):
        contest.target.copied(number, f"f{number}")
    plan = contest.target.plan(contest.target.lock(), "f5")
    result = contest.target.make({**plan, "stock": {"fingerprint": "f1"}})
    assert (result["removed"], contest.target.numbers()) == ([2], [1, 3, 4, 5])
    assert contest.target.make(contest.target.plan(contest.target.lock(), "f6"))["removed"] == [1, 3]


def test_what_it_does_is_told(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Progress, "say", lambda self, text, *_: told.append(text))
    contest.make(wheel=[100.0], build=[200.0])
    told.clear()
    contest.decide(pairs=2)
    assert told == [
        "warm-up: source build", "warm-up: stock wheel", "pair 1 of 2: source build", "pair 1 of 2: stock wheel",
        "pair 2 of 2: stock wheel", "pair 2 of 2: source build",
    ]  # fmt: skip


def test_no_other_run_touches_the_environment_meanwhile(contest: Contest) -> None:
    contest.make(wheel=[1.0], build=[1.0])
    slow = "import time\ntime.sleep(30)\n"
    code = (
        "import json, sys\nimport ansible.module_utils\nansible.module_utils.__path__.append(sys.argv[1])\n"
        "from pathlib import Path\nfrom ansible.module_utils.provision_compare import compare\n"
        "from ansible.module_utils.provision_layout import Layout\n"
        "from ansible.module_utils.provision_progress import Progress\n"
        "compare(Layout(Path(sys.argv[2])), json.loads(sys.argv[3]), Progress(Path('/nowhere'), '', 'c'))\n"
    )
    utils = str(Path(__file__).resolve().parents[2] / "playbooks" / "module_utils")
    params = json.dumps(contest.params(scripts={"work.py": slow}))
    argv = [sys.executable, "-c", code, utils, str(contest.target.root), params]
    with subprocess.Popen(argv, env={**os.environ, "PROVISION_RUN": str(contest.target.root)}) as other:
        while not (contest.target.environment / "lock").read_text():
            assert other.poll() is None
            time.sleep(0.01)
        for state, changes in (("absent", {"generation": 1}), ("current", {"generation": 2})):
            with pytest.raises(Failure) as caught:
                contest.target.switch(state, lock_timeout_s=0.0, **changes)
            assert caught.value.kind == "locked"
            assert f"pid {other.pid}" in caught.value.what
        other.kill()


def test_the_playbook(contest: Contest, tmp_path: Path) -> None:
    contest.make(wheel=[100.0], build=[300.0])
    site = Site(contest.target, tmp_path)
    wanted = {name: contest.params()[name] for name in (
        "name", "build_generation", "wheel_generation", "framework", "fingerprint", "scripts", "command", "pairs"
    )}  # fmt: skip
    idx = tmp_path / "t10k-labels-idx1-ubyte"
    idx.write_bytes(b"\0\0\x08\x01")
    wanted["command"] = {**wanted["command"], "needs": "cpu_flags"}  # as the controller describes checks
    variables = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "provision_run_id": "run-1",
        "provision_compare": unsafe(wanted), "provision_mnist_files": [str(idx)],
    }  # fmt: skip
    task = "Compare the build with the stock wheel"
    assert site.play("compare.yml", {"one": variables}, "--check") == 0
    assert (site.result(task)["skipped"], contest.current()) == (True, None)
    assert site.play("compare.yml", {"one": variables}) == 0
    result = site.result(task)
    assert (result["generation"], result["comparison"]["kept"], result["changed"]) == (2, "build", True)
    assert (contest.target.root / "mnist" / idx.name).exists()
    assert site.play("compare.yml", {"one": variables}) == 0
    assert site.changed() == []
    wanted["build_generation"] = 7
    assert site.play("compare.yml", {"one": {**variables, "provision_compare": unsafe(wanted)}}) != 0
    assert site.result(task)["what"] == "environment default has no generation 7"
