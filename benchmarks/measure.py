"""Measuring on a noisy machine: pairs taken in turn, medians, ratios within one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# variables that would pin a library lower than the machine allows
PINS = (
    "OPENBLAS_CORETYPE",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVPL_BLAS_DEBUG_CPU_TYPE",
    "BLIS_ARCH_TYPE",
)


@dataclass(frozen=True)
class Row:
    """One line of the table: what, measured, against what, the bound, and whether it is met."""

    figure: str
    measured: str
    bound: str
    met: bool | None
    note: str = ""


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without pins, and with byte code written as for a user."""
    kept = {key: value for key, value in os.environ.items() if key not in PINS}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**kept, **more}


def seconds(argv: Sequence[str], env: Mapping[str, str] | None = None, allowed: Sequence[int] = (0,)) -> float:
    """Wall time of a whole process. Raises RuntimeError, with its output, where it fails."""
    start = time.perf_counter()
    done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode not in allowed:
        raise RuntimeError(f"{' '.join(argv)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
    return taken


def in_turn(times: int, *works: Callable[[], float]) -> tuple[list[float], ...]:
    """Each work once, again and again, so that noise falls on all alike."""
    results: tuple[list[float], ...] = tuple([] for _ in works)
    for _ in range(times):
        for result, work in zip(results, works, strict=True):
            result.append(work())
    return results


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def ratio_of_pairs(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the pairwise ratios."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} s ({min(values):.2f}–{max(values):.2f})"


def tree(pid: int) -> list[int]:
    """``pid`` and all its descendants."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [pid]
    while todo:
        each = todo.pop()
        found.append(each)
        todo += parents.get(each, [])
    return found


def pss_mib(pid: int) -> float:
    """Proportional set size of a process: shared pages count once over all who share them."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("Pss:")), 0.0)


def peak_memory_mib(argv: Sequence[str], env: Mapping[str, str]) -> float:
    """Peak of the whole process tree's PSS, sampled every 50 ms."""
    process = subprocess.Popen(
        argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = 0.0
    done = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, sum(pss_mib(each) for each in tree(process.pid)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, errors = process.communicate()
    done.set()
    sampler.join()
    if process.returncode:
        raise RuntimeError(errors.decode(errors="replace"))
    return peak


def show(rows: Sequence[Row]) -> None:
    """A Markdown table on stdout."""
    print("| figure | measured | bound | met |\n| --- | --- | --- | --- |")
    for row in rows:
        met = {True: "yes", False: "**no**", None: "–"}[row.met]
        print(f"| {row.figure} | {row.measured} | {row.bound} | {met} |")
    for row in rows:
        if row.note:
            print(f"\n{row.figure}: {row.note}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
