#!/usr/bin/env python3
# /// script
# requires-python = ">=3.6"
# dependencies = []
# ///
"""Runs in a container, by the image's own Python, which may be old: waits, says what is there, runs one check.

python inside.py wait SECONDS              the container's first process: it waits, and buries orphans
python inside.py look                      one JSON line: this Python, and which frameworks it has
python inside.py run OUT TIMEOUT_S ARGV…   run a program, write what became of it to the file OUT as JSON
"""

# Images may have a Python as old as 3.6: it must be able to say so.
# ruff: noqa: UP006, UP031, UP035, UP036, SIM105, PTH105, PTH123, T201

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any, Dict, List

# A framework -> the distributions that bring it, the module that is imported.
FRAMEWORKS = (
    ("tensorflow", ("tensorflow", "tensorflow-cpu", "tensorflow-gpu", "tf-nightly", "intel-tensorflow"), "tensorflow"),
    ("keras", ("keras", "keras-nightly"), "keras"),
    ("pytorch", ("torch",), "torch"),
    ("jax", ("jax",), "jax"),
    ("numpy", ("numpy",), "numpy"),
)
KEEP = 200000
"""Characters of a check's output that are kept, from its end."""


def wait(seconds: float) -> int:
    """Children that nobody waits for must not stay as zombies: this is process 1."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(60.0, max(0.0, end - time.monotonic())))
    return 0


def look() -> Dict[str, Any]:
    found: Dict[str, Any] = {
        "python": sys.version.split()[0],
        "executable": sys.executable,
        "frameworks": {},
        "cuda": "",
    }
    if sys.version_info < (3, 9):
        return found
    import importlib.metadata
    import importlib.util

    versions: Dict[str, str] = {}
    for each in importlib.metadata.distributions():
        name = each.metadata["Name"]
        if name:
            versions.setdefault(name.lower().replace("_", "-").replace(".", "-"), each.version)
    for framework, distributions, module in FRAMEWORKS:
        named = [versions[name] for name in distributions if name in versions]
        if named or importlib.util.find_spec(module) is not None:
            found["frameworks"][framework] = named[0] if named else ""
    found["cuda"] = cuda(versions)
    return found


def cuda(versions: Dict[str, str]) -> str:
    """What shows that it was made for NVIDIA GPUs; empty where nothing does."""
    for name in sorted(versions):
        if name.startswith(("nvidia-cuda-runtime", "nvidia-cudnn", "jax-cuda")):
            return "%s %s" % (name, versions[name])
    if "+cu" in versions.get("torch", ""):
        return "torch %s" % versions["torch"]
    return "CUDA %s" % os.environ["CUDA_VERSION"] if os.environ.get("CUDA_VERSION") else ""


def run(out: str, timeout_s: float, argv: List[str]) -> int:
    """Into files, not pipes: what a check leaves running must not keep us waiting."""
    begun, status = time.monotonic(), None
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=complained, start_new_session=True)
        try:
            status = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except OSError:
            pass
        child.wait()
        found = {
            "status": status,
            "seconds": time.monotonic() - begun,
            "stdout": tail(said),
            "stderr": tail(complained),
        }
    with open(out + ".new", "w", encoding="utf-8") as file:
        json.dump(found, file)
    os.replace(out + ".new", out)
    return 0


def tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - KEEP))
    return file.read().decode("utf-8", "replace")


def main() -> int:
    action = sys.argv[1]
    if action == "wait":
        return wait(float(sys.argv[2]))
    if action == "look":
        print(json.dumps(look()))
        return 0
    return run(sys.argv[2], float(sys.argv[3]), sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
