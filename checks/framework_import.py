#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Does the framework import here, in the version that was planned?

The import happens in a child process of this interpreter, so that a library that dies (an instruction this CPU lacks,
a missing shared object) is an answer and not a crash. Changes nothing.
Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python framework_import.py --framework tensorflow --version 2.21.0
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MODULES = {"tensorflow": "tensorflow", "keras": "keras", "pytorch": "torch", "jax": "jax", "numpy": "numpy"}

# Variables that choose kernels by name, and kill the process when the CPU lacks what they name.
KERNEL_PINS = ("OPENBLAS_CORETYPE", "BLIS_ARCH_TYPE", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE")

# Message of the dying import -> what it means, what to do. First match wins.
KNOWN_CAUSES = (
    (
        r"built using AVX instructions, which your CPU",
        "the jaxlib wheel is compiled for AVX, which this CPU lacks",
        "no jaxlib wheel runs here: use NumPy or PyTorch, or build jaxlib from source",
    ),
    (
        r"compiled to use (?P<it>[\w. ]+?) instructions, but these aren't available",
        "the TensorFlow binary is compiled for {it}, which this CPU lacks",
        "build TensorFlow from source for this CPU, or use PyTorch",
    ),
    (
        r"NumPy was built with baseline optimizations: \s*\((?P<it>[^)]*)\) but your machine",
        "this NumPy is compiled for {it}, which this CPU lacks (NumPy 2.4 and newer need x86-64-v2)",
        'install "numpy<2.4"',
    ),
    (
        r"numpy\.dtype size changed|_ARRAY_API not found|compiled using NumPy 1\.x cannot be run",
        "a library was compiled for another major version of NumPy than the one installed",
        'install "numpy<2", or a newer release of the library that the trace names',
    ),
    (
        r"version `(?P<it>GLIBC(?:XX)?_[\d.]+)' not found",
        "a library needs {it}, which this system (or a folder in LD_LIBRARY_PATH) does not have",
        "unset LD_LIBRARY_PATH; else an older wheel or a newer distribution",
    ),
    (
        r"undefined symbol: (?P<it>__nvJitLink\w+)",
        "an older CUDA in LD_LIBRARY_PATH is loaded before the libraries that came with the wheel ({it})",
        "unset LD_LIBRARY_PATH",
    ),
    (
        r"undefined symbol: (?P<it>\S+)",
        "two libraries do not fit together: the symbol {it} is missing",
        "unset LD_LIBRARY_PATH; else make the environment anew",
    ),
    (
        r"symbol .* not defined in file (?P<it>libcudnn\S+)",
        "two builds of cuDNN are mixed ({it})",
        "unset LD_LIBRARY_PATH, and keep one cuDNN",
    ),
    (
        r"(?P<it>lib[\w.+-]+\.so[\w.]*): cannot open shared object file",
        "the shared library {it} is not installed or not found",
        "install the package that holds it, in exactly that version",
    ),
    (
        r"cannot allocate memory in static TLS block",
        "libraries were loaded in an order that exhausts thread-local memory",
        "import the framework before other libraries, or LD_PRELOAD the library that the message names",
    ),
    (r"No module named '(?P<it>[\w.]+)'", "the module {it} is not installed", "make the environment anew"),
    (r"MemoryError|std::bad_alloc", "memory ran out during the import", "close programs, or add memory"),
)


def cause_of_text(text: str) -> tuple[str, str] | None:
    for pattern, why, hint in KNOWN_CAUSES:
        found = re.search(pattern, text)
        if found:
            return why.format(**found.groupdict()), hint
    return None


def cause_of_illegal_instruction(framework: str, flags: set[str]) -> tuple[str, str]:
    """Which instruction set it was, as far as the CPU's flags and what is known of the wheels tell."""
    if "sse2" in flags and "avx" not in flags and framework in {"tensorflow", "keras"}:
        why = "TensorFlow's wheels are compiled for AVX since 1.6, and this CPU has none"
        return why, "build TensorFlow from source for this CPU, or use PyTorch"
    if "sse2" in flags and "avx" not in flags and framework == "jax":
        return "jaxlib's wheels are compiled for AVX, and this CPU has none", "build jaxlib from source, or use PyTorch"
    if "sse2" in flags and "sse4_2" not in flags:
        why = "NumPy 2.4 and newer are compiled for x86-64-v2 (SSE4.2), PyTorch 2.1 for SSE4.1; this CPU lacks them"
        return why, 'install "numpy<2.4", and another PyTorch than 2.1'
    why = "a library uses an instruction that this CPU does not have, or that the virtual machine hides"
    return why, "`dmesg | grep 'invalid opcode'` names the library; in a virtual machine use CPU type `host`"


def import_apart(
    framework: str, timeout_s: float, without: tuple[str, ...] = ()
) -> tuple[int | None, str, dict[str, Any]]:
    """Import in a child: its exit status (None: timed out; negative: minus the signal), stderr, what it reported."""
    environment = {name: value for name, value in os.environ.items() if name not in without}
    command = [sys.executable, __file__, "--inside", "--framework", framework]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        return None, (error.stderr or b"").decode(errors="replace"), {}
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"version"')]
    return child.returncode, child.stderr, json.loads(lines[-1]) if lines else {}


def inside(framework: str) -> int:
    """What the child does."""
    start = time.perf_counter()
    module = __import__(MODULES[framework])
    seconds = time.perf_counter() - start
    print(json.dumps({"version": getattr(module, "__version__", None), "import_s": round(seconds, 3)}))
    sys.stdout.flush()
    return 0


def version_fits(wanted: str, found: str) -> bool:
    """``2.21`` accepts 2.21.x; a build label (``+cpu``) counts only where it is asked for. What was packed anew
    (``2.15.0.post1``) calls itself as before, and pre-releases are spelled in two ways (``2.21.0rc1``, ``2.21.0-rc1``).
    """
    if "+" not in wanted:
        found = found.partition("+")[0]
    wanted, found = (re.sub(r"[-_.](?=(?:a|b|rc|dev)\d)", "", text) for text in (wanted, found))
    if found == re.sub(r"\.post\d+$", "", wanted):
        return True
    return found == wanted or found.startswith(wanted + ".")


def why_it_died(status: int | None, stderr: str, options: argparse.Namespace, flags: set[str]) -> tuple[str, str]:
    if status is None:
        return f"no answer within {options.timeout:g} s", "a very slow disk, or a library that waits for a device"
    known = cause_of_text(stderr)
    backend = re.search(r"No module named '(tensorflow|torch|jax)'", stderr)
    if options.framework == "keras" and backend:
        why = f"Keras is configured for the backend {backend.group(1)}, which is not installed"
        return why, "install it, or set KERAS_BACKEND (tensorflow, torch, jax) to one that is"
    if status == -signal.SIGILL:
        pins = [name for name in KERNEL_PINS if os.environ.get(name)]
        if pins and import_apart(options.framework, options.timeout, tuple(pins))[0] == 0:
            pinned = ", ".join(f"{name}={os.environ[name]}" for name in pins)
            return f"illegal instruction: {pinned} asks for kernels that this CPU lacks", f"unset {' '.join(pins)}"
        why, hint = known or cause_of_illegal_instruction(options.framework, flags)
        return f"illegal instruction: {why}", hint
    if known:
        return known
    if status < 0:
        name = signal.Signals(-status).name
        hint = "it was killed, probably for memory: see `dmesg`" if name == "SIGKILL" else "make the environment anew"
        return f"the import was ended by {name}\n{tail(stderr)}".rstrip(), hint
    return tail(stderr) or f"the import exited {status}", "make the environment anew"


def tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-3:])


