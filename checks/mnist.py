#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does the framework train MNIST here, on the planned device, as well as it should?

A convolution of 32 5x5, 2x2 pooling, dropout 0.2, dense 128, softmax of 10, batches of 128, Adam, one epoch; for NumPy
a perceptron of two layers, until it is good enough, five epochs at most. It fails on the wrong device, on a loss that
is no number, and on a test accuracy below the bound that a sound installation reaches.

--gpu N: on that GPU alone, in the order of the PCI bus (or of CUDA_VISIBLE_DEVICES); --gpu all: on each in turn. What
falls back to the CPU fails. --target 0.99: mnist_fast.py's network instead, with all digits on the device, until that
accuracy is reached.

The digits: --data, else the cache, else (with --download) a mirror, else generated ones. All mnist_*.py must lie beside
this script. Training runs in a child process of this interpreter; nothing is written but the cache, and that only with
--download. Throughput includes the feeding of data, and leaves out the import and two warm-up batches (tracing,
compilation). Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python mnist.py --framework tensorflow --device cpu --data ~/mnist
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mnist_data
import mnist_devices
import mnist_fast
import mnist_nets

MODULES = {"tensorflow": "tensorflow", "keras": "keras", "pytorch": "torch", "jax": "jax", "numpy": "numpy"}

# Test accuracy that must be reached. Measured with seeds 1 to 4 (tests/checks/train_broken.py) on TensorFlow 2.21,
# PyTorch 2.13, JAX 0.10.2, NumPy 2.4.6; "broken" is the best of: first layer zero, labels shuffled, learning rate zero
# (all at most 0.12), and one class never answered, which is what the bound for generated digits must lie above.
#                 MNIST              synthetic          synthetic, broken
#   tensorflow    0.9773 to 0.9834   0.9832 to 0.9898   0.888
#   pytorch       0.9759 to 0.9819   0.9787 to 0.9862   0.889
#   jax           0.9756 to 0.9792   0.9836 to 0.9876   0.887
#   numpy         0.9670 to 0.9683   0.9632 to 0.9701   0.888 (five epochs; sound ones stop after two)
BOUNDS = {
    "mnist": {"tensorflow": 0.97, "keras": 0.97, "pytorch": 0.97, "jax": 0.97, "numpy": 0.96},
    "synthetic": {"tensorflow": 0.95, "keras": 0.95, "pytorch": 0.95, "jax": 0.95, "numpy": 0.94},
}
THREAD_VARIABLES = (  # each library reads its own; XLA reads NPROC
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC",
)  # fmt: skip
# No more than is needed of a GPU's memory; threads that sleep while they wait: on 4 cores with a load of 14, spinning
# ones took 258 s for PyTorch's epoch and 61 s for two of NumPy's, sleeping ones 25 s and 18 s.
CONSIDERATE = {
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_THREAD_TIMEOUT": "4",
}


ALL = -1
"""As a GPU's number."""


def inside(options: argparse.Namespace) -> dict[str, Any]:
    """What the child does."""
    folder = Path(options.data).expanduser() if options.data else None
    try:
        source = mnist_data.find(folder, options.download, options.synthetic)
    except mnist_data.BadData as error:
        return {"bad_data": {"what": error.what, "why": error.why, "hint": error.hint}}
    start = time.perf_counter()
    __import__(MODULES[options.framework])
    import_s = time.perf_counter() - start
    if options.count:
        return {"count": mnist_devices.gpu_count(options.framework)}
    if options.device == "cuda" and not mnist_devices.gpu_count(options.framework):
        return {"no_gpu": True}
    gpu_name = mnist_devices.gpu_name(options.framework) if options.device == "cuda" else None
    started = {"dataset": source.dataset, "note": source.note, "import_s": import_s, "gpu_name": gpu_name}
    if options.target:
        epochs = options.epochs or mnist_fast.EPOCHS
        fast = mnist_fast.Job(source.digits(), options.device, epochs, options.target, options.seed)
        return {**started, "bound": options.target, **mnist_fast.TRAINERS[options.framework](fast)}
    bound = BOUNDS[source.dataset][options.framework]
    epochs = options.epochs or (5 if options.framework == "numpy" else 1)
    job = mnist_nets.Job(source.digits(), options.device, epochs, bound, options.seed)
    return {**started, "bound": bound, **mnist_nets.TRAINERS[options.framework](job)}


