"""What an engine is given: its environment, its commands and their log, and the estimate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_build_context import BuildFailure, Context, Estimate, clean_environment, filled
from playbook_target import PLAYBOOKS


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., Context]:
    def make(**changes: Any) -> Context:
        for name in ("tree", "builds"):
            (tmp_path / name).mkdir(exist_ok=True)
        fields: dict[str, Any] = {
            "build": {}, "settings": {}, "key": "k", "silo": "s", "folder": tmp_path / "builds",
            "build_folder": tmp_path, "scratch": tmp_path, "tree": tmp_path / "tree", "wheels": tmp_path / "wheels",
            "python": Path(sys.executable), "site": tmp_path, "jobs": 2, "environment": {"PATH": os.environ["PATH"]},
            "uv": Path("uv"), "uv_environment": {}, "report": lambda *_, **__: None, **changes,
        }  # fmt: skip
        return Context(**fields)

    return make


def test_only_known_braces_are_filled() -> None:
    values = {"python": "/v/bin/python", "jobs": "3"}
    assert filled("{python} -j{jobs} {bazel} ${HOME} {x: 1}", values) == "/v/bin/python -j3 {bazel} ${HOME} {x: 1}"


def test_what_would_change_a_build_is_not_inherited() -> None:
    ambient = {"HOME": "/h", "CFLAGS": "-O0", "LD_LIBRARY_PATH": "/x", "TF_NEED_CUDA": "1", "LC_ALL": "C", "CC": "tcc"}
    assert clean_environment(ambient) == {"HOME": "/h", "LC_ALL": "C", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_a_command_is_heard_line_by_line_and_logged_without_the_password(context: Callable[..., Context]) -> None:
    made = context(settings={"remote_cache_password": "hunter2"}, values={"jobs": "2"})
    made.environment["JOBS"] = "{jobs}"
    heard: list[tuple[str, str]] = []
    script = 'printf hun; sleep 0.2; echo ter2; echo err >&2; pwd; printf "$JOBS"; exit 4'
    assert made.run(["sh", "-c", script], on_line=lambda *one: heard.append(one)) == 4
    assert sorted(heard) == [("err", "err"), ("out", "***"), ("out", str(made.tree)), ("out", "2")]
    log = made.log.read_text()
    assert log.startswith("$ sh -c printf hun")
    assert "hunter2" not in log
    assert "***\n" in log


STOPPED = """
import os, sys, signal
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from ansible.module_utils.provision_process import Interrupted, run, stoppable
def heard(_, data):
    print(data.decode(), flush=True)

try:
    with stoppable():
        run(["sh", "-c", sys.argv[2]], env=os.environ, hear=heard, gently_s=5)
except Interrupted as stop:
    print(stop)
"""


def test_a_stopped_command_is_asked_first(tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/asked; exit' INT; echo ready; while :; do sleep 0.05; done"
    argv = [sys.executable, "-c", STOPPED, str(PLAYBOOKS / "module_utils"), script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=10)[0].strip() == "SIGTERM"
    assert (tmp_path / "asked").exists()
    assert time.monotonic() - begun < 10


def test_a_failed_build_keeps_the_end_of_what_was_said() -> None:
    text = "\n".join(f"line {number}" for number in range(300))
    failure = BuildFailure("building x failed", "cc1plus: out of memory", label="//x:y", log="/l", log_tail=text)
    result = failure.result()
    assert (result["kind"], result["label"], result["log"]) == ("build", "//x:y", "/l")
    assert result["log_tail"].splitlines()[0] == "line 100"
    assert len(result["log_tail"].splitlines()) == 200


def test_an_estimate_without_an_earlier_build_is_a_guess() -> None:
    now = [0.0]
    estimate = Estimate(None, 4, lambda: now[0])
    assert estimate.progress(0, None) == {
        "done": 0, "total": None, "cached": 0, "running": 0, "elapsed_s": 0.0, "remaining_s": None, "guess": True,
    }  # fmt: skip
    now[0] = 30.0
    told = estimate.progress(20, 100, cached=10, running=4)
    # ten that were worked on took 30 s: the other 80 take 240 s
    assert (told["remaining_s"], told["guess"]) == (240.0, True)


def test_an_estimate_from_an_earlier_build_counts_what_that_one_found() -> None:
    # 100 s on 2 jobs for 50 actions, 49 more of the 99 came from a cache: 4 job-seconds each
    estimate = Estimate({"actions": 99, "cache_hits": 49, "seconds": 100.0, "jobs": 2}, 4, lambda: 0.0)
    told = estimate.progress(10, 40)
    assert (told["remaining_s"], told["guess"]) == (89.0, False)
    assert Estimate({"actions": 55, "cache_hits": 50, "seconds": 9.0, "jobs": 2}, 4).progress(1, 5)["guess"] is True
