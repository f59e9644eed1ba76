"""A source build against the stock wheel: the same workload in both generations, in turn, and the winner current."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any, Mapping  # Mapping of collections.abc takes no arguments before 3.9

from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_current import switched
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_install import owner
from ansible.module_utils.provision_layout import Layout
from ansible.module_utils.provision_lock import locked
from ansible.module_utils.provision_progress import Progress
from ansible.module_utils.provision_verdict import NAMES, SIDES, Pair, Verdict, order, verdict, without
from ansible.module_utils.provision_workload import Workload, workload

RATE = "samples_per_s"
BUSY = 1.5
"""Processes a CPU that want to run, over the last minute."""
Sides = Mapping[str, generations.Found]


class Lost(Exception):
    """The workload failed on a side."""

    def __init__(self, side: str, reason: str) -> None:
        super().__init__(reason)
        self.side, self.reason = side, reason


def compare(layout: Layout, params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Both measured, the winner made current, and what was found.

    The environment's lock is held throughout: nobody removes the loser meanwhile. Raises Failure where a generation is
    not there or has drifted, and where the workload fails on both.
    """
    name, environment = params["name"], layout.environment(params["name"])
    if params["pairs"] < 1:
        raise Failure("bad_input", f"{params['pairs']} pairs compare nothing", "wanted at least one", "give --pairs 3")
    with locked(
        environment / "lock", name, owner(params), params["lock_timeout_s"], lambda who: progress.say(f"waiting: {who}")
    ) as lock:
        there = generations.all_found(environment)
        sides = {side: _measurable(there, params[f"{side}_generation"], name) for side in SIDES}
        with workload(layout, params["command"], params["scripts"], lock) as work:
            busy = _busy()
            found, pairs = _measured(work, sides, params, progress)
        if pairs and found.decided_by != "failure":
            found = replace(found, why=found.why + busy)
        switch = switched(environment, name, sides[found.kept].number, check_mode=False)
        answered = _answer_for(sides["wheel"], params["fingerprint"], stands=found.kept == "wheel")
    comparison = {
        "framework": params["framework"],
        "pairs": [{"build": pair.build, "wheel": pair.wheel} for pair in pairs],
        **found.data(),
        "build_generation": sides["build"].number,
        "wheel_generation": sides["wheel"].number,
    }
    return {**switch, "changed": switch["changed"] or answered, "comparison": comparison}


def _busy() -> str:
    """What is to be said of the figures where other processes want the machine too; "" where they do not.

    A BLAS whose threads wait for each other in a loop loses more by that than another one: figures of a busy machine
    are no verdict. The build that has just ended keeps as many processes as there are CPUs, and is not meant.
    """
    cpus = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    if load <= BUSY * cpus:
        return ""
    return f"; the machine was busy ({load:.1f} processes wanted its {cpus} CPUs): compare again when it is idle"


def _measurable(there: list[generations.Found], number: int, name: str) -> generations.Found:
    found = generations.chosen(there, number, name)
    if found.drifted:
        what = f"generation {number} of environment {name} is no longer as it was installed"
        hint = "run `provision up` again: it makes a new generation"
        raise Failure("drifted", what, "its packages were changed, or its Python went away", hint)
    return found


def _measured(
    work: Workload, sides: Sides, params: Mapping[str, Any], progress: Progress
) -> tuple[Verdict, list[Pair]]:
    """The verdict and the pairs behind it. A side that fails once loses, unless the other one fails as well."""
    pairs: list[Pair] = []
    worked: set[str] = set()
    try:
        for side in SIDES:  # what comes first pays for what is not in memory yet; these figures are not kept
            progress.say(f"warm-up: {NAMES[side]}")
            _rate(work, sides, side)
            worked.add(side)
        for number in range(params["pairs"]):
            rates = {}
            for side in order(number):
                progress.say(f"pair {number + 1} of {params['pairs']}: {NAMES[side]}")
                rates[side] = _rate(work, sides, side)
            pairs.append(Pair(rates["build"], rates["wheel"]))
    except Lost as lost:
        other = "wheel" if lost.side == "build" else "build"
        if other not in worked:
            progress.say(f"warm-up: {NAMES[other]}")
            _still_works(work, sides, other, lost)
        return without(lost.side, lost.reason, pairs), pairs
    return verdict(pairs, params["keep"]), pairs


def _still_works(work: Workload, sides: Sides, other: str, lost: Lost) -> None:
    """Raises Failure where the workload fails on the other side too."""
    try:
        _rate(work, sides, other)
    except Lost as both:
        what = f"{work.command['id']} fails on the source build and on the stock wheel: neither was made current"
        why = f"{NAMES[lost.side]}: {lost.reason}\n{NAMES[other]}: {both.reason}"
        raise Failure("comparison", what, why, "run `provision verify`, which says more") from None


def _rate(work: Workload, sides: Sides, side: str) -> float:
    """Samples/s. Raises Lost."""
    answer = work.run(sides[side])
    data = answer["data"] if isinstance(answer["data"], dict) else {}
    rate = data.get(RATE)
    if answer["status"] != "pass":
        raise Lost(side, ": ".join(part for part in (answer["what"], answer["why"]) if part))
    if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 < rate < float("inf"):
        raise Lost(side, f"{answer['what'] or work.command['id']}: it gave no {RATE}")
    return float(rate)


def _answer_for(wheel: generations.Found, fingerprint: str, *, stands: bool) -> bool:
    """The wheel's state.json says whether it stands for the build's plan: then the next run has nothing to do.

    Whether that was a change.
    """
    state = dict(wheel.state or {})
    before = generations.answers(state)
    after = [one for one in before if one != fingerprint] + ([fingerprint] if stands else [])
    if set(after) == set(before):
        return False
    text = json.dumps({**state, "answers": after}, indent=2, ensure_ascii=False) + "\n"
    write_atomically(wheel.path / "state.json", text)
    return True
