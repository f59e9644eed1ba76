"""The whole local path, with NVML played: what `provision detect`, `plan` and `doctor` say of hosts with GPUs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.nvml.player import NvmlPlayer, host_text, with_answer

from provision.run.command import Completed, run

Play = Callable[[str | Path], NvmlPlayer]
Provision = Callable[..., Completed]

TWO = "made-nvml-2xrtx4090-535"
A100 = "made-nvml-a100-mig-510"


@pytest.fixture
def provision(nvml: Play, tmp_path: Path) -> Provision:
    """provision(host, *arguments): the command as a process, on a machine whose NVML says what the host says."""

    def start(host: str | Path, *arguments: str) -> Completed:
        env = {**nvml(host).env, "HOME": str(tmp_path), "COLUMNS": "200"}
        return run([sys.executable, "-m", "provision", *arguments], env=env, timeout_s=120)

    return start


def detected(done: Completed) -> dict[str, Any]:
    """Its answer, of a run that worked."""
    document: dict[str, Any] = json.loads(done.check("provision detect failed").stdout)
    found: dict[str, Any] = document["hosts"][0] if "hosts" in document else document
    return found


def errors(facts: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["id"], each["why"]) for each in facts["findings"] if each["severity"] == "error"]


CARDS = {
    "made-nvml-gtx960-390": ["GeForce GTX 960 5.2 2000 0000:01:00.0"],
    "made-nvml-4xk80-470": [f"Tesla K80 3.7 11439 0000:{bus}:00.0" for bus in ("05", "06", "84", "85")],
    TWO: [f"NVIDIA GeForce RTX 4090 8.9 24564 0000:{bus}:00.0" for bus in ("41", "61")],
    "made-nvml-rtx4090-gt1030-535": [
        "NVIDIA GeForce RTX 4090 8.9 24564 0000:41:00.0",
        "NVIDIA GeForce GT 1030 6.1 2048 0000:62:00.0",
    ],
    A100: ["NVIDIA A100-SXM4-40GB 8.0 40960 0000:00:04.0"],
    "made-nvml-h100-590": ["NVIDIA H100 80GB HBM3 9.0 81559 0000:00:09.0"],
    "made-nvml-gb10-580": ["NVIDIA GB10 12.1 None 000f:01:00.0"],
    "made-nvml-jetson-orin-540": ["Orin (nvgpu) 8.7 None None"],
}


@pytest.mark.parametrize("host", CARDS)
def test_a_host_that_works(host: str, provision: Provision) -> None:
    facts = detected(provision(host, "detect", "--json"))
    assert facts["driver"]["state"] == "working"
    assert f"driver {facts['driver']['version']}\n" in host_text(host)
    assert errors(facts) == []
    keys = ("name", "compute_capability", "memory_mib", "pci_address")
    assert [" ".join(str(gpu[key]) for key in keys) for gpu in facts["gpus"]] == CARDS[host]


def test_mig_devices_are_shown(provision: Provision) -> None:
    assert "MIG on, 2 devices" in provision(A100, "detect").stdout


def test_a_lost_gpu_is_a_finding(provision: Provision) -> None:
    facts = detected(provision("made-nvml-2xrtx4090-lost-535", "detect", "--json"))
    assert errors(facts) == [("gpu_lost", 'the driver says: "GPU is lost"')]
    assert [gpu["pci_address"] for gpu in facts["gpus"]] == ["0000:41:00.0"]
    assert facts["driver"]["detail"].endswith('of 1 more it says "GPU is lost"')


BROKEN: dict[str, tuple[int | str, str, str]] = {
    "libraries and module differ": (18, "driver_mismatch", 'NVML says: "Driver/library version mismatch" (18)'),
    "no module": (9, "driver_not_loaded", 'NVML says: "Driver Not Loaded" (9)'),
    "no permission": (4, "driver_failed", 'NVML says: "Insufficient Permissions" (4)'),
    "unknown": (999, "driver_failed", 'NVML says: "Unknown Error" (999)'),
    "dies": ("crash", "driver_failed", "NVML ended the process that asked it: SIGSEGV"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_driver_that_does_not_start(case: str, provision: Provision) -> None:
    answer, finding, words = BROKEN[case]
    text = with_answer(host_text(TWO), "nvmlInit", answer)
    facts = detected(provision(text, "detect", "--json"))
    assert facts["driver"]["detail"] == words
    shown = provision(text, "detect").check("it fails").stdout
    assert words in shown
    if case != "no module":  # no GPU is on this bus: a module that is not loaded is no problem then
        assert errors(facts) == [(finding, words)]


PLANS = {
    # host: build, capabilities
    TWO: ("cu126", ["8.9"]),
    "made-nvml-rtx4090-gt1030-535": ("cu126", ["6.1", "8.9"]),
    "made-nvml-4xk80-470": ("cu118", ["3.7"]),
    A100: ("cu118", ["8.0"]),
    "made-nvml-2xrtx4090-lost-535": ("cu126", ["8.9"]),
}
ASKED = ("plan", "--json", "--framework", "pytorch", "--device", "cuda", "--origin", "wheel")


@pytest.mark.parametrize("host", PLANS)
def test_the_plan_keeps_a_driver_that_works(host: str, provision: Provision) -> None:
    stack = json.loads(provision(host, *ASKED).check("no plan").stdout)["stack"]
    assert (stack["build"], stack["compute_capabilities"]) == PLANS[host]
    assert stack["driver"]["action"] == "none"


def refusal(done: Completed) -> str:
    assert done.status == 3
    return "\n".join(f"{each['what']}: {each['why']}" for each in json.loads(done.stdout)["failures"])


def test_mig_without_devices_is_refused(provision: Provision) -> None:
    text = host_text(A100)
    said = refusal(provision(text[: text.index("  mig\n")], *ASKED))
    assert "A100-SXM4-40GB (compute capability 8.0) is of no use: MIG is on and has no devices: with MIG on, " in said


def test_a_driver_too_old_is_refused_with_both_versions(provision: Provision) -> None:
    said = refusal(provision("made-nvml-gtx960-390", *ASKED))
    assert "needs NVIDIA driver 450.80.02 or newer: it is built for CUDA 11.8; this host runs driver 390.116" in said


def found(done: Completed) -> set[tuple[str, str]]:
    """(id, severity) of what doctor finds."""
    assert done.status in (0, 6), done.stderr
    return {(each["id"], each["severity"]) for each in json.loads(done.stdout)["findings"]}


@pytest.mark.parametrize("host", CARDS)
def test_doctor_finds_nothing_wrong_where_all_is_well(host: str, provision: Provision) -> None:
    assert {severity for _, severity in found(provision(host, "doctor", "--json"))} <= {"info"}


ILL = (
    ("throttle 0x1", "throttle 0x40", ("thermal-throttle", "warning")),
    ("pcie 16 16", "pcie 4 16", ("pcie-width", "warning")),
    ("69850 700000 700000", "69850 350000 700000", ("power-cap", "info")),
)


@pytest.mark.parametrize(("well", "ill", "finding"), ILL, ids=[each[2][0] for each in ILL])
def test_doctor_finds_what_ails_a_gpu(well: str, ill: str, finding: tuple[str, str], provision: Provision) -> None:
    text = host_text("made-nvml-h100-590")
    assert well in text
    assert finding in found(provision(text.replace(well, ill), "doctor", "--json"))


@pytest.mark.parametrize(("answer", "finding"), [(18, "mismatch"), ("crash", "driver-silent")])
def test_doctor_finds_what_ails_the_driver(answer: int | str, finding: str, provision: Provision) -> None:
    done = provision(with_answer(host_text(TWO), "nvmlInit", answer), "doctor", "--json")
    assert done.status == 6
    assert (finding, "error") in found(done)


def test_doctor_finds_a_lost_gpu(provision: Provision) -> None:
    done = provision("made-nvml-2xrtx4090-lost-535", "doctor", "--json")
    assert done.status == 6
    assert ("gpu-lost", "error") in found(done)
