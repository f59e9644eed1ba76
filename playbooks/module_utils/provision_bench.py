"""A workload measured in generations that stay as they are: one, or two in turn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_install import owner
from ansible.module_utils.provision_layout import Layout
from ansible.module_utils.provision_lock import locked
from ansible.module_utils.provision_progress import Progress
from ansible.module_utils.provision_workload import workload


def bench(layout: Layout, params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Each side's answers, by round: data as the check gave it.

    The environments are locked, so that no install runs beside it. Raises Failure where a generation is not there and
    where the workload does not end well.
    """
    if params["rounds"] < 1 or not params["sides"]:
        raise Failure("bad_input", "nothing is to be measured", "wanted at least one round of one environment")
    with ExitStack() as held:
        # in one order whoever asks: two of these that wait for each other would never end
        locks = {}
        for name in sorted({side["name"] for side in params["sides"]}):
            lock = layout.environment(name) / "lock"
            waiting = locked(
                lock, name, owner(params), params["lock_timeout_s"], lambda who: progress.say(f"waiting: {who}")
            )
            locks[name] = held.enter_context(waiting)
        sides = [_side(layout, side["name"], side["generation"]) for side in params["sides"]]
        if len({one.path for one in sides}) < len(sides):
            what = "an environment cannot be measured against itself"
            why = f"both are generation {sides[0].number} of environment {params['sides'][0]['name']}"
            hint = "name another environment with --against, or another generation with --against-generation"
            raise Failure("bad_input", what, why, hint)
        answers: list[list[dict[str, Any]]] = [[] for _ in sides]
        for number in range(params["rounds"]):
            turn = range(len(sides)) if number % 2 == 0 else reversed(range(len(sides)))
            for index in turn:
                name, found = params["sides"][index]["name"], sides[index]
                progress.say(f"round {number + 1} of {params['rounds']}: {name}, generation {found.number}")
                with workload(layout, params["command"], params["scripts"], locks[name]) as work:
                    answers[index].append(_data(work.run(found), name, found.number))
    return {
        "changed": False,
        "sides": [
            {
                "name": side["name"],
                "generation": found.number,
                "summary": str((found.state or {}).get("summary") or ""),
                "answers": answers[index],
            }
            for index, (side, found) in enumerate(zip(params["sides"], sides))
        ],
    }


def _side(layout: Layout, name: str, number: int) -> generations.Found:
    """Generation ``number`` of that environment; 0 is the current one."""
    environment = layout.environment(name)
    current = number or generations.current_number(environment)
    if current is None:
        what = f"environment {name} has no current generation"
        raise Failure("no_generation", what, "", "run `provision up` first, or name one with --generation")
    return generations.chosen(generations.all_found(environment), current, name)


def _data(answer: Mapping[str, Any], name: str, number: int) -> dict[str, Any]:
    if answer["status"] == "pass" and isinstance(answer["data"], dict):
        return dict(answer["data"])
    what = f"{answer['id']} cannot be measured in generation {number} of environment {name}"
    raise Failure("bench", what, ": ".join(part for part in (answer["what"], answer["why"]) if part), answer["hint"])
