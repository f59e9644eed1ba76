#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does NumPy have a fast BLAS, and does it run the kernel that this CPU deserves?

Names the BLAS that NumPy loaded and its kernel, twice: as the environment is, and without the variables that pin
kernels. A variable that pins one below what this CPU can do fails, here and for PyTorch, TensorFlow, JAX and oneDNN
where they are installed; fewer threads than CPUs are reported only. NumPy runs in a child process of this interpreter,
since a pin above the CPU kills it. --expect openblas (the distribution's, not one that came in a wheel) or mkl fails
where another one was linked. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python blas.py
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

# OpenBLAS's kernels (driver/others/dynamic.c) by the instructions they are written for. Not listed: SSE or unknown.
KERNEL_FLAGS = {
    "Nehalem": "sse4_2",
    "Sandybridge": "avx", "Bulldozer": "avx", "Piledriver": "avx", "Steamroller": "avx",
    "Excavator": "avx2", "Haswell": "avx2", "Zen": "avx2",
    "SkylakeX": "avx512f", "Cooperlake": "avx512f", "SapphireRapids": "avx512f",
    "armv8": "asimd", "neoversen1": "asimd", "neoversev1": "sve", "neoversen2": "sve",
    "a64fx": "sve", "armv8sve": "sve",
}  # fmt: skip
STEPS = ("sse4_2", "avx", "avx2", "avx512f", "asimd", "sve")

# Variable -> the modules that read it, and its values upward, each with the flag that the CPU needs for it. A value
# below another whose flag the CPU has is a pin that lowers. Sources: PyTorch aten/src/ATen/native/DispatchStub.cpp,
# oneDNN's "CPU dispatcher control" page, MKL's developer guide, XLA's xla.proto (xla_cpu_max_isa).
AVX = (("SSE4_2", "sse4_2"), ("AVX", "avx"), ("AVX2", "avx2"), ("AVX512", "avx512f"))
ONEDNN = (
    ("SSE41", "sse4_1"), ("AVX", "avx"), ("AVX2", "avx2"), ("AVX2_VNNI", "avx_vnni"), ("AVX512_CORE", "avx512bw"),
    ("AVX512_CORE_VNNI", "avx512_vnni"), ("AVX512_CORE_BF16", "avx512_bf16"), ("AVX512_CORE_FP16", "avx512_fp16"),
    ("AVX512_CORE_AMX", "amx_tile"), ("AVX512_CORE_AMX_FP16", "amx_fp16"),
)  # fmt: skip
LADDERS = {
    "ATEN_CPU_CAPABILITY": (("torch",), (("DEFAULT", "sse2"), ("AVX2", "avx2"), ("AVX512", "avx512bw"))),
    "ONEDNN_MAX_CPU_ISA": (("torch", "tensorflow"), ONEDNN),
    "DNNL_MAX_CPU_ISA": (("torch", "tensorflow"), ONEDNN),
    "MKL_ENABLE_INSTRUCTIONS": (("torch", "mkl"), AVX),
}
MKL_TYPES = (("3", "sse4_2"), ("4", "avx"), ("5", "avx2"), ("7", "avx512f"))  # MKL_DEBUG_CPU_TYPE, gone since 2020.1
XLA_LADDER = (*AVX, ("AVX512_VNNI", "avx512_vnni"), ("AVX512_BF16", "avx512_bf16"), ("AMX", "amx_tile"))
ONEDNN_BY_DEFAULT = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile"}  # TensorFlow 2.9 and newer, x86-64 Linux
NUMPY_PINS = ("OPENBLAS_CORETYPE", "BLIS_ARCH_TYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES")
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

LIBRARIES = (  # a piece of the loaded file's path -> its name, whether it is fast
    ("openblas", "OpenBLAS", True),
    ("libmkl", "MKL", True),
    ("blis", "BLIS", True),
    ("nvpl", "NVPL", True),
    ("atlas", "ATLAS", True),
    ("Accelerate", "Accelerate", True),
    ("libblas", "reference BLAS", False),
)


def inside() -> int:
    """What the child does: load NumPy, multiply once, and print what came along."""
    import numpy

    square = numpy.ones((256, 256), dtype=numpy.float32)
    numpy.dot(square, square)  # a kernel that the CPU lacks dies here
    try:
        from numpy._core import _multiarray_umath as core  # NumPy 2
    except ImportError:
        from numpy.core import _multiarray_umath as core  # NumPy 1
    config: Any = {}
    with contextlib.suppress(TypeError, AttributeError):  # NumPy before 1.25 can only print it
        config = numpy.show_config(mode="dicts")
    found = loaded_blas()
    found["version"] = numpy.__version__
    found["built_with"] = (config or {}).get("Build Dependencies", {}).get("blas", {}).get("name")
    found["features"] = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    print("\n" + json.dumps({"inside": found}), flush=True)
    return 0


def loaded_blas() -> dict[str, Any]:
    """The BLAS among this process's mapped files: library, path, kernel, threads."""
    # 7f6c… r-xp 00001000 08:01 1573 /…/numpy.libs/libscipy_openblas64_-32a4b2a6.so
    mapped = {line.split(maxsplit=5)[-1].strip() for line in read("/proc/self/maps").splitlines() if ".so" in line}
    for piece, name, fast in LIBRARIES:
        for path in sorted(mapped):
            if piece in os.path.realpath(path):
                found: dict[str, Any] = {"library": name, "path": path, "fast": fast}
                return {**found, **{"OpenBLAS": openblas, "MKL": mkl}.get(name, lambda _: {})(path)}
    return {"library": None, "path": None, "fast": False}


def openblas(path: str) -> dict[str, Any]:
    """Kernel, threads and build line. SciPy's build prefixes the names and 64-bit-integer builds suffix them."""
    library = ctypes.CDLL(path)

    def call(name: str, result: Any) -> Any:
        for symbol in (f"{prefix}{name}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")):
            with contextlib.suppress(AttributeError):
                function = getattr(library, symbol)
                function.restype = result
                value = function()
                return value.decode() if isinstance(value, bytes) else value
        return None

    return {
        "kernel": call("openblas_get_corename", ctypes.c_char_p),
        "threads": call("openblas_get_num_threads", ctypes.c_int),
        "config": call("openblas_get_config", ctypes.c_char_p),
    }


