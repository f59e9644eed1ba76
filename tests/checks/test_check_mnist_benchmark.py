"""benchmarks/gpu_mnist.py where it cannot measure, and what it says of what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_mnist.py"
FOUND = {
    "version": "2.13.0", "device": "cuda", "ran_on": "cuda", "gpu_name": "NVIDIA H100 80GB HBM3", "samples": 119_808,
    "epochs": 2, "train_s": 3.2, "warm_up_s": 1.5, "accuracy": 0.9911, "accuracies": [0.987, 0.9911],
    "model_flops_per_sample": 44_237_952,
}  # fmt: skip


def measure(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def answering(tmp_path: Path):
    """A Python that answers as mnist.py on a machine with a GPU would."""

    def python(status: str, what: str = "", why: str = "", hint: str = "", **data: Any) -> Path:
        answer = {"id": "mnist:pytorch", "status": status, "what": what, "why": why, "hint": hint, "data": data}
        (tmp_path / "answer").write_text(json.dumps(answer) + "\n")
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\nexec cat '{tmp_path}/answer'\n")
        path.chmod(0o755)
        return path

    return python


def test_without_the_data(bare) -> None:
    status, table, said = measure("--data", "/nowhere", "--python", bare.python)
    assert (status, table) == (2, "")
    assert said.splitlines()[0] == "error: /nowhere has no train-images-idx3-ubyte"
    assert said.splitlines()[1:2] == ["  /nowhere is not a folder"]
    assert said.splitlines()[-1].startswith("  hint: ")


def test_without_the_framework(bare, mnist_folder) -> None:
    status, table, said = measure("--data", mnist_folder, "--python", bare.python)
    assert (status, table) == (2, "")
    assert said.splitlines()[0] == "error: pytorch is not installed"
    assert said.splitlines()[-1] == "  hint: run this with the environment's Python"


@pytest.mark.frameworks
def test_without_a_gpu(environment_of, mnist_folder) -> None:
    status, table, said = measure("--framework", "jax", "--data", mnist_folder, "--python", environment_of("jax"))
    assert (status, table) == (2, "")
    assert said == (
        "error: jax sees no GPU\n  planned cuda; it would train on the CPU\n  hint: device_visible.py says why\n"
    )


@pytest.mark.parametrize(("mode", "why"), [(0o644, "Permission denied"), (0o755, "broken")])
def test_without_a_python(tmp_path: Path, mode: int, why: str) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho broken >&2\n")
    python.chmod(mode)
    status, _, said = measure("--data", tmp_path, "--python", python)
    assert status == 2
    assert said.splitlines()[1] == f"  {why}"
    assert "--python names the Python" in said


def test_a_training_on_the_wrong_device_is_no_measurement(answering) -> None:
    python = answering("fail", "pytorch trained on the wrong device", "planned cuda", "-", **{**FOUND, "ran_on": "cpu"})
    assert measure("--data", ".", "--python", python)[0] == 2


def test_the_goal_is_met(answering) -> None:
    status, table, _ = measure("--data", ".", "--python", answering("pass", **FOUND), "--runs", 2)
    assert status == 0
    assert "on NVIDIA H100 80GB HBM3: test accuracy | 99.11%, 99.11% | 99 % | yes |" in table
    assert "training | 3.2 s | 10 s on an H100-class card | yes |" in table


@pytest.mark.parametrize(("status", "change"), [("pass", {"train_s": 12.0}), ("fail", {"accuracy": 0.98})])
def test_a_missed_goal_is_shown_in_the_table(answering, status: str, change: dict[str, float]) -> None:
    python = answering(status, "pytorch learns MNIST badly", "…", "…", **{**FOUND, **change})
    exit_status, table, _ = measure("--data", ".", "--python", python, "--runs", 1)
    assert exit_status == 1
    assert table.count("**no**") == 1


def test_no_run_at_all() -> None:
    assert "--runs: at least one" in measure("--data", ".", "--runs", 0)[2]
