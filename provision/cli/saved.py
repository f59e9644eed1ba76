"""Plans saved by ``provision plan -o``, read back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision.cli.planning import Looked, Planned
from provision.errors import UsageError
from provision.model.data import from_data
from provision.model.plan import SCHEMA, Plan

REMAKE = "make it again: provision plan -o plan.json"
SHOWN = 3
"""Mistakes that are named at once."""


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
        plan = from_data(Plan, data)
    except ValueError as error:
        raise UsageError(what=f"{file} is not a saved plan", why=_said(error), hint=REMAKE) from error
    for check in CHECKS:
        problem = check(plan)
        if problem:
            raise UsageError(what=f"{file} has a plan that cannot be carried out", why=problem, hint=REMAKE)
    return _believed(plan)


def _said(error: ValueError) -> str:
    """Where each of the first mistakes is, and what it is: "stack[0].version: Field required"."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "\n".join(f"{_place(each['loc'])}: {_mistake(each)}" for each in found[:SHOWN])


def _place(location: Sequence[int | str]) -> str:
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return words.lstrip(".") or "the whole"


def _mistake(error: Any) -> str:
    return "a JSON object belongs there" if error["type"] == "dataclass_type" else str(error["msg"])


def _believed(plan: Plan) -> Plan:
    """The plan with what follows from the rest of it worked out anew: people edit saved plans.

    A lock that was made for other content is left out; versions are then resolved again.
    """
    from provision.resolve.plan import fingerprint
    from provision.resolve.steps import with_availability

    found = fingerprint(plan)
    lock = plan.lock if found == plan.fingerprint else None
    return replace(plan, fingerprint=found, lock=lock, steps=with_availability(plan.steps, plan.nvidia))


def _stack(plan: Plan) -> str:
    return "" if plan.stack else "stack: it is empty, so there is nothing to install"


def _glibc(plan: Plan) -> str:
    if plan.glibc is None or re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,5})+", plan.glibc):
        return ""
    return f"glibc: {plan.glibc!r} is not a version such as 2.36"


def _frameworks(plan: Plan) -> str:
    from provision.catalog.load import catalog

    known = catalog().frameworks
    wanted = [(f"stack[{number}].framework", each.framework) for number, each in enumerate(plan.stack)]
    wanted += [
        (f"request.frameworks[{number}].framework", each.framework)
        for number, each in enumerate(plan.request.frameworks)
    ]
    bad = [f"{place}: {name!r} is none of {', '.join(known)}" for place, name in wanted if name not in known]
    return "\n".join(bad[:SHOWN])


def _name(plan: Plan) -> str:
    return _as_option("request.name", name=plan.request.name)


def _pythons(plan: Plan) -> str:
    wanted = ((f"stack[{number}].python", each.python) for number, each in enumerate(plan.stack))
    return "\n".join(filter(None, (_as_option(place, python=python) for place, python in wanted)))


def _as_option(place: str, **option: str) -> str:
    """What the command line says to the same value."""
    from provision.catalog.load import catalog
    from provision.resolve.request import parse_request

    try:
        parse_request(catalog=catalog(), **option)  # type: ignore[arg-type]
    except UsageError as error:
        return f"{place}: {error.what}: {error.why}"
    return ""


CHECKS: tuple[Callable[[Plan], str], ...] = (_stack, _glibc, _frameworks, _name, _pythons)
"""What is wrong with a plan, where it is and in which words; nothing where it is right."""


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
