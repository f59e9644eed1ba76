"""MNIST to 99 % on a GPU: `python benchmarks/gpu_mnist.py --data DIR [--python PYTHON] [--device cpu]`, a table.

Run with the Python of an environment that has the framework, on a machine with an NVIDIA GPU. Each run is a process of
checks/mnist.py --target 0.99: all digits on the device, the import left out, the looks at the test digits after each
epoch counted in. Goal: at most 10 s on one H100-class card. With --device cpu accuracy, epochs and arithmetic are those
of any device, and what a GPU would take is estimated from them, and called an estimate. Exit 0 where the goal is met, 1
where it is not, 2 where it cannot be measured here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from measure import Row, clean_environment, median, say, show  # noqa: E402

TARGET, BOUND_S = 0.99, 10.0
STEPS_A_EPOCH = 117
H100_TFLOPS, SHARE = 67.0, 0.05
"""FP32 of an H100 SXM outside its tensor cores (provision/catalog/gpu_rates.toml), and the part of it that layers this
small reach: a guess on the low side, not measured."""
LAUNCH_S = 0.004
"""A step's launches, about 100 kernels and their Python: a guess on the high side, not measured."""


class CannotMeasure(Exception):
    """What, why, hint: no data, no framework, no GPU."""


def run(python: str, framework: str, device: str, data: Path, seed: int) -> dict[str, Any]:
    """One training; its data, also where it missed the target. Raises CannotMeasure where nothing was trained."""
    argv = [python, str(ROOT / "checks" / "mnist.py"), "--framework", framework, "--device", device]
    argv += ["--target", str(TARGET), "--data", str(data), "--seed", str(seed), "--json-extra"]
    hint = "--python names the Python of an environment that has the framework"
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=clean_environment())
    except OSError as error:
        raise CannotMeasure(f"{python} cannot be started", str(error.strerror), hint) from error
    if not done.stdout.startswith("{"):
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise CannotMeasure(f"checks/mnist.py gives no answer with {python}", last, hint)
    answer = json.loads(done.stdout.splitlines()[-1])
    found: dict[str, Any] = answer["data"]
    if answer["status"] != "pass" and not (found.get("accuracies") and found["ran_on"] == device):
        raise CannotMeasure(answer["what"], answer["why"], answer["hint"])
    return found


def estimate_s(found: dict[str, Any]) -> float:
    """What these epochs would take on an H100: launches, then arithmetic, as if nothing overlapped."""
    work = found["samples"] * found["model_flops_per_sample"] / (SHARE * H100_TFLOPS * 1e12)
    return float(found["epochs"] * STEPS_A_EPOCH * LAUNCH_S + work)


def rows(framework: str, device: str, runs: list[dict[str, Any]]) -> list[Row]:
    where = runs[0].get("gpu_name") or device
    accuracies = ", ".join(f"{one['accuracy']:.2%}" for one in runs)
    epochs = ", ".join(str(one["epochs"]) for one in runs)
    tflop = max(one["samples"] * one["model_flops_per_sample"] for one in runs) / 1e12
    seconds = median([one["train_s"] for one in runs])
    note = f"{framework} {runs[0]['version']}; epochs {epochs}; at most {tflop:.1f} TFLOP"
    name = f"MNIST to 99 %, {framework} on {where}"
    on_gpu = device == "cuda"
    found = [
        Row(f"{name}: test accuracy", accuracies, "99 %", all(one["accuracy"] >= TARGET for one in runs), note),
        Row(
            f"{name}: training", f"{seconds:.1f} s", "10 s on an H100-class card" if on_gpu else "",
            seconds <= BOUND_S if on_gpu else None, f"warm-up {median([one['warm_up_s'] for one in runs]):.1f} s",
        ),
    ]  # fmt: skip
    if not on_gpu:
        guess = max(estimate_s(one) for one in runs)
        basis = (
            f"an estimate: {LAUNCH_S * 1e3:g} ms a step and {SHARE:.0%} of {H100_TFLOPS:g} TFLOP/s, neither measured"
        )
        found.append(Row(f"{name}: the same on an H100", f"about {guess:.1f} s", "10 s", None, basis))
    return found


def table(options: argparse.Namespace) -> list[Row]:
    found: list[Row] = []
    for framework in options.framework or ["pytorch"]:
        seeds = range(1, options.runs + 1)
        runs = [run(options.python, framework, options.device, options.data, seed) for seed in seeds]
        found += rows(framework, options.device, runs)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the four files of MNIST")
    parser.add_argument("--python", default=sys.executable, help="of the environment to measure")
    parser.add_argument("--framework", action="append", choices=("tensorflow", "pytorch", "jax"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="each with another seed (3)")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs: at least one")
    try:
        measured = table(options)
    except CannotMeasure as reason:
        say("error: {}\n  {}\n  hint: {}".format(*reason.args))
        return 2
    show(measured)
    return 0 if all(row.met is not False for row in measured) else 1


if __name__ == "__main__":
    sys.exit(main())
