"""Plans as text and as the JSON that others rely on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worlds.hosts import AVX, V2, V4, host
from worlds.tables import CATALOG

from provision.cli.console import error_text
from provision.errors import NoStackFits
from provision.model.data import from_data, to_data
from provision.model.facts import Facts
from provision.model.plan import Objection, Plan, Rejection
from provision.render.plan import WIDTH, plan_data, plan_text
from provision.resolve import plan_for
from provision.resolve.request import parse_request

GOLDEN = Path(__file__).parents[1] / "golden" / "plan"


def plan(facts: Facts, *frameworks: str, **asked: Any) -> Plan:
    return plan_for(facts, parse_request(frameworks=frameworks, catalog=CATALOG, **asked), CATALOG)


PLANS: dict[str, Callable[[], Plan]] = {
    "cpu": lambda: plan(host(flags=V4)),
    "maxwell": lambda: plan(host("GeForce GTX 960", flags=AVX, state="nouveau", os="ubuntu"), "pytorch"),
    "kept-driver": lambda: plan(host("GeForce RTX 3090", driver="525.147.05"), "pytorch"),
    "ptx": lambda: plan(host("GeForce RTX 5090", driver="570.124.06")),
    "source": lambda: plan(host(flags=V2, glibc="2.17", pythons=("3.9.2",))),
    "several": lambda: plan(host("GeForce RTX 4090", "GeForce GT 1030", driver="535.113.01"), "tf", "torch", "keras"),
    "left-out": lambda: plan(
        host("GeForce RTX 5090", "GeForce GT 1030"), "torch", cuda_compute_capabilities="12.0", name="big-card"
    ),
    "toolkit": lambda: plan(host("GeForce GTX 1080 Ti", driver="430.40"), "tensorflow==2.3", requirements=["pandas"]),
}


@pytest.mark.parametrize("name", sorted(PLANS))
def test_a_plan_as_text(name: str, golden: Callable[[Path, str], None]) -> None:
    text = plan_text(PLANS[name]())
    assert max(map(len, text.splitlines())) <= WIDTH
    golden(GOLDEN / f"{name}.txt", text)


@pytest.mark.parametrize("name", sorted(PLANS))
def test_the_promised_keys(name: str) -> None:
    made = PLANS[name]()
    data = plan_data(made)
    assert {"schema", "host", "request", "stack", "reasons", "rejected", "steps"} <= data.keys()
    stacks = data["stack"] if isinstance(data["stack"], list) else [data["stack"]]
    assert isinstance(data["stack"], list) is (len(made.stack) > 1)
    for stack in stacks:
        assert {
            "framework",
            "version",
            "origin",
            "python",
            "device",
            "index",
            "cuda",
            "cudnn",
            "driver",
            "compute_capabilities",
            "copts",
            "bazel",
            "compiler",
            "environment",
        } <= stack.keys()
        if stack["driver"] is not None:
            assert {"minimum", "branch", "module", "action"} == stack["driver"].keys()
    assert all({"rule", "text", "source"} == reason.keys() for reason in data["reasons"])
    assert all({"candidate", "objections"} == rejection.keys() for rejection in data["rejected"])
    assert all({"id", "title", "needs_root", "changes"} <= step.keys() for step in data["steps"])


@pytest.mark.parametrize("name", sorted(PLANS))
def test_a_saved_plan_reads_back(name: str) -> None:
    made = PLANS[name]()
    assert from_data(Plan, to_data(made)) == made


REFUSALS: dict[str, Callable[[], Plan]] = {
    "two-generations": lambda: plan(host("GeForce RTX 5090", "GeForce GT 1030")),
    "no-avx-no-build": lambda: plan(host(flags=V2), origin="wheel"),
    "old-box": lambda: plan(
        host("GeForce GTX 680", flags=V2, glibc="2.17", driver="470.256.02", pythons=("3.6.9",)),
        "pytorch>=2.14",
        device="cuda",
        python="3.9",
    ),
    "wsl": lambda: plan(host("GeForce RTX 3090", wsl=True), "jax", device="cuda"),
}


@pytest.mark.parametrize("name", sorted(REFUSALS))
def test_a_refusal_as_text(name: str, golden: Callable[[Path, str], None]) -> None:
    with pytest.raises(NoStackFits) as caught:
        REFUSALS[name]()
    golden(GOLDEN / f"refused-{name}.txt", error_text(caught.value))


def test_marks_do_not_depend_on_colour() -> None:
    text = plan_text(PLANS["toolkit"]())
    assert "[root] [by hand]" in text.replace("\n    ", "")
    assert "\x1b" not in text


def test_what_is_older_than_the_chosen_release_is_only_counted() -> None:
    made = plan(host("GeForce RTX 3090", driver="580.95.05"), "pytorch")
    assert [each.candidate for each in made.rejected] == []
    older = tuple(
        Rejection(candidate=f"pytorch 1.{number} cpu", objections=(Objection(what="old", why="so"),))
        for number in (1, 2)
    )
    assert "rejected\n  2 older candidates: see --json\n" in plan_text(replace(made, rejected=older))


def test_a_saved_plan_may_name_anything() -> None:
    made = plan(host())
    strange = Rejection(candidate="tensorflow", objections=())
    odd = replace(made, rejected=(strange,), stack=(replace(made.stack[0], version="odd"),))
    assert "tensorflow odd" in plan_text(odd)


def test_one_objection_is_told_once_and_the_rest_counted() -> None:
    made = plan(host())
    rejected = tuple(
        Rejection(
            candidate=f"thing {number} cpu", objections=(Objection(what=f"reason {number // 4}", why="so", hint="do"),)
        )
        for number in range(40)
    )
    text = plan_text(
        Plan(**{**{name: getattr(made, name) for name in Plan.__dataclass_fields__}, "rejected": rejected})
    )
    assert "thing 0 cpu, thing 1 cpu and 2 more\n    - reason 0: so\n      hint: do" in text
    assert text.count("- reason") == 4
    assert "and 24 more: see --json" in text