def mkl(path: str) -> dict[str, Any]:
    """Its version: (2020, 0) from "Intel(R) Math Kernel Library Version 2020.0.0 Product Build …"."""
    text = ctypes.create_string_buffer(200)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(path).mkl_get_version_string(text, len(text))
    numbers = re.search(r"Version (\d+)\.(\d+)", text.value.decode(errors="replace"))
    return {"mkl_version": [int(number) for number in numbers.groups()] if numbers else None}


def look_apart(without: tuple[str, ...] = ()) -> tuple[int, str, dict[str, Any] | None]:
    """Exit status (negative: minus the signal), the last line of stderr, and what the child printed."""
    environment = {name: value for name, value in os.environ.items() if name not in without}
    command = [sys.executable, __file__, "--inside"]
    child = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, timeout=120)
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"inside"')]
    stderr = child.stderr.strip().splitlines() or [""]
    return child.returncode, stderr[-1], json.loads(lines[-1])["inside"] if lines else None


def lowered(variable: str, value: str, ladder: tuple[tuple[str, str], ...], flags: set[str]) -> str | None:
    """What ``value`` keeps this CPU from using; None where it takes nothing away, or is no value of the ladder."""
    names = [name for name, _ in ladder]
    wanted = value.upper()
    if wanted not in names:  # AVX512_E4 and its like are MKL's steps within AVX512
        wanted = next((name for name in reversed(names) if wanted.startswith(name + "_E")), "")
    if not wanted:
        return None
    above = ladder[names.index(wanted) + 1 :]
    lost = [flag if name.isdigit() else name for name, flag in above if flag in flags]
    return f"{variable}={value} keeps it from {', '.join(lost)}, which this CPU has" if lost else None


