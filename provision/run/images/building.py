"""From image plans to images: the environment built once for all tags that share it, proved, and only then tagged."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from provision.errors import Interrupted, ProvisionError, UsageError, VerificationFailed
from provision.model.image import ImageOutcome, ImagePlan, ImageReport, Verdict
from provision.model.labels import verdict_text
from provision.model.plan import Plan
from provision.model.report import Failure, Progress, StepOutcome
from provision.render.dockerfile import environment_dockerfile, final_dockerfile
from provision.resolve.image import environment_key
from provision.run import reports
from provision.run.build_settings import BuildSettings
from provision.run.images import cleanup, proving, registry, sbom
from provision.run.images.builders import BuildAsk, Builder, choose
from provision.run.images.context import environment_context, final_context, templates
from provision.run.images.engine import Engine
from provision.run.images.verdicts import Proof
from provision.run.images.wheels import MadeWheels, make_wheels
from provision.run.lock import locked, target_environment, wheels_to_ship
from provision.run.uv import ready, uv_for

OnEvent = Callable[[Progress], None]

LOCK = "Resolve versions"
ENVIRONMENT = "Build the environment"
FINAL = "Make the image"
PUSH = "Push"
BILL = "Write the bill of materials"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    builder: str = "auto"
    push: bool = False
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    no_cache: bool = False
    verify: bool = True
    mnist: tuple[Path, ...] = ()
    """The four files, checked; none: generated digits."""
    sbom: Path | None = None
    build: BuildSettings = field(default_factory=BuildSettings)
    builder_packages: tuple[str, ...] = ()
    """Further packages of the distribution for the stage that builds from source."""


def build_images(
    engine: Engine, plans: Sequence[ImagePlan], options: BuildOptions, *, on_event: OnEvent, cancel: threading.Event
) -> ImageReport:
    """Build every plan's tag. Tags that share an environment share its layers and its proof.

    What fails keeps no tag, and the others go on; nothing temporary stays. Raises UsageError or StepFailed where there
    is no such builder.
    """
    proving.refuse_unprovable(plans, options.verify)
    groups = _groups(plans)
    _refuse_shared_cache(groups, options.cache_to)
    builder = choose(engine, options.builder)
    run = _Run(engine, builder, options, on_event, cancel)
    run.many = len(plans) > 1
    if builder.note:
        run.notes.append(builder.note)
    outcomes: dict[str, ImageOutcome] = {}
    try:
        for group in groups:
            outcomes |= {outcome.tag: outcome for outcome in run.group(group)}
    finally:
        cleanup.tidy(engine, run.run_id)
    images = tuple(outcomes[plan.tag] for plan in plans)
    return ImageReport(
        ok=not any(image.failures for image in images),
        builder=builder.name,
        engine=engine.text,
        images=images,
        steps=tuple(run.steps),
        notes=tuple(run.notes),
    )


def new_run() -> str:
    """Names what a run makes: eight hex digits."""
    return os.urandom(4).hex()


def _groups(plans: Sequence[ImagePlan]) -> list[list[ImagePlan]]:
    """Those that share an environment, in the order asked."""
    found: dict[str, list[ImagePlan]] = {}
    for plan in plans:
        found.setdefault(environment_key(plan), []).append(plan)
    return list(found.values())


def _refuse_shared_cache(groups: Sequence[Sequence[ImagePlan]], cache_to: Sequence[str]) -> None:
    """One reference holds the steps of one environment: the next would take its place."""
    places = [place for place in cache_to if place != "inline"]
    if len(groups) > 1 and places:
        raise UsageError(
            what=f"--cache-to {places[0]} holds one environment, and these tags have {len(groups)}",
            why="; ".join(", ".join(plan.tag for plan in group) for group in groups),
            hint="build each in a call of its own, with a reference of its own, or --cache-to inline",
        )


class _Run:
    """One call: what it was given, what it did."""

    def __init__(
        self, engine: Engine, builder: Builder, options: BuildOptions, on_event: OnEvent, cancel: threading.Event
    ) -> None:
        self.engine, self.builder, self.options, self.on_event, self.cancel = engine, builder, options, on_event, cancel
        self.run_id = new_run()
        self.steps: list[StepOutcome] = []
        self.notes: list[str] = []
        self.made = 0
        self.many = False

    def group(self, plans: Sequence[ImagePlan]) -> list[ImageOutcome]:
        """The tags of one environment."""
        first = plans[0]
        try:
            locked_plan, wheels = self._locked(first)
            start = self._environment(replace(first, plan=locked_plan), wheels)
            proof = proving.prove(
                self.engine, start, replace(first, plan=locked_plan), self.options.mnist, self.run_id,
                on_event=self.on_event, cancel=self.cancel, skip=not self.options.verify, steps=self.steps,
            )  # fmt: skip
            if wheels is not None:
                proof = proving.with_audits(proof, wheels.checks)
        except ProvisionError as error:
            return [_failed(plan, error) for plan in plans]
        if proof.verdict.status == "failed":
            failure = self._kept_for_looking(start, proof)
            return [_failed(plan, failure, proof) for plan in plans]
        return [
            self._image(replace(plan, plan=replace(plan.plan, lock=locked_plan.lock)), start, proof, number)
            for number, plan in enumerate(plans)
        ]

    def _locked(self, plan: ImagePlan) -> tuple[Plan, MadeWheels | None]:
        """The plan with exact versions, and the wheels that were made for it from source."""
        ready()
        wheels = None
        if plan.plan.builds:
            wheels = make_wheels(
                self.engine, self.builder, plan, settings=self.options.build, on_event=self.on_event,
                cancel=self.cancel, run_id=self.run_id, no_cache=self.options.no_cache,
                packages=self.options.builder_packages,
            )  # fmt: skip
        with self._step(LOCK, plan.tag):
            found = locked(plan.plan, cancel=self.cancel, built=wheels.wheels if wheels else ())
        return found, wheels

    def _environment(self, plan: ImagePlan, wheels: MadeWheels | None) -> str:
        """A temporary tag of the image that holds the environment and says nothing of a CPU yet."""
        files = (*wheels_to_ship(plan.plan), *(wheels.files if wheels else ()))
        tag = f"{cleanup.TEMPORARY}:{self.run_id}-{self.made}"
        self.made += 1
        ask = BuildAsk(
            dockerfile=environment_dockerfile(
                plan, templates(), mounts=self.builder.mounts, wheels=tuple(file.name for file in files)
            ),
            context=environment_context(
                plan,
                uv=uv_for(plan.plan.arch, cancel=self.cancel).path,
                uv_environment=target_environment(plan.plan, os.environ, local=False),
                wheels=files,
            ),
            tag=tag,
            no_cache=self.options.no_cache,
            cache_from=self.options.cache_from,
            cache_to=self.options.cache_to,
            run_id=self.run_id,
            host=plan.tag,
            title=ENVIRONMENT,
        )
        with self._step(ENVIRONMENT, plan.tag, told=False):
            self.builder.build(ask, on_event=self.on_event, cancel=self.cancel)
        return tag

    def _image(self, plan: ImagePlan, start: str, proof: Proof, number: int) -> ImageOutcome:
        """One tag on the proved environment: CPU file, labels, the user's own files."""
        ask = BuildAsk(
            dockerfile=final_dockerfile(plan, templates(), start=start, verdict=verdict_text(proof.verdict)),
            context=final_context(plan),
            tag=f"{start}-{number}",
            run_id=self.run_id,
            host=plan.tag,
            title=FINAL,
        )
        try:
            with self._step(FINAL, plan.tag, told=False):
                self.builder.build(ask, on_event=self.on_event, cancel=self.cancel)
            proving.started(self.engine, ask.tag, plan, self.run_id, cancel=self.cancel)
            self._tagged(ask.tag, plan.tag)
        except ProvisionError as error:
            return _failed(plan, error, proof)
        return self._handed_on(plan, self._outcome(plan, proof))

    def _handed_on(self, plan: ImagePlan, outcome: ImageOutcome) -> ImageOutcome:
        """What is done with a tag that is there, and stays whatever becomes of that."""
        try:
            if self.options.sbom is not None:
                with self._step(BILL, plan.tag):
                    path = sbom.write(self.engine, plan, outcome, sbom.path_for(self.options.sbom, plan, self.many))
                outcome = replace(outcome, sbom=str(path))
            if self.options.push:
                with self._step(PUSH, plan.tag, told=False):
                    pushed = registry.push(self.engine, plan.tag, on_event=self.on_event, cancel=self.cancel)
                outcome = replace(outcome, pushed=pushed)
        except ProvisionError as error:
            return replace(outcome, failures=_failures(error))
        return outcome

    def _tagged(self, made: str, tag: str) -> None:
        """Move the tag. An image of ours that it leaves without any name goes, where nothing uses it."""
        before = self.engine.find(tag)
        self.engine.tag(made, tag)
        if before is not None and before["Id"] != self.engine.inspect(made)["Id"]:
            cleanup.remove_nameless(self.engine, str(before["Id"]))

    def _outcome(self, plan: ImagePlan, proof: Proof) -> ImageOutcome:
        image = self.engine.inspect(plan.tag)
        return replace(
            _nothing(plan, proof),
            id=str(image["Id"]),
            size_bytes=int(image["Size"]),
            layers=tuple(image["RootFS"]["Layers"]),
        )

    def _kept_for_looking(self, start: str, proof: Proof) -> VerificationFailed:
        kept = start.replace(cleanup.TEMPORARY, cleanup.FAILED)
        self.engine.tag(start, kept)
        failed = [check for check in proof.checks if check.status == "fail"]
        remedy = next((f"{check.hint}\n" for check in failed if check.hint), "")
        return VerificationFailed(
            what=f"the image failed {len(failed)} of {len(proof.checks)} checks, so it got no tag",
            why="\n".join(f"{check.id}: {check.what}" for check in failed) or proof.verdict.why,
            hint=f"{remedy}to look into it: docker run --rm -it --entrypoint /bin/sh {kept}; then docker rmi {kept}",
        )

    @contextmanager
    def _step(self, title: str, tag: str, *, told: bool = True) -> Iterator[None]:
        """Time it. ``told``: say its beginning and end here; builders and the registry say theirs themselves."""
        if self.cancel.is_set():
            raise Interrupted(what="interrupted", why="no image was tagged after that")
        begun = time.monotonic()
        status: proving.Status = "failed"
        if told:
            self.on_event(Progress(host=tag, kind="step", step=title))
        try:
            yield
            status = "ok"
        finally:
            if told:
                self.on_event(Progress(host=tag, kind="done" if status == "ok" else "failed", step=title))
            self.steps.append(proving.step(title, tag, status, time.monotonic() - begun))


def _nothing(plan: ImagePlan, proof: Proof | None) -> ImageOutcome:
    """What is known of a tag before it is there."""
    return ImageOutcome(
        tag=plan.tag,
        id=None,
        cpu=plan.cpu,
        level=plan.level,
        flags=plan.flags,
        stack=plan.plan.stack,
        base=plan.base.reference,
        base_digest=plan.base.digest,
        minimal=plan.minimal,
        size_bytes=None,
        layers=(),
        verdict=proof.verdict if proof else Verdict(status="not run", why="it was not built"),
        checks=proof.checks if proof else (),
        smoke=proof.smoke if proof else None,
    )


def _failed(plan: ImagePlan, error: ProvisionError, proof: Proof | None = None) -> ImageOutcome:
    return replace(_nothing(plan, proof), failures=_failures(error))


def _failures(error: ProvisionError) -> tuple[Failure, ...]:
    more = (Failure(what=each.what, why=each.why, hint=each.hint, exit_code=error.exit_code) for each in error.details)
    return (reports.failure_of(error), *more)
