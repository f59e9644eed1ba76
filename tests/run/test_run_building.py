"""Which hosts build at once, and which wait for another to fill the remote cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.model.build import Build, Compiler, Needs, Source
from provision.model.plan import Plan
from provision.model.report import Failure
from provision.model.request import Request
from provision.run.building import diagnosed, wave

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


# --- what a failed build is told by -----------------------------------------------------------------------------


def built_of(version: str, family: str = "gcc") -> Plan:
    build = Build(
        framework="tensorflow", version=version, device="cpu", engine="bazel",
        source=Source(kind="tree", location="/t"), python="3.11", distributions=("tensorflow",),
        compiler=Compiler(family=family, version="16.0.6", path="/usr/bin/cc"), cpu="native", copts=(), expect=(),
        allow=(), runs_here=True, environment={}, needs=Needs(memory_mib_per_job=2048, disk_mib=1, tmp_mib=1),
    )  # fmt: skip
    return Plan(host="box", request=Request(), stack=(), reasons=(), rejected=(), steps=(), builds=(build, build))


@pytest.mark.parametrize(("version", "known"), [("2.15.1", True), ("2.9.3", False)])
def test_a_failed_build_is_told_with_what_is_known_of_that_release(version: str, known: bool) -> None:
    said = {"failed": True, "kind": "build", "what": "the wheel", "log_tail": "sh: 1: patchelf: not found"}
    failures = (Failure(what="the wheel", kind="build"), Failure(what="other", kind="timeout"))
    told, other = diagnosed(built_of(version), failures, [{"builds": []}, said])
    assert ("known cause: " in told.why, "apt-get install patchelf" in told.hint) == (known, known)
    assert other == failures[1]


def test_a_failure_of_another_kind_stays_as_it_is() -> None:
    failures = (Failure(what="no room", kind="preflight"),)
    answers = [{"failed": True, "kind": "preflight", "what": "no room"}]
    assert tuple(diagnosed(built_of("2.15.1"), failures, answers)) == failures
