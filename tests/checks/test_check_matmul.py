"""Matrix products: what is made of the figures, and real ones; and the BLAS that a build was to be linked with."""

from __future__ import annotations

from typing import Any

import pytest

WHEEL = "/e/lib/python3.11/site-packages/numpy.libs/libscipy_openblas64_-32a4b2a6.so"
DEBIAN = "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"
MKL = "/e/lib/libmkl_rt.so.2"


def found(**changes: Any) -> dict[str, Any]:
    rates = {"float64": 130.0, "float32": 260.0, "int64": 2.1, "int32": 3.0}
    rows = [
        {"dtype": dtype, "size": size, "seconds": 1.0, "gops": rate}
        for dtype, rate in rates.items()
        for size in (9, 500)
    ]
    times = {"float_ms": 101.0, "integer_ms": 931.0, "converted_ms": 109.0, "integer_by_float": 9.22}
    blas = {"library": "OpenBLAS", "path": WHEEL, "kernel": "Haswell", "threads": 4}
    return {"version": "2.4.6", "products": rows, "wrong": [], "thousand": times, "blas": blas, **changes}


def test_the_figures_of_the_largest_size_and_a_thousand_small_ones(load) -> None:
    answer = load("matmul").judge(found(), 0.25)
    assert answer["status"] == "pass"
    assert answer["what"] == "NumPy 2.4.6 with OpenBLAS, kernel Haswell: 130 GFLOP/s in float64, 260 in float32"
    assert answer["why"] == "a thousand products of 100x100: float 101 ms, integer 931 ms, converted 109 ms"
    assert list(answer["data"]) == ["version", "products", "thousand", "blas", "cpus", "load"]
    assert answer["data"]["load"] == 0.25


def test_floats_that_are_no_faster_than_integers_have_no_blas(load) -> None:
    slow = {"float_ms": 900.0, "integer_ms": 931.0, "converted_ms": 950.0, "integer_by_float": 1.03}
    blas = {"library": None, "path": None, "kernel": None, "threads": None}
    answer = load("matmul").judge(found(thousand=slow, blas=blas))
    assert answer["status"] == "fail"
    assert answer["what"] == "NumPy 2.4.6 with no BLAS that could be found does not use a BLAS"
    assert "float 900 ms, integer 931 ms" in answer["why"]
    assert "libopenblas0" in answer["hint"]


def test_a_wrong_product_fails_however_fast_it_is(load) -> None:
    answer = load("matmul").judge(found(wrong=["float32 500x500"]))
    assert (answer["status"], answer["what"]) == ("fail", "NumPy 2.4.6 with OpenBLAS multiplies wrongly")
    assert answer["why"] == "not what integers give: float32 500x500"


@pytest.mark.parametrize(
    ("last", "status", "what", "why"),
    [
        ("", None, "NumPy does not multiply in time", "no answer within 9 s"),
        ("", -4, "NumPy does not multiply here", "SIGILL"),
        ("MemoryError", 1, "NumPy does not multiply here", "exit status 1 MemoryError"),
    ],
)
def test_a_child_that_died(load, last: str, status: int | None, what: str, why: str) -> None:
    answer = load("matmul").died(last, status, 9.0)
    assert (answer["status"], answer["what"], answer["why"]) == ("fail", what, why)
    assert answer["hint"]


def test_without_numpy(bare) -> None:
    answer = bare("matmul.py").data
    assert (answer["status"], answer["what"]) == ("skip", f"NumPy is not installed for {bare.python}")


@pytest.mark.parametrize("text", ["", "0", "100,", "100;500", "-3", "10000", "1e3"])
def test_sizes_that_are_none(load, text: str) -> None:
    with pytest.raises(Exception, match="is no list of sizes from 1 to 9999"):
        load("matmul").size_list(text)


def test_sizes(load) -> None:
    assert load("matmul").size_list("500,100,500") == [100, 500]


@pytest.mark.frameworks
def test_real_products(check_in) -> None:
    answer = check_in("numpy")("matmul.py", "--sizes", "50,200", "--seconds", "0.02").data
    assert answer["status"] == "pass"
    data = answer["data"]
    assert data["blas"]["library"] == "OpenBLAS"
    assert [(row["dtype"], row["size"]) for row in data["products"]] == [
        (dtype, size) for dtype in ("float64", "float32", "int64", "int32") for size in (50, 200)
    ]
    for row in data["products"]:
        assert row["gops"] == pytest.approx(2 * row["size"] ** 3 / row["seconds"] / 1e9, rel=0.02)
    thousand = data["thousand"]
    assert thousand["integer_by_float"] == pytest.approx(thousand["integer_ms"] / thousand["float_ms"], rel=0.01)
    assert thousand["integer_ms"] > thousand["converted_ms"]


# --- blas --expect ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expect", "library", "path", "why"),
    [
        (None, "OpenBLAS", WHEEL, None),
        ("openblas", "OpenBLAS", DEBIAN, None),
        (
            "openblas", "OpenBLAS", WHEEL,
            f"wanted the distribution's OpenBLAS; loaded: {WHEEL} (OpenBLAS), which came in a wheel",
        ),
        ("openblas", "MKL", MKL, f"wanted OpenBLAS; loaded: {MKL} (MKL)"),
        ("mkl", "MKL", MKL, None),
        ("mkl", "OpenBLAS", DEBIAN, f"wanted MKL; loaded: {DEBIAN} (OpenBLAS)"),
        ("mkl", None, None, "wanted MKL; loaded: no BLAS (none that is known)"),
    ],
)  # fmt: skip
def test_the_blas_that_was_asked_for(
    load, expect: str | None, library: str | None, path: str | None, why: str | None
) -> None:
    other = load("blas").unexpected(expect, {"library": library, "path": path})
    assert (other[0] if other else None) == why
    assert other is None or "has fallen back" in other[1]


@pytest.mark.frameworks
def test_the_blas_of_numpys_wheel_is_not_the_distributions(check_in) -> None:
    answer = check_in("numpy")("blas.py", "--expect", "openblas").data
    assert answer["status"] == "fail"
    assert answer["what"].endswith("uses OpenBLAS, and not the one that was asked for")
    assert "which came in a wheel" in answer["why"]
    assert answer["data"]["path"] in answer["why"]
