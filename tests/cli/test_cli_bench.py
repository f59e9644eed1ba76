"""`provision bench` on this machine: real products in a real environment, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.places import without_pins

ROOT = Path(__file__).resolve().parents[2]
Provision = Callable[..., "subprocess.CompletedProcess[str]"]

# a NumPy that is there as far as a check's child asks: `bench` is what is tried here, not multiplication
NUMPY = """
import time
__version__ = "0.{number}"
class Matrix:
    def astype(self, dtype):
        made = Matrix()
        made.slow = dtype.startswith("int") or dtype == "float32"
        return made
    slow = True
    def __matmul__(self, other):
        if self.slow:
            time.sleep(2e-4)
        return self
class random:
    class RandomState:
        def __init__(self, seed): pass
        def randint(self, low, high, shape): return Matrix()
def array_equal(one, other): return {equal}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An environment with generations 1, 2 (current), and 3 whose products are wrong."""
    environment = tmp_path / "data" / "provision" / "envs" / "default"
    for number in (1, 2, 3):
        folder = environment / "generations" / str(number)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder / "venv"], check=True)
        (packages,) = (folder / "venv" / "lib").glob("python3*/site-packages")
        (packages / "numpy.py").write_text(NUMPY.format(number=number, equal=number != 3))
        state = {"schema": 1, "fingerprint": f"f{number}", "complete": True, "verified": True, "summary": "numpy"}
        (folder / "state.json").write_text(json.dumps({**state, "packages_sha256": hashlib.sha256().hexdigest()}))
    (environment / "current").symlink_to("generations/2")
    return tmp_path / "data"


@pytest.fixture
def provision(data: Path) -> Provision:
    environment = {**without_pins(os.environ), "XDG_DATA_HOME": str(data), "PYTHONPATH": str(ROOT)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "provision", "bench", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


def test_without_a_workload_the_help_is_shown(provision: Provision) -> None:
    done = provision()
    assert "matmul" in done.stdout + done.stderr
    assert done.returncode == 2


def test_the_current_generation_as_json_and_in_turn_as_a_table(provision: Provision, data: Path) -> None:
    before = [(path, path.read_bytes()) for path in sorted(data.rglob("state.json"))]
    done = provision("matmul", "--sizes", "10", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ok"], found["host"], found["workload"], found["rounds"]) == (True, "localhost", "matmul", 1)
    assert (found["environment"]["generation"], found["environment"]["version"]) == (2, "0.2")
    assert [each["id"] for each in found["results"]][:2] == ["float64 10x10", "float32 10x10"]
    done = provision("matmul", "--sizes", "10", "--against-generation", "1", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    assert "localhost: default, generation 2: NumPy 0.2, no BLAS that is known" in done.stdout
    assert "against default, generation 1: NumPy 0.1, no BLAS that is known; median of 2 rounds in turn" in done.stdout
    assert "times as fast" in done.stdout
    assert [(path, path.read_bytes()) for path in sorted(data.rglob("state.json"))] == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--name", "nosuch"), 2, "there is no environment called nosuch"),
        (("--against", "nosuch"), 2, "there is no environment called nosuch"),
        (("--generation", "9"), 5, "environment default has no generation 9"),
        (("--against", "default"), 2, "an environment cannot be measured against itself"),
        (("--against-generation", "2"), 5, "an environment cannot be measured against itself"),
        (("--sizes", "100;500"), 2, "--sizes 100;500 is no list of sizes"),
        (("--sizes", ""), 2, "is no list of sizes"),
        (("--generation", "0"), 2, "0 is not in the range x>=1"),
        (("--generation", "3", "--sizes", "10"), 5, "matmul cannot be measured in generation 3 of environment default"),
    ],
)
def test_what_cannot_be_measured(provision: Provision, words: tuple[str, ...], code: int, said: str) -> None:
    done = provision("matmul", *words)
    assert said in done.stdout + done.stderr
    assert done.returncode == code


def test_a_failure_is_one_document(provision: Provision) -> None:
    done = provision("matmul", "--name", "nosuch", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"], found["results"]) == (2, False, [])
    assert found["failures"][0]["what"] == "there is no environment called nosuch"
    assert found["failures"][0]["hint"] == "provision up --name nosuch"
