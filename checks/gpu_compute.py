#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""Does each GPU compute rightly, and as fast as a card of its name should?

On each GPU that the framework sees: a matrix product in FP32, TF32 and BF16, each element of which is compared with the
CPU's in float64; then the rates of large products and of large copies, after a warm-up, as figures and as shares of the
card's own table (--card). Formats that a GPU or the framework lacks are left out. Wrong results and work that ends on
the CPU are failures; a slow card is a remark. gpu_work.py must lie beside this script. The framework runs in a child
process of this interpreter. Changes nothing. Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python gpu_compute.py --framework pytorch
    python gpu_compute.py --framework jax --device cpu    # the same arithmetic and clocks, without a GPU
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import gpu_work

SIZE = 1024
"""Rows of the product that is compared."""
RATE_SIZES = (1024, 2048, 4096, 8192)
SEEDS = (1, 2)
"""Of the two factors whose product is timed."""
LONGEST_S = 0.05
"""A product that takes longer is large enough: the next size is not tried."""
COPY_MIB = 512
"""Well above the largest cache (126 MiB of the B200)."""
SLOW = 0.5
"""Below this share of the card's table a figure gets a remark. Large products reach 0.6 to 0.95 of NVIDIA's dense
figures, copies 0.8 to 0.93; these shares are general knowledge, not measured here."""
MODULES = {"tensorflow": "tensorflow", "pytorch": "torch", "jax": "jax"}


def tolerance(number: str, size: int) -> tuple[float, float]:
    """How far an element may be off: a factor of itself, and one of the sum of its products' magnitudes.

    The factors go in as numbers that bfloat16 has exactly, which tf32 and float32 have too, so their products (16 bits)
    are exact in a float32 and only sums are rounded: ``size`` times at most 2**-23 of the magnitudes (tensor cores cut
    off, which is twice as bad as rounding). A bf16 result is rounded once more, by at most 2**-8 of itself; twice that
    is allowed. One product left out or taken twice is about 1/``size`` of the magnitudes: eight times as much.
    """
    return (2.0**-7 if number == "bf16" else 0.0), size * 2.0**-23


def factors(size: int) -> tuple[Any, Any]:
    """Two float32 matrices of normal numbers, cut to the eight significant bits of bfloat16."""
    import numpy

    random = numpy.random.RandomState(1)
    pair = random.normal(0, 1, (2, size, size)).astype(numpy.float32)
    bits = pair.view(numpy.uint32) & numpy.uint32(0xFFFF0000)
    left, right = bits.view(numpy.float32)
    return left, right


def compared(result: Any, expected: Any, magnitudes: Any, number: str, size: int) -> dict[str, Any]:
    """``worst``: the largest error as a share of what is allowed; above one, or no number, is wrong."""
    import numpy

    of_itself, of_magnitudes = tolerance(number, size)
    shares = numpy.abs(result - expected) / (of_itself * numpy.abs(expected) + of_magnitudes * magnitudes)
    wrong = int((~(shares <= 1)).sum())
    worst = float(shares.max()) if numpy.isfinite(shares).all() else None
    return {"wrong": wrong, "of": int(shares.size), "worst": None if worst is None else float(f"{worst:.3g}")}


def inside(framework: str, device: str, seconds: float) -> dict[str, Any]:
    """What the child does."""
    work = gpu_work.WORKS[framework](device)
    left, right = factors(SIZE)
    expected = left.astype("float64") @ right.astype("float64")
    magnitudes = abs(left).astype("float64") @ abs(right).astype("float64")
    found = work.devices()
    for index, gpu in enumerate(found):
        numbers = numbers_of(work, gpu, device)
        gpu["products"] = {}
        for number in numbers:
            multiply = work.product(number)
            result = multiply(work.put(left, index, number), work.put(right, index, number))
            once = compared(work.numbers(result), expected, magnitudes, number, SIZE)
            gpu["products"][number] = {**once, "ran_on": work.place(result)}
        gpu["tflops"] = {number: rate(work, index, number, seconds) for number in numbers if rated(device, number)}
        gpu["memory_gb_s"] = bandwidth(work, index, device, seconds)
        work.free()
    return {"version": work.version, "gpus": found}


def numbers_of(work: Any, gpu: dict[str, Any], device: str) -> tuple[str, ...]:
    """What the GPU computes in and the framework has kernels for; a CPU in all of it, slowly."""
    numbers = gpu_work.formats_of(gpu["capability"]) if device == "cuda" else gpu_work.FORMATS
    return tuple(number for number in numbers if number in work.formats())


