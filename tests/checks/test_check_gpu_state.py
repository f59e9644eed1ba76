"""What holds a GPU back: NVML's own calls on a played host, under a stand-in for the load."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.nvml.player import NvmlPlayer, host_text, with_answer

from provision.detect.nvidia_health import THROTTLE as THROTTLE_WORDS

H100 = "made-nvml-h100-590"


@pytest.fixture
def watch(check, nvml: Callable[..., NvmlPlayer]) -> Callable[..., dict[str, Any]]:
    def run(text: str) -> dict[str, Any]:
        played = nvml(text)
        found: dict[str, Any] = check(
            "gpu_state.py", "--watch", "0.5", "--library", played.library, env=played.env
        ).data
        return found

    return run


def test_a_gpu_that_nothing_holds_back(watch) -> None:
    answer = watch(host_text(H100).replace("clocks_mhz 345 345", "clocks_mhz 1980 1980").replace("69850", "690000"))
    assert answer["status"] == "pass"
    assert answer["what"] == (
        "under load NVIDIA H100 80GB HBM3: 1980 of 1980 MHz, 690 of 700 W, 41 degrees, PCIe generation 5 x16"
    )
    assert answer["why"] == "nothing holds them back"
    assert answer["data"]["gpus"][0]["samples"] >= 1
    assert answer["data"]["gpus"][0]["throttle"] == {}


def test_all_that_costs_speed_is_said_and_fails_nothing(watch) -> None:
    text = host_text(H100).replace("throttle 0x1", "throttle 0x45").replace("pcie 16 16 5 5 5", "pcie 8 16 3 3 5")
    answer = watch(text.replace("power_mw 69850 700000", "power_mw 69850 400000"))
    assert answer["status"] == "pass"
    assert answer["why"].split("; ") == [
        "GPU 0: its power cap holds its clock down (100% of the time)",
        "GPU 0: the card slows itself down because it is too hot: look at fans and air (100% of the time)",
        "GPU 0: its power cap is 400 W, 700 W is its default",
        "GPU 0: it has 8 of 16 PCIe lanes: its slot, a riser or a dirty contact gives no more",
        "GPU 0: its PCIe link is of generation 3, and the card can do 5",
    ]
    assert answer["data"]["gpus"][0]["throttle"] == {"sw_power_cap": 1.0, "hw_thermal_slowdown": 1.0}


def test_reasons_have_the_words_that_detection_uses(load) -> None:
    words = set(load("gpu_nvml").REASONS.values())
    assert words == set(load("gpu_state").COSTLY)
    assert words <= set(THROTTLE_WORDS)


def test_an_older_driver_has_another_name_for_throttle_reasons(watch) -> None:
    text = host_text(H100).replace("throttle 0x1", "throttle 0x8")
    answer = watch("without nvmlDeviceGetCurrentClocksEventReasons\n" + text)
    assert answer["data"]["gpus"][0]["throttle"] == {"hw_slowdown": 1.0}


def test_a_gpu_that_tells_little(watch) -> None:
    answer = watch("driver 390.157\ngpu\n  name GeForce GTX 960\n")
    assert answer["status"] == "pass"
    assert answer["what"] == "under load GeForce GTX 960: it tells nothing"


def test_a_gpu_that_is_lost_fails(watch) -> None:
    answer = watch(with_answer(host_text(H100), "nvmlDeviceGetTemperature", 15, gpu=0))
    assert (answer["status"], answer["what"], answer["why"]) == (
        "fail", "a GPU does not answer", "GPU 0: GPU is lost",
    )  # fmt: skip
    assert "Xid" in answer["hint"]


def test_a_driver_that_refuses(watch) -> None:
    answer = watch(with_answer(host_text(H100), "nvmlInit_v2", 9))
    assert (answer["status"], answer["why"], answer["hint"]) == (
        "skip", "NVML: driver not loaded", "run gpu_driver.py",
    )  # fmt: skip


def test_no_library(check) -> None:
    answer = check("gpu_state.py", "--framework", "jax", "--library", "/nowhere/libnvidia-ml.so.1").data
    assert (answer["status"], answer["what"]) == ("skip", "the driver does not answer")


# --- the load: a stand-in child, because no framework can load a GPU that is not there --------------------------------


@pytest.fixture
def under(load, nvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Watches while a child runs that does what ``script`` says in the place of this script's own."""

    def run(script: str, timeout: float = 20.0) -> dict[str, Any]:
        gpu_state, gpu_nvml, played = load("gpu_state"), load("gpu_nvml"), nvml(H100)
        monkeypatch.setenv("NVML_HOST", str(played.host))
        path = tmp_path / "child.py"
        path.write_text(script)
        monkeypatch.setattr(gpu_state, "__file__", str(path))
        options = Namespace(watch=None, framework="pytorch", seconds=1.0, timeout=timeout)
        with gpu_nvml.Nvml(str(played.library)) as library:
            answer: dict[str, Any] = gpu_state.judge(*gpu_state.watch(library, options))
        return answer

    return run


def test_samples_are_taken_while_the_load_runs(under) -> None:
    answer = under("import time; time.sleep(0.5); print('ready 1', flush=True); time.sleep(1)")
    assert answer["status"] == "pass"
    assert 1 <= answer["data"]["gpus"][0]["samples"] <= 8, "none while the framework was loading"


def test_a_load_that_died(under) -> None:
    answer = under("raise SystemExit('CUDA out of memory')")
    assert (answer["status"], answer["what"], answer["why"]) == (
        "skip", "the GPUs were not put under load", "CUDA out of memory",
    )  # fmt: skip


def test_a_load_on_no_gpu(under) -> None:
    assert under("print('ready 0')")["why"] == "pytorch sees no GPU"


def test_a_load_that_hangs_is_ended(under) -> None:
    answer = under("import os, time; print(os.getpid(), flush=True); time.sleep(600)", timeout=1.0)
    assert answer["status"] == "skip"
    assert answer["why"] == "exit status -9"


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["tensorflow", "pytorch", "jax"])
def test_a_framework_without_a_gpu(check_in, nvml, name: str) -> None:
    played = nvml(H100)
    env = {"NVML_HOST": str(played.host), "PATH": os.environ["PATH"]}
    answer = check_in(name)("gpu_state.py", "--framework", name, "--library", played.library, env=env).data
    assert (answer["status"], answer["why"]) == ("skip", f"{name} sees no GPU")
