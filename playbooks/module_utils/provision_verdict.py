"""Build against stock wheel: what pairs of figures say. Nothing here touches a machine."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SIDES = ("build", "wheel")
NAMES = {"build": "source build", "wheel": "stock wheel"}


@dataclass(frozen=True)
class Pair:
    """The same workload on both, one right after the other; samples/s, above zero."""

    build: float
    wheel: float

    @property
    def ratio(self) -> float:
        return self.build / self.wheel


@dataclass(frozen=True)
class Verdict:
    kept: str
    """ "build" or "wheel"."""
    why: str
    decided_by: str
    """ "figures", "request" (for this one), "failure" (of the other one)."""
    ratio: float | None
    """Median over the pairs of build / wheel; None where there is no pair."""
    lowest: float | None
    highest: float | None

    def data(self) -> dict[str, Any]:
        """ratio, lowest and highest rounded to four digits: what is shown is what was decided on, near enough."""
        figures = {"ratio": self.ratio, "lowest": self.lowest, "highest": self.highest}
        rounded = {name: None if value is None else float(f"{value:.4g}") for name, value in figures.items()}
        return {**rounded, "kept": self.kept, "why": self.why, "decided_by": self.decided_by}


def verdict(pairs: Sequence[Pair], keep: str) -> Verdict:
    """Which one is kept after at least one pair. ``keep``: "faster", or which one whatever the figures are.

    The build has to be faster in the median and in more than half of the pairs: equal is not worth a build.
    """
    ratios = sorted(pair.ratio for pair in pairs)
    median = statistics.median(ratios)
    won = sum(ratio > 1 for ratio in ratios)
    faster = median > 1 and 2 * won > len(ratios)
    kept = keep if keep in SIDES else "build" if faster else "wheel"
    spread = f"{times(median)} times ({times(ratios[0])} to {times(ratios[-1])})"
    why = f"the build is faster: {spread}" if faster else f"the build is not faster: {spread}"
    if median > 1 and not faster:
        why = f"the build is not reliably faster: {spread}, and so in {won} of {len(ratios)} pairs only"
    if keep in SIDES:
        why = f"--keep {keep} asked for it; {why}"
    return Verdict(kept, why, "request" if keep in SIDES else "figures", median, ratios[0], ratios[-1])


def without(loser: str, reason: str, pairs: Sequence[Pair]) -> Verdict:
    """What is kept where the workload failed on ``loser``, whatever was asked for, after ``pairs`` that went well."""
    kept = "wheel" if loser == "build" else "build"
    ratios = sorted(pair.ratio for pair in pairs)
    why = f"the workload fails on the {NAMES[loser]}: {reason}"
    if not ratios:
        return Verdict(kept, why, "failure", None, None, None)
    return Verdict(kept, why, "failure", statistics.median(ratios), ratios[0], ratios[-1])


def times(ratio: float) -> str:
    """With digits enough to tell it from 1: "3.2", "1.30", "0.87", "1.021", "0.9996"."""
    distance = abs(ratio - 1)
    digits = 1 if ratio >= 2 else 2 if distance >= 0.05 else 4 if 0 < distance < 0.0005 else 3
    return f"{ratio:.{digits}f}"


def order(number: int) -> tuple[str, str]:
    """Who goes first in pair ``number`` (from 0): in turn, so that neither always runs on the warmer machine."""
    return ("build", "wheel") if number % 2 == 0 else ("wheel", "build")
