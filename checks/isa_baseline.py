#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Was the installed binary compiled for instructions that this CPU has, and which of them does it use?

Compiled for (the baseline: every line of it needs these), chosen at run time (dispatch), and what this CPU has beside
them. The framework is loaded in a child process of this interpreter: a baseline that the CPU lacks kills it there, with
SIGILL, and is the answer. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python isa_baseline.py --framework tensorflow
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

MODULES = {"tensorflow": "tensorflow", "keras": "keras", "pytorch": "torch", "jax": "jax", "numpy": "numpy"}

# The names that TensorFlow's cpu_feature_guard.cc uses -> the kernel's. It reports each of them that the CPU has and
# the binary was not compiled for; one that the CPU has and that it does not report is in the baseline.
GUARDED = {
    "SSE": "sse", "SSE2": "sse2", "SSE3": "pni", "SSE4.1": "sse4_1", "SSE4.2": "sse4_2", "AVX": "avx", "AVX2": "avx2",
    "AVX512F": "avx512f", "AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16", "AVX512_FP16": "avx512_fp16",
    "AVX_VNNI": "avx_vnni", "AMX_TILE": "amx_tile", "AMX_INT8": "amx_int8", "AMX_BF16": "amx_bf16", "FMA": "fma",
}  # fmt: skip

# TF 2.11+: "This TensorFlow binary is optimized to use available CPU instructions in performance-critical operations.
#            To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with …"
# TF 2.5+:  "… to use the following CPU instructions in performance-critical operations:  AVX2 FMA"
# earlier:  "Your CPU supports instructions that this TensorFlow binary was not compiled to use: AVX2 FMA"
NOT_COMPILED_IN = re.compile(
    r"(?:To enable the following instructions:|use the following CPU instructions in performance-critical operations:"
    r"|binary was not compiled to use:)\s*((?:[A-Z][A-Z0-9_.]+ ?)+)"
)
LACKING = re.compile(r"compiled to use ([\w. ]+?) instructions, but these aren't available")

# What a dead child means, where it could not say so itself: framework, the flag whose absence explains it, sentence.
DEADLY = (
    ("tensorflow", "avx", "the wheels of TensorFlow are compiled for AVX since 1.6"),
    ("keras", "avx", "the wheels of TensorFlow are compiled for AVX since 1.6"),
    ("jax", "avx", "the wheels of jaxlib are compiled for AVX"),
    ("tensorflow", "avx2", "TensorFlow 2.4.0 is compiled for AVX2 and FMA"),
    ("pytorch", "sse4_1", "PyTorch 2.1 is compiled for SSE4.1"),
    ("numpy", "sse4_2", "NumPy 2.4 and newer are compiled for x86-64-v2 (SSE4.2, POPCNT)"),
)
VECTOR_FLAGS = "sse sse2 pni ssse3 sse4_1 sse4_2 avx f16c fma avx2 avx512f avx512_vnni avx512_bf16 amx_tile asimd sve"
REMEDIES = {
    "tensorflow": "build TensorFlow from source for this CPU, or use PyTorch",
    "keras": "build TensorFlow from source for this CPU, or use another backend",
    "jax": "build jaxlib from source for this CPU, or use PyTorch",
    "pytorch": "install another release of PyTorch, or build it from source for this CPU",
    "numpy": 'install "numpy<2.4"',
}


def look_at_tensorflow() -> dict[str, Any]:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tensorflow as tf

    tf.constant(1.0) + 1.0  # the first operation makes the CPU device, and that logs the guard's findings
    return {"version": tf.__version__, "how": "cpu_feature_guard log"}


def look_at_pytorch() -> dict[str, Any]:
    import torch

    in_use = re.search(r"CPU capability usage: (.+)", torch.__config__.show())
    return {
        "version": torch.__version__,
        "how": "torch.__config__.show(): kernels for each level are in the binary, chosen at run time",
        "baseline": ["sse2"] if platform.machine() == "x86_64" else [],
        "dispatch": ["DEFAULT", "AVX2", "AVX512"] if platform.machine() == "x86_64" else None,
        "in_use": in_use.group(1).strip() if in_use else None,
    }


def look_at_jax() -> dict[str, Any]:
    import jax
    import jaxlib

    return {
        "version": jax.__version__,
        "how": f"jaxlib {jaxlib.__version__} asks for AVX at import (x86-64); XLA compiles for the CPU it is on",
        "baseline": ["avx"] if platform.machine() == "x86_64" else [],
        "dispatch": None,
        "in_use": "all that LLVM finds on this CPU",
    }


def look_at_numpy() -> dict[str, Any]:
    import numpy

    try:
        from numpy._core import _multiarray_umath as core  # NumPy 2
    except ImportError:
        from numpy.core import _multiarray_umath as core  # NumPy 1
    features = core.__cpu_features__
    return {
        "version": numpy.__version__,
        "how": "numpy's own record of its build, the one numpy.show_config() prints",
        "baseline": list(core.__cpu_baseline__),
        "dispatch": list(core.__cpu_dispatch__),
        "in_use": " ".join(name for name in core.__cpu_dispatch__ if features.get(name)) or "baseline alone",
        "baseline_missing": [name for name in core.__cpu_baseline__ if not features.get(name)],
    }


def look_at_keras() -> dict[str, Any]:
    import keras

    backend = keras.backend.backend()
    found = LOOKS[{"torch": "pytorch"}.get(backend, backend)]()
    return {**found, "version": keras.__version__, "backend": backend}


