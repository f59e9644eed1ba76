"""Building on hosts: sources made ready here, wheels made there, one play for all hosts that build."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from provision import assets
from provision.catalog.failures import build_failures
from provision.detect.build_failures import failure_from
from provision.errors import Interrupted, ProvisionError
from provision.model.build import Build, Source
from provision.model.data import to_data
from provision.model.plan import Plan
from provision.model.report import BuildOutcome, Configured, Failure, Progress, Report, StepOutcome
from provision.run import reports
from provision.run.build_settings import Until
from provision.run.built import BuiltWheel, build_outcomes, built_wheels
from provision.run.play_events import HostResult
from provision.run.source_archive import Archive, archive_of
from provision.run.uv import Uv, uv_for
from provision.run.uv import ready as uv_ready

if TYPE_CHECKING:
    from provision.run.execute import Options, Target

BUILT = reports.BUILT
WORKERS = 4
OnEvent = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What was built on one host."""

    wheels: tuple[BuiltWheel, ...]
    outcomes: tuple[BuildOutcome, ...]
    steps: tuple[StepOutcome, ...]


def build(
    targets: Sequence[Target], options: Options, *, on_event: OnEvent, cancel: threading.Event, control_dir: str
) -> tuple[dict[str, Built], dict[str, Report]]:
    """Make every wheel that the targets' plans build: what was built, and the reports of hosts that stopped there.

    Of hosts that share a remote cache and build the same, one compiles first and the others then fetch. With
    ``options.build.until`` every host stops, and its report says what was done.
    """
    ready = _variables(targets, options, on_event=on_event, cancel=cancel)
    built: dict[str, Built] = {}
    stopped = {
        target.host.name: reports.stopped(target, outcome)
        for target, outcome in zip(targets, ready, strict=True)
        if isinstance(outcome, ProvisionError)
    }
    work = [(target, made) for target, made in zip(targets, ready, strict=True) if not isinstance(made, ProvisionError)]
    in_cache: set[str] = set()
    while work:
        if cancel.is_set():
            error = Interrupted(what="interrupted", why="nothing was changed on this host")
            return built, stopped | {target.host.name: reports.stopped(target, error) for target, _ in work}
        going, work = wave(work, in_cache, lambda each: shared_build(each[0], options))
        for target, _ in work:
            text = "waiting: another host builds the same first, for the remote cache"
            on_event(Progress(host=target.host.name, kind="note", step=BUILT, text=text))
        results, unreaped = _play(going, options, on_event=on_event, cancel=cancel, control_dir=control_dir)
        for target, _ in going:
            name = target.host.name
            outcome = _outcome(target, results[name], until=options.build.until, unreaped=name in unreaped)
            if isinstance(outcome, Report):
                stopped[name] = outcome
            else:
                built[name] = outcome
                in_cache |= {shared_build(target, options)} - {""}
    return built, stopped


Each = TypeVar("Each")


def wave(
    work: Sequence[Each], in_cache: Container[str], shared: Callable[[Each], str]
) -> tuple[list[Each], list[Each]]:
    """Who goes now, and who waits: of those with an equal ``shared`` that is not in the cache yet, only the first."""
    going: list[Each] = []
    waiting: list[Each] = []
    begun: set[str] = set()
    for each in work:
        key = shared(each)
        waits = key != "" and key not in in_cache and key in begun
        (waiting if waits else going).append(each)
        begun.add(key)
    return going, waiting


def shared_build(target: Target, options: Options) -> str:
    """Equal for targets that may take each other's work from a remote cache; empty for one that has none."""
    cache = options.build.remote_cache or target.host.variables.get("provision_remote_cache") or ""
    if not cache or options.build.until in ("preflight", "configure"):
        return ""
    return json.dumps([str(cache), to_data(target.plan.builds)], sort_keys=True)


def _play(
    work: Sequence[tuple[Target, Mapping[str, Any]]],
    options: Options,
    *,
    on_event: OnEvent,
    cancel: threading.Event,
    control_dir: str,
) -> tuple[Mapping[str, HostResult], tuple[str, ...]]:
    """playbooks/build.yml; each host's result, and the hosts where something may still run."""
    from provision.run.ansible import new_run_id, play
    from provision.run.progress import watched

    hosts, run_id = [target.host for target, _ in work], new_run_id()
    with watched(hosts, run_id, control_dir, on_event):
        played = play(
            assets.folder("playbooks") / "build.yml",
            hosts,
            {target.host.name: variables for target, variables in work},
            inventory_sources=tuple(str(path.resolve()) for path in options.inventories),
            on_event=on_event,
            cancel=cancel,
            control_dir=control_dir,
            become_password=options.become_password,
            run_id=run_id,
        )
    return played.results, played.unreaped


