"""Measured workloads as tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from provision.model.bench import Bench, Blas, Figure, Measured, Result
from provision.model.report import Failure
from provision.render.bench import bench_text

GOLDEN = Path(__file__).parents[1] / "golden" / "bench"


def figure(value: float, lowest: float | None = None, highest: float | None = None) -> Figure:
    return Figure(
        value=value, lowest=value if lowest is None else lowest, highest=value if highest is None else highest
    )


BUILT = Measured(
    name="default", generation=4, summary="numpy 2.4.6 · cpu · python 3.11", version="2.4.6",
    blas=Blas(library="OpenBLAS", path="/usr/lib/openblas-pthread/libopenblas.so.0", kernel="Haswell", threads=4),
)  # fmt: skip
STOCK = replace(BUILT, generation=3, blas=Blas(library="MKL", path="/e/lib/libmkl_rt.so.2", kernel=None, threads=None))
RESULTS = (
    Result(id="float64 500x500", unit="GFLOP/s", figure=figure(128.4), against=None, ratio=None),
    Result(id="int64 500x500", unit="GOP/s", figure=figure(3.13), against=None, ratio=None),
    Result(id="thousand 100x100 float", unit="ms", figure=figure(26.9), against=None, ratio=None),
    Result(id="thousand 100x100 integer", unit="ms", figure=figure(1486.4), against=None, ratio=None),
    Result(id="thousand 100x100 converted", unit="ms", figure=figure(38.0), against=None, ratio=None),
)
ALONE = Bench(
    ok=True, host="localhost", environment=BUILT, against=None, workload="matmul", rounds=1, results=RESULTS,
    integer_by_float=18.1, cpus=4, load=0.3,
)  # fmt: skip
IN_TURN = replace(
    ALONE,
    host="me@box",
    against=STOCK,
    rounds=3,
    results=tuple(replace(each, against=figure(50), ratio=figure(2.57, 2.1, 3.04)) for each in RESULTS[:1])
    + tuple(replace(each, against=figure(each.figure.value), ratio=figure(1.0)) for each in RESULTS[1:]),
)


def test_one_host(golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / "one.txt", bench_text([ALONE]))


def test_hosts_stand_side_by_side(golden: Callable[[Path, str], None]) -> None:
    slow = replace(
        ALONE, host="me@old-box", results=tuple(replace(each, figure=figure(7.0)) for each in RESULTS), load=6.2
    )
    dead = replace(
        ALONE, ok=False, host="me@gone", environment=None, results=(), integer_by_float=None,
        failures=(Failure(what="me@gone cannot be reached", why="no route to host", hint="look at its cable"),),
    )  # fmt: skip
    golden(GOLDEN / "several.txt", bench_text([ALONE, slow, dead]))


def test_in_turn_with_another(golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / "against.txt", bench_text([IN_TURN]))


def test_a_busy_machine_says_that_its_figures_are_worth_little() -> None:
    assert "busy" not in bench_text([ALONE])
    assert "busy" not in bench_text([replace(ALONE, load=None)])
    text = bench_text([replace(ALONE, load=5.25)])
    assert "localhost: the machine was busy (5.2 processes wanted its 4 CPUs): measure again when it is idle" in text


def test_no_blas_is_called_so() -> None:
    none = replace(BUILT, blas=Blas(library=None, path=None, kernel=None, threads=None))
    assert "default, generation 4: NumPy 2.4.6, no BLAS that is known\n" in bench_text(
        [replace(ALONE, environment=none)]
    )


def test_only_failures() -> None:
    dead = replace(ALONE, ok=False, environment=None, failures=(Failure(what="gone"),), results=())
    assert bench_text([dead]) == "error: localhost: gone\n"