def installed(modules: tuple[str, ...]) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module)]


def framework_pins(environment: dict[str, str], flags: set[str]) -> list[dict[str, str]]:
    """Variables that keep an installed framework below this CPU."""
    pins = []

    def note(variable: str, value: str, why: str | None, modules: list[str]) -> None:
        if why and modules:
            pins.append({"variable": variable, "value": value, "why": f"{why} ({', '.join(modules)})"})

    for variable, (modules, ladder) in LADDERS.items():
        if environment.get(variable):
            value = environment[variable]
            note(variable, value, lowered(variable, value, ladder, flags), installed(modules))
    isa = re.search(r"--xla_cpu_max_isa=(\w+)", environment.get("XLA_FLAGS", ""))
    if isa:
        why = lowered("--xla_cpu_max_isa", isa.group(1), XLA_LADDER, flags)
        note("XLA_FLAGS", isa.group(0), why, installed(("jax", "tensorflow")))
    if environment.get("TF_ENABLE_ONEDNN_OPTS", "").lower() in {"0", "false"} and flags & ONEDNN_BY_DEFAULT:
        why = "TF_ENABLE_ONEDNN_OPTS=0 takes away oneDNN's kernels, which are on by default on this CPU"
        note("TF_ENABLE_ONEDNN_OPTS", environment["TF_ENABLE_ONEDNN_OPTS"], why, installed(("tensorflow",)))
    return pins


def numpy_pins(
    environment: dict[str, str], now: dict[str, Any], free: dict[str, Any], flags: set[str]
) -> list[dict[str, str]]:
    """Variables that changed what NumPy and its BLAS do for the worse: ``now`` against ``free`` of them."""
    pins = []
    if level(now.get("kernel")) < level(free.get("kernel")):
        variable = "OPENBLAS_CORETYPE"
        why = f"{variable}={environment.get(variable)} runs OpenBLAS's {now['kernel']} kernel, not {free['kernel']}"
        pins.append({"variable": variable, "value": environment.get(variable, ""), "why": why})
    lost = [feature for feature in free["features"] if feature not in now["features"]]
    for variable in ("NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"):
        if lost and environment.get(variable):
            value = environment[variable]
            pins.append({"variable": variable, "value": value, "why": f"{variable} keeps NumPy from {', '.join(lost)}"})
    kind = environment.get("MKL_DEBUG_CPU_TYPE", "")
    if kind and (now.get("mkl_version") or [9999]) < [2020, 1]:
        loss = lowered("MKL_DEBUG_CPU_TYPE", kind, MKL_TYPES, flags)
        pins += [{"variable": "MKL_DEBUG_CPU_TYPE", "value": kind, "why": loss}] if loss else []
    return pins


def level(kernel: str | None) -> int:
    flag = KERNEL_FLAGS.get(kernel or "", "")
    return STEPS.index(flag) if flag in STEPS else -1


def died(status: int, last_line: str, environment: dict[str, str], free: dict[str, Any] | None) -> dict[str, Any]:
    """The answer where NumPy did not live to report."""
    pins = [f"{name}={environment[name]}" for name in NUMPY_PINS if environment.get(name)]
    if free and pins:
        why = f"{', '.join(pins)} asks for a kernel that this CPU cannot run; without it NumPy works ({free['kernel']})"
        data = {**free, "pins": [{"variable": pin.partition("=")[0], "value": pin.partition("=")[2]} for pin in pins]}
        return answer("fail", "NumPy dies in its BLAS", why, f"unset {' '.join(p.split('=')[0] for p in pins)}", data)
    if "No module named" in last_line:
        return answer("skip", f"NumPy is not installed for {sys.executable}", last_line)
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return answer("fail", "NumPy does not run here", f"{name} {last_line}".strip(), "run isa_baseline.py")


