"""Build against stock wheel: which one the figures keep."""

from __future__ import annotations

import statistics

import playbook_target  # noqa: F401  makes module_utils importable
import pytest
from ansible.module_utils.provision_verdict import Pair, order, times, verdict, without
from hypothesis import given
from hypothesis import strategies as st

RATES = st.floats(min_value=1.0, max_value=1e7)
PAIRS = st.lists(st.builds(Pair, RATES, RATES), min_size=1, max_size=9)


def pairs(*ratios: float) -> list[Pair]:
    return [Pair(1000.0 * ratio, 1000.0) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "keep", "kept", "why"),
    [
        ((3.2, 3.1, 3.3), "faster", "build", "the build is faster: 3.2 times (3.1 to 3.3)"),
        ((0.9, 0.8, 0.95), "faster", "wheel", "the build is not faster: 0.90 times (0.80 to 0.95)"),
        ((1.0, 1.0, 1.0), "faster", "wheel", "the build is not faster: 1.000 times (1.000 to 1.000)"),
        ((0.5, 1.2, 1.3), "faster", "build", "the build is faster: 1.20 times (0.50 to 1.30)"),
        # half of the pairs is no majority, whatever the median says
        (
            (0.99, 0.8, 1.5, 1.6), "faster", "wheel",
            "the build is not reliably faster: 1.25 times (0.80 to 1.60), and so in 2 of 4 pairs only",
        ),
        ((0.5,), "build", "build", "--keep build asked for it; the build is not faster: 0.50 times (0.50 to 0.50)"),
        ((2.0,), "wheel", "wheel", "--keep wheel asked for it; the build is faster: 2.0 times (2.0 to 2.0)"),
    ],
)  # fmt: skip
def test_the_build_is_kept_where_it_is_faster_in_most_pairs(
    ratios: tuple[float, ...], keep: str, kept: str, why: str
) -> None:
    found = verdict(pairs(*ratios), keep)
    assert (found.kept, found.why) == (kept, why)
    assert (found.ratio, found.lowest, found.highest) == pytest.approx(
        (statistics.median(ratios), min(ratios), max(ratios))
    )


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (3.21, "3.2"),
        (12.0, "12.0"),
        (1.3, "1.30"),
        (1.02, "1.020"),
        (1.004, "1.004"),
        (1.0, "1.000"),
        (0.9996, "0.9996"),
        (0.87, "0.87"),
        (0.05, "0.05"),
    ],
)
def test_a_ratio_has_digits_enough_to_tell_it_from_one(ratio: float, text: str) -> None:
    assert times(ratio) == text


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(measured: list[Pair], random: object) -> None:
    shuffled = list(measured)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert verdict(shuffled, "faster") == verdict(measured, "faster")


@given(PAIRS, st.sampled_from([2.0**power for power in range(-6, 7)]))
def test_a_machine_of_another_speed_says_the_same(measured: list[Pair], scale: float) -> None:
    # a power of two, so that the division is the same to the last bit
    scaled = [Pair(scale * pair.build, scale * pair.wheel) for pair in measured]
    assert verdict(scaled, "faster") == verdict(measured, "faster")


@given(PAIRS)
def test_a_build_that_is_not_faster_is_never_kept(measured: list[Pair]) -> None:
    ratios = [pair.build / pair.wheel for pair in measured]
    found = verdict(measured, "faster")
    if statistics.median(ratios) <= 1:
        assert found.kept == "wheel"
    if min(ratios) > 1:
        assert found.kept == "build"


@given(PAIRS)
def test_what_was_asked_for_changes_what_is_kept_and_no_figure(measured: list[Pair]) -> None:
    found = {keep: verdict(measured, keep) for keep in ("faster", "build", "wheel")}
    assert (found["build"].kept, found["wheel"].kept) == ("build", "wheel")
    assert [found[keep].decided_by for keep in found] == ["figures", "request", "request"]
    assert len({(one.ratio, one.lowest, one.highest) for one in found.values()}) == 1


def test_a_side_that_fails_loses_and_says_why() -> None:
    found = without("build", "it was ended by SIGILL", [])
    assert (found.kept, found.why) == ("wheel", "the workload fails on the source build: it was ended by SIGILL")
    assert (found.data()["ratio"], found.decided_by) == (None, "failure")
    later = without("wheel", "out of memory", pairs(0.5, 0.7))
    assert (later.kept, later.why) == ("build", "the workload fails on the stock wheel: out of memory")
    assert (later.ratio, later.lowest, later.highest) == pytest.approx((0.6, 0.5, 0.7))


def test_they_take_turns_at_going_first() -> None:
    assert [order(number)[0] for number in range(4)] == ["build", "wheel", "build", "wheel"]
    assert {frozenset(order(number)) for number in range(4)} == {frozenset({"build", "wheel"})}


def test_figures_are_given_with_four_digits() -> None:
    assert verdict(pairs(3.14159, 2.71828), "faster").data() == {
        "ratio": 2.93,
        "lowest": 2.718,
        "highest": 3.142,
        "kept": "build",
        "decided_by": "figures",
        "why": "the build is faster: 2.9 times (2.7 to 3.1)",
    }
