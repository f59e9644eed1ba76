#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Does the framework see the planned device, and compute on it?

Multiplies two matrices on that device and asks where the product lies: a plan for a GPU that ends on the CPU is a
failure. In a child process of this interpreter. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on
stdout. Where the cause is in what the framework said, that is in the line's data ("log") and on stderr: `provision
verify` names cause and remedy by its table of known failures, and so does the second of these.

    python device_visible.py --framework pytorch --device cuda
    python device_visible.py --framework pytorch --device cuda 2>&1 | provision doctor --log -
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

# Of the framework's log that travels with a failure: it is the end that says why.
LOG_LINES = 60
LINE = 500

CPU_WHEEL = "the wheel is for CPUs alone"


def try_pytorch(device: str) -> dict[str, Any]:
    import torch

    # device_count() may ask NVML, which sees GPUs that CUDA cannot start: with too old a driver, say
    started = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count() if started else 0)]
    found = {"version": torch.__version__, "visible": names, "cuda": torch.version.cuda, "ran_on": None}
    if device == "cuda" and torch.version.cuda is None:
        return {**found, "note": CPU_WHEEL}
    if device == "cuda" and not started:
        try:
            torch.zeros(1, device="cuda")
        except Exception as error:
            return {**found, "note": str(error)}
    square = torch.ones(256, 256, device=device)
    product = square @ square
    return {**found, "ran_on": product.device.type, "right": float(product[0, 0]) == 256.0}


def try_tensorflow(device: str) -> dict[str, Any]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    cuda = tf.sysconfig.get_build_info().get("cuda_version")
    found = {"version": tf.__version__, "visible": names, "cuda": cuda, "ran_on": None}
    if device == "cuda" and not gpus:
        return {**found, "note": "" if tf.test.is_built_with_cuda() else CPU_WHEEL}
    if device == "cpu":
        tf.config.set_visible_devices([], "GPU")  # else its first operation takes the GPU's memory
    for gpu in gpus if device == "cuda" else ():
        tf.config.experimental.set_memory_growth(gpu, True)
    tf.config.set_soft_device_placement(False)  # else an operation that the GPU cannot do runs on the CPU
    with tf.device("/GPU:0" if device == "cuda" else "/CPU:0"):
        product = tf.matmul(tf.ones((256, 256)), tf.ones((256, 256)))
    where = re.search(r"device:(\w+):", product.device)
    ran_on = {"GPU": "cuda", "CPU": "cpu"}.get(where.group(1)) if where else product.device
    return {**found, "ran_on": ran_on, "right": float(product[0, 0]) == 256.0}


def try_jax(device: str) -> dict[str, Any]:
    import jax

    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    found: dict[str, Any] = {"version": jax.__version__, "visible": [], "cuda": None, "ran_on": None}
    try:
        devices = jax.devices("gpu" if device == "cuda" else "cpu")
    except RuntimeError as error:
        plugins = [name for name in ("jax_cuda12_plugin", "jax_cuda13_plugin") if importlib.util.find_spec(name)]
        return {**found, "note": str(error) if plugins else CPU_WHEEL}
    found["visible"] = [one.device_kind for one in devices] if device == "cuda" else []
    with jax.default_device(devices[0]):
        square = jax.numpy.ones((256, 256))
        product = square @ square
    platform = next(iter(product.devices())).platform
    return {
        **found,
        "ran_on": "cuda" if platform in {"gpu", "cuda"} else platform,
        "right": float(product[0, 0]) == 256,
    }


def try_numpy(device: str) -> dict[str, Any]:
    import numpy

    found = {"version": numpy.__version__, "visible": [], "cuda": None, "ran_on": None}
    if device == "cuda":
        return {**found, "note": "NumPy computes on the CPU alone"}
    square = numpy.ones((256, 256), dtype=numpy.float32)
    return {**found, "ran_on": "cpu", "right": float((square @ square)[0, 0]) == 256.0}


def try_keras(device: str) -> dict[str, Any]:
    import keras

    backend = keras.backend.backend()
    found = TRIES[{"torch": "pytorch"}.get(backend, backend)](device)
    return {**found, "version": keras.__version__, "backend": backend}


TRIES = {
    "tensorflow": try_tensorflow,
    "keras": try_keras,
    "pytorch": try_pytorch,
    "jax": try_jax,
    "numpy": try_numpy,
}


def try_apart(options: argparse.Namespace) -> tuple[dict[str, Any] | None, str, int | None]:
    """What the child found (None: it died), all that it wrote to stderr, its exit status (None: timed out)."""
    command = [sys.executable, __file__, "--inside", "--framework", options.framework, "--device", options.device]
    # TensorFlow logs why it skips a GPU; JAX would take most of the GPU's memory
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=options.timeout
        )
    except subprocess.TimeoutExpired:
        return None, "", None
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"version"')]
    return (json.loads(lines[-1]) if lines else None), child.stderr, child.returncode


def cause(said: str, device: str = "cuda") -> tuple[str, str, list[str]]:
    """Why, what to do, and the lines that say more; none where this check sees the cause by itself.

    None on the CPU either: what a framework says there of a GPU that it misses is no cause of anything.
    """
    if said == CPU_WHEEL:
        return said, "install the one for CUDA; `provision plan` names it", []
    if device == "cpu":
        return last_line(said) or "it does not say why", "make the environment anew", []
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:
        return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']!r} hides every GPU", "unset it", []
    return last_line(said) or "it does not say why", "`nvidia-smi` must work first", log_lines(said)


def log_lines(said: str) -> list[str]:
    return [line[:LINE] for line in said.strip().splitlines() if line.strip()][-LOG_LINES:]


def judge(options: argparse.Namespace) -> dict[str, Any]:
    framework, device = options.framework, options.device
    data: dict[str, Any] = {"framework": framework, "device": device, "visible": [], "ran_on": None}
    found, stderr, status = try_apart(options)
    if status is None:
        hint = "a GPU that hangs shows in `dmesg | grep Xid`"
        return answer("fail", f"{framework} gave no answer within {options.timeout:g} s on {device}", "", hint, data)
    if found is None and "No module named" in stderr:
        return answer("skip", f"{framework} cannot be loaded", last_line(stderr), "run framework_import.py", data)
    if found is None:
        why, hint, data["log"] = cause(stderr, device)
        name = f"it was ended by {signal.Signals(-status).name}; " if status < 0 else ""
        return answer("fail", f"{framework} does not compute on {device}", name + why, hint, data)
    note = found.pop("note", "")
    data.update(found)
    if framework == "numpy" and device == "cuda":
        return answer("fail", "numpy sees no GPU", note, "plan NumPy for the CPU", data)
    if found["ran_on"] is None:
        why, hint, data["log"] = cause(note if note == CPU_WHEEL else f"{stderr}\n{note}", device)
        return answer("fail", f"{framework} sees no GPU", why, hint, data)
    if found["ran_on"] != device:
        why = f"planned {device}, the product was made on {found['ran_on']}"
        _, hint, data["log"] = cause(stderr, device)
        return answer("fail", f"{framework} computes on the wrong device", why, hint, data)
    if not found["right"]:
        return answer("fail", f"{framework} computes wrongly on {device}", "a product of ones is not 256", "", data)
    where = f"{device} ({', '.join(found['visible'])})" if found["visible"] and device == "cuda" else device
    return answer("pass", f"{framework} computes on {where}", data=data)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    check = f"device_visible:{data['framework']}" if data else "device_visible"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=sorted(TRIES))
    parser.add_argument("--device", required=True, choices=("cpu", "cuda"))
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for the trial (300)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print("\n" + json.dumps(TRIES[options.framework](options.device)), flush=True)
        return 0
    result = judge(options)
    for line in result["data"].get("log", ()):
        print(line, file=sys.stderr)
    print(json.dumps(result), flush=True)
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
