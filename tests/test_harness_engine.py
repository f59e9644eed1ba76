"""Runs share one engine and clean up after themselves, and after those that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.boxes import Box
from harness.engine import LABEL, Engine
from harness.places import Run, dead_runs, run_is_alive, state_folder, without_pins

TESTS = Path(__file__).parent
COMES_AND_GOES = "from harness.engine import connect; found = connect(); print(found.url); found.close()"


def in_another_process(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", code, *words]
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_what_pins_a_library_goes_and_the_rest_stays() -> None:
    here = {"OPENBLAS_CORETYPE": "Haswell", "NVPL_BLAS_DEBUG_CPU_TYPE": "1", "PATH": "/bin", "SSL_CERT_FILE": "/c"}
    assert without_pins(here) == {"PATH": "/bin", "SSL_CERT_FILE": "/c"}


def test_no_pin_reaches_a_test() -> None:
    assert without_pins(os.environ) == dict(os.environ)


def test_a_killed_run_is_told_from_a_living_one(harness_run: Run) -> None:
    killed = "import os; from harness.places import RUN, Run; Run(); print(RUN, flush=True); os._exit(1)"
    name = in_another_process(killed).stdout.strip()
    assert name in dead_runs()
    assert run_is_alive(harness_run.folder.name)
    assert harness_run.folder.name not in dead_runs()
    assert not run_is_alive("never-was")


@pytest.mark.docker
def test_a_killed_runs_containers_go_with_the_next_run(
    engine: Engine, box: Callable[..., Box], debian_image: Callable[[str], str]
) -> None:
    left = (
        "import os, sys; from harness.engine import LABEL, connect; from harness.places import RUN, Run; Run();"
        "made = connect().client.containers.create(sys.argv[1], labels={LABEL: RUN}); print(made.id, flush=True);"
        "os._exit(1)"
    )
    done = in_another_process(left, debian_image("bare"))
    identity = done.stdout.strip()
    assert identity in [found.id for found in engine.client.containers.list(all=True)], done.stderr
    mine = box().container
    assert in_another_process(COMES_AND_GOES).returncode == 0
    alive = {found.id for found in engine.client.containers.list(all=True, filters={"label": LABEL})}
    assert identity not in alive
    assert mine.id in alive


@pytest.mark.docker
def test_a_second_run_shares_the_engine_and_leaves_it_running(engine: Engine) -> None:
    done = in_another_process(COMES_AND_GOES)
    assert done.stdout.strip() == engine.url, done.stderr
    assert engine.client.ping()


@pytest.mark.skipif(os.getuid() != 0, reason="starting an engine needs root")
def test_an_engine_that_does_not_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "dockerd"
    program.write_text("#!/bin/sh\necho 'iptables not found' >&2\nexit 1\n")
    program.chmod(0o755)
    code = (
        "from pathlib import Path; from harness import engine\n"
        "try: engine._start(Path(__import__('sys').argv[1]) / 'engine', 'unix:///nowhere/at/all')\n"
        "except engine.Unavailable as reason: print(reason)"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PATH": str(tmp_path)}
    argv = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "dockerd does not start here: iptables not found\n", done.stderr


def test_sockets_below_the_state_folder_have_names_short_enough() -> None:
    assert len(f"{state_folder()}/999999-abcdef/f99/home/.ansible/cp/0123456789abcdef.0123456789abcdef") < 104
