"""What holds a GPU back: NVML's own calls on a played host, under a stand-in for the load."""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.nvml.player import NvmlPlayer, host_text, with_answer

from provision.detect.nvidia_health import THROTTLE as THROTTLE_WORDS

H100 = "made-nvml-h100-590"
BUSY_H100 = host_text(H100).replace("utilization 0 0", "utilization 98 40")
TWO_CARDS = host_text("made-nvml-rtx4090-gt1030-535")
FAST, SMALL = "0000:41:00.0", "0000:62:00.0"
"""The RTX 4090 and the GT 1030 of that host."""


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
    answer = watch(BUSY_H100.replace("clocks_mhz 345 345", "clocks_mhz 1980 1980").replace("69850", "690000"))
    assert answer["status"] == "pass"
    assert answer["what"] == (
        "under load NVIDIA H100 80GB HBM3: 1980 of 1980 MHz, 690 of 700 W, 41 degrees, PCIe generation 5 x16"
    )
    assert answer["why"] == "nothing holds them back"
    assert answer["data"]["gpus"][0]["samples"] >= 1
    assert answer["data"]["gpus"][0]["throttle"] == {}


def test_all_that_costs_speed_is_said_and_fails_nothing(watch) -> None:
    text = BUSY_H100.replace("throttle 0x1", "throttle 0x45").replace("pcie 16 16 5 5 5", "pcie 8 16 3 3 5")
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


def test_a_gpu_that_nothing_computes_on_is_not_judged(watch) -> None:
    text = TWO_CARDS.replace("utilization 0 0", "utilization 98 40", 1)
    answer = watch(text.replace("throttle 0x1", "throttle 0x4").replace("pcie 16 16 1 4 4", "pcie 16 16 4 4 4"))
    assert answer["status"] == "pass"
    assert answer["what"].startswith("under load NVIDIA GeForce RTX 4090: ")
    assert "GT 1030" not in answer["what"]
    assert answer["why"].split("; ") == [
        "GPU 0: its power cap holds its clock down (100% of the time)",
        "GPU 1: not under load: nothing computed on it",
    ]
    assert [gpu["under_load"] for gpu in answer["data"]["gpus"]] == [True, False]
    assert answer["data"]["gpus"][1]["clock_sm_mhz"] is not None, "recorded all the same"


def test_watching_gpus_that_nothing_computes_on(watch) -> None:
    answer = watch(host_text(H100))
    assert (answer["status"], answer["what"]) == ("skip", "no GPU was under load")
    assert answer["why"] == "GPU 0: not under load: nothing computed on it"


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


READY = """
import json, time
time.sleep(0.5)
print("already\\nready", json.dumps(ADDRESSES), flush=True)
time.sleep(1)
print("over", flush=True)
"""


def loads(*addresses: str | None) -> str:
    """The text of a child that loads GPUs of these addresses."""
    return READY.replace("ADDRESSES", repr(list(addresses)))


