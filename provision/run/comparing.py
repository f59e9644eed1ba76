"""After a source build: the same workload on the build and on the stock wheel, in turn, and the winner kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from provision import assets
from provision.model.plan import Plan
from provision.model.report import Comparison, Pair, Progress, Report
from provision.run import checks, reports

if TYPE_CHECKING:
    from provision.run.execute import Options, Target

OnEvent = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Two verified generations of one environment, neither of them made current yet."""

    target: Target
    report: Report
    """Of the build."""
    stock: Report
    build_generation: int
    wheel_generation: int


def worth_comparing(plan: Plan, options: Options) -> bool:
    """Where speed alone was the reason, since a wheel would run, and nobody said that the build is to be kept."""
    return (
        plan.stock is not None
        and options.verify
        and plan.request.keep != "build"
        and all(each.runs_here for each in plan.builds)
    )


def compare(
    contests: Sequence[Contest], options: Options, on_event: OnEvent, cancel: threading.Event, control_dir: str
) -> dict[str, Report]:
    """Each contest decided on its host; by host name, the report of what was kept."""
    from provision.run.ansible import new_run_id, play
    from provision.run.progress import watched

    if not contests or cancel.is_set():
        return {}
    hosts, run_id = [each.target.host for each in contests], new_run_id()
    with watched(hosts, run_id, control_dir, on_event):
        played = play(
            assets.folder("playbooks") / "compare.yml",
            hosts,
            {each.target.host.name: _variables(each, options) for each in contests},
            inventory_sources=tuple(str(path.resolve()) for path in options.inventories),
            on_event=on_event,
            cancel=cancel,
            control_dir=control_dir,
            run_id=run_id,
        )
    decided = {}
    for each in contests:
        name = each.target.host.name
        result = played.results[name]
        report = reports.carried_out(each.target, result, (), unreaped=name in played.unreaped)
        decided[name] = _decided(each, report, result.data.get(reports.COMPARED, {}).get("comparison"))
    return decided


def _variables(contest: Contest, options: Options) -> dict[str, Any]:
    """What playbooks/compare.yml takes."""
    from provision.run.carrying import controller

    plan = contest.target.plan
    files = checks.mnist_files(options.mnist)
    framework = plan.builds[0].framework
    every = checks.check_commands(plan, {}, mnist=bool(files), gpus=())
    commands = [each for each in every if each.id == f"mnist:{framework}"]
    return {
        "provision_compare": {
            "name": plan.request.name,
            "build_generation": contest.build_generation,
            "wheel_generation": contest.wheel_generation,
            "framework": framework,
            "keep": plan.request.keep,
            "pairs": options.pairs,
            "fingerprint": plan.fingerprint,
            "scripts": checks.check_files(commands),
            "command": checks.check_data(commands)[0],
        },
        "provision_mnist_files": [str(path) for path in files],
        "provision_controller": controller(),
        "provision_lock_timeout_s": options.lock_timeout_s,
    }


def _decided(contest: Contest, report: Report, found: Mapping[str, Any] | None) -> Report:
    """One report of both plays: the checks are those of the generation that was kept."""
    steps = (*contest.report.steps, *report.steps)
    merged = replace(
        report,
        steps=steps,
        changed=sum(step.status == "changed" for step in steps),
        checks=contest.report.checks,
        smoke=contest.report.smoke,
    )
    if found is None:
        return merged
    comparison = _comparison(found)
    merged = replace(merged, comparisons=(comparison,))
    if comparison.kept == "build":
        return merged
    audits = tuple(check for check in contest.report.checks if check.id.startswith("isa_audit:"))
    return replace(merged, checks=(*contest.stock.checks, *audits), smoke=contest.stock.smoke)


def _comparison(found: Mapping[str, Any]) -> Comparison:
    pairs = tuple(Pair(build=float(each["build"]), wheel=float(each["wheel"])) for each in found["pairs"])
    return Comparison(**{**found, "pairs": pairs})
