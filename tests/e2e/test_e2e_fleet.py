"""`provision up` to real SSH hosts, as a user types it: NumPy, because it is quick and goes the whole way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from harness.contract import REPORT_KEYS, SMOKE_KEYS
from harness.fleet import REPOSITORY, Fleet, Host

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network]

ENVS = "/home/me/.local/share/provision/envs"
# releases that run on Debian 12's own Python: uv's would have to be downloaded
NUMPY = ("--framework", "numpy==2.4.6", "--yes")
JAX = ("--framework", "jax==0.10.2", "--yes")

ENVIRONMENT_KEYS = {"name", "generation", "path", "activate", "previous", "switched"}
CHECK_KEYS = {"id", "status", "what", "why", "hint", "data"}


def up(fleet: Fleet, *words: str, code: int = 0) -> object:
    done = fleet.provision("up", *words, *NUMPY, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def current(host: Host, name: str = "default") -> str:
    return host.sh(f"readlink {ENVS}/{name}/current || true").strip()


def test_a_bare_host_is_proved_and_a_second_run_changes_nothing(fleet: Callable[..., Fleet]) -> None:
    made = fleet(2)
    targets = [host.target for host in made.hosts]
    reports = up(made, *targets)
    for report in reports:
        assert report.keys() == REPORT_KEYS
        assert report["ok"]
        assert report["changed"] > 0
        assert report["environment"].keys() == ENVIRONMENT_KEYS
        assert report["smoke"].keys() == SMOKE_KEYS
        assert all(check.keys() == CHECK_KEYS for check in report["checks"])
        assert "mnist:numpy" in {check["id"] for check in report["checks"] if check["status"] == "pass"}
    assert [report["changed"] for report in up(made, *targets)] == [0, 0]
    assert [report["changed"] for report in up(made, *targets, "--no-verify")] == [0, 0]
    host = made.hosts[0]
    activate = reports[0]["environment"]["activate"]
    assert host.exec(
        ["sh", "-ec", f"{activate} && python -c 'import numpy; print(numpy.__version__)'"], user="me"
    ).check()


def test_no_root_is_used_for_a_plain_environment(session_fleet: Callable[..., Fleet]) -> None:
    made = session_fleet(2)
    host = made.hosts[0]
    up(made, host.target, "--name", "rootless")
    assert host.sh(f"find {ENVS}/rootless -user root | head").strip() == ""


def test_failures_stay_with_their_host_and_say_which_they_were(fleet: Callable[..., Fleet]) -> None:
    made = fleet(4)
    good, off, changed, refusing = made.hosts
    off.stop()
    changed.replace_host_key()
    refusing.sh("rm /home/me/.ssh/authorized_keys")
    reports = {report["host"]: report for report in up(made, *(host.target for host in made.hosts), code=4)}
    assert reports[good.target]["ok"]
    said = {host.name: reports[host.target]["failures"][0]["what"].lower() for host in (off, changed, refusing)}
    assert "refused" in said[off.name]
    assert "another host key" in said[changed.name]
    assert "key" in said[refusing.name]
    assert "accept" in said[refusing.name] or "refuse" in said[refusing.name]


def test_a_host_without_python_is_told_so(fleet: Callable[..., Fleet]) -> None:
    made = fleet(1, "ssh-nopython")
    report = up(made, made.hosts[0].target, code=4)
    assert "Python" in report["failures"][0]["what"]


def test_two_runs_at_once_do_not_collide(session_fleet: Callable[..., Fleet]) -> None:
    made = session_fleet(2)
    host = made.hosts[0]
    words = ["up", host.target, *NUMPY, "--no-verify", "--name", "twice"]
    argv = [sys.executable, "-m", "provision", *words]
    env = made.environment(PYTHONPATH=str(REPOSITORY))
    runs = [
        subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(2)
    ]
    said = [run.communicate(timeout=300)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert host.sh(f"ls {ENVS}/twice/generations").split() == ["1"]


def test_a_second_run_that_will_not_wait_says_who_holds_the_lock(session_fleet: Callable[..., Fleet]) -> None:
    made = session_fleet(2)
    host = made.hosts[0]
    up(made, host.target, "--no-verify", "--name", "held")
    hold = ["ssh", "-p", str(host.port), f"{host.user}@{host.address}", f"flock {ENVS}/held/lock sleep 30"]
    holder = subprocess.Popen(hold, env=made.environment(), stdin=subprocess.DEVNULL)
    try:
        time.sleep(2)
        report = up(made, host.target, "--name", "held", "--no-verify", "--with", "six", "--lock-timeout", "1", code=5)
        assert "another" in report["failures"][0]["what"]
    finally:
        host.sh("pkill -x sleep || true")
        holder.wait(timeout=30)


def test_a_killed_run_leaves_the_environment_usable_and_the_next_one_finishes(fleet: Callable[..., Fleet]) -> None:
    made = fleet(1)
    host = made.hosts[0]
    up(made, host.target, "--no-verify")
    before = current(host)
    argv = [sys.executable, "-m", "provision", "up", host.target, *JAX, "--no-verify"]
    process = subprocess.Popen(
        argv, env=made.environment(PYTHONPATH=str(REPOSITORY)), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and "2" not in host.sh(f"ls {ENVS}/default/generations").split():
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert current(host) == before
    host.sh(f"{ENVS}/default/current/venv/bin/python -c 'import numpy'")
    done = made.provision("up", host.target, *JAX, "--no-verify", "--json")
    assert done.returncode == 0, done.stderr
    host.sh(f"{ENVS}/default/current/venv/bin/python -c 'import jax'")
    generations = host.sh(f"ls {ENVS}/default/generations").split()
    assert len(generations) == 2, generations


def test_without_a_network_the_message_says_so(fleet: Callable[..., Fleet]) -> None:
    made = fleet(1)
    host = made.hosts[0]
    up(made, host.target, "--no-verify", "--name", "first")  # uv is there, the lock is cached here
    host.sh(
        "rm -rf /home/me/.cache/uv /home/me/.local/share/provision/envs; echo 'nameserver 127.0.0.1' > /etc/resolv.conf"
    )
    report = up(made, host.target, "--no-verify", code=5)
    failure = report["failures"][0]
    assert "network" in (failure["what"] + failure["why"]).lower() or "reach" in failure["what"]
    assert failure["hint"]
    assert current(host) == ""


def test_environments_are_listed_rolled_back_and_removed(session_fleet: Callable[..., Fleet]) -> None:
    made = session_fleet(2)
    target = made.hosts[1].target
    up(made, target, "--name", "kept")
    up(made, target, "--name", "kept", "--with", "six")
    listed = json.loads(made.provision("env", "list", target, "--json").stdout)
    kept = next(each for each in listed["environments"] if each["name"] == "kept")
    assert kept["current"] == 2
    assert [each["verified"] for each in kept["generations"]] == [True, True]
    rolled = made.provision("env", "rollback", target, "--name", "kept", "--yes", "--json")
    assert rolled.returncode == 0, rolled.stderr
    assert current(made.hosts[1], "kept") == "generations/1"
    removed = made.provision("env", "remove", target, "--name", "kept", "--yes", "--json")
    assert removed.returncode == 0, removed.stderr
    assert made.hosts[1].exec(["test", "-e", f"{ENVS}/kept"]).status == 1
    again = made.provision("env", "remove", target, "--name", "kept", "--yes")
    assert again.returncode == 2
    assert "there is no environment called kept" in again.stdout + again.stderr


def test_an_inventory_is_taken_as_it_is(session_fleet: Callable[..., Fleet]) -> None:
    made = session_fleet(2)
    done = made.provision("detect", "-i", str(made.inventory()), "--limit", "host-2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["host"] == "host-2"
