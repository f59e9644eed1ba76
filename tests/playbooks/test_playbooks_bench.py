"""A workload measured in generations, which stay as they are."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_bench import bench
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_progress import Progress
from playbook_site import Site, unsafe
from playbook_target import Target
from playbook_wheels import Wheel

Demo = Callable[..., Wheel]

WORKLOAD = """
import json, sys
import demo
from pathlib import Path
with Path(sys.argv[1]).open("a") as log:
    log.write(demo.VERSION + "\\n")
print(json.dumps({"what": "measured", "why": "as asked", "hint": "h", "data": {"rate": demo.VERSION}}))
sys.exit(demo.VERSION == "9.0")
"""


@pytest.fixture
def two(target: Target, demo: Demo) -> Target:
    """Generations 1 (demo 1.0) and 2 (demo 2.0, current)."""
    for number in (1, 2):
        target.make(target.plan(target.lock(demo("demo", f"{number}.0")), f"f{number}"))
    target.switch("current", generation=2)
    return target


def params(target: Target, log: Path, *sides: tuple[str, int], **changes: Any) -> dict[str, Any]:
    return {
        **target.params(), "sides": [{"name": name, "generation": number} for name, number in sides], "rounds": 1,
        "scripts": {"work.py": WORKLOAD}, "command": {"id": "work", "argv": ["work.py", str(log)], "timeout_s": 60.0},
        **changes,
    }  # fmt: skip


def measure(target: Target, log: Path, *sides: tuple[str, int], **changes: Any) -> dict[str, Any]:
    with Progress(target.layout.runs, "run-1", "bench") as progress:
        return bench(target.layout, params(target, log, *sides, **changes), progress)


def content(target: Target) -> dict[str, str]:
    """What lies there: each file with its hash, each link with its target; what the interpreter caches aside."""
    found = {}
    for path in sorted(target.environment.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)  # noqa: PTH115  as the link has it
        elif path.is_file() and "__pycache__" not in path.parts:
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_the_current_generation_is_measured_and_nothing_changes(two: Target, tmp_path: Path) -> None:
    before = content(two)
    result = measure(two, tmp_path / "log", ("default", 0))
    assert result == {
        "changed": False,
        "sides": [{
            "name": "default", "generation": 2, "summary": "demo 1.0 · cpu · python " + sys.version[:4].rstrip("."),
            "answers": [{"rate": "2.0"}],
        }],
    }  # fmt: skip
    assert content(two) == before


def test_two_generations_are_measured_in_turn(two: Target, tmp_path: Path) -> None:
    result = measure(two, tmp_path / "log", ("default", 2), ("default", 1), rounds=3)
    assert [side["answers"] for side in result["sides"]] == [[{"rate": "2.0"}] * 3, [{"rate": "1.0"}] * 3]
    assert (tmp_path / "log").read_text().split() == ["2.0", "1.0", "1.0", "2.0", "2.0", "1.0"]


def test_two_environments(two: Target, demo: Demo, tmp_path: Path) -> None:
    plan = two.plan(two.lock(demo("demo", "3.0")), "f3")
    two.make({**plan, "request": {"name": "another"}}, name="another")
    two.switch("current", name="another", generation=1)
    result = measure(two, tmp_path / "log", ("default", 0), ("another", 0))
    assert [(side["name"], side["generation"], side["answers"]) for side in result["sides"]] == [
        ("default", 2, [{"rate": "2.0"}]), ("another", 1, [{"rate": "3.0"}]),
    ]  # fmt: skip


def test_what_cannot_be_measured_says_why(two: Target, demo: Demo, tmp_path: Path) -> None:
    two.make(two.plan(two.lock(demo("demo", "9.0")), "f9"))
    log = tmp_path / "log"
    for sides, changes, kind, what, why in (
        ([("default", 7)], {}, "no_generation", "environment default has no generation 7", "there are: 1, 2, 3"),
        ([("nosuch", 0)], {}, "no_generation", "there is no environment nosuch", "looked for "),
        ([("default", 1)], {"rounds": 0}, "bad_input", "nothing is to be measured", "wanted at least one round"),
        ([], {}, "bad_input", "nothing is to be measured", "wanted at least one round"),
        (
            [("default", 0), ("default", 2)], {}, "bad_input", "an environment cannot be measured against itself",
            "both are generation 2 of environment default",
        ),
        (
            [("default", 3)], {}, "bench", "work cannot be measured in generation 3 of environment default",
            "measured: as asked",
        ),
    ):  # fmt: skip
        with pytest.raises(Failure) as caught:
            measure(two, log, *sides, **changes)
        assert (caught.value.kind, caught.value.what) == (kind, what)
        assert caught.value.why.startswith(why)
    (two.environment / "current").unlink()
    with pytest.raises(Failure) as caught:
        measure(two, log, ("default", 0))
    assert caught.value.what == "environment default has no current generation"
    assert "--generation" in caught.value.hint


def test_no_install_runs_beside_it(two: Target, demo: Demo, tmp_path: Path) -> None:
    big = demo("big", "1.0", {f"big/m{number}.py": "x = 1\n" * 50 for number in range(1500)})
    with two.start(two.plan(two.lock(big), "f3"), compile_bytecode=True) as install:
        while not (two.environment / "lock").read_text():
            assert install.poll() is None
            time.sleep(0.005)
        with pytest.raises(Failure) as caught:
            measure(two, tmp_path / "log", ("default", 0), lock_timeout_s=0.0)
        assert caught.value.kind == "locked"
        install.communicate()


def test_the_playbook(two: Target, tmp_path: Path) -> None:
    wanted = params(two, tmp_path / "log", ("default", 0), ("default", 1))
    site = Site(two, tmp_path)
    variables = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "provision_run_id": "run-1",
        "provision_bench": unsafe({name: wanted[name] for name in ("sides", "rounds", "scripts", "command")}),
    }  # fmt: skip
    assert site.play("bench.yml", {"one": variables}, "--check") == 0
    assert site.result("Measure the workload")["skipped"] is True
    assert site.play("bench.yml", {"one": variables}) == 0
    assert [side["generation"] for side in site.result("Measure the workload")["sides"]] == [2, 1]
    assert site.changed() == []


def test_it_can_be_stopped(two: Target, tmp_path: Path) -> None:
    """A signal to the measuring process leaves no child behind and no lock."""
    code = (
        "import json, sys\nimport ansible.module_utils\nansible.module_utils.__path__.append(sys.argv[1])\n"
        "from pathlib import Path\nfrom ansible.module_utils.provision_bench import bench\n"
        "from ansible.module_utils.provision_layout import Layout\n"
        "from ansible.module_utils.provision_process import stoppable\n"
        "from ansible.module_utils.provision_progress import Progress\n"
        "with stoppable():\n"
        "    bench(Layout(Path(sys.argv[2])), json.loads(sys.argv[3]), Progress(Path('/nowhere'), '', 'b'))\n"
    )
    utils = str(Path(__file__).resolve().parents[2] / "playbooks" / "module_utils")
    slow = f"import time, pathlib\npathlib.Path({str(tmp_path / 'begun')!r}).touch()\ntime.sleep(60)\n"
    wanted = json.dumps(params(two, tmp_path / "log", ("default", 0), scripts={"work.py": slow}))
    argv = [sys.executable, "-c", code, utils, str(two.root), wanted]
    environment = {**os.environ, "PROVISION_RUN": str(two.root)}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        _, stderr = process.communicate(timeout=10)
    assert "Interrupted: SIGTERM" in stderr
    assert measure(two, tmp_path / "log", ("default", 0), lock_timeout_s=0.0)["sides"][0]["generation"] == 2
