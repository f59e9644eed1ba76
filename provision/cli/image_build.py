"""`provision image build` after its options are read: look at the base, plan, show, ask, build, report."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from provision.cli import console
from provision.errors import HostError
from provision.model.image import ImageOutcome, ImagePlan, ImageReport, Verdict

if TYPE_CHECKING:
    from provision.cli.planning import Looked
    from provision.model.facts import Facts
    from provision.model.host import Host
    from provision.model.image import Base
    from provision.resolve.image import ImageAsk
    from provision.run.images.building import BuildOptions
    from provision.run.images.engine import Engine

FIRST = "an image would be built"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked, checked."""

    ask: ImageAsk
    options: BuildOptions
    hosts: tuple[Host, ...] = ()
    """For a sweep; none: the CPUs of ``ask``."""
    per_level: bool = False
    output: Path | None = None
    dry_run: bool = False
    yes: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """Plans, with the hosts that take each where there are any."""

    plans: tuple[ImagePlan, ...]
    hosts: tuple[tuple[str, ...], ...] = ()
    why: tuple[str, ...] = ()


def build(wanted: Wanted) -> None:
    """Do it, print the report and leave with its exit code."""
    from provision.cli.interrupt import cancellable
    from provision.run.images.engine import connect

    with cancellable() as cancel:
        facts = _fleet(wanted.hosts, cancel)
        with connect() as engine:
            swept = _planned(wanted, facts, _base(engine, wanted.ask.base, cancel))
            _show(wanted, swept)
            report = _carried_out(wanted, swept, engine, cancel)
    _conclude(report, swept, wanted.as_json)


def _fleet(hosts: Sequence[Host], cancel: threading.Event) -> tuple[Facts, ...]:
    """Facts of every host. Raises HostError where one cannot be read: an image for all cannot be planned then."""
    if not hosts:
        return ()
    from provision.cli.planning import look
    from provision.run.ssh import ControlDir

    with ControlDir() as control_dir:
        looked = look(hosts, control_dir, cancel)
    unread = [each for each in looked if each.facts is None]
    if unread:
        raise unreadable(unread)
    return tuple(each.facts for each in looked if each.facts is not None)


def unreadable(unread: Sequence[Looked]) -> HostError:
    """What a sweep says of hosts that gave no answer."""
    failure = unread[0].failure
    return HostError(
        what=f"an image for the fleet needs every host, and {' and '.join(each.host.name for each in unread)} "
        "cannot be read",
        why="" if failure is None else f"{failure.what}: {failure.why}".rstrip(": "),
        hint="leave it out with --limit, or name a level that all of them have: --cpu x86-64-v2",
    )


def _base(engine: Engine, reference: str, cancel: threading.Event) -> Base:
    from provision.cli.display import progress_display
    from provision.run.images.bases import look

    with progress_display([reference]) as display:
        return look(engine, reference, on_event=display.event, cancel=cancel)


def _planned(wanted: Wanted, facts: tuple[Facts, ...], base: Base) -> Swept:
    from provision.catalog.images import distributions
    from provision.catalog.load import catalog
    from provision.resolve.image import image_plans

    if not facts:
        return Swept(plans=image_plans(wanted.ask, base, catalog(), distributions()))
    from provision.resolve.image_fleet import fleet_plans, sweep

    parts = sweep(facts, wanted.per_level, wanted.ask.request, catalog())
    plans = fleet_plans(wanted.ask, parts, facts, base, catalog(), distributions())
    return Swept(plans=plans, hosts=tuple(part.hosts for part in parts), why=tuple(part.why for part in parts))


def _show(wanted: Wanted, swept: Swept) -> None:
    from provision.cli.image_input import check_one_output
    from provision.render.image import plans_text, sweep_text
    from provision.resolve.image import environment_key

    check_one_output(wanted.output, [plan.cpu for plan in swept.plans])
    shared: dict[str, list[str]] = {}
    for plan in swept.plans:
        shared.setdefault(environment_key(plan), []).append(plan.tag)
    text = plans_text(swept.plans, list(shared.values()), _notes(wanted, swept.plans))
    if swept.hosts:
        text += "\n" + sweep_text(_takes(swept))
    if wanted.dry_run and not wanted.as_json:
        console.answer(text + "\n")
    else:
        console.story(text)


