"""From what hosts measured to figures and ratios."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provision.model.bench import Figure
from provision.model.data import to_data
from provision.model.report import Failure
from provision.run.bench import TASK, Side, Wanted, bench_variables, benched
from provision.run.play_events import HostResult

WANTED = Wanted(side=Side(name="built"), against=Side(name="stock", generation=3), rounds=3, sizes=(100, 500))


def answer(float64: float, int64: float, *, float_ms: float = 100.0, load: float = 0.5) -> dict[str, Any]:
    return {
        "version": "2.4.6",
        "products": [
            {"dtype": "float64", "size": 500, "seconds": 1.0, "gops": float64},
            {"dtype": "int64", "size": 500, "seconds": 1.0, "gops": int64},
        ],
        "thousand": {"float_ms": float_ms, "integer_ms": 900.0, "converted_ms": 110.0, "integer_by_float": 9.0},
        "blas": {"library": "OpenBLAS", "path": "/usr/lib/libopenblas.so.0", "kernel": "Haswell", "threads": 4},
        "cpus": 4, "load": load,
    }  # fmt: skip


def side(name: str, *answers: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "generation": 4, "summary": "numpy 2.4.6 · cpu · python 3.11", "answers": list(answers)}


def result(*sides: dict[str, Any], status: Any = "ok", failure: Failure | None = None) -> HostResult:
    data = {TASK: {"sides": list(sides)}} if sides else {}
    return HostResult(status=status, steps=(), data=data, failure=failure)


def test_figures_are_medians_and_ratios_go_round_by_round() -> None:
    built = side("built", answer(120, 2, float_ms=50), answer(100, 2, float_ms=100), answer(110, 2, float_ms=75))
    stock = side("stock", answer(60, 2), answer(100, 2), answer(55, 4))
    found = benched("box", WANTED, result(built, stock))
    assert (found.ok, found.host, found.rounds, found.workload) == (True, "box", 3, "matmul")
    by_id = {each.id: each for each in found.results}
    assert list(by_id) == [
        "float64 500x500", "int64 500x500", "thousand 100x100 float", "thousand 100x100 integer",
        "thousand 100x100 converted",
    ]  # fmt: skip
    product = by_id["float64 500x500"]
    assert (product.unit, product.figure) == ("GFLOP/s", Figure(value=110, lowest=100, highest=120))
    assert product.against == Figure(value=60, lowest=55, highest=100)
    assert product.ratio == Figure(value=2.0, lowest=1.0, highest=2.0)
    assert (by_id["int64 500x500"].unit, by_id["int64 500x500"].ratio) == (
        "GOP/s", Figure(value=1.0, lowest=0.5, highest=1.0)
    )  # fmt: skip
    assert by_id["thousand 100x100 float"].ratio == Figure(value=1.333, lowest=1.0, highest=2.0), "less time is faster"
    assert (found.integer_by_float, found.load, found.cpus) == (9.0, 0.5, 4)


def test_alone_there_is_no_ratio() -> None:
    found = benched("box", Wanted(side=Side(name="built")), result(side("built", answer(120, 2))))
    assert found.against is None
    assert {(each.against, each.ratio) for each in found.results} == {(None, None)}
    assert found.environment is not None
    assert (found.environment.name, found.environment.generation, found.environment.version) == ("built", 4, "2.4.6")
    assert found.environment.blas.kernel == "Haswell"


def test_the_json() -> None:
    found = to_data(benched("box", Wanted(side=Side(name="built")), result(side("built", answer(120, 2)))))
    assert list(found) == [
        "schema", "ok", "host", "environment", "against", "workload", "rounds", "results", "integer_by_float", "cpus",
        "load", "failures",
    ]  # fmt: skip
    assert (found["schema"], found["workload"]) == (1, "matmul")
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("played", "failure"),
    [
        (result(failure=Failure(what="no such generation", exit_code=5)), Failure(what="no such generation")),
        (result(), Failure(what="box gave no figures")),
        (
            result(status="cancelled"),
            Failure(what="interrupted", why="nothing was changed", exit_code=130),
        ),
    ],
)
def test_a_host_without_figures_says_why(played: HostResult, failure: Failure) -> None:
    found = benched("box", WANTED, played)
    assert (found.ok, found.failures, found.results) == (False, (failure,), ())


def test_what_the_playbook_is_given() -> None:
    variables = bench_variables(WANTED)
    assert variables["sides"] == [{"name": "built", "generation": 0}, {"name": "stock", "generation": 3}]
    assert variables["rounds"] == 3
    assert variables["command"]["argv"][:3] == ["matmul.py", "--sizes", "100,500"]
    assert variables["scripts"]["matmul.py"].startswith("#!")
    assert "--sizes" not in bench_variables(Wanted(side=Side(name="x")))["command"]["argv"]
