"""Trainings broken on purpose: what a smoke test must notice. A file of its own, since one worker runs a file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.frameworks

HERE = Path(__file__).resolve().parent


def trained(check_in: Any, framework: str, breakages: str) -> dict[str, dict[str, Any]]:
    """Breakage -> mnist.py's answer with it, on fewer of the generated digits, more often."""
    checks = check_in(framework)
    less = ["--train", "30000"] if framework == "numpy" else ["--train", "20000", "--epochs", "2"]
    considerate = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}
    command = [checks.python, str(HERE / "train_broken.py"), str(HERE.parents[1] / "checks"), breakages]
    done = subprocess.run(
        [*command, "--framework", framework, *less],
        capture_output=True, text=True, env=checks.environment(considerate),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {answer["breakage"]: answer for answer in map(json.loads, done.stdout.splitlines())}


SHORT = "nothing,zero-convolution,dead-class"
LONG = "nothing,zero-convolution,shuffled-labels,no-learning,dead-class,no-number"


@pytest.mark.parametrize(
    ("framework", "breakages"),
    [
        ("numpy", LONG),
        ("tensorflow", SHORT),
        *(pytest.param(name, LONG, marks=pytest.mark.slow) for name in ("tensorflow", "pytorch", "jax")),
    ],
)
def test_a_broken_training_fails(check_in, framework: str, breakages: str) -> None:
    """Each way to be broken that a smoke test must notice, while nothing broken passes with the same digits."""
    answers = trained(check_in, framework, breakages)
    sound = answers.pop("nothing")
    assert sound["status"] == "pass", sound
    assert {name: answer["status"] for name, answer in answers.items()} == dict.fromkeys(answers, "fail")
    dead = answers.pop("dead-class")["data"]
    assert 0.8 < dead["accuracy"] < dead["bound"]
    if "no-number" in answers:
        assert answers["no-number"]["why"] == "the loss is no number"
    assert all(answer["data"]["accuracy"] < 0.2 for answer in answers.values())