def _takes(swept: Swept) -> tuple[tuple[str, str, str], ...]:
    """(host, tag, why), sorted by host."""
    parts = zip(swept.plans, swept.hosts, swept.why, strict=True)
    return tuple(sorted((host, plan.tag, why) for plan, hosts, why in parts for host in hosts))


def _notes(wanted: Wanted, plans: Sequence[ImagePlan]) -> list[str]:
    """What goes beyond this machine, and what is left out."""
    from provision.render.image import HUB
    from provision.resolve.image_tags import checked_reference

    notes = []
    if wanted.options.push:
        for plan in plans:
            registry = checked_reference(plan.tag).registry
            notes.append(f"then {plan.tag} is pushed to {registry or HUB}")
    if not wanted.options.verify and wanted.output is None:
        notes.append("without proof: the checks and the smoke test are left out (--no-verify)")
    return notes


def _carried_out(wanted: Wanted, swept: Swept, engine: Engine, cancel: threading.Event) -> ImageReport:
    if wanted.dry_run:
        return unbuilt(swept.plans, "dry run: nothing was built")
    if wanted.output is not None:
        return _written(wanted, wanted.output, swept.plans[0], cancel)
    from provision.cli.carry_out import confirm
    from provision.cli.display import progress_display
    from provision.run.images.building import build_images

    number = len(swept.plans)
    confirm(f"Build {'it' if number == 1 else f'these {number} images'}?", wanted.yes, FIRST)
    with progress_display(plan.tag for plan in swept.plans) as display:
        return build_images(engine, swept.plans, wanted.options, on_event=display.event, cancel=cancel)


def _written(wanted: Wanted, output: Path, plan: ImagePlan, cancel: threading.Event) -> ImageReport:
    """``--output``. The answer is how to build it; the report is for --json."""
    from provision.cli.display import progress_display
    from provision.render.image import output_text
    from provision.run.images.output import context_of, place, write

    mounts = wanted.options.builder != "classic"
    with progress_display([place(output).name]) as display:
        written = write(
            plan, output, mounts=mounts, settings=wanted.options.build, packages=wanted.options.builder_packages,
            on_event=display.event, cancel=cancel,
        )  # fmt: skip
    text = output_text(str(written), str(context_of(written)), plan.tag, mounts=mounts)
    return unbuilt([plan], *text.splitlines())


def unbuilt(plans: Sequence[ImagePlan], *notes: str) -> ImageReport:
    """The report of a call that builds nothing."""
    images = tuple(_unbuilt(plan) for plan in plans)
    return ImageReport(ok=True, builder=None, engine="", images=images, steps=(), notes=tuple(notes))


def _unbuilt(plan: ImagePlan) -> ImageOutcome:
    return ImageOutcome(
        tag=plan.tag, id=None, cpu=plan.cpu, level=plan.level, flags=plan.flags, stack=plan.plan.stack,
        base=plan.base.reference, base_digest=plan.base.digest, minimal=plan.minimal, size_bytes=None, layers=(),
        verdict=Verdict(status="not run", why="nothing was built"),
    )  # fmt: skip


def _conclude(report: ImageReport, swept: Swept, as_json: bool) -> None:
    from provision.render.image import report_text, sweep_text

    if swept.hosts:
        images = (replace(image, hosts=hosts) for image, hosts in zip(report.images, swept.hosts, strict=True))
        report = replace(report, images=tuple(images))
    if as_json:
        console.answer_json(report)
    elif report.builder is None:
        console.answer("\n".join(report.notes))
    else:
        built = {image.tag for image in report.images if image.id is not None}
        takes = [row for row in _takes(swept) if row[1] in built] if swept.hosts else []
        console.answer(report_text(report) + ("\n" + sweep_text(takes) if takes else ""))
    code = exit_code(report)
    if code:
        raise typer.Exit(code)


def exit_code(report: ImageReport) -> int:
    """0 where every image is as it should be, else that of the first failure."""
    failures = [*report.failures, *(failure for image in report.images for failure in image.failures)]
    return 0 if report.ok else next((failure.exit_code for failure in failures), 6)
