"""Ctrl-C and SIGKILL in the middle of an install on real hosts: what is gone, what is left, what the next run does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fleet import REPOSITORY, Fleet

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network, pytest.mark.slow]

OURS = re.compile(r"provision|ansible|uv |\[mux\]")


def begin(machines: Fleet, *words: str) -> subprocess.Popen[str]:
    """`provision up` of TensorFlow on every host, returned when all of them install."""
    argv = [sys.executable, "-m", "provision", "up", *(host.target for host in machines.hosts), "--yes", *words]
    running = subprocess.Popen(
        argv,
        env=machines.environment(PYTHONPATH=str(REPOSITORY)),
        cwd=machines.home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stderr is not None
    waiting = {host.target for host in machines.hosts}
    for line in running.stderr:
        waiting -= {target for target in waiting if line.startswith(f"{target}: Make the generation")}
        if not waiting:
            return running
    raise AssertionError("it ended before it installed")


def left_here(machines: Fleet) -> list[str]:
    """Command lines on this machine that name this fleet's files or hosts."""
    marks = [str(machines.folder), *(host.target for host in machines.hosts)]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if path.parent.name != str(os.getpid()) and any(mark in line for mark in marks) and OURS.search(line):
            found.append(line)
    return found


def left_there(machines: Fleet) -> list[str]:
    lines = [line for host in machines.hosts for line in host.sh("ps -eo args").splitlines()]
    return [line for line in lines if OURS.search(line) or "python" in line or line.startswith("sshd: me")]


def test_an_interrupt_leaves_nothing_and_says_what_was_left(fleet: Callable[..., Fleet]) -> None:
    machines = fleet(4)
    running = begin(machines, "--no-verify", "--json")
    time.sleep(1.0)
    asked = time.monotonic()
    running.send_signal(signal.SIGINT)
    stdout, stderr = running.communicate(timeout=30)
    took = time.monotonic() - asked
    assert took < 10, stderr  # the figure itself is benchmarks/first_pass.py's
    assert running.returncode == 130
    assert left_here(machines) == []
    assert left_there(machines) == []
    reports = json.loads(stdout)
    assert [report["failures"][0]["exit_code"] for report in reports] == [130] * 4
    assert {report["failures"][0]["why"] for report in reports} == {
        "environment default is as it was (none); a new generation is half-made: the next run finishes or removes it"
    }


def test_a_killed_run_is_finished_by_the_next_and_nothing_is_doubled(fleet: Callable[..., Fleet]) -> None:
    machines = fleet(1)
    (host,) = machines.hosts
    made = machines.provision("up", host.target, "--yes", "--no-verify", "--framework", "numpy", "--python", "3.11")
    assert made.returncode == 0, made.stderr
    running = begin(machines, "--no-verify")
    time.sleep(0.5)
    running.kill()
    running.communicate()
    assert (
        host.ssh(". ~/.local/share/provision/envs/default/current/activate; python -c 'import numpy'").returncode == 0
    )
    again = machines.provision("up", host.target, "--yes", "--no-verify", "--json", timeout_s=600)
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["environment"]["generation"] == 2
    listed = json.loads(machines.provision("env", "list", host.target, "--json").stdout)
    (environment,) = listed["environments"]
    assert [each["number"] for each in environment["generations"]] == [1, 2], environment
    assert all(each["complete"] for each in environment["generations"])
    assert left_here(machines) == []
