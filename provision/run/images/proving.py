"""Proving an environment image before it gets a tag: where it can be proved, what was proved before, what was found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from provision.errors import UsageError, VerificationFailed
from provision.model.image import ImagePlan, Verdict
from provision.model.report import CheckOutcome, Progress, Report, StepOutcome
from provision.run import checks
from provision.run.images import containers, gpus, verify
from provision.run.images.engine import Engine
from provision.run.images.verdicts import Proof, keep, kept, proof_key

OnEvent = Callable[[Progress], None]
Status = Literal["ok", "changed", "failed", "skipped"]

PROVE = "Run the checks"
START_TIMEOUT_S = 120.0
REFUSED = 78
"""EX_CONFIG of sysexits.h: what the entry point ends with on a lesser CPU."""


def step(title: str, tag: str, status: Status, seconds: float, detail: str = "") -> StepOutcome:
    return StepOutcome(
        id=title.lower().replace(" ", "_"),
        title=title,
        status=status,
        seconds=round(seconds, 3),
        detail=detail or tag,
    )


def contents_need(plan: ImagePlan) -> tuple[str, ...]:
    """CPU flags that the environment itself was compiled for: what a CPU must have to prove it."""
    return tuple(sorted({flag for flags in checks.needed_flags(plan.plan).values() for flag in flags}))


def refuse_unprovable(plans: Sequence[ImagePlan], verify: bool) -> None:
    """Raises UsageError where the engine's own CPU cannot run what is asked for: it would get no proof, so no tag."""
    if not verify:
        return
    for plan in plans:
        here = set(plan.base.facts.cpu.flags)
        missing = [flag for flag in contents_need(plan) if here and flag not in here]
        if missing:
            raise UsageError(
                what=f"{plan.tag} cannot be proved on the engine's machine",
                why=f"what is in it is compiled for {', '.join(missing)}, which that CPU "
                f"({plan.base.facts.cpu.model_name or 'model not known'}) lacks",
                hint="build it with an engine on a CPU that has them (DOCKER_HOST=ssh://…), "
                "or without proof: --no-verify",
            )


def prove(
    engine: Engine,
    tag: str,
    plan: ImagePlan,
    mnist: tuple[Path, ...],
    run_id: str,
    *,
    on_event: OnEvent,
    cancel: threading.Event,
    skip: bool,
    steps: list[StepOutcome],
) -> Proof:
    """What the checks say of the environment image ``tag``; taken from an earlier run where nothing differs."""
    if skip:
        return Proof(verdict=Verdict(status="not run", why="it was left out (--no-verify)"), checks=(), smoke=None)
    image = engine.inspect(tag)
    with_gpus = plan.device == "cuda" and gpus.there(engine)
    key = proof_key(image["RootFS"]["Layers"], image.get("Config") or {}, _asked(plan, mnist, with_gpus))
    known = kept(key)
    if known is not None:
        text = "the same environment passed the same checks before"
        on_event(Progress(host=plan.tag, kind="note", step=PROVE, text=text))
        steps.append(step(PROVE, plan.tag, "skipped", 0.0, text))
        return known
    begun = time.monotonic()
    report = verify.verify_image(
        engine, tag, mnist=mnist, gpus=with_gpus, plan=plan.plan, flags=contents_need(plan), cancel=cancel,
        on_event=lambda event: on_event(replace(event, host=plan.tag)),  # the temporary tag says nobody anything
        run_id=run_id, quick_ops=True,
    )  # fmt: skip
    proof = Proof(verdict=_verdict(report, plan, with_gpus), checks=report.checks, smoke=report.smoke)
    failed = proof.verdict.status == "failed"
    steps.append(step(PROVE, plan.tag, "failed" if failed else "ok", time.monotonic() - begun))
    keep(key, proof)
    return proof


def with_audits(proof: Proof, audits: Sequence[CheckOutcome]) -> Proof:
    """The proof with what was found where the wheels were made: an image has nothing to disassemble them with."""
    done = {audit.id: audit for audit in audits}
    checks = tuple(done.pop(check.id, check) for check in proof.checks)
    passed = [audit.id for audit in audits if audit.status == "pass" and audit.id not in proof.verdict.checks]
    verdict = replace(proof.verdict, checks=(*proof.verdict.checks, *passed))
    return replace(proof, verdict=verdict, checks=(*done.values(), *checks))


def _asked(plan: ImagePlan, mnist: tuple[Path, ...], with_gpus: bool) -> dict[str, Any]:
    commands = checks.check_commands(plan.plan, checks.needed_flags(plan.plan), mnist=bool(mnist), quick_ops=True)
    return {
        "commands": checks.check_data(commands),
        "files": checks.check_files(commands),
        "gpus": with_gpus,
    }


def _verdict(report: Report, plan: ImagePlan, with_gpus: bool) -> Verdict:
    passed = tuple(check.id for check in report.checks if check.status == "pass")
    smoke = report.smoke
    if not report.ok:
        why = "; ".join(failure.what for failure in report.failures)
        return Verdict(status="failed", why=why, checks=passed)
    if plan.device == "cuda" and not with_gpus:
        why = "no GPU was at hand: what runs on a CPU passed; provision image verify TAG --gpus proves the rest"
        return Verdict(status="not run", why=why, checks=passed)
    return Verdict(
        status="passed",
        checks=passed,
        accuracy=smoke.accuracy if smoke else None,
        dataset=smoke.dataset if smoke else None,
        device=smoke.device if smoke else plan.device,
    )


def started(engine: Engine, tag: str, plan: ImagePlan, run_id: str, *, cancel: threading.Event) -> None:
    """Start the final image once, through its own entry point: Python must answer, or a lesser CPU be refused.

    Raises VerificationFailed.
    """
    command = ["python3", "-c", "import sys; print(sys.version_info[:2])"]
    code, said = containers.run_once(engine, tag, command, run_id=run_id, timeout_s=START_TIMEOUT_S, cancel=cancel)
    here = set(plan.base.facts.cpu.flags)
    lesser = bool(here) and not set(plan.flags) <= here
    if code == 0 and not lesser:
        return
    if code == REFUSED and lesser:
        return
    raise VerificationFailed(
        what=f"{plan.tag} does not start as it should",
        why=f"`{' '.join(command)}` in it ended with {code}, wanted {REFUSED if lesser else 0}:\n{said.strip()}",
        hint="this is a bug in provision where the base image is a plain one: please report it",
    )
