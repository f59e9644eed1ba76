"""`provision up --origin source` to real SSH hosts, as a lab types it: a tree of TensorFlow's shape, built by Bazel on
the first host, fetched by the second, audited, trained on MNIST and measured against the stock wheel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from harness.caches_http import CacheServer, cache_server
from harness.contract import REPORT_KEYS
from harness.fleet import REPOSITORY, Fleet, Host
from harness.trees import tensorflow_tree

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network, pytest.mark.bazel, pytest.mark.slow]

VERSION = "2.15.1"
DATA = "/home/me/.local/share/provision"
BUILDER = "/usr/bin/bazel-4"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tensorflow_tree(tmp_path_factory.mktemp("source") / "tensorflow", VERSION)


def words(tree: Path, *more: str) -> list[str]:
    return [
        "--framework", f"tensorflow=={VERSION}", "--origin", "source", "--source", str(tree), "--cpu", "x86-64-v2",
        "--bazel", BUILDER, "--compiler", "gcc-12", "--keep", "build", "--yes", *more,
    ]  # fmt: skip


def up(fleet: Fleet, *asked: str, code: int = 0, **env: str) -> list[dict[str, Any]]:
    done = fleet.provision("up", *asked, "--json", timeout_s=1200, **env)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    return found if isinstance(found, list) else [found]


@contextmanager
def shared_cache(folder: Path, fleet: Fleet) -> Iterator[CacheServer]:
    """A cache on this machine, at the address by which the hosts reach it."""
    host = fleet.hosts[0]
    host.container.reload()
    networks = host.container.attrs["NetworkSettings"]["Networks"]
    with cache_server(folder, build_cache_address=next(iter(networks.values()))["Gateway"]) as server:
        yield server


def inventory(fleet: Fleet, server: CacheServer) -> Path:
    return fleet.inventory(
        provision_remote_cache=server.url,
        provision_remote_cache_user=server.writer.name,
        provision_remote_cache_password=server.writer.password,
    )


def test_the_first_host_compiles_and_the_second_fetches(
    fleet: Callable[..., Fleet], tree: Path, tmp_path: Path
) -> None:
    made = fleet(2, "builder", uv_cache=True)
    with shared_cache(tmp_path, made) as server:
        reports = up(made, "-i", str(inventory(made, server)), *words(tree))
        again = up(made, "-i", str(inventory(made, server)), *words(tree), "--no-verify")
    for report in reports:
        assert report.keys() == REPORT_KEYS
        assert report["ok"], report["failures"]
        passed = {check["id"] for check in report["checks"] if check["status"] == "pass"}
        assert {"cpu_flags", "isa_audit:tensorflow", "mnist:tensorflow"} <= passed
        assert report["smoke"]["accuracy"] > 0.9
    first, second = (report["builds"][0] for report in reports)
    assert first["compile_actions"] > 30
    assert second["compile_actions"] == 0
    assert second["cache_hits"] >= first["compile_actions"]
    assert first["silo"] == second["silo"]
    assert server.writer.password not in _everything(made.hosts[0]), "no password stays on a host"
    assert [report["changed"] for report in again] == [0, 0]


def _everything(host: Host) -> str:
    """Every text that a build leaves behind, and the command lines of all that still runs."""
    files = f"{DATA}/builds /home/me/.cache/provision/build"
    found = host.sh(f"grep -rIhs may-write {files} || true")
    return found + "\n".join(host.processes())


def test_a_lost_connection_does_not_stop_a_build_and_the_next_run_follows_it(
    fleet: Callable[..., Fleet], tree: Path
) -> None:
    made = fleet(1, "builder", uv_cache=True)
    (host,) = made.hosts
    argv = [sys.executable, "-m", "provision", "up", host.target, *words(tree, "--no-verify")]
    env = made.environment(PYTHONPATH=str(REPOSITORY))
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    _wait(lambda: "Compiling" in host.sh(f"cat {DATA}/builds/*/log.txt 2>/dev/null || true"))
    _switch_off(made)
    process.wait()
    host.sh("pkill -KILL -u me sshd || true")
    pid = _supervised(host)
    assert pid, "the build went with its connection"
    (report,) = up(made, host.target, *words(tree, "--no-verify"))
    assert report["ok"], report["failures"]
    built = host.sh(f"ls -d {DATA}/builds/*/").split()
    assert [folder + "log.txt" for folder in built] == [report["builds"][0]["log"]], "one build in all"
    assert host.sh(f"grep -c 'bazel-4.* build ' {DATA}/builds/*/log.txt").strip() == "1", "it was not begun again"


def _switch_off(fleet: Fleet) -> None:
    """The controller is gone from one moment to the next: nobody says good-bye to the host."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if str(fleet.folder).encode() in environ.read_bytes():
                os.kill(int(environ.parent.name), signal.SIGKILL)


def _supervised(host: Host) -> list[str]:
    return [line for line in host.processes() if "bazel" in line]


def _wait(true: Callable[[], bool], timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.5)
