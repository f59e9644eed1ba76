#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Do the parts of a framework that people use work, each compared with a result that was computed without it?

A convolution, an LSTM, models written and read, compiled functions, data pipelines: what is lost first where an
environment was made smaller than it can be. Everything runs in a child process, so that a crash is an answer that names
the operation. Writes only to a temporary folder.
Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python quick_ops.py --framework tensorflow --device cpu
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

from quick_ops_results import NoGpu, Wrong

MODULES = {"tensorflow": "tensorflow", "keras": "keras", "pytorch": "torch", "jax": "jax", "numpy": "numpy"}
HOMES = {**{name: name for name in MODULES}, "keras": "tensorflow"}
"""Which of the modules beside this one has a framework's operations."""


def inside(framework: str, device: str) -> int:
    """One JSON line before and one after each operation: what was running when it died is known."""
    module = __import__(MODULES[framework])
    say(version=str(getattr(module, "__version__", "")))
    import numpy  # noqa: F401 (everything is compared with it; said at once where it is missing)

    try:
        ops = getattr(import_module(f"quick_ops_{HOMES[framework]}"), f"{framework}_ops")(device)
    except NoGpu:
        say(no_gpu=True)
        return 0
    for name, op in ops.items():
        say(begins=name)
        begun, why, note = time.perf_counter(), "", None
        try:
            note = op()
        except Exception as error:  # whatever a framework raises is the answer
            text = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {first_line(str(error))}"
            why = text or type(error).__name__
        say(op=name, ok=not why, why=why or note or "", seconds=round(time.perf_counter() - begun, 3))
    return 0


def say(**found: Any) -> None:
    print("\n" + json.dumps({"quick_ops": found}), flush=True)


def first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:400]


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


# --- in the parent ----------------------------------------------------------------------------------------------------


def heard(stdout: str) -> dict[str, Any]:
    """All that the child said, as one: the operations in their order, and the one that did not end."""
    found: dict[str, Any] = {"ops": [], "running": None}
    for line in stdout.splitlines():
        if not line.startswith('{"quick_ops"'):
            continue
        said = json.loads(line)["quick_ops"]
        if "begins" in said:
            found["running"] = said["begins"]
        elif "op" in said:
            found["ops"].append(said)
            found["running"] = None
        else:
            found.update(said)
    return found


def try_apart(options: argparse.Namespace) -> tuple[dict[str, Any], str, int | None]:
    """What the child said, its stderr, its exit status (None: timed out)."""
    command = [sys.executable, __file__, "--inside", "--framework", options.framework, "--device", options.device]
    with tempfile.TemporaryDirectory(prefix="quick-ops-") as folder:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": folder, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if options.device == "cpu":
            environment.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
        if options.framework == "tensorflow":
            environment["KERAS_BACKEND"] = "tensorflow"
        try:
            child = subprocess.run(
                command, capture_output=True, text=True, errors="replace", env=environment, timeout=options.timeout
            )
        except subprocess.TimeoutExpired as error:
            return heard((error.stdout or b"").decode(errors="replace")), "", None
    return heard(child.stdout), child.stderr, child.returncode


def judge(options: argparse.Namespace) -> dict[str, Any]:
    framework, device = options.framework, options.device
    found, stderr, status = try_apart(options)
    ops, running = found["ops"], found["running"]
    data = {"framework": framework, "version": found.get("version"), "device": device, "ops": ops}
    if found.get("no_gpu"):
        return answer(data, "fail", f"{framework} sees no GPU", "cuda was asked for", "device_visible.py says why")
    if status is None or running is not None:
        how = f"did not end within {options.timeout:g} s" if status is None else f"ended by {ending(status)}"
        what = f"{framework}: {running or 'the import'} {'crashed' if status is not None else 'hangs'}"
        return answer(data, "fail", what, f"{how}\n{tail(stderr)}".rstrip(), HINT)
    if "No module named 'numpy'" in stderr and not ops:
        why = "results are compared with NumPy's, which is not installed"
        return answer(data, "skip", f"{framework}'s operations were not tried", why, "install numpy there")
    if status != 0 or not ops:
        why = tail(stderr) or f"ended by {ending(status)}"
        return answer(data, "fail", f"{framework}'s operations cannot be tried", why, "run framework_import.py")
    failed = [op for op in ops if not op["ok"]]
    if failed:
        names = ", ".join(op["op"] for op in failed)
        why = "\n".join(f"{op['op']}: {op['why']}" for op in failed)
        return answer(data, "fail", f"{framework}: {len(failed)} of {len(ops)} operations fail: {names}", why, HINT)
    remarks = "; ".join(f"{op['op']}: {op['why']}" for op in ops if op["why"])
    return answer(data, "pass", f"{framework}: {len(ops)} operations give NumPy's results on {device}", remarks)


HINT = "something that they need is missing or broken: make the environment anew, without taking anything from it"


def ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-3:])


def answer(data: dict[str, Any], status: str, what: str, why: str = "", hint: str = "") -> dict[str, Any]:
    check = f"quick_ops:{data['framework']}"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=sorted(MODULES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--timeout", type=float, default=580, metavar="S", help="seconds for all of it (580)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.framework, options.device)
    result = judge(options)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
