#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does NumPy multiply matrices with a BLAS, and how fast?

Products of square matrices in float64, float32, int64 and int32, by size: the best of several, in 10^9 multiplications
and additions a second (2 n^3 for one product). Then a thousand products of 100x100: floats, integers, and integers that
are converted to floats first. A BLAS has no integers, so NumPy multiplies those with loops of its own. It fails where a
product is wrong, and where the thousand integer products take hardly longer than the floats: then no BLAS is at work.
NumPy runs in a child process of this interpreter. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on
stdout.

    python matmul.py --sizes 100,500,1000
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

DTYPES = ("float64", "float32", "int64", "int32")
SMALL, THOUSAND = 100, 1000
INTEGERS_AT_LEAST = 1.5
"""Times as long as floats take, with a BLAS. Measured for 100x100 on four cores with AVX-512: 17 to 18 with OpenBLAS
0.3.31, 12 to 20 with Debian 12's 0.3.21, 1.15 with a NumPy built without a BLAS; 9.2 in an article of 2016."""
LIBRARIES = (  # a piece of the loaded file's path -> its name
    ("openblas", "OpenBLAS"),
    ("libmkl", "MKL"),
    ("blis", "BLIS"),
    ("nvpl", "NVPL"),
    ("atlas", "ATLAS"),
    ("Accelerate", "Accelerate"),
    ("libblas", "reference BLAS"),
)


def inside(sizes: list[int], budget_s: float) -> dict[str, Any]:
    """What the child does."""
    import numpy

    random = numpy.random.RandomState(1)
    found: dict[str, Any] = {"version": numpy.__version__, "products": [], "wrong": []}
    for size in sizes:
        # whole numbers this small have exact products in all four types
        left, right = (random.randint(-8, 9, (size, size)) for _ in range(2))
        expected = None
        for dtype in reversed(DTYPES):  # integers first: theirs is the product that cannot be wrong
            one, other = left.astype(dtype), right.astype(dtype)
            seconds, product = best(lambda one=one, other=other: one @ other, budget_s)
            expected = product if expected is None else expected
            if not numpy.array_equal(product, expected):
                found["wrong"].append(f"{dtype} {size}x{size}")
            gops = round(2 * size**3 / seconds / 1e9, 2)
            row = {"dtype": dtype, "size": size, "seconds": float(f"{seconds:.3g}"), "gops": gops}
            found["products"].append(row)
    found["thousand"] = thousand(random.randint(-8, 9, (SMALL, SMALL)))
    found["blas"] = loaded_blas()
    found["products"].sort(key=lambda row: (DTYPES.index(row["dtype"]), row["size"]))
    return found


def best(multiply: Callable[[], Any], budget_s: float) -> tuple[float, Any]:
    """Seconds of the fastest of at least two products (the first finds cold caches and sleeping threads), and one."""
    seconds, product, end = [], None, time.perf_counter() + budget_s
    while len(seconds) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        product = multiply()
        seconds.append(time.perf_counter() - start)
    return min(seconds), product


def thousand(integers: Any) -> dict[str, float]:
    """Milliseconds of a thousand products of 100x100, int64 and float64; the better of two rounds each."""
    floats = integers.astype("float64")
    ways: dict[str, Callable[[], Any]] = {
        "float_ms": lambda: floats @ floats,
        "integer_ms": lambda: integers @ integers,
        "converted_ms": lambda: integers.astype("float64") @ integers.astype("float64"),
    }
    found = {}
    for name, multiply in ways.items():
        rounds = []
        for _ in range(2):
            start = time.perf_counter()
            for _ in range(THOUSAND):
                multiply()
            rounds.append(time.perf_counter() - start)
        found[name] = round(1e3 * min(rounds), 1)
    return {**found, "integer_by_float": round(found["integer_ms"] / found["float_ms"], 2)}


def loaded_blas() -> dict[str, Any]:
    """The BLAS among this process's mapped files: library, path, kernel and threads (of OpenBLAS)."""
    # 7f6c… r-xp 00001000 08:01 1573 /…/numpy.libs/libscipy_openblas64_-32a4b2a6.so
    maps = ""
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    mapped = sorted({line.split(maxsplit=5)[-1].strip() for line in maps.splitlines() if ".so" in line})
    for piece, name in LIBRARIES:
        for path in mapped:
            if piece in os.path.realpath(path):
                return {"library": name, "path": path, **(openblas(path) if name == "OpenBLAS" else UNKNOWN)}
    return {"library": None, "path": None, **UNKNOWN}


