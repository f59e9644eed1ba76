"""This machine's driver asked through NVML, in a process of its own.

A driver in trouble can hang in a system call or end the process that asks it, and `provision detect` is what people run
then. The process costs 30 ms on top of the 25 ms that NVML itself takes, and only where its library is installed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from provision.detect.seen import DIED, HUNG
from provision.run.command import TIMED_OUT, run
from provision.run.nvml_answers import LIBRARY

TIMEOUT_S = 60.0
"""Without persistence the driver starts each GPU anew, a few seconds for each on a server with eight."""

CACHE = Path("/etc/ld.so.cache")
FOLDERS = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib")


def nvml_reading(timeout_s: float = TIMEOUT_S) -> str | None:
    """``nvml.json`` (see provision/detect/nvml.py), or None where NVML cannot be loaded: no driver here."""
    if not is_installed():
        return None
    here = str(Path(__file__).resolve().parents[2])
    program = f"import sys; sys.path[:] = {[*filter(None, sys.path), here]!r}"
    program += "; from provision.run.nvml_answers import main; main()"
    done = run([sys.executable, "-I", "-S", "-c", program], timeout_s=timeout_s)
    if done.status == TIMED_OUT:
        return _no_answer(HUNG, f"NVML gave no answer within {timeout_s:g} s")
    if done.status != 0:
        return _no_answer(DIED, f"NVML ended the process that asked it: {_how(done.status, done.stderr)}")
    answer = done.stdout.strip().rpartition("\n")[2]
    return None if answer == "null" else answer


def is_installed() -> bool:
    """Whether the loader would find it. Not loaded here: the relocation of a library that a full disk cut kills."""
    folders = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    if any(Path(folder, LIBRARY).exists() for folder in (*folders, *FOLDERS)):
        return True
    try:
        return f"{LIBRARY}\0".encode() in CACHE.read_bytes()
    except OSError:
        return False


def is_silent(reading: str | None) -> bool:
    """Whether NVML hung: nvidia-smi, which asks it too, would hang as well."""
    return reading is not None and json.loads(reading).get("error") == HUNG


def is_whole(reading: str | None) -> bool:
    """Whether NVML was there, and it and every GPU answered."""
    document = json.loads(reading or "{}")
    return "gpus" in document and not any("error" in gpu for gpu in document["gpus"])


def _no_answer(value: int, message: str) -> str:
    return json.dumps({"error": value, "message": message})


def _how(status: int, stderr: str) -> str:
    if status >= 0:
        return (stderr.strip().splitlines() or [f"status {status}"])[-1]
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