@pytest.fixture
def under(load, nvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Watches while a child runs that does what ``script`` says in the place of this script's own."""

    def run(script: str, timeout: float = 20.0, host: str = H100, visible: str | None = None) -> dict[str, Any]:
        gpu_state, gpu_nvml, played = load("gpu_state"), load("gpu_nvml"), nvml(host)
        monkeypatch.setenv("NVML_HOST", str(played.host))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        path = tmp_path / "child.py"
        path.write_text(script)
        monkeypatch.setattr(gpu_state, "__file__", str(path))
        options = Namespace(watch=None, framework="pytorch", seconds=1.0, timeout=timeout)
        with gpu_nvml.Nvml(str(played.library)) as library:
            answer: dict[str, Any] = gpu_state.judge(*gpu_state.watch(library, options))
        return answer

    return run


def test_samples_are_taken_while_the_load_runs(under) -> None:
    answer = under(loads("0000:00:09.0") + "time.sleep(3)")
    assert answer["status"] == "pass"
    assert 1 <= answer["data"]["gpus"][0]["samples"] <= 8, "none while the framework was loading, none after the load"


def test_a_gpu_that_was_hidden_is_not_judged(under) -> None:
    """At rest the RTX 4090 has a slow link and the GT 1030 low clocks: neither is a fault."""
    answer = under(
        loads(SMALL),
        host=TWO_CARDS.replace("throttle 0x1", "throttle 0x4"),
        visible="GPU-00000000-0000-0000-0000-000000000003",
    )
    assert answer["status"] == "pass"
    assert answer["what"].startswith("under load NVIDIA GeForce GT 1030: ")
    assert answer["why"].split("; ") == [
        "GPU 0: not under load: CUDA_VISIBLE_DEVICES=GPU-00000000-0000-0000-0000-000000000003",
        "GPU 1: its power cap holds its clock down (100% of the time)",
        "GPU 1: its PCIe link is of generation 1, and the card can do 3",
    ]
    idle, loaded = answer["data"]["gpus"]
    assert (idle["under_load"], loaded["under_load"]) == (False, True)
    assert idle["samples"] == loaded["samples"], "recorded all the same"


def test_a_gpu_that_the_framework_leaves_out_is_named(under) -> None:
    """TensorFlow takes no GPU of few multiprocessors beside a large one."""
    answer = under(loads(FAST), host=TWO_CARDS)
    assert answer["why"].endswith("GPU 1: not under load: pytorch does not use it")
    assert [gpu["under_load"] for gpu in answer["data"]["gpus"]] == [True, False]


def test_a_load_on_what_the_driver_does_not_list(under) -> None:
    answer = under(loads("0000:99:00.0"))
    assert (answer["status"], answer["what"]) == ("skip", "no GPU was under load")


def test_a_load_that_died(under) -> None:
    answer = under("raise SystemExit('CUDA out of memory')")
    assert (answer["status"], answer["what"], answer["why"]) == (
        "skip", "the GPUs were not put under load", "CUDA out of memory",
    )  # fmt: skip


def test_a_load_on_no_gpu(under) -> None:
    assert under(loads())["why"] == "pytorch sees no GPU"


def test_a_load_that_hangs_is_ended(under) -> None:
    answer = under("import os, time; print(os.getpid(), flush=True); time.sleep(600)", timeout=1.0)
    assert answer["status"] == "skip"
    assert answer["why"] == "exit status -9"


@pytest.mark.parametrize(
    ("loaded", "environment", "reasons"),
    [
        ([FAST, SMALL], {}, [None, None]),
        ([SMALL], {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, ["CUDA_VISIBLE_DEVICES=1", None]),
        # the default order begins with the fastest, which only CUDA knows: what it told counts
        ([FAST], {"CUDA_VISIBLE_DEVICES": "0"}, [None, "pytorch does not use it"]),
        # where CUDA tells no address, the variables do
        ([None], {"CUDA_VISIBLE_DEVICES": "GPU-00000000-0000-0000-0000-000000000003"}, [
            "CUDA_VISIBLE_DEVICES=GPU-00000000-0000-0000-0000-000000000003", None,
        ]),
        ([None], {"CUDA_VISIBLE_DEVICES": "0"}, ["it is not known whether it had any"] * 2),
    ],
)  # fmt: skip
def test_why_a_gpu_had_no_load(load, loaded: Any, environment: dict[str, str], reasons: list[str | None]) -> None:
    gpu = load("gpu_visible").Gpu
    found = [
        gpu("NVIDIA GeForce RTX 4090", "GPU-00000000-0000-0000-0000-000000000001", FAST),
        gpu("NVIDIA GeForce GT 1030", "GPU-00000000-0000-0000-0000-000000000003", SMALL),
    ]
    assert load("gpu_state").idle_reasons(found, loaded, environment, "pytorch") == reasons


def test_gpus_are_counted_as_the_driver_counts_them_unless_the_user_chose(load) -> None:
    made = load("gpu_state").child_environment
    assert made({})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert "CUDA_DEVICE_ORDER" not in made({"CUDA_VISIBLE_DEVICES": "1"})
    assert made({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"})["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"


class Work:
    """Stands for a framework that sees GPUs, one of them many times as fast."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.waited = dict.fromkeys(seconds, 0)

    def devices(self) -> list[int]:
        return list(self.seconds)

    ordinals = devices

    def random(self, size: int, index: int, number: str, seed: int) -> int:
        return index

    def product(self, number: str) -> Any:
        return lambda left, right: left

    def wait(self, index: int) -> None:
        time.sleep(self.seconds[index])
        self.waited[index] += 1


def test_a_fast_gpu_does_not_wait_for_a_slow_one(load, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    state, work = load("gpu_state"), Work({0: 0.001, 1: 0.1})
    monkeypatch.setitem(state.gpu_work.WORKS, "pytorch", lambda device: work)
    state.inside("pytorch", 0.5)
    assert state.heard(capsys.readouterr().out) == ([None, None], True)
    assert work.waited[0] > 3 * work.waited[1] > 3


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["tensorflow", "pytorch", "jax"])
def test_a_framework_without_a_gpu(check_in, nvml, name: str) -> None:
    played = nvml(H100)
    env = {"NVML_HOST": str(played.host), "PATH": os.environ["PATH"]}
    answer = check_in(name)("gpu_state.py", "--framework", name, "--library", played.library, env=env).data
    assert (answer["status"], answer["why"]) == ("skip", f"{name} sees no GPU")