UNKNOWN: dict[str, Any] = {"kernel": None, "threads": None}


def openblas(path: str) -> dict[str, Any]:
    library = ctypes.CDLL(path)

    def symbols(name: str) -> Iterator[Any]:
        for symbol in (f"{prefix}{name}{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")):
            with contextlib.suppress(AttributeError):
                yield getattr(library, symbol)

    kernel, threads = next(symbols("openblas_get_corename"), None), next(symbols("openblas_get_num_threads"), None)
    if kernel is not None:
        kernel.restype = ctypes.c_char_p
    return {"kernel": kernel().decode() if kernel else None, "threads": threads() if threads else None}


def measure_apart(sizes: list[int], budget_s: float, timeout_s: float) -> tuple[dict[str, Any] | None, str, int | None]:
    """What the child measured (None: it died), the last line of its stderr, its exit status (None: timed out)."""
    options = ["--sizes", ",".join(map(str, sizes)), "--seconds", str(budget_s)]
    command = [sys.executable, __file__, "--inside", *options]
    try:
        child = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None, "", None
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"inside"')]
    last = (child.stderr.strip().splitlines() or [""])[-1]
    return (json.loads(lines[-1])["inside"] if lines else None), last, child.returncode


def judge(found: dict[str, Any], load: float | None = None) -> dict[str, Any]:
    """``load``: processes that wanted to run in the minute before. A busy machine says little about its BLAS."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wrong, blas, thousandfold = found.pop("wrong"), found["blas"], found["thousand"]
    rates = {(row["dtype"], row["size"]): row["gops"] for row in found["products"]}
    largest = max(size for _, size in rates)
    data = {**found, "cpus": cpus, "load": load}
    library = blas["library"] or "no BLAS that could be found"
    name = f"NumPy {found['version']} with {library}"
    if wrong:
        why = f"not what integers give: {', '.join(wrong)}"
        hint = "something computes wrongly: run isa_baseline.py and blas.py; then install NumPy anew"
        return answer("fail", f"{name} multiplies wrongly", why, hint, data)
    times = (
        f"a thousand products of 100x100: float {thousandfold['float_ms']:.0f} ms, "
        f"integer {thousandfold['integer_ms']:.0f} ms, converted {thousandfold['converted_ms']:.0f} ms"
    )
    if thousandfold["integer_by_float"] < INTEGERS_AT_LEAST:
        why = f"{times}; with a BLAS floats are many times faster"
        hint = "run blas.py; install NumPy's wheel (it has OpenBLAS), or `apt install libopenblas0`"
        return answer("fail", f"{name} does not use a BLAS", why, hint, data)
    kernel = f", kernel {blas['kernel']}" if blas["kernel"] else ""
    double, single = (rates[dtype, largest] for dtype in ("float64", "float32"))
    what = f"{name}{kernel}: {double:.4g} GFLOP/s in float64, {single:.4g} in float32"
    return answer("pass", what, times, "", data)


def died(last: str, status: int | None, timeout_s: float) -> dict[str, Any]:
    """The answer where the child did not live to report."""
    if "No module named 'numpy'" in last:
        return answer("skip", f"NumPy is not installed for {sys.executable}", last, "use the environment's Python")
    if status is None:
        why = f"no answer within {timeout_s:g} s"
        return answer("fail", "NumPy does not multiply in time", why, "a slow box needs --timeout, or smaller --sizes")
    name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return answer("fail", "NumPy does not multiply here", f"{name} {last}".strip(), "run isa_baseline.py and blas.py")


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    return {"id": "matmul", "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def size_list(text: str) -> list[int]:
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of sizes from 1 to 9999, such as 100,500")
    return sorted(set(map(int, text.split(","))))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=size_list, default=[100, 500, 1000], metavar="N,…", help="rows (100,500,1000)")
    parser.add_argument("--seconds", type=float, default=0.3, metavar="S", help="spent on each product at least (0.3)")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for all of it (600)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print("\n" + json.dumps({"inside": inside(options.sizes, options.seconds)}), flush=True)
        return 0
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    found, last, status = measure_apart(options.sizes, options.seconds, options.timeout)
    result = died(last, status, options.timeout) if found is None else judge(found, load)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
