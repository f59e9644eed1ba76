"""What checks/mnist.py decides without a framework: threads, devices, verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def test_a_quota_counts_as_cpus(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    mnist = load("mnist")
    all_of_them = mnist.cpus_allowed(tmp_path)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert mnist.cpus_allowed(tmp_path) == all_of_them
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert mnist.cpus_allowed(tmp_path) == 1


def test_a_quota_of_the_old_control_groups(load: Callable[[str], ModuleType], tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    all_of_them = load("mnist").cpus_allowed(tmp_path)
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    assert load("mnist").cpus_allowed(tmp_path) == 1 <= all_of_them


def test_a_cpu_plan_hides_every_gpu(load: Callable[[str], ModuleType]) -> None:
    made = load("mnist").child_environment({"PATH": "/bin"}, "jax", "cpu")
    assert made["CUDA_VISIBLE_DEVICES"] == "-1"
    assert made["JAX_PLATFORMS"] == "cpu"
    assert "CUDA_VISIBLE_DEVICES" not in load("mnist").child_environment({}, "jax", "cuda")


def test_tensorflow_is_not_trained_through_another_backend(load: Callable[[str], ModuleType]) -> None:
    asked = {"KERAS_BACKEND": "jax"}
    assert load("mnist").child_environment(asked, "tensorflow", "cpu")["KERAS_BACKEND"] == "tensorflow"
    assert load("mnist").child_environment(asked, "keras", "cpu")["KERAS_BACKEND"] == "jax"


def test_threads_that_were_chosen_are_kept(load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    mnist = load("mnist")
    monkeypatch.setattr(mnist, "cpus_allowed", lambda: 1)
    monkeypatch.setattr(mnist.os, "cpu_count", lambda: 4)
    assert mnist.child_environment({}, "numpy", "cpu")["OPENBLAS_NUM_THREADS"] == "1"
    assert "OPENBLAS_NUM_THREADS" not in mnist.child_environment({"OMP_NUM_THREADS": "3"}, "numpy", "cpu")


def test_threads_sleep_while_they_wait(load: Callable[[str], ModuleType]) -> None:
    made = load("mnist").child_environment({"OPENBLAS_THREAD_TIMEOUT": "20"}, "numpy", "cpu")
    assert (made["OMP_WAIT_POLICY"], made["OPENBLAS_THREAD_TIMEOUT"]) == ("PASSIVE", "20")


FOUND = {
    "version": "1.0",
    "ran_on": "cpu",
    "dataset": "mnist",
    "note": "MNIST from here",
    "bound": 0.97,
    "import_s": 1.0,
    "warm_up_s": 0.5,
    "train_s": 6.0,
    "samples": 60_000,
    "losses": [0.2],
    "accuracy": 0.981,
    "peak_gflops": 500.0,
}


def judged(mnist: ModuleType, device: str = "cpu", **changes: Any) -> dict[str, Any]:
    found = {**FOUND, **changes}
    answer: dict[str, Any] = mnist.verdict(mnist.measured("jax", device, found, extra=True), found["losses"])
    return answer


def test_a_good_training(load: Callable[[str], ModuleType]) -> None:
    answer = judged(load("mnist"))
    assert answer["status"] == "pass"
    assert answer["what"] == "jax 1.0 learnt MNIST on cpu: 98.1% in 6.0 s"
    assert answer["why"] == "10000 samples/s, 10.8% of this device's matrix products"
    assert answer["data"]["peak_fraction"] == 0.1078


def test_generated_digits_are_called_so(load: Callable[[str], ModuleType]) -> None:
    answer = judged(load("mnist"), dataset="synthetic")
    assert "synthetic digits" in answer["what"]
    assert answer["data"]["dataset"] == "synthetic"


@pytest.mark.parametrize(("device", "ran_on"), [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cpu,cuda")])
def test_the_wrong_device(load: Callable[[str], ModuleType], device: str, ran_on: str) -> None:
    answer = judged(load("mnist"), device=device, ran_on=ran_on)
    assert answer["status"] == "fail"
    assert answer["what"] == "jax trained on the wrong device"
    assert answer["why"] == f"planned {device}, the weights and results lie on {ran_on}"


def test_a_low_accuracy(load: Callable[[str], ModuleType]) -> None:
    """0.602 is what a run of the third document's authors ended with, unnoticed."""
    answer = judged(load("mnist"), accuracy=0.602)
    assert answer["status"] == "fail"
    assert answer["why"] == "test accuracy 0.6020 after 1 epoch; a sound installation reaches 0.97"


def test_a_loss_that_is_no_number(load: Callable[[str], ModuleType]) -> None:
    answer = judged(load("mnist"), losses=[float("nan")])
    assert answer["status"] == "fail"
    assert answer["why"] == "the loss is no number"
    assert answer["data"]["losses"] == [None]


class On:
    """A tensor that lies on ``device``."""

    def __init__(self, device: str) -> None:
        self.device = device


@pytest.mark.parametrize(
    ("devices", "found"),
    [
        (["cpu"], "cpu"),
        (["cuda:0", "cuda:1"], "cuda"),
        (["/job:localhost/replica:0/task:0/device:CPU:0"], "cpu"),
        (["/job:localhost/replica:0/task:0/device:GPU:0", "/job:localhost/replica:0/task:0/device:CPU:0"], "cpu,cuda"),
    ],
)
def test_where_tensors_lie(load: Callable[[str], ModuleType], devices: list[str], found: str) -> None:
    assert load("mnist_devices").places([On(device) for device in devices]) == found


@pytest.mark.parametrize(
    ("status", "stderr", "why"),
    [
        (-4, "", "it was ended by SIGILL"),
        (-9, "", "it was ended by SIGKILL"),
        (None, "", "no answer within 60 s"),
        (1, "Traceback\nRuntimeError: CUDA error: out of memory", "RuntimeError: CUDA error: out of memory"),
    ],
)
def test_a_child_that_died(load: Callable[[str], ModuleType], status: int | None, stderr: str, why: str) -> None:
    from argparse import Namespace

    options = Namespace(framework="pytorch", device="cuda", timeout=60.0, gpu=None)
    answer = load("mnist").died(options, stderr, status)
    assert answer["status"] == "fail"
    assert answer["what"] == "pytorch does not train on cuda"
    assert answer["why"] == why
    assert answer["hint"]


def test_digits_need_numpy(load: Callable[[str], ModuleType]) -> None:
    """PyTorch's wheel does not ask for it."""
    from argparse import Namespace

    options = Namespace(framework="pytorch", device="cpu", timeout=60.0, gpu=None)
    answer = load("mnist").died(options, "ModuleNotFoundError: No module named 'numpy'", 1)
    assert answer["status"] == "skip"
    assert answer["what"] == "NumPy is needed to prepare the digits"


def test_a_framework_that_is_missing(bare) -> None:
    answer = bare("mnist.py", "--framework", "pytorch", "--synthetic").data
    assert answer["status"] == "fail"
    assert answer["what"] == "pytorch is not installed"
    assert answer["why"] == f"no module torch for {bare.python}"
