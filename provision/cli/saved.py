"""Plans saved by ``provision plan -o``, read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from provision.cli.planning import Looked, Planned
from provision.errors import UsageError
from provision.model.data import from_data
from provision.model.plan import SCHEMA, Plan

REMAKE = "make it again: provision plan -o plan.json"


def read_plans(file: Path) -> tuple[Plan, ...]:
    """The plans in ``file``, one or several. Raises UsageError for anything that is not such a file."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(what=f"cannot read {file}", why=error.strerror or str(error), hint=REMAKE) from error
    except ValueError as error:
        raise UsageError(what=f"{file} is not a saved plan", why=f"not JSON: {error}", hint=REMAKE) from error
    if data == []:
        raise UsageError(what=f"{file} holds no plan", why="it is an empty list", hint=REMAKE)
    return tuple(_plan(file, each) for each in (data if isinstance(data, list) else [data]))


def _plan(file: Path, data: Any) -> Plan:
    if isinstance(data, dict) and data.get("schema") not in (None, SCHEMA):
        raise UsageError(
            what=f"{file} was saved by another version of provision",
            why=f"its schema is {data['schema']}, this version reads {SCHEMA}",
            hint=REMAKE,
        )
    try:
        return from_data(Plan, data)
    except ValueError as error:
        first = str(error).splitlines()
        raise UsageError(what=f"{file} is not a saved plan", why="\n".join(first[:3]), hint=REMAKE) from error


def plans_by_host(plans: Sequence[Plan], looked: Sequence[Looked]) -> tuple[Planned, ...]:
    """Each host its own plan by name; one plan alone serves every host."""
    by_name = {plan.host: plan for plan in plans}
    return tuple(_planned(found, by_name, plans) for found in looked)


def _planned(found: Looked, by_name: dict[str, Plan], plans: Sequence[Plan]) -> Planned:
    if found.failure is not None:
        return Planned(looked=found, failure=found.failure)
    plan = by_name.get(found.host.name) or (plans[0] if len(plans) == 1 else None)
    if plan is None:
        return Planned(looked=found, failure=_no_plan(found, by_name))
    arch = found.facts.cpu.arch if found.facts is not None else None
    if None not in (arch, plan.arch) and arch != plan.arch:
        return Planned(looked=found, failure=_other_machine(plan, arch))
    return Planned(looked=found, plan=plan)


def _no_plan(found: Looked, by_name: dict[str, Plan]) -> UsageError:
    return UsageError(
        what=f"the file has no plan for {found.host.name}",
        why=f"it has plans for {', '.join(sorted(by_name))}",
        hint=f"provision plan {found.host.name} -o plan.json",
    )


def _other_machine(plan: Plan, arch: str | None) -> UsageError:
    return UsageError(
        what=f"the plan was made for {plan.arch}, this host is {arch}",
        why="wheels for one do not run on the other",
        hint="plan for this host: provision plan",
    )