def rated(device: str, number: str) -> bool:
    """A CPU's own bf16 is slow and right."""
    return device == "cuda" or number == "fp32"


def rate(work: Any, index: int, number: str, seconds: float) -> float:
    """10^12 operations a second (2 n^3 for one product) of the fastest size.

    Of random numbers: a product of ones switches few transistors, takes little power, and runs at clocks that no real
    work reaches.
    """
    best = 0.0
    for size in RATE_SIZES:
        try:
            one, other = (work.random(size, index, number, seed) for seed in SEEDS)
            multiply = work.product(number)
            taken = gpu_work.seconds_of(lambda m=multiply, a=one, b=other: m(a, b), work.wait, seconds)
        except Exception as error:
            if best and out_of_memory(error):
                break
            raise
        best = max(best, 2 * size**3 / taken / 1e12)
        if taken > LONGEST_S:
            break
    return float(f"{best:.4g}")


def bandwidth(work: Any, index: int, device: str, seconds: float) -> float:
    """10^9 bytes a second, read and written, of the device's memory."""
    mebibytes = COPY_MIB if device == "cuda" else COPY_MIB // 4
    while True:
        try:
            values = work.full(mebibytes << 18, index)
            taken = gpu_work.seconds_of(lambda v=values: work.copy(v), work.wait, seconds)
        except Exception as error:
            if mebibytes > 64 and out_of_memory(error):
                mebibytes //= 2
                continue
            raise
        return float(f"{2 * (mebibytes << 20) / taken / 1e9:.4g}")


def out_of_memory(error: Exception) -> bool:
    return bool(
        re.search(r"out of memory|RESOURCE_EXHAUSTED|OOM when", f"{type(error).__name__} {error}", re.IGNORECASE)
    )


# --- judging ---------------------------------------------------------------------------------------------------------


