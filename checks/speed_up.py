#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does the GPU train, and how many times as fast as this box's CPU?

The same training steps on both: mnist_fast.py's network on generated digits, batches of 512, all data on the device,
after a warm-up. The CPU takes 20 steps, the GPU 100, each in a child process of this interpreter. A home-built box of
2017 reached more than 6 (a used GTX 960 against an Athlon X4); less is a remark. All mnist_*.py must lie beside this
script. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python speed_up.py --framework pytorch
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from typing import Any

import mnist_data
import mnist_devices
import mnist_fast

STEPS, ROUNDS = 20, {"cpu": 1, "cuda": 5}
EXPECTED = 6.0
"""More than this, in the second of the documents that the product grew from (D2, 2017)."""
MODULES = {"tensorflow": "tensorflow", "pytorch": "torch", "jax": "jax"}
ENVIRONMENT = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def inside(framework: str, device: str) -> dict[str, Any]:
    """What the child does."""
    if device == "cuda" and not mnist_devices.gpu_count(framework):
        return {"no_gpu": True}
    digits = mnist_data.synthetic(train=STEPS * mnist_fast.BATCH, test=mnist_fast.BATCH)
    job = mnist_fast.Job(digits, device, ROUNDS[device], 2.0)  # no accuracy reaches that, so it takes all rounds
    found = mnist_fast.TRAINERS[framework](job)
    name = mnist_devices.gpu_name(framework) if device == "cuda" else "CPU"
    return {"version": found["version"], "ran_on": found["ran_on"], "name": name, "rate": rate(found)}


def rate(found: dict[str, Any]) -> float:
    """Samples a second."""
    return round(found["samples"] / found["train_s"], 1)


def measure_apart(framework: str, device: str, timeout_s: float) -> tuple[dict[str, Any] | None, str]:
    """What the child measured, or None and its last words."""
    command = [sys.executable, __file__, "--inside", device, "--framework", framework]
    environment = {**ENVIRONMENT, **os.environ}
    if device == "cpu":
        environment.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    if framework == "tensorflow":
        environment["KERAS_BACKEND"] = "tensorflow"
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout_s:g} s"
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"inside"')]
    if lines:
        return json.loads(lines[-1])["inside"], ""
    ended = f"ended by {signal.Signals(-child.returncode).name}" if child.returncode < 0 else "no output"
    return None, (child.stderr.strip().splitlines() or [ended])[-1]


def judge(framework: str, gpu: dict[str, Any] | None, cpu: dict[str, Any] | None, why: str) -> dict[str, Any]:
    """``why``: the last words of the child that gave no measurement."""
    data: dict[str, Any] = {"framework": framework}
    if gpu is None and "No module named" in why:
        return answer("skip", f"{framework} cannot be loaded", why, "run framework_import.py", data)
    if gpu is None:
        return answer("fail", f"{framework} does not train on the GPU", why, "run device_visible.py", data)
    if "no_gpu" in gpu:
        hint = "device_visible.py says why"
        return answer("fail", f"{framework} sees no GPU", "planned cuda; it would train on the CPU", hint, data)
    data.update(version=gpu["version"], gpu=gpu["name"], gpu_samples_per_s=gpu["rate"], ran_on=gpu["ran_on"])
    if gpu["ran_on"] != "cuda":
        where = f"planned cuda, the weights and digits lie on {gpu['ran_on']}"
        return answer("fail", f"{framework} trained on the wrong device", where, "run device_visible.py", data)
    if cpu is None:
        hint = "a slow CPU needs --timeout"
        return answer("skip", f"{framework} was not measured on this box's CPU", why, hint, data)
    times = gpu["rate"] / cpu["rate"]
    data.update(cpu_samples_per_s=cpu["rate"], speed_up=round(times, 2), expected=EXPECTED)
    what = f"{framework} trains {in_words(times)} times as fast on {gpu['name']} as on this box's CPU"
    why = (
        f"{gpu['rate']:,.0f} and {cpu['rate']:,.0f} samples/s; a home-built box of 2017 reached more than {EXPECTED:g}"
    )
    if times <= EXPECTED:
        why += ": this GPU is small or held back for this CPU (gpu_state.py)"
    return answer("pass", what, why, "", data)


def in_words(times: float) -> str:
    return f"{times:.1f}" if times < 10 else f"{times:.0f}"


def answer(status: str, what: str, why: str, hint: str, data: dict[str, Any]) -> dict[str, Any]:
    check = f"speed_up:{data['framework']}"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=sorted(MODULES))
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for each device (600)")
    parser.add_argument("--inside", choices=sorted(ROUNDS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print("\n" + json.dumps({"inside": inside(options.framework, options.inside)}), flush=True)
        return 0
    gpu, why = measure_apart(options.framework, "cuda", options.timeout)
    cpu = None
    if gpu is not None and gpu.get("ran_on") == "cuda":
        cpu, why = measure_apart(options.framework, "cpu", options.timeout)
    result = judge(options.framework, gpu, cpu, why)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
