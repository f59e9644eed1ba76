"""Environments and their generations, to text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from provision.model.data import to_data
from provision.model.environment import EnvironmentState, Generation

SCHEMA = 1


def environments_text(host: str, environments: Sequence[EnvironmentState]) -> str:
    """One block an environment, the current generation marked."""
    lines = [host]
    if not environments:
        lines.append("  no environments; make one: provision up")
    for environment in environments:
        lines.append(f"  {environment.name}  {environment.path}")
        lines += [_line(each, each.number == environment.current) for each in environment.generations]
    return "\n".join(lines) + "\n"


def _line(generation: Generation, current: bool) -> str:
    state = "verified" if generation.verified else "not verified" if generation.complete else "half-made"
    if generation.drifted:
        state += ", packages changed since"
    mark = "->" if current else "  "
    return f"    {mark} {generation.number}  {state:<13}  {generation.created or '':<20}  {generation.summary}".rstrip()


def environments_data(host: str, environments: Sequence[EnvironmentState]) -> dict[str, Any]:
    """``env list --json``. The plan of the current generation is left out: `verify` and `apply` are its readers."""
    listed = [{key: value for key, value in to_data(each).items() if key != "plan"} for each in environments]
    return {"schema": SCHEMA, "host": host, "environments": listed}
