"""Why a source build is told what it is told."""

from __future__ import annotations

from collections.abc import Iterator

from provision.model.plan import Plan, Reason
from provision.model.request import Request
from provision.resolve.copts import oldest_that_takes
from provision.resolve.told import Told


def build_reasons(told: tuple[Told, ...], stock: Plan | None, request: Request) -> tuple[Reason, ...]:
    found = [reason for each in told for reason in _of(each)]
    if told:
        found += _measured(told, stock, request)
    return tuple(found)


def compared(stock: Plan | None, request: Request) -> str:
    """What the build is measured against: "tensorflow 2.21.0 from tensorflow-cpu==2.21.0"; "" where it is not."""
    if stock is None or request.keep != "faster":
        return ""
    return ", ".join(f"{each.framework} {each.version} from {each.requirements[0]}" for each in stock.stack)


def _of(told: Told) -> Iterator[Reason]:
    release = told.candidate.release
    yield Reason(
        rule="compiler",
        text=f"{told.candidate.framework} is compiled by {told.choice.reason}"
        if told.compiler and not told.choice.assumed
        else f"compiler for {told.candidate.framework}: {told.choice.reason}",
        source=told.recipe.source[0] if told.recipe.source else "",
    )
    for row in told.left_out:
        yield Reason(
            rule="copts.compiler",
            text=f"{told.compiler_text} does not take {row.option} ({oldest_that_takes(told.compiler_text, row)}): "
            f"left out, though the target has {row.flag}",
            source=row.source[0] if row.source else "",
        )
    if told.request.cpu == "fleet":
        lost = "; ".join(told.request.cpu_left_out)
        yield Reason(
            rule="copts.fleet",
            text=f"{release.framework} is compiled for what every host of the fleet has"
            + (f"; left out, since {lost}" if lost else ""),
        )
    if not told.runs_here:
        yield Reason(
            rule="copts.elsewhere",
            text=f"{release.framework} is built for another machine: this CPU lacks {', '.join(told.missing)}, which "
            f"--cpu {told.request.cpu} has; the smoke test is refused here",
        )


def _measured(told: tuple[Told, ...], stock: Plan | None, request: Request) -> Iterator[Reason]:
    names = " and ".join(f"{each.candidate.framework} {each.version}" for each in told)
    if stock is None:
        if all(each.runs_here for each in told):
            yield Reason(rule="comparison", text=f"nothing to compare with: no wheel of {names} fits this host")
        return
    onednn = next((each.candidate.release.onednn for each in told if each.candidate.release.onednn), "")
    does = f" What the wheel does at run time: {onednn}." if onednn else ""
    settled = {
        "faster": "both are measured in turn, and the faster one is kept (--keep faster)",
        "build": "the build is kept whichever is faster, because --keep build asks for it",
        "wheel": "the wheel is kept whichever is faster, because --keep wheel asks for it",
    }[request.keep]
    yield Reason(
        rule="comparison",
        text=f"the wheel of {names} runs here too, so speed is the only reason for a build: {settled}.{does}",
    )
