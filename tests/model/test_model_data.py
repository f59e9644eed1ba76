"""Frozen values become JSON and come back the same."""

import json

import pytest

from provision.model.data import from_data, to_data, to_json
from provision.model.plan import Plan, Reason, Stack, Step
from provision.model.request import Request, Wanted
from provision.model.versions import ComputeCapability, Dotted

PLAN = Plan(
    host="localhost",
    request=Request(frameworks=(Wanted(framework="pytorch", specifier="==2.13"),), find_links=("/wheels",)),
    stack=(
        Stack(
            framework="pytorch", version="2.13.0", origin="wheel", python="3.11", device="cpu", build="cpu",
            index="cpu", index_url="https://download.pytorch.org/whl/cpu", requirements=("torch==2.13.0+cpu",),
            cuda=None, cudnn=None, driver=None, compute_capabilities=(), copts=(),
            bazel=None, compiler=None, environment={"A": "b c"},
        ),
    ),
    reasons=(Reason(rule="newest", text="it is the newest"),),
    rejected=(),
    steps=(Step(id="environment", title="Make it", needs_root=False, changes=("~/x",)),),
    lock="torch==2.13.0+cpu\n",
)  # fmt: skip


def test_a_plan_reads_back_from_its_json():
    assert from_data(Plan, json.loads(to_json(PLAN))) == PLAN


def test_an_unknown_key_is_refused():
    with pytest.raises(ValueError, match="surprise"):
        from_data(Plan, {**to_data(PLAN), "surprise": 1})


def test_an_unknown_key_deep_inside_is_refused_too():
    data = to_data(PLAN)
    data["stack"][0]["surprise"] = 1
    with pytest.raises(ValueError, match=r"stack\.surprise"):
        from_data(Plan, data)


def test_a_missing_key_is_refused():
    data = to_data(PLAN)
    del data["stack"]
    with pytest.raises(ValueError, match="stack"):
        from_data(Plan, data)


def test_sets_are_sorted_so_that_the_same_value_gives_the_same_bytes():
    assert to_data({"flags": frozenset({"fma", "avx", "avx2"})}) == {"flags": ["avx", "avx2", "fma"]}


def test_versions_become_the_text_that_tools_print():
    assert to_data((Dotted("470.82.01"), ComputeCapability(8, 6))) == ["470.82.01", "8.6"]