LOOKS = {
    "tensorflow": look_at_tensorflow,
    "keras": look_at_keras,
    "pytorch": look_at_pytorch,
    "jax": look_at_jax,
    "numpy": look_at_numpy,
}


def look_apart(framework: str, timeout_s: float) -> tuple[int, str, dict[str, Any]]:
    """Exit status (negative: minus the signal), stderr, and what the child found."""
    # a pinned OpenBLAS kernel can kill any of them too: that is blas.py's answer, not this one's
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    command = [sys.executable, __file__, "--inside", "--framework", framework]
    child = subprocess.run(
        command, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout_s
    )
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"version"')]
    return child.returncode, child.stderr, json.loads(lines[-1]) if lines else {}


def from_guard(log: str, flags: set[str]) -> dict[str, Any]:
    """What TensorFlow's log says of its baseline; None where the guard has no names for this architecture."""
    guarded = {name: kernel for name, kernel in GUARDED.items() if kernel in flags}
    if not guarded:
        return {"baseline": None, "dispatch": None, "in_use": None, "not_compiled_in": None}
    found = NOT_COMPILED_IN.search(log)
    missing = found.group(1).split() if found else []  # silence: all that this CPU has was compiled in
    onednn = "oneDNN custom operations are on" in log
    return {
        "baseline": [kernel for name, kernel in guarded.items() if name not in missing],
        "dispatch": None,
        "in_use": f"Eigen: baseline; oneDNN ({'on' if onednn else 'off'}): all that it finds on this CPU",
        "not_compiled_in": [GUARDED.get(name, name.lower()) for name in missing],
    }


def dead(framework: str, status: int, stderr: str, flags: set[str], data: dict[str, Any]) -> dict[str, Any]:
    """The answer where the child did not live to report."""
    name = signal.Signals(-status).name if status < 0 else None
    data["signal"] = name
    lacking = LACKING.search(stderr)
    numpys = re.search(r"built with baseline optimizations: \s*\(([^)]*)\) but", stderr)
    what = f"{framework} is compiled for instructions that this CPU lacks"
    named = lacking or numpys
    if named:
        data["baseline"] = named.group(1).replace(",", " ").split()
        why = f"compiled for {' '.join(data['baseline'])}; this CPU has: {relevant(flags)}"
        return answer("fail", what, why, REMEDIES["numpy" if numpys else framework], data)
    if "jaxlib was built using AVX" in stderr:
        data["baseline"] = ["avx"]
        return answer(
            "fail", what, f"jaxlib is compiled for AVX; this CPU has: {relevant(flags)}", REMEDIES["jax"], data
        )
    if name == "SIGILL":
        known = [why for of, flag, why in DEADLY if of == framework and flags and flag not in flags]
        why = known[0] if known else "it was ended by an illegal instruction; `dmesg` names the library"
        return answer("fail", what, f"{why}; this CPU has: {relevant(flags)}", REMEDIES[framework], data)
    if "No module named" in stderr:
        return answer("skip", f"{framework} is not installed for {sys.executable}", last_line(stderr), "", data)
    return answer("skip", f"{framework} cannot be loaded", name or last_line(stderr), "run framework_import.py", data)


def judge(options: argparse.Namespace) -> dict[str, Any]:
    flags = cpu_flags(options.cpuinfo)
    data: dict[str, Any] = {"framework": options.framework, "version": None, "baseline": None, "cpu": relevant(flags)}
    try:
        status, stderr, found = look_apart(options.framework, options.timeout)
    except subprocess.TimeoutExpired:
        return answer("skip", f"{options.framework} gave no answer within {options.timeout:g} s", data=data)
    if status != 0 or not found:
        return dead(options.framework, status, stderr, flags, data)
    data.update(found)
    if "baseline" not in found:
        data.update(from_guard(stderr, flags))
        if data["baseline"] is None:
            why = "its log names instructions for x86-64 alone"
            return answer("skip", f"what {options.framework} was compiled for is not known", why, "", data)
    missing = data.pop("baseline_missing", [])
    if missing:
        why = f"compiled for {' '.join(data['baseline'])}, of which {' '.join(missing)} is missing here"
        what = f"{options.framework} is compiled for instructions that this CPU lacks"
        return answer("fail", what, why, REMEDIES[options.framework], data)
    baseline = " ".join(data["baseline"]) or "the architecture's minimum"
    more = f"; chosen at run time: {data['in_use']}" if data["in_use"] else ""
    what = f"{options.framework} {data['version']} is compiled for what this CPU has"
    return answer("pass", what, f"compiled for {baseline}{more}", data=data)


def relevant(flags: set[str]) -> str:
    """The vector flags among ``flags``, in the order they appeared in history."""
    return " ".join(flag for flag in VECTOR_FLAGS.split() if flag in flags) or "not known"


def cpu_flags(path: str) -> set[str]:
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", Path(path).read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return set()
    return set(found.group(1).split()) if found else set()


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else ""


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    check = f"isa_baseline:{data['framework']}" if data else "isa_baseline"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=sorted(MODULES))
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for loading it (300)")
    parser.add_argument("--cpuinfo", default="/proc/cpuinfo", metavar="FILE", help="read this instead")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print("\n" + json.dumps(LOOKS[options.framework]()), flush=True)
        return 0
    result = judge(options)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
