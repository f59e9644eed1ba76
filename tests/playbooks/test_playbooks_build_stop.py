"""Builds that are stopped, left alone, and gone along with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_build_supervisor as supervisor
from playbook_builds import Builds, answer, build, until
from playbook_target import Target, kill_marked, marked
from playbook_wheels import wheel

from provision.run.reap import SCRIPT

# goes on where it was: counts in a file, and ends when somebody has made the file "go"
SLOW = """
n=$(cat started 2>/dev/null || echo 0); echo $((n + 1)) > started
echo "[1/3] Building CXX object a.o"
while [ ! -e go ]; do sleep 0.05; done
echo "[2/3] Building CXX object b.o"
"""


@pytest.fixture
def builds(target: Target, tmp_path: Path) -> Builds:
    return Builds(target, tmp_path / "builds")


class Slow:
    """A build that waits in the middle."""

    def __init__(self, builds: Builds) -> None:
        self.builds = builds
        self.params = builds.params(build(), builds.script(SLOW))

    def start(self, run_id: str = "run-1") -> subprocess.Popen[str]:
        return self.builds.start({**self.params, "run_id": run_id})

    @property
    def tree(self) -> Path:
        return next((self.builds.cache / "trees").iterdir())

    def began(self, process: subprocess.Popen[str], times: int = 1) -> None:
        started = self.builds.cache / "trees"

        def here() -> bool:
            return any(path.read_text() == f"{times}\n" for path in started.glob("*/started"))

        until(here, process)

    def go(self) -> None:
        (next(path for path in (self.builds.cache / "trees").glob("*/started")).parent / "go").touch()

    @property
    def state(self) -> dict[str, Any]:
        (folder,) = self.builds.folders
        return supervisor.read_state(folder)

    def alive(self) -> bool:
        return supervisor.living(self.state)


@pytest.fixture
def slow(builds: Builds) -> Slow:
    return Slow(builds)


def progress(builds: Builds, run_id: str) -> list[dict[str, Any]]:
    path = builds.target.layout.runs / f"{run_id}.progress"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_hangup_leaves_the_build_running_and_a_second_call_goes_along(slow: Slow) -> None:
    with slow.start() as process:
        slow.began(process)
        process.send_signal(signal.SIGHUP)
        told = answer(process)
    assert (told["kind"], told["what"]) == ("interrupted", "the connection was lost while demo 1.0 was built")
    assert told["why"] == f"the build goes on (pid {slow.state['pid']})"
    assert told["hint"] == "run the same command again to follow it"
    assert slow.alive()
    with slow.start("run-2") as process:
        until(lambda: any(line.get("build") for line in progress(slow.builds, "run-2")), process)
        (last, *_) = [line for line in progress(slow.builds, "run-2") if line.get("build")]
        assert (last["step"], last["build"]["done"], last["build"]["total"]) == ("source_build", 1, 3)
        slow.go()
        result = answer(process)
    assert (result["changed"], result["builds"][0]["version"]) == (True, "1.0")
    assert slow.tree.name
    assert not slow.alive()


def test_a_module_that_is_killed_leaves_the_build_running(slow: Slow) -> None:
    with slow.start() as process:
        slow.began(process)
        process.kill()
        process.communicate()
    time.sleep(0.3)
    assert slow.alive()
    with slow.start("run-2") as process:
        until(lambda: any(line.get("build") for line in progress(slow.builds, "run-2")), process)
        slow.go()
        assert answer(process)["builds"][0]["built"] is True
    assert next(slow.builds.cache.glob("trees/*/started")).read_text() == "1\n", "it was begun once"


def test_output_that_nobody_reads_any_more_ends_the_module_not_the_build(slow: Slow) -> None:
    with slow.start() as process:
        slow.began(process)
        assert process.stdout is not None
        process.stdout.close()
        process.wait(timeout=5)
        assert slow.alive()
        slow.go()
        until(lambda: not slow.alive())
        assert slow.state["phase"] == "done"
        assert process.stderr is not None
        process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_build_and_the_next_run_goes_on(slow: Slow, number: int) -> None:
    with slow.start() as process:
        slow.began(process)
        begun = time.monotonic()
        process.send_signal(number)
        assert answer(process)["kind"] == "interrupted"
    assert time.monotonic() - begun < 10
    assert marked(str(slow.builds.target.root)) == []
    assert slow.state["phase"] == "interrupted"
    with slow.start() as process:
        slow.began(process, times=2)
        slow.go()
        assert answer(process)["changed"] is True


def test_a_cancelled_run_ends_the_build_of_an_earlier_connection(slow: Slow) -> None:
    with slow.start() as process:
        slow.began(process)
        process.send_signal(signal.SIGHUP)
        answer(process)
    subprocess.run(["sh", "-c", SCRIPT, "sh", str(slow.builds.target.root)], check=True, stdout=subprocess.DEVNULL)
    assert marked(str(slow.builds.target.root)) == []
    assert not slow.alive()
    with slow.start() as process:
        slow.began(process, times=2)
        slow.go()
        assert answer(process)["changed"] is True


def test_stopping_a_run_that_goes_along_stops_the_build_for_both(slow: Slow) -> None:
    with slow.start() as first:
        slow.began(first)
        with slow.start("run-2") as second:
            until(lambda: progress(slow.builds, "run-2"), second)
            second.send_signal(signal.SIGTERM)
            assert answer(second)["kind"] == "interrupted"
        told = answer(first)
    assert (told["what"], told["why"]) == (
        "the build of demo 1.0 was stopped",
        "its process got SIGTERM: another run stopped it",
    )


def test_what_a_killed_build_left_is_ended_before_it_begins_again(slow: Slow) -> None:
    with slow.start() as process:
        slow.began(process)
        # a grandchild survives the supervisor: only its direct children die with it
        left = [pid for pid in supervisor.marked(slow.builds.folders[0]) if pid != slow.state["pid"]]
        assert left
        os.kill(slow.state["pid"], signal.SIGSTOP)  # it cannot end anything itself
        os.kill(slow.state["pid"], signal.SIGKILL)
        told = answer(process)
    assert told["why"] == "its process was killed: by somebody, or by the kernel because memory ran out"
    (folder,) = slow.builds.folders
    orphan = subprocess.Popen(["sleep", "60"], env={"PROVISION_BUILD": str(folder)})
    # the same build, with the same key, of another user or home
    stranger = subprocess.Popen(["sleep", "60"], env={"PROVISION_BUILD": f"/elsewhere/builds/{folder.name}"})
    with slow.start() as process:
        slow.began(process, times=2)
        assert orphan.wait(timeout=5) == -signal.SIGKILL
        slow.go()
        (made,) = answer(process)["builds"]
    assert stranger.poll() is None, "it is none of ours"
    stranger.kill()
    stranger.wait()
    assert any("of an earlier build that was killed" in note for note in made["notes"])


def test_a_state_from_before_a_reboot_is_stale_though_its_number_is_taken(slow: Slow) -> None:
    with slow.start() as process:
        slow.began(process)
        process.send_signal(signal.SIGTERM)
        answer(process)
    (folder,) = slow.builds.folders
    boot, _, ticks = supervisor.started(os.getpid()).partition("/")
    for started in (f"another-boot/{ticks}", f"{boot}/{int(ticks) + 1}"):
        (folder / "state").write_text(
            json.dumps({**slow.state, "phase": "running", "pid": os.getpid(), "started": started})
        )
        assert not slow.alive()
    with slow.start() as process:
        slow.began(process, times=2)
        slow.go()
        assert answer(process)["changed"] is True


def test_two_runs_at_once_make_one_build(slow: Slow) -> None:
    with slow.start() as first, slow.start("run-2") as second:
        slow.began(first)
        slow.go()
        results = [answer(process) for process in (first, second)]
    assert {result["builds"][0]["sha256"] for result in results} == {results[0]["builds"][0]["sha256"]}
    assert next(slow.builds.cache.glob("trees/*/started")).read_text() == "1\n"


def test_a_process_that_is_a_zombie_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    state = {"pid": process.pid, "started": supervisor.started(process.pid)}
    assert state["started"]
    until(lambda: not supervisor.living(state))
    process.wait()
    assert supervisor.started(process.pid) == ""


# ── the same with a real Bazel ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plain(target: Target, tmp_path: Path) -> Iterator[Builds]:
    """Where Bazel can work: it takes no folder with a space."""
    (tmp_path / "plain").mkdir()
    builds = Builds(Target(tmp_path / "plain" / "provision", tmp_path / "plain"), tmp_path / "builds")
    builds.cache = builds.folder / "cache"
    yield builds
    kill_marked(str(builds.target.root))


@pytest.mark.bazel
def test_a_bazel_build_is_stopped_with_its_server_and_goes_on(plain: Builds) -> None:
    from playbook_bazel import BAZEL, COMPILES, build_data, needs_bazel, workspace

    needs_bazel()
    builds = plain
    made = wheel(builds.folder, "demo", "1.0", {"demo/__init__.py": ""})
    tree = workspace(builds.folder / "tree")
    go = builds.folder / "go"
    slow = f"while [ ! -e {go} ]; do sleep 0.1; done; cp $(location w.whl) $@"
    rules = (tree / "src" / "BUILD").read_text().replace("cp $< $@", slow)
    rules = rules.replace('srcs = [":app"], outs = ["demo', 'srcs = ["w.whl", ":app"], outs = ["demo')
    (tree / "src" / "BUILD").write_text(rules)
    made.path.rename(tree / "src" / "w.whl")
    files = {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    wanted = build(**{**build_data(), "needs": {}})
    params = builds.params(wanted, builds.shipped(files), bazel=BAZEL, jobs=2)
    with builds.start(params) as process:
        until(lambda: "wheel" in " ".join(line["text"] for line in progress(builds, "run-1")), process, timeout_s=120)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert answer(process)["kind"] == "interrupted"
    assert time.monotonic() - begun < 10
    assert marked(str(builds.target.root)) == []
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if names(path, builds.cache)] == []
    go.touch()
    with builds.start(params) as process:
        result = answer(process, timeout_s=120)
    assert result.get("changed") is True, result
    (again,) = result["builds"]
    assert again["compile_actions"] == 0, f"{COMPILES} were done before it was stopped"
    assert again["actions"] >= 1


def names(cmdline: Path, folder: Path) -> bool:
    try:
        return os.fsencode(folder) in cmdline.read_bytes()
    except OSError:
        return False
