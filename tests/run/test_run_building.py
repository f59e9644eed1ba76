"""Which hosts build at once, and which wait for another to fill the remote cache."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provision.run.building import wave

LABS = st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=12)


def names(rows: list[tuple[int, str]]) -> list[str]:
    return [f"{key or 'alone'}{number}" for number, key in rows]


def test_of_hosts_that_build_the_same_the_first_goes_first() -> None:
    work = [(1, "v4"), (2, "v4"), (3, "v3"), (4, ""), (5, "v4")]
    going, waiting = wave(work, set(), lambda each: each[1])
    assert (names(going), names(waiting)) == (["v41", "v33", "alone4"], ["v42", "v45"])


def test_the_others_go_together_once_it_is_in_the_cache() -> None:
    going, waiting = wave([(2, "v4"), (5, "v4")], {"v4"}, lambda each: each[1])
    assert (names(going), waiting) == (["v42", "v45"], [])


def test_where_the_first_failed_the_next_one_goes_first() -> None:
    going, waiting = wave([(2, "v4"), (5, "v4")], set(), lambda each: each[1])
    assert (names(going), names(waiting)) == (["v42"], ["v45"])


@given(LABS, st.sets(st.sampled_from(["a", "b", "c"])))
def test_every_host_goes_or_waits_and_somebody_always_goes(keys: list[str], in_cache: set[str]) -> None:
    work = list(enumerate(keys))
    going, waiting = wave(work, in_cache, lambda each: each[1])
    assert sorted(going + waiting) == work
    assert bool(going) == bool(work)
    assert not {key for _, key in waiting} & (in_cache | {""})