EXPECTED = {"openblas": "OpenBLAS", "mkl": "MKL"}


def unexpected(expect: str | None, now: dict[str, Any]) -> tuple[str, str] | None:
    """Why, hint, where the BLAS that was loaded is not the one that NumPy was to be built with."""
    library, path = now["library"], now["path"]
    loaded = f"loaded: {path or 'no BLAS'} ({library or 'none that is known'})"
    rebuild = "the build has fallen back on something else: see its log for what meson found as `blas`"
    if expect is not None and library != EXPECTED[expect]:
        return f"wanted {EXPECTED[expect]}; {loaded}", rebuild
    # /…/site-packages/numpy.libs/libscipy_openblas64_-32a4b2a6.so; MKL comes in wheels of its own, and may
    if expect == "openblas" and "site-packages" in Path(path).parts:
        return f"wanted the distribution's OpenBLAS; {loaded}, which came in a wheel", rebuild
    return None


def judge(environment: dict[str, str], cpuinfo: str, expect: str | None = None) -> dict[str, Any]:
    flags = cpu_flags(cpuinfo)
    status, last_line, now = look_apart()
    pinned = [name for name in NUMPY_PINS if environment.get(name)]
    free = look_apart(tuple(pinned))[2] if pinned else now
    if now is None or free is None:
        return died(status, last_line, environment, free)
    pins = numpy_pins(environment, now, free, flags) + framework_pins(environment, flags)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    data = {**now, "kernel_unpinned": free.get("kernel"), "cpus": cpus, "pins": pins}
    name = f"NumPy {now['version']} uses {now['library'] or 'no BLAS that could be found'}"
    kernel = f", kernel {now['kernel']}" if now.get("kernel") else ""
    other = unexpected(expect, now)
    if other is not None:
        return answer("fail", f"{name}, and not the one that was asked for", *other, data)
    if not now["fast"] and platform.system() == "Linux":
        why = f"loaded: {now['path'] or 'no BLAS'}; matrix products are many times slower than they need be"
        return answer("fail", name, why, "install NumPy's wheel (it has OpenBLAS), or `apt install libopenblas0`", data)
    if pins:
        hint = (
            f"unset {' '.join(pin['variable'] for pin in pins)} (look in ~/.profile, /etc/environment, the container)"
        )
        why = "\n".join(pin["why"] for pin in pins)
        return answer("fail", "an environment variable pins kernels below this CPU", why, hint, data)
    if {"avx2", "fma"} <= flags and kernel and level(now["kernel"]) < level("Haswell"):
        hint = "install a newer NumPy; in a virtual machine use CPU type `host`"
        return answer("fail", name + kernel, "this CPU has AVX2 and FMA, and the kernel uses neither", hint, data)
    return answer("pass", name + kernel, *remarks(environment, data, flags), data)


def remarks(environment: dict[str, str], data: dict[str, Any], flags: set[str]) -> tuple[str, str]:
    """What is worth a word without being wrong: why, hint."""
    few = {name: environment[name] for name in THREAD_VARIABLES if environment.get(name)}
    if few and data.get("threads") and data["threads"] < data["cpus"]:
        listed = ", ".join(f"{name}={value}" for name, value in few.items())
        return f"{data['threads']} of {data['cpus']} CPUs, as {listed} asks", f"unset {' '.join(few)} to use them all"
    if "avx512f" in flags and level(data.get("kernel")) == level("Haswell"):
        return "this CPU has AVX-512 as well, and this OpenBLAS chooses AVX2 for it", "a newer NumPy may do better"
    return "", ""


def cpu_flags(path: str) -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", read(path), re.MULTILINE)
    return set(found.group(1).split()) if found else set()


def read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    return {"id": "blas", "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpuinfo", default="/proc/cpuinfo", metavar="FILE", help="read this instead")
    parser.add_argument("--expect", choices=sorted(EXPECTED), help="fail where NumPy is linked with another one")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside()
    result = judge(dict(os.environ), options.cpuinfo, options.expect)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