def train_apart(options: argparse.Namespace, *more: str) -> tuple[dict[str, Any] | None, str, int | None]:
    """What the child measured (None: it died), its stderr, its exit status (None: timed out). ``more``: options."""
    command = [sys.executable, __file__, "--inside", *sys.argv[1:], *more]
    environment = child_environment(dict(os.environ), options.framework, options.device, options.gpu)
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=options.timeout
        )
    except subprocess.TimeoutExpired:
        return None, "", None
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"inside"')]
    return (json.loads(lines[-1])["inside"] if lines else None), child.stderr, child.returncode


def child_environment(
    environment: dict[str, str], framework: str, device: str, gpu: int | None = None
) -> dict[str, str]:
    """The device decided before anything is loaded; no grabbing of a whole GPU; threads that leave room for others."""
    made = {**CONSIDERATE, **environment}
    if gpu is not None:
        made.update(one_gpu(gpu, environment.get("CUDA_VISIBLE_DEVICES")))
    if device == "cpu":
        made.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    if framework == "tensorflow":
        made["KERAS_BACKEND"] = "tensorflow"  # tf.keras is Keras 3, which would follow the user's choice
    cpus, seen = cpus_allowed(), os.cpu_count() or 1
    if cpus < seen and not any(name in environment for name in THREAD_VARIABLES):
        made.update(dict.fromkeys(THREAD_VARIABLES, str(cpus)))
    return made


def one_gpu(gpu: int, visible: str | None) -> dict[str, str]:
    """What shows a program GPU ``gpu`` alone: of those that the user left visible, or of all, as nvidia-smi counts.

    A number that is not there hides every GPU: training then fails, as it should.
    """
    if visible is None:
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": str(gpu)}
    left = [name.strip() for name in visible.split(",") if name.strip()]
    return {"CUDA_VISIBLE_DEVICES": left[gpu] if gpu < len(left) else "-1"}


