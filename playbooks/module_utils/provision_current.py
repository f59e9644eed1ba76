"""The generation in use: the link ``current``, switched in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_files import point


def switched(environment: Path, name: str, number: int | None, *, check_mode: bool) -> dict[str, Any]:
    """``current`` names generation ``number``, or (None) the newest verified one before it. Only for who has the lock.

    Raises Failure where that generation cannot be used.
    """
    there = generations.all_found(environment)
    before = generations.current_number(environment)
    if check_mode and number is not None and all(one.number != number for one in there):
        to, verified = number, False  # the run that this one predicts would have made it
    else:
        target = (
            generations.rollback_target(there, before, name)
            if number is None
            else generations.chosen(there, number, name)
        )
        to, verified = target.number, target.verified
    if before != to and not check_mode:
        point(environment / "current", f"generations/{to}")
    return {
        "changed": before != to,
        "name": name,
        "path": str(environment),
        "generation": to,
        "previous": before,
        "verified": verified,
        "activate": str(environment / "current" / "activate"),
    }
