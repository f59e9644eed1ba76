"""States current and absent: which generation is in use, and what goes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_current import switched
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_if_empty, remove_tree
from ansible.module_utils.provision_install import owner, remove_generation
from ansible.module_utils.provision_layout import Layout
from ansible.module_utils.provision_lock import locked
from ansible.module_utils.provision_progress import Progress


def current(layout: Layout, params: Mapping[str, Any], progress: Progress, check_mode: bool) -> dict[str, Any]:
    """Generation ``params["generation"]`` is the one in use."""
    return _switch(layout, params, progress, _numbered(params), check_mode)


def previous(layout: Layout, params: Mapping[str, Any], progress: Progress, check_mode: bool) -> dict[str, Any]:
    """The newest verified generation before the one in use is the one in use."""
    return _switch(layout, params, progress, None, check_mode)


def _numbered(params: Mapping[str, Any]) -> int | None:
    """The generation that is asked for; None where none is. 0 is a number that nothing has, and never "all"."""
    number: int | None = params["generation"]
    if number is not None and number < 1:
        raise Failure(
            "bad_input",
            f"{number} is not the number of a generation",
            "they are numbered from 1",
            "see `provision env list`",
        )
    return number


def _switch(
    layout: Layout, params: Mapping[str, Any], progress: Progress, number: int | None, check_mode: bool
) -> dict[str, Any]:
    name = params["name"]
    environment = layout.environment(name)
    if check_mode:
        return switched(environment, name, number, check_mode=True)
    with locked(
        environment / "lock", name, owner(params), params["lock_timeout_s"], lambda who: progress.say(f"waiting: {who}")
    ):
        return switched(environment, name, number, check_mode=False)


def absent(layout: Layout, params: Mapping[str, Any], progress: Progress, check_mode: bool) -> dict[str, Any]:
    """The environment, or one generation of it, goes.

    Raises Failure for a generation that is not there: more likely a slip than a removal that is done already.
    """
    name, number = params["name"], _numbered(params)
    environment = layout.environment(name)
    answer: dict[str, Any] = {
        "name": name,
        "path": str(environment),
        "generation": number,
        "changed": False,
        "removed": [],
    }
    if not check_mode:
        _finish_removals(layout)
    if number is None and not environment.is_dir():
        return answer
    if check_mode:
        going = _going(environment, name, number)
        return {**answer, "changed": True, "removed": [one.number for one in going]}
    with locked(
        environment / "lock", name, owner(params), params["lock_timeout_s"], lambda who: progress.say(f"waiting: {who}")
    ):
        going = _going(environment, name, number)
        removed = [one.number for one in going]
        progress.say(f"removing {name}")
        if number is None:
            # out of sight in one step, so that a removal that is killed leaves no half of an environment
            grave = layout.environments / f".removed-{name}-{os.getpid()}"
            environment.replace(grave)
            remove_tree(grave)
            remove_if_empty(layout.environments)
        else:
            for one in going:
                remove_generation(one.path)
        return {**answer, "changed": True, "removed": removed}


def _going(environment: Path, name: str, number: int | None) -> Sequence[generations.Found]:
    """What is to be removed. Raises Failure for a generation that is not there, for the current one alone, and for
    what a process runs from."""
    there = generations.all_found(environment)
    if number is not None and number == generations.current_number(environment):
        raise Failure(
            "refused",
            f"generation {number} of environment {name} is the current one and stays",
            "removing it would leave the environment without a working generation",
            "roll back first (`provision env rollback`), or remove the whole environment",
        )
    going = there if number is None else [generations.numbered(there, number, name)]
    for one in going:
        users = generations.users_of(one.path)
        if users:
            raise Failure(
                "refused",
                f"generation {one.number} of environment {name} is in use and stays",
                f"these processes run from it: {', '.join(map(str, users))}",
                "wait until they have ended, or stop them, and run the same command again",
            )
    return going


def _finish_removals(layout: Layout) -> None:
    """What removals that were killed have left."""
    for grave in sorted(layout.environments.glob(".removed-*")):
        with contextlib.suppress(OSError):  # another removal may be at it right now
            remove_tree(grave)
