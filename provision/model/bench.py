"""What a measured workload leaves behind: figures of one environment, or of two in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from provision.model.report import Failure

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Blas:
    library: str | None
    """"OpenBLAS", "MKL"; None where NumPy has none that is known."""
    path: str | None
    kernel: str | None
    threads: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Where it was measured."""

    name: str
    """The environment."""
    generation: int
    summary: str
    """"numpy 2.4.6 · cpu · python 3.11"."""
    version: str
    """NumPy's."""
    blas: Blas


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Median over the rounds."""

    value: float
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    id: str
    """"float64 500x500", "thousand 100x100 integer"."""
    unit: Literal["GFLOP/s", "GOP/s", "ms"]
    figure: Figure
    against: Figure | None
    ratio: Figure | None
    """How many times as fast as what it is measured against, by round; also for times, where less is faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    schema: int = SCHEMA
    ok: bool
    host: str
    environment: Measured | None
    against: Measured | None
    workload: Literal["matmul"]
    rounds: int
    results: tuple[Result, ...]
    integer_by_float: float | None
    """How many times as long a thousand integer products of 100x100 take as floats."""
    cpus: int | None
    load: float | None
    """Processes that wanted to run there in the minute before the first round."""
    failures: tuple[Failure, ...] = ()
