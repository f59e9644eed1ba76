"""`provision bench` on real SSH hosts."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from harness.fleet import Fleet

pytestmark = [pytest.mark.docker, pytest.mark.ssh, pytest.mark.network]

STATE = "/home/me/.local/share/provision/envs/bench/generations/1/state.json"


def test_hosts_are_measured_side_by_side_and_stay_as_they_are(session_fleet: Callable[..., Fleet]) -> None:
    made = session_fleet(2)
    targets = [host.target for host in made.hosts]
    words = ("--framework", "numpy==2.4.6", "--name", "bench", "--no-verify", "--yes")
    done = made.provision("up", *targets, *words, timeout_s=600)
    assert done.returncode == 0, done.stderr
    before = [host.sh(f"cat {STATE}") for host in made.hosts]
    done = made.provision("bench", "matmul", *targets, "--name", "bench", "--sizes", "64,128", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["host"] for each in found] == targets
    for each in found:
        assert each["ok"]
        assert each["environment"]["blas"]["library"] == "OpenBLAS"
        assert {row["id"] for row in each["results"]} >= {"float64 64x64", "int32 128x128", "thousand 100x100 integer"}
        assert each["integer_by_float"] > 1.5
    done = made.provision("bench", "matmul", *targets, "--name", "bench", "--sizes", "64")
    header = next(line for line in done.stdout.splitlines() if "matrix products" in line)
    assert header.split()[2:] == targets
    assert [host.sh(f"cat {STATE}") for host in made.hosts] == before, "nothing is marked as verified"
    made.hosts[1].sh("rm -r /home/me/.local/share/provision/envs/bench")
    done = made.provision("bench", "matmul", *targets, "--name", "bench", "--sizes", "64", "--json")
    assert done.returncode == 2
    assert [each["ok"] for each in json.loads(done.stdout)] == [True, False]