def _variables(
    targets: Sequence[Target], options: Options, *, on_event: OnEvent, cancel: threading.Event
) -> list[dict[str, Any] | ProvisionError]:
    """What playbooks/build.yml takes, for each target; equal sources are made ready once."""
    uv_ready()
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        archives: dict[Source, Future[Archive | None]] = {}
        binaries: dict[str | None, Future[Uv]] = {}
        for target in targets:
            binaries.setdefault(target.plan.arch, pool.submit(uv_for, target.plan.arch, cancel=cancel))
            for each in target.plan.builds:
                if each.source not in archives:
                    told = _told(target.host.name, on_event)
                    archives[each.source] = pool.submit(_archive, each, told, cancel)
        return [_of(target, options, archives, binaries) for target in targets]


def _told(host: str, on_event: OnEvent) -> OnEvent:
    """Progress of what is fetched here, told as the first host's that needs it."""
    return lambda event: on_event(replace(event, host=host))


def _archive(build: Build, on_event: OnEvent, cancel: threading.Event) -> Archive | None:
    if build.source.kind == "index":
        return None
    return archive_of(build.source, on_event=on_event, cancel=cancel, framework=build.framework, version=build.version)


def _of(
    target: Target,
    options: Options,
    archives: Mapping[Source, Future[Archive | None]],
    binaries: Mapping[str | None, Future[Uv]],
) -> dict[str, Any] | ProvisionError:
    import os

    from provision.run.carrying import controller
    from provision.run.lock import target_environment

    try:
        uv = binaries[target.plan.arch].result()
        builds = [_entry(to_data(each), archives[each.source].result()) for each in target.plan.builds]
    except ProvisionError as error:
        return error
    return {
        "provision_builds": builds,
        "provision_uv_binary": str(uv.path),
        "provision_uv_sha256": uv.sha256,
        "provision_uv_version": uv.version,
        "provision_uv_environment": target_environment(
            target.plan, os.environ, local=target.host.connection == "local"
        ),
        "provision_controller": controller(),
        "provision_lock_timeout_s": options.lock_timeout_s,
        **options.build.variables(),
    }


def _entry(build: Any, archive: Archive | None) -> dict[str, Any]:
    return {
        "build": build,
        "archive": str(archive.path) if archive else "",
        "archive_sha256": archive.sha256 if archive else "",
    }


def _outcome(target: Target, result: HostResult, *, until: Until, unreaped: bool) -> Built | Report:
    answers = _answers(result)
    outcomes = build_outcomes([each for answer in answers for each in answer.get("builds") or ()])
    report = replace(reports.carried_out(target, result, (), unreaped=unreaped), builds=outcomes)
    if not report.ok:
        return replace(report, failures=tuple(diagnosed(target.plan, report.failures, _answers(result))))
    if until:
        return replace(report, until=until, configured=_configured(answers))
    return Built(
        wheels=built_wheels([each for answer in answers for each in answer.get("builds") or ()]),
        outcomes=outcomes,
        steps=report.steps,
    )


def _answers(result: HostResult) -> list[Mapping[str, Any]]:
    """The module's answers: one for each build of the loop."""
    data = result.data.get(BUILT, {})
    return list(data.get("results") or ([data] if data else []))


def _configured(answers: Sequence[Mapping[str, Any]]) -> tuple[Configured, ...]:
    found = [each["configured"] for each in answers if each.get("configured")]
    return tuple(
        Configured(
            framework=str(each["framework"]),
            file=str(each["file"]),
            text=str(each["text"]),
            notes=tuple(map(str, each.get("notes") or ())),
        )
        for each in found
    )


def diagnosed(plan: Plan, failures: Sequence[Failure], answers: Sequence[Mapping[str, Any]]) -> Iterator[Failure]:
    """The failures, that of a build with its known cause; ``answers`` are in the order of the plan's builds."""
    number = next((n for n, each in enumerate(answers) if each.get("failed") and each.get("kind") == "build"), None)
    for failure in failures:
        if number is None or failure.kind != "build":
            yield failure
            continue
        build = plan.builds[number]
        yield failure_from(
            answers[number],
            build_failures(),
            framework=build.framework,
            version=build.version,
            compiler=build.compiler.family if build.compiler else None,
            own_compiler=plan.request.compiler is not None,
        )
