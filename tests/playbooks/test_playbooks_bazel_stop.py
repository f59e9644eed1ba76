"""A Bazel build that is stopped, or whose server dies: nothing stays behind, and the next one goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils import provision_bazel as bazel
from ansible.module_utils.provision_build_context import BuildFailure
from playbook_bazel import build_data, context, needs_bazel, workspace
from playbook_target import PLAYBOOKS, kill_marked

pytestmark = pytest.mark.bazel

FILES = 16
"""Compile actions of the target below, each about as long as the others."""
MANY = {
    "many/BUILD": f"""cc_binary(name = "all", srcs = ["main.cc"] + ["m%d.cc" % n for n in range({FILES - 1})])
genrule(name = "wheel", srcs = [":all"], outs = ["demo-1.0-py3-none-any.whl"], cmd = "cp $< $@")
""",
    "many/main.cc": "int main() { return 0; }\n",
    **{
        f"many/m{n}.cc": f'#include <regex>\nstd::regex r{n}() {{ return std::regex("{n}"); }}\n'
        for n in range(FILES - 1)
    },
}

# the engine in a process of its own, as the supervisor runs it; what is in its context is what ``context`` makes
DRIVER = """
import json, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
sys.path[:0] = json.loads(sys.argv[2])
from pathlib import Path
from playbook_bazel import build_data, context
from ansible.module_utils import provision_bazel as bazel
from ansible.module_utils.provision_failure import Interrupted
from ansible.module_utils.provision_process import stoppable
build = build_data()
build["bazel"]["target"] = "//many:wheel"
made = context(Path(sys.argv[3]), Path(sys.argv[4]), build)
def report(text, build=None):
    if build is not None:
        print(build["done"], build["total"], flush=True)
made.report = report
try:
    with stoppable():
        bazel.build(made)
except Interrupted as stop:
    print("interrupted", stop, flush=True)
    sys.exit(5)
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    needs_bazel()
    yield tmp_path / "box"
    kill_marked(str(tmp_path))


def mentioning(text: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and int(entry.name) != os.getpid()
                and text.encode() in (entry / "cmdline").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found  # fmt: skip


def stopped_at_half(box: Path, tree: Path, number: signal.Signals) -> tuple[int, str]:
    """Begin the build, stop it when half of its actions are done, and return its status and last line."""
    paths = json.dumps([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    argv = [sys.executable, "-c", DRIVER, str(PLAYBOOKS / "module_utils"), paths, str(box), str(tree)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            done, total = (int(word) for word in line.split())
            # Bazel's own actions come first, and the total grows until all is found
            if total > FILES and done >= total / 2:
                break
        begun = time.monotonic()
        process.send_signal(number)
        last = [line for line in process.stdout.read().splitlines() if line]
        status = process.wait(timeout=30)
        assert time.monotonic() - begun < 10
    return status, last[-1] if last else ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_build_stopped_at_half_goes_on_and_leaves_nothing_running(box: Path, number: signal.Signals) -> None:
    tree = workspace(box / "tree", MANY)
    status, last = stopped_at_half(box, tree, number)
    if number == signal.SIGTERM:
        assert (status, last) == (5, "interrupted SIGTERM")
        assert mentioning(str(box)) == []
    else:
        assert status == -signal.SIGKILL
        for pid in mentioning(str(box)):  # the next run's supervisor does so
            os.kill(pid, signal.SIGKILL)
    build = build_data()
    build["bazel"]["target"] = "//many:wheel"
    done = bazel.build(context(box, tree, build))
    assert done.compile_actions is not None
    assert 0 < done.compile_actions <= 0.6 * FILES


def test_a_server_that_dies_is_told_as_that(box: Path) -> None:
    build = build_data()
    build["bazel"]["target"] = "//src:slow"
    made = context(box, workspace(box / "tree"), build)
    heard = made.report

    def report(text: str, build: object = None) -> None:
        heard(text, build=build)
        if "slow" in text:
            threading.Timer(0.5, kill).start()

    def kill() -> None:
        pid = bazel.Session(made, bazel.finding.find(made)).server()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    made.report = report
    with pytest.raises(BuildFailure) as caught:
        bazel.build(made)
    assert caught.value.what == "Bazel's server died while it built demo 1.0"
    assert "give fewer --jobs" in caught.value.hint
    assert caught.value.label == "the Bazel server"
    assert "Server terminated abruptly" in caught.value.log_tail
