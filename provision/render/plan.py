"""A plan as text and as the JSON of DESIGN.md's ``plan --json``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from provision.model.data import to_data
from provision.model.plan import SCHEMA, Plan, Reason, Rejection, Stack, StackDriver, Step
from provision.model.versions import Dotted

WIDTH = 100
INDENT = "  "
SHOWN_REJECTIONS = 4
LATER = "[by hand]"
NO_BREAK = "\N{NO-BREAK SPACE}"
CHANGE = "change"
"""The rule of reasons that say what would have to change."""


def plan_text(plan: Plan) -> str:
    """What ``plan`` prints: the stack, why, what was rejected, what would have to change, and the steps."""
    blocks = [
        [f"plan for {plan.host}, environment {plan.request.name}"],
        *(_stack(stack) for stack in plan.stack),
        _wrapped(f"with {', '.join(plan.request.requirements)}", "") if plan.request.requirements else [],
        ["why", *(line for reason in _why(plan) for line in _reason(reason))],
        _section("rejected", _rejected(plan)),
        _section("what would have to change", [line for each in _changes(plan) for line in _item("-", each.text)]),
        ["steps", *(line for number, step in enumerate(plan.steps, 1) for line in _step(number, step))],
        _stops(plan),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def plan_data(plan: Plan) -> dict[str, Any]:
    """The JSON of ``plan --json``: its keys are promised, and never left out."""
    stacks = [to_data(stack) for stack in plan.stack]
    return {
        "schema": SCHEMA,
        "host": plan.host,
        "request": to_data(plan.request),
        "stack": stacks[0] if len(stacks) == 1 else stacks,
        "reasons": to_data(plan.reasons),
        "rejected": to_data(plan.rejected),
        "steps": to_data(plan.steps),
        "arch": plan.arch,
        "glibc": plan.glibc,
        "fingerprint": plan.fingerprint,
        "builds": to_data(plan.builds),
        "stock": plan_data(plan.stock) if plan.stock is not None else None,
        "nvidia": to_data(plan.nvidia) if plan.nvidia is not None else None,
    }


def _section(title: str, lines: list[str]) -> list[str]:
    return [title, *lines] if lines else []


def _stack(stack: Stack) -> list[str]:
    rows = {
        "index": f"{stack.index} ({stack.index_url})" if stack.index else "PyPI" if stack.origin == "wheel" else "",
        "requirements": ", ".join(stack.requirements),
        "CUDA": _joined(stack.cuda, f"cuDNN {stack.cudnn}" if stack.cudnn else None),
        "driver": _driver(stack.driver) if stack.driver else "",
        "capability": ", ".join(stack.compute_capabilities),
        "Bazel": stack.bazel or "",
        "compiler": stack.compiler or "",
        "options": " ".join(stack.copts),
        "environment": " ".join(f"{name}={value}" for name, value in stack.environment.items()),
    }
    head = f"{stack.framework} {stack.version} · {stack.origin} · {stack.device} · Python {stack.python}"
    return [head, *(line for name, value in rows.items() if value for line in _row(name, value))]


def _joined(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)


def _driver(driver: StackDriver) -> str:
    known = _joined(
        f"branch {driver.branch}" if driver.branch else "not known",
        f"{driver.module} module" if driver.module else None,
        f"{driver.minimum} or newer is needed" if driver.minimum else None,
    )
    return known if driver.action == "none" else f"{driver.action}: {known}"


def _why(plan: Plan) -> Iterator[Reason]:
    return (reason for reason in plan.reasons if reason.rule != CHANGE)


def _changes(plan: Plan) -> Iterator[Reason]:
    return (reason for reason in plan.reasons if reason.rule == CHANGE)


def _reason(reason: Reason) -> list[str]:
    lines = _item("-", reason.text)
    if reason.source:
        lines += _wrapped(f"({reason.rule}: {reason.source})", INDENT * 2)
    return lines


def _rejected(plan: Plan) -> list[str]:
    """The first few that are no older than what was chosen, each objection said once: releases in a row are mostly
    rejected for one reason."""
    chosen = {stack.framework: Dotted(stack.version) for stack in plan.stack if stack.version[:1].isdecimal()}
    groups: dict[tuple[str, ...], list[Rejection]] = {}
    for each in plan.rejected:
        if _is_older(each.candidate, chosen):
            continue
        groups.setdefault(tuple(objection.what for objection in each.objections), []).append(each)
    lines: list[str] = []
    for group in list(groups.values())[:SHOWN_REJECTIONS]:
        lines += _wrapped(_names(group), INDENT)
        for objection in group[0].objections:
            lines += _item("-", f"{objection.what}: {objection.why}" if objection.why else objection.what, INDENT * 2)
            if objection.hint:
                lines += _wrapped(f"hint: {objection.hint}", INDENT * 3)
    rest = len(plan.rejected) - sum(len(group) for group in list(groups.values())[:SHOWN_REJECTIONS])
    return (
        [*lines, f"{INDENT}{'and ' if lines else ''}{rest} {'more' if lines else 'older candidates'}: see --json"]
        if rest
        else lines
    )


def _is_older(candidate: str, chosen: dict[str, Dotted]) -> bool:
    """Of "tensorflow 2.21.0 cpu". A saved plan may say anything."""
    framework, _, rest = candidate.partition(" ")
    try:
        return framework in chosen and Dotted(rest) < chosen[framework]
    except ValueError:
        return False


def _names(group: list[Rejection]) -> str:
    """ "tensorflow 2.21.0 and-cuda, 2.20.0 and-cuda and 3 more"."""
    names = list(dict.fromkeys(each.candidate for each in group))
    if len(names) <= 3:
        return ", ".join(names)
    return f"{', '.join(names[:2])} and {len(names) - 2} more"


def _step(number: int, step: Step) -> list[str]:
    marks = f"{' [root]' if step.needs_root else ''}{'' if step.available else f' {LATER}'}"
    lines = _wrapped(f"{number}. {step.title}{marks}", INDENT, hanging="   ")
    return [*lines, *(line for change in step.changes for line in _wrapped(change, INDENT * 3))]


def _stops(plan: Plan) -> list[str]:
    later = [str(number) for number, step in enumerate(plan.steps, 1) if not step.available]
    if not later:
        return []
    which = f"step {later[0]} has" if len(later) == 1 else f"steps {' and '.join(later)} have"
    without = "; --device cpu plans without the GPU" if any(each.device == "cuda" for each in plan.stack) else ""
    return _wrapped(f"`provision up` stops before it changes anything: {which} to be done by hand{without}", "")


def _row(name: str, value: str) -> list[str]:
    return _wrapped(f"{name:<14}{value}", INDENT, hanging=" " * 14)


def _item(mark: str, text: str, indent: str = INDENT) -> list[str]:
    return _wrapped(f"{mark} {text}", indent, hanging="  ")


def _wrapped(text: str, indent: str, hanging: str = "") -> list[str]:
    """At most WIDTH columns; a word that is longer (an address, a path) stays whole up to there."""
    lines = textwrap.wrap(
        text.replace(LATER, LATER.replace(" ", NO_BREAK)),
        width=WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_on_hyphens=False,
    )
    return [line.replace(NO_BREAK, " ") for line in lines]
