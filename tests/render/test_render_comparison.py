"""Builds and comparisons as the reader of a report sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from provision.model.report import BuildOutcome, CheckOutcome, Comparison, Configured, Environment, Pair, Report, Smoke
from provision.render.comparison import build_lines, comparison_lines, duration
from provision.render.report import report_text

GOLDEN = Path(__file__).parents[1] / "golden" / "report"
BUILD = BuildOutcome(
    framework="tensorflow", version="2.15.1", wheel="/home/me/b/tensorflow-2.15.1-cp311-cp311-linux_x86_64.whl",
    sha256="ab" * 32, built=True, seconds=725.2, actions=1812, cache_hits=40, compile_actions=1530, jobs=4,
    remote_cache="used", compiler="GCC 12.2.0", silo="0123456789abcdef", log="/home/me/b/log.txt",
    notes=("the Bazel on PATH says no version that can be compared",),
)  # fmt: skip
COMPARISON = Comparison(
    framework="tensorflow", ratio=3.2, lowest=3.1, highest=3.3, kept="build", decided_by="figures",
    pairs=(Pair(build=12345.2, wheel=3858.0), Pair(build=12000.0, wheel=3800.0), Pair(build=12600.0, wheel=3900.0)),
    why="the build is faster: 3.2 times (3.1 to 3.3)", build_generation=4, wheel_generation=3,
)  # fmt: skip
SLOWER = replace(
    COMPARISON, ratio=0.87, lowest=0.85, highest=0.91, kept="wheel",
    why="the build is not faster: 0.87 times (0.85 to 0.91)"
)  # fmt: skip
SMOKE = Smoke(
    framework="tensorflow", device="cpu", dataset="mnist", samples=60000, train_s=4.86, samples_per_s=12345.2,
    accuracy=0.9812, peak_fraction=0.31,
)  # fmt: skip
REPORT = Report(
    ok=True, host="me@box", changed=3, steps=(), failures=(), smoke=SMOKE,
    environment=Environment(
        name="default", generation=4, path="/home/me/e", activate=". /home/me/e/current/activate", previous=2,
        switched=True,
    ),
    checks=(
        CheckOutcome(id="isa_audit:tensorflow", status="pass", what="avx2 and fma are in the binary"),
        CheckOutcome(id="mnist:tensorflow", status="pass", what="trained on MNIST"),
    ),
    builds=(BUILD,), comparisons=(COMPARISON,),
)  # fmt: skip
ASKED = replace(
    SLOWER, kept="build", decided_by="request",
    why="--keep build asked for it; the build is not faster: 0.87 times (0.85 to 0.91)",
)  # fmt: skip
FAILED = replace(
    COMPARISON, pairs=(), ratio=None, lowest=None, highest=None, kept="wheel", decided_by="failure",
    why="the workload fails on the source build: mnist:tensorflow was ended by SIGILL",
)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("build-kept", REPORT),
        ("wheel-kept", replace(REPORT, comparisons=(SLOWER,), environment=replace(REPORT.environment, generation=3))),
        ("build-asked-for", replace(REPORT, comparisons=(ASKED,))),
        ("build-failed", replace(REPORT, comparisons=(FAILED,))),
    ],
)
def test_a_report_of_a_build(name: str, report: Report, golden: Callable[[Path, str], None]) -> None:
    golden(GOLDEN / f"{name}.txt", report_text(report))


def test_the_figures_and_both_generations_are_on_one_line() -> None:
    assert comparison_lines(COMPARISON) == [
        "tensorflow: the build runs 3.2× as fast as the stock wheel (3.1 to 3.3, 3 pairs: 12,345 against 3,858 "
        "samples/s): kept the build (generation 4); the wheel is generation 3"
    ]


def test_a_wheel_that_wins_says_how_to_have_the_build_all_the_same() -> None:
    first, second = comparison_lines(SLOWER)
    assert first.endswith("kept the stock wheel (generation 3); the build is generation 4")
    assert second == "  to take the build all the same: the same command with --keep build"


def test_a_busy_machine_is_told() -> None:
    busy = "the machine was busy (14.7 processes wanted its 4 CPUs): compare again when it is idle"
    assert comparison_lines(replace(COMPARISON, why=f"the build is faster; {busy}"))[-1] == f"  {busy}"
    assert "busy" not in " ".join(comparison_lines(COMPARISON))


def test_one_pair_has_no_spread() -> None:
    (line,) = comparison_lines(replace(COMPARISON, pairs=COMPARISON.pairs[:1]))
    assert "as fast as the stock wheel (1 pair: 12,345 against 3,858 samples/s)" in line


def test_a_wheel_that_was_there_already_says_so() -> None:
    lines = build_lines(replace(BUILD, built=False, notes=()))
    assert lines == ["build: tensorflow 2.15.1 was built before, nothing was done again", f"  wheel: {BUILD.wheel}"]


def test_an_engine_that_counts_nothing() -> None:
    bare = replace(
        BUILD, actions=None, cache_hits=None, compile_actions=None, jobs=None, compiler="", remote_cache="", log="",
        notes=(),
    )  # fmt: skip
    assert build_lines(bare) == ["build: tensorflow 2.15.1 in 12 min 5 s", f"  wheel: {BUILD.wheel}"]


def test_one_of_each() -> None:
    (first, *_) = build_lines(replace(BUILD, actions=1, compile_actions=1, cache_hits=1, jobs=1, seconds=7.44))
    assert first == ("build: tensorflow 2.15.1 in 7.4 s: 1 action (1 from a cache, 1 compiled here), GCC 12.2.0, 1 job")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (11400, "3 h 10 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_tree_that_was_only_configured_shows_what_was_written() -> None:
    text = "build --action_env PYTHON_BIN_PATH=/v/bin/python\nbuild:opt --copt=-Wno-sign-compare\n"
    configured = Configured(framework="tensorflow", file="/t/.tf_configure.bazelrc", text=text, notes=("a note",))
    report = Report(
        ok=True, host="box", environment=None, changed=1, steps=(), checks=(), smoke=None, failures=(),
        until="configure", configured=(configured,),
    )  # fmt: skip
    assert report_text(report).splitlines() == [
        "box",
        "",
        "configured: tensorflow; /t/.tf_configure.bazelrc holds what was asked for",
        "  build --action_env PYTHON_BIN_PATH=/v/bin/python",
        "  build:opt --copt=-Wno-sign-compare",
        "  note: a note",
        "",
        "verdict: the tree is configured as it was asked; nothing was built (--until configure)",
    ]