def card_of(name: str, cards: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first row whose pattern is found in the GPU's name. A MIG slice is no whole card, and has none."""
    if " MIG " in name:  # "NVIDIA H100 80GB HBM3 MIG 1g.10gb"
        return None
    return next((card for card in cards if re.search(card["match"], name)), None)


def shares_of(gpu: dict[str, Any], card: dict[str, Any]) -> dict[str, float]:
    """By figure, what was measured by what the table says; figures that the table leaves out are left out."""
    measured = {"memory": gpu["memory_gb_s"], **gpu["tflops"]}
    peaks = {"memory": card.get("memory_gb_s"), **{number: card.get(f"{number}_tflops") for number in gpu_work.FORMATS}}
    return {name: round(value / peaks[name], 3) for name, value in measured.items() if peaks.get(name)}


def judge(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    framework, device, gpus = options.framework, options.device, found["gpus"]
    cards = [json.loads(text) for text in options.card]
    data = {"framework": framework, "device": device, "version": found["version"], "gpus": gpus}
    if not gpus:
        hint = "device_visible.py says why"
        return answer(framework, "fail", f"{framework} sees no GPU", "planned cuda", hint, data)
    notes = []
    for index, gpu in enumerate(gpus):
        problem = misplaced(framework, gpu, index, device) or wrong(framework, gpu, index, device)
        if problem is not None:
            return answer(framework, "fail", *problem, data)
        card = card_of(gpu["name"], cards)
        gpu["card"] = card and card["name"]
        gpu["shares"] = shares_of(gpu, card) if card else {}
        notes += remarks(gpu, index, device)
    count = f"{len(gpus)} GPU{'' if len(gpus) == 1 else 's'}" if device == "cuda" else "the CPU"
    what = f"{framework} computes rightly on {count}: {'; '.join(map(figures, gpus))}"
    return answer(framework, "pass", what, "; ".join(notes), "", data)


def label(gpu: dict[str, Any], index: int, device: str) -> str:
    return f"{gpu['name']} (GPU {index})" if device == "cuda" else "the CPU"


def misplaced(framework: str, gpu: dict[str, Any], index: int, device: str) -> tuple[str, str, str] | None:
    planned = f"cuda:{index}" if device == "cuda" else "cpu"
    for number, once in gpu["products"].items():
        ran_on = once["ran_on"] if device == "cuda" else once["ran_on"].partition(":")[0]
        if ran_on != planned:
            why = f"planned {planned}, the {number.upper()} product was made on {ran_on}"
            return f"{framework} computes on the wrong device", why, "run device_visible.py"
    return None


def wrong(framework: str, gpu: dict[str, Any], index: int, device: str) -> tuple[str, str, str] | None:
    for number, once in gpu["products"].items():
        if once["wrong"]:
            worst = "no number" if once["worst"] is None else f"{once['worst']:g} times what rounding allows"
            count = f"{once['wrong']} of {once['of']} elements"
            why = f"{number.upper()}: {count} differ from the CPU's float64, the worst by {worst}"
            hint = "run it again; where it stays: undo overclocking, look at cooling, power and `dmesg | grep Xid`"
            return f"{framework} computes wrongly on {label(gpu, index, device)}", why, hint
    return None


def figures(gpu: dict[str, Any]) -> str:
    """NVIDIA L4: FP32 25.1 TFLOP/s (83%), 271 GB/s (90%)."""
    shares = gpu["shares"]
    parts = [f"{number.upper()} {value:.4g} TFLOP/s{share(shares, number)}" for number, value in gpu["tflops"].items()]
    parts.append(f"{gpu['memory_gb_s']:.4g} GB/s{share(shares, 'memory')}")
    return f"{gpu['name']}: {', '.join(parts)}"


def share(shares: dict[str, float], name: str) -> str:
    return f" ({shares[name]:.0%})" if name in shares else ""


def remarks(gpu: dict[str, Any], index: int, device: str) -> list[str]:
    if device == "cpu":
        return []
    named = label(gpu, index, device)
    if gpu["card"] is None:
        return [f"{named} is not in the table of cards: figures without shares"]
    slow = [f"{name} {value:.0%}" for name, value in gpu["shares"].items() if value < SLOW]
    if not slow:
        return []
    return [f"{named} is slow for {gpu['card']}: {', '.join(slow)} of its table; gpu_state.py says what holds it back"]


def measure_apart(options: argparse.Namespace) -> tuple[dict[str, Any] | None, str, int | None]:
    """What the child measured (None: it died), its stderr, its exit status (None: timed out)."""
    command = [sys.executable, __file__, "--inside", *sys.argv[1:]]
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if "CUDA_VISIBLE_DEVICES" not in os.environ:  # its numbers are of the order that was in force when they were chosen
        environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if options.device == "cpu":
        environment.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=options.timeout
        )
    except subprocess.TimeoutExpired:
        return None, "", None
    lines = [line for line in child.stdout.splitlines() if line.startswith('{"inside"')]
    return (json.loads(lines[-1])["inside"] if lines else None), child.stderr, child.returncode


def died(options: argparse.Namespace, stderr: str, status: int | None) -> dict[str, Any]:
    """The answer where the child did not live to report."""
    framework = options.framework
    last = (stderr.strip().splitlines() or [f"exit status {status}"])[-1]
    if status is None:
        hint = "a GPU that hangs shows in `dmesg | grep Xid`"
        return answer(framework, "fail", f"{framework} gave no answer", f"not within {options.timeout:g} s", hint)
    if f"No module named '{MODULES[framework]}'" in stderr or "No module named 'numpy'" in stderr:
        return answer(framework, "skip", f"{framework} cannot be loaded", last, "run framework_import.py")
    ended = f"it was ended by {signal.Signals(-status).name}; " if status < 0 else ""
    hint = "run device_visible.py and native_kernels.py; `dmesg | grep Xid` shows a GPU that failed"
    return answer(framework, "fail", f"{framework} does not compute on {options.device}", ended + last, hint)


def answer(framework: str, status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    check = f"gpu_compute:{framework}"
    data = data or {"framework": framework}
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=gpu_work.FRAMEWORKS)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--card", action="append", default=[], metavar="JSON", help=CARD_HELP)
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="spent on each figure at least (0.5)")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="seconds for all of it (600)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print("\n" + json.dumps({"inside": inside(options.framework, options.device, options.seconds)}), flush=True)
        return 0
    found, stderr, status = measure_apart(options)
    result = died(options, stderr, status) if found is None else judge(options, found)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


CARD_HELP = (
    "a card's own table: match (a pattern of its name), name, memory_gb_s, fp32_tflops, tf32_tflops, bf16_tflops"
)


if __name__ == "__main__":
    sys.exit(main())