def cpus_allowed(root: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs this process may use: its affinity, or the control group's quota where that is less (rounded up)."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = []
    try:  # version 2: "200000 100000" or "max 100000"
        quotas = (root / "cpu.max").read_text().split()
    except OSError:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")  # version 1: -1 is no limit
        if all((root / "cpu" / name).is_file() for name in names):
            quotas = [(root / "cpu" / name).read_text().strip() for name in names]
    if len(quotas) == 2 and quotas[0].isdigit() and int(quotas[1]):
        cpus = min(cpus, max(1, math.ceil(int(quotas[0]) / int(quotas[1]))))
    return cpus


def judge_all(options: argparse.Namespace) -> dict[str, Any]:
    """On each GPU that the framework sees. The first failure, or the first GPU's figures and everyone's as ``gpus``."""
    found, stderr, status = train_apart(options, "--count")
    if found is None or "count" not in found:
        return died(options, stderr, status) if found is None else judged(options, found)
    if not found["count"]:
        return judged(options, {"no_gpu": True})
    answers = []
    for number in range(found["count"]):
        options.gpu = number
        answers.append(judge(options))
        if answers[-1]["status"] != "pass":
            return answers[-1]
    first = answers[0]
    data = {**first["data"], "gpus": [each["data"] for each in answers]}
    what, why = ("; ".join(each[part] for each in answers) for part in ("what", "why"))
    return {**first, "what": what, "why": why, "data": data}


def judge(options: argparse.Namespace) -> dict[str, Any]:
    found, stderr, status = train_apart(options)
    return died(options, stderr, status) if found is None else judged(options, found)


def judged(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    data = named(options)
    if "bad_data" in found:
        bad = found["bad_data"]
        return answer(data, "fail", bad["what"], bad["why"], bad["hint"])
    if "no_gpu" in found:
        why = "planned cuda; it would train on the CPU"
        which = "no GPU" if options.gpu is None else f"no GPU {options.gpu}"
        return answer(data, "fail", f"{options.framework} sees {which}", why, "device_visible.py says why")
    return verdict(
        {**measured(options.framework, options.device, found, options.json_extra), **data}, found.get("losses", [])
    )


def named(options: argparse.Namespace) -> dict[str, Any]:
    """What every answer's data has, whatever happened."""
    data = {"framework": options.framework, "device": options.device}
    return data if options.gpu is None else {**data, "gpu": options.gpu}


def measured(framework: str, device: str, found: dict[str, Any], extra: bool) -> dict[str, Any]:
    """What is reported: seconds, samples/s, GFLOP/s, fractions of one; rounded."""
    flops = mnist_nets.PERCEPTRON_FLOPS if framework == "numpy" else mnist_nets.CONVOLUTIONAL_FLOPS
    if "accuracies" in found:
        flops = mnist_fast.FLOPS
    rate = found["samples"] / found["train_s"]
    data = {
        "framework": framework,
        "version": found["version"],
        "device": device,
        "ran_on": found["ran_on"],
        "dataset": found["dataset"],
        "dataset_note": found["note"],
        "samples": found["samples"],
        "epochs": len(found.get("accuracies") or found["losses"]),
        "train_s": round(found["train_s"], 3),
        "samples_per_s": round(rate, 1),
        "accuracy": round(found["accuracy"], 4),
        "bound": found["bound"],
        "model_flops_per_sample": flops,
        "peak_gflops": round(found["peak_gflops"], 1) if "peak_gflops" in found else None,
        "peak_fraction": round(rate * flops / 1e9 / found["peak_gflops"], 4) if "peak_gflops" in found else None,
        "import_s": round(found["import_s"], 3),
        "warm_up_s": round(found["warm_up_s"], 3),
    }
    for name in ("backend", "gpu_name", "accuracies"):
        if found.get(name) is not None:
            data[name] = found[name]
    if extra:
        losses = [round(loss, 4) if math.isfinite(loss) else None for loss in found.get("losses", [])]
        data.update(losses=losses, cpus=cpus_allowed(), python=sys.version.split()[0])
    return data


def verdict(data: dict[str, Any], losses: list[float]) -> dict[str, Any]:
    framework, device, name = data["framework"], data["device"], DATASETS[data["dataset"]]
    if data["ran_on"] != device:
        why = f"planned {device}, the weights and results lie on {data['ran_on']}"
        return answer(data, "fail", f"{framework} trained on the wrong device", why, "run device_visible.py")
    if not all(math.isfinite(loss) for loss in losses):
        hint = "something computes wrongly: run isa_baseline.py, blas.py and native_kernels.py"
        return answer(data, "fail", f"{framework} does not learn {name}", "the loss is no number", hint)
    epochs = f"{data['epochs']} epoch{'s' if data['epochs'] > 1 else ''}"
    if data["accuracy"] < data["bound"]:
        why = f"test accuracy {data['accuracy']:.4f} after {epochs}; a sound installation reaches {data['bound']:.4g}"
        hint = "something computes wrongly: run isa_baseline.py, blas.py and device_visible.py, then install anew"
        return answer(data, "fail", f"{framework} learns {name} badly", why, hint)
    where = device if data.get("gpu") is None else f"GPU {data['gpu']}"
    where += f" ({data['gpu_name']})" if "gpu_name" in data else ""
    what = f"{framework} {data['version']} learnt {name} on {where}: {data['accuracy']:.1%} in {data['train_s']:.1f} s"
    why = f"{data['samples_per_s']:.0f} samples/s"
    if data["peak_fraction"] is not None:
        why += f", {data['peak_fraction']:.1%} of this device's matrix products"
    return answer(data, "pass", what, why, "")


DATASETS = {"mnist": "MNIST", "synthetic": "synthetic digits"}


def died(options: argparse.Namespace, stderr: str, status: int | None) -> dict[str, Any]:
    """The answer where the child did not live to report."""
    framework, device, data = options.framework, options.device, named(options)
    last = (stderr.strip().splitlines() or [f"exit status {status}"])[-1]
    what = f"{framework} does not train on {device}"
    if status is None:
        why = f"no answer within {options.timeout:g} s"
        return answer(data, "fail", what, why, "a slow box needs --timeout; a GPU that hangs shows in `dmesg`")
    if f"No module named '{MODULES[framework]}'" in stderr:
        why = f"no module {MODULES[framework]} for {sys.executable}"
        return answer(data, "fail", f"{framework} is not installed", why, "run this with the environment's Python")
    if "No module named 'numpy'" in stderr:
        return answer(data, "skip", "NumPy is needed to prepare the digits", last, "install numpy there")
    if status < 0:
        name = signal.Signals(-status).name
        hints = {"SIGKILL": "probably out of memory: run memory_disk.py", "SIGILL": "run isa_baseline.py and blas.py"}
        return answer(data, "fail", what, f"it was ended by {name}", hints.get(name, "see `dmesg`"))
    return answer(data, "fail", what, last, "run framework_import.py and device_visible.py")


def answer(data: dict[str, Any], status: str, what: str, why: str = "", hint: str = "") -> dict[str, Any]:
    check = f"mnist:{data['framework']}" + (f":gpu{data['gpu']}" if data.get("gpu") else "")
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data}


def gpu_number(text: str) -> int:
    return ALL if text == "all" else int(text)


def parser(**options: Any) -> argparse.ArgumentParser:
    """``options``: argparse's own."""
    formatter = argparse.RawDescriptionHelpFormatter
    words = argparse.ArgumentParser(description=__doc__, formatter_class=formatter, **options)
    words.add_argument("--framework", required=True, choices=sorted(MODULES))
    words.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    words.add_argument("--gpu", type=gpu_number, metavar="N", help="this GPU alone, from 0; or all, each in turn")
    words.add_argument("--target", type=float, metavar="A", help="train the fast network until this test accuracy")
    words.add_argument("--data", metavar="DIR", help="the four IDX files of MNIST, each as it is or as .gz")
    words.add_argument("--download", action="store_true", help="fetch MNIST into the cache when it is not there")
    words.add_argument("--synthetic", action="store_true", help="generated digits, even where MNIST is at hand")
    words.add_argument(
        "--epochs", type=int, default=0, metavar="N", help="default 1; numpy: at most 5, --target: at most 4"
    )
    words.add_argument("--seed", type=int, default=1, metavar="N", help="of weights, shuffling and dropout (1)")
    words.add_argument("--timeout", type=float, default=1800, metavar="S", help="seconds for all of it (1800)")
    words.add_argument("--json-extra", action="store_true", help="losses, CPUs and Python as well")
    words.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    words.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return words


def main() -> int:
    words = parser()
    options = words.parse_args()
    if options.gpu is not None and options.device != "cuda":
        words.error("--gpu needs --device cuda")
    if options.target and options.framework not in mnist_fast.TRAINERS:
        words.error(f"--target is for {', '.join(sorted(mnist_fast.TRAINERS))}")
    if options.inside:
        print("\n" + json.dumps({"inside": inside(options)}), flush=True)
        return 0
    every, options.gpu = options.gpu == ALL, None if options.gpu == ALL else options.gpu
    result = (judge_all if every else judge)(options)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
