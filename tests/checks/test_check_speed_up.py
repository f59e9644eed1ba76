"""How much faster than the CPU: what is made of two measurements, and a real one of the CPU."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

GPU = {"version": "2.13.0", "ran_on": "cuda", "name": "NVIDIA GeForce GTX 960", "rate": 9000.0}
CPU = {"version": "2.13.0", "ran_on": "cpu", "name": "CPU", "rate": 1200.0}


@pytest.fixture
def judge(load):
    def run(gpu: dict[str, Any] | None, cpu: dict[str, Any] | None, why: str = "") -> dict[str, Any]:
        answer: dict[str, Any] = load("speed_up").judge("pytorch", gpu, cpu, why)
        return answer

    return run


def test_the_second_documents_figure(judge) -> None:
    answer = judge(GPU, CPU)
    assert answer["status"] == "pass"
    assert answer["what"] == "pytorch trains 7.5 times as fast on NVIDIA GeForce GTX 960 as on this box's CPU"
    assert answer["why"] == "9,000 and 1,200 samples/s; a home-built box of 2017 reached more than 6"
    assert (answer["data"]["speed_up"], answer["data"]["expected"]) == (7.5, 6.0)


def test_less_than_that_is_a_remark(judge) -> None:
    answer = judge({**GPU, "rate": 6000.0}, CPU)
    assert answer["status"] == "pass"
    assert answer["why"].endswith("more than 6: this GPU is small or held back for this CPU (gpu_state.py)")


def test_a_fast_gpu_needs_no_decimals(judge) -> None:
    assert "trains 150 times as fast" in judge({**GPU, "rate": 180_000.0}, CPU)["what"]


@pytest.mark.parametrize(
    ("gpu", "cpu", "why", "found"),
    [
        ({"no_gpu": True}, None, "", ("fail", "pytorch sees no GPU")),
        ({**GPU, "ran_on": "cpu,cuda"}, None, "", ("fail", "pytorch trained on the wrong device")),
        (None, None, "CUDA error: out of memory", ("fail", "pytorch does not train on the GPU")),
        (None, None, "No module named 'torch'", ("skip", "pytorch cannot be loaded")),
        (GPU, None, "no answer within 600 s", ("skip", "pytorch was not measured on this box's CPU")),
    ],
)
def test_what_cannot_be_compared(judge, gpu: Any, cpu: Any, why: str, found: tuple[str, str]) -> None:
    answer = judge(gpu, cpu, why)
    assert (answer["status"], answer["what"]) == found
    assert answer["hint"]
    assert "speed_up" not in answer["data"]


def test_without_a_framework(bare) -> None:
    answer = bare("speed_up.py", "--framework", "pytorch").data
    assert answer["status"] == "skip"
    assert "No module named" in answer["why"]


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["tensorflow", "pytorch", "jax"])
def test_the_steps_on_this_cpu(check_in, load, name: str) -> None:
    """The GPU's half cannot run here; it is the same function with another device."""
    checks = check_in(name)
    script = load("speed_up").__file__
    command = [checks.python, script, "--framework", name, "--inside", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=checks.environment())
    found = json.loads(done.stdout.splitlines()[-1])["inside"]
    assert found["ran_on"] == "cpu"
    assert found["rate"] > 1
    answer = checks("speed_up.py", "--framework", name).data
    assert (answer["status"], answer["what"]) == ("fail", f"{name} sees no GPU")