def judge(options: argparse.Namespace) -> dict[str, Any]:
    status, stderr, data = import_apart(options.framework, options.timeout)
    data = {"framework": options.framework, "version": None, "import_s": None, **data, "python": sys.version.split()[0]}
    if status != 0:
        module = MODULES[options.framework]
        if f"No module named '{module}'" in stderr:
            why = f"no module {module} for {sys.executable}"
            return answer(
                "fail", f"{options.framework} is not installed", why, "run this with the environment's Python", data
            )
        why, hint = why_it_died(status, stderr, options, cpu_flags(options.cpuinfo))
        data["signal"] = signal.Signals(-status).name if status is not None and status < 0 else None
        return answer("fail", f"{options.framework} cannot be imported", why, hint, data)
    found = str(data["version"])
    if options.version and not version_fits(options.version, found):
        why = f"planned {options.version}, installed {found}"
        return answer(
            "fail", f"{options.framework} has another version than planned", why, "apply the plan again", data
        )
    return answer("pass", f"{options.framework} {found} imports in {data['import_s']:.1f} s", data=data)


def cpu_flags(path: str) -> set[str]:
    try:
        found = re.search(r"^flags\s*:(.*)$", Path(path).read_text(errors="replace"), re.MULTILINE)
    except OSError:
        return set()
    return set(found.group(1).split()) if found else set()


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    check = f"framework_import:{data['framework']}" if data else "framework_import"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=sorted(MODULES))
    parser.add_argument("--version", help="the version that must be found; 2.21 accepts 2.21.x")
    parser.add_argument("--timeout", type=float, default=300, metavar="S", help="seconds for the import (300)")
    parser.add_argument("--cpuinfo", default="/proc/cpuinfo", metavar="FILE", help="read this instead")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.framework)
    result = judge(options)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
