"""NVML's player, asked through the real pynvml: what the file of a host says is what the binding gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness.nvml.player import HOSTS, NvmlPlayer, host_text, with_answer

Play = Callable[[str | Path], NvmlPlayer]

ASK = """
import json, sys
import pynvml as nvml

def said(question):
    try:
        answer = question()
    except nvml.NVMLError as error:
        return f"error {error.value}"
    return answer.decode() if isinstance(answer, bytes) else answer

nvml.nvmlInit()
gpu = said(lambda: nvml.nvmlDeviceGetHandleByIndex(0))
names = {name: getattr(nvml, name) for name in dir(nvml)}
answers = {text: said(lambda: eval(text, names | {"gpu": gpu})) for text in json.load(sys.stdin)}
nvml.nvmlShutdown()
assert said(nvml.nvmlDeviceGetCount) == "error 1"  # not initialized
print(json.dumps(answers))
"""


def ask(player: NvmlPlayer, *questions: str) -> Mapping[str, Any]:
    """The answers to Python expressions of pynvml's functions, in a process of its own; `gpu` is the first GPU."""
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(questions),
        env={**os.environ, **player.env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


H100 = {
    "nvmlSystemGetDriverVersion()": "590.48.01",
    "nvmlSystemGetNVMLVersion()": "13.590.48.01",
    "nvmlSystemGetCudaDriverVersion()": 13010,
    "nvmlSystemGetCudaDriverVersion_v2()": 13010,
    "nvmlDeviceGetCount()": 1,
    "nvmlDeviceGetName(gpu)": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetUUID(gpu)": "GPU-00000000-0000-0000-0000-000000000001",
    "nvmlDeviceGetPciInfo(gpu).busId": "00000000:00:09.0",
    "nvmlDeviceGetPciInfo(gpu).busIdLegacy": "0000:00:09.0",
    "nvmlDeviceGetPciInfo(gpu).device": 9,
    "nvmlDeviceGetPciInfo(gpu).pciDeviceId": 0x233010DE,
    "nvmlDeviceGetPciInfo(gpu).pciSubSystemId": 0x16C110DE,
    "nvmlDeviceGetMemoryInfo(gpu).total >> 20": 81559,
    "nvmlDeviceGetMemoryInfo(gpu).free >> 20": 81081,
    "nvmlDeviceGetMemoryInfo(gpu, nvmlMemory_v2).reserved >> 20": 478,
    "nvmlDeviceGetMemoryInfo(gpu, 0x0100)": "error 25",
    "nvmlDeviceGetCudaComputeCapability(gpu)": [9, 0],
    "nvmlDeviceGetMigMode(gpu)": [0, 0],
    "nvmlDeviceGetCurrPcieLinkWidth(gpu)": 16,
    "nvmlDeviceGetMaxPcieLinkWidth(gpu)": 16,
    "nvmlDeviceGetCurrPcieLinkGeneration(gpu)": 5,
    "nvmlDeviceGetMaxPcieLinkGeneration(gpu)": 5,
    "nvmlDeviceGetGpuMaxPcieLinkGeneration(gpu)": 5,
    "nvmlDeviceGetPowerUsage(gpu)": 69850,
    "nvmlDeviceGetPowerManagementLimit(gpu)": 700000,
    "nvmlDeviceGetPowerManagementDefaultLimit(gpu)": 700000,
    "nvmlDeviceGetPowerManagementLimitConstraints(gpu)": [200000, 700000],
    "nvmlDeviceGetCurrentClocksEventReasons(gpu)": 1,
    "nvmlDeviceGetCurrentClocksThrottleReasons(gpu)": 1,
    "nvmlDeviceGetClockInfo(gpu, NVML_CLOCK_SM)": 345,
    "nvmlDeviceGetMaxClockInfo(gpu, NVML_CLOCK_MEM)": 2619,
    "nvmlDeviceGetTemperature(gpu, NVML_TEMPERATURE_GPU)": 41,
    "nvmlDeviceGetTemperatureV(gpu, NVML_TEMPERATURE_GPU)": 41,
    "nvmlDeviceGetPersistenceMode(gpu)": 1,
    "nvmlDeviceGetUtilizationRates(gpu).gpu": 0,
    "nvmlDeviceGetComputeRunningProcesses(gpu)": [],
    "nvmlDeviceGetName(nvmlDeviceGetHandleByPciBusId('0000:00:09.0'))": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetName(nvmlDeviceGetHandleByUUID('GPU-00000000-0000-0000-0000-000000000001'))": "NVIDIA H100 80GB HBM3",
    "nvmlDeviceGetHandleByUUID('GPU-11111111-0000-0000-0000-000000000001')": "error 6",
    "nvmlDeviceGetHandleByUUID('000000000001')": "error 6",
    "nvmlDeviceGetHandleByIndex(1)": "error 2",
}


def test_everything_that_a_host_says(nvml: Play) -> None:
    assert ask(nvml("made-nvml-h100-590"), *H100) == H100


def test_mig_devices(nvml: Play) -> None:
    mig = "nvmlDeviceGetMigDeviceHandleByIndex(gpu, 1)"
    expected = {
        "nvmlDeviceGetMigMode(gpu)": [1, 1],
        "nvmlDeviceGetMaxMigDeviceCount(gpu)": 7,
        f"nvmlDeviceGetUUID({mig})": "MIG-00000000-0000-0000-0000-000000000002",
        f"nvmlDeviceGetMemoryInfo({mig}).total >> 20": 19968,
        f"nvmlDeviceIsMigDeviceHandle({mig}).value": 1,
        f"nvmlDeviceGetName(nvmlDeviceGetDeviceHandleFromMigDeviceHandle({mig}))": "NVIDIA A100-SXM4-40GB",
        "nvmlDeviceGetMigDeviceHandleByIndex(gpu, 2)": "error 6",
        "nvmlDeviceGetMigDeviceHandleByIndex(gpu, 7)": "error 2",
        "nvmlDeviceGetUtilizationRates(gpu)": "error 3",
    }
    assert ask(nvml("made-nvml-a100-mig-510"), *expected) == expected


def test_functions_that_an_old_driver_does_not_have(nvml: Play) -> None:
    answers = ask(
        nvml("made-nvml-gtx960-390"),
        "nvmlDeviceGetMigMode(gpu)",
        "nvmlSystemGetCudaDriverVersion_v2()",
        "nvmlDeviceGetCurrentClocksThrottleReasons(gpu)",
    )
    assert list(answers.values()) == ["error 13", "error 13", 1]


def test_running_processes(nvml: Play) -> None:
    text = host_text("made-nvml-h100-590") + "  process 4711 1500\n  process 4712 20\n"
    listed = "[(p.pid, p.usedGpuMemory >> 20) for p in nvmlDeviceGetComputeRunningProcesses(gpu)]"
    assert ask(nvml(text), listed)[listed] == [[4711, 1500], [4712, 20]]


def test_one_gpu_or_one_question_fails(nvml: Play) -> None:
    name = "nvmlDeviceGetName(nvmlDeviceGetHandleByIndex({}))"
    lost = ask(nvml("made-nvml-2xrtx4090-lost-535"), name.format(0), name.format(1), "nvmlDeviceGetCount()")
    assert list(lost.values()) == ["NVIDIA GeForce RTX 4090", "error 15", 2]
    text = with_answer(host_text("made-nvml-2xrtx4090-535"), "nvmlDeviceGetMemoryInfo", 999, gpu=1)
    memory = "nvmlDeviceGetMemoryInfo(nvmlDeviceGetHandleByIndex({})).total >> 20"
    answers = ask(nvml(text), memory.format(0), memory.format(1), name.format(1))
    assert list(answers.values()) == [24564, "error 999", "NVIDIA GeForce RTX 4090"]


def test_the_player_says_what_is_wrong_with_a_host_file(nvml: Play) -> None:
    with pytest.raises(AssertionError, match="nvml player: a line without a value"):
        ask(nvml("driver\ngpu\n"))


def test_every_host_says_where_its_figures_are_from() -> None:
    for path in HOSTS.glob("*/nvml_host"):
        assert "\nnote: " in path.with_name("SOURCE").read_text(), path
