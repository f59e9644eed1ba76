"""Reports to text. JSON is ``model.data.to_json`` of the same value."""

from __future__ import annotations

from collections.abc import Sequence

from provision.model.report import CheckOutcome, Environment, Failure, Report, Smoke
from provision.render.comparison import build_lines, comparison_lines, configured_lines
from provision.render.driver import driver_lines

MARK = {"pass": "ok  ", "fail": "FAIL", "skip": "skip"}

UNTIL = {
    "preflight": "this host has what the build needs; nothing was built",
    "configure": "the tree is configured as it was asked; nothing was built",
    "build": "the wheel is built; no environment was made",
}


def report_text(report: Report, verdict: Sequence[str] | None = None) -> str:
    """Builds, checks, the smoke test, comparisons, failures with cause and remedy, the verdict, and how to go on.

    ``verdict``: its lines, where they are not those of an environment on a host.
    """
    lines = [report.host, ""]
    if report.driver is not None:
        lines += [*driver_lines(report.driver), ""]
    for build in report.builds:
        lines += [*build_lines(build), ""]
    for configured in report.configured:
        lines += [*configured_lines(configured), ""]
    if report.checks:
        lines += [*check_lines(report.checks), ""]
    if report.smoke:
        lines += [smoke_line(report.smoke), *speed_up_lines(report.smoke), ""]
    for comparison in report.comparisons:
        lines += [*comparison_lines(comparison), ""]
    for failure in report.failures:
        lines += [*failure_lines(failure), ""]
    lines += _verdict(report) if verdict is None else verdict
    return "\n".join(lines).rstrip() + "\n"


def image_report_text(report: Report) -> str:
    """The report of an image: nothing was changed, and nothing is activated."""
    skipped = {check.id: check for check in report.checks if check.status == "skip"}
    if not report.ok:
        verdict = ["verdict: NOT proved"]
    elif "gpu" in skipped:
        gpu = skipped["gpu"]
        verdict = ["verdict: what runs on a CPU works; NOT proved on a GPU", *_indented(gpu.why), *_hint(gpu.hint)]
    elif any(check.id.startswith("mnist:") and check.status == "pass" for check in report.checks):
        verdict = ["verdict: proved to work"]
    else:
        left = "; ".join(f"{check.id}: {check.what}" for check in skipped.values())
        verdict = ["verdict: NOT proved by training, though no check failed", *_indented(left)]
    return report_text(report, verdict)


def change_text(report: Report) -> str:
    """What `env rollback` and `env remove` say: one line, or the failure."""
    if report.ok:
        environment = report.environment
        if environment is None or environment.generation is None:
            return f"{report.host}: {'removed' if report.changed else 'nothing to remove'}\n"
        done = "now" if report.changed else "already"
        return f"{report.host}: {environment.name} is {done} generation {environment.generation}\n"
    lines = []
    for failure in report.failures:
        lines += [f"error: {report.host}: {failure.what}", *_indented(failure.why), *_hint(failure.hint)]
    return "\n".join(lines) + "\n"


def check_lines(checks: Sequence[CheckOutcome]) -> list[str]:
    """A line for each, with cause and remedy of those that failed."""
    width = max(len(check.id) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"  {MARK[check.status]}  {check.id:<{width}}  {check.what}")
        if check.status == "fail":
            lines += ["        " + line for line in (*check.why.splitlines(), *_hint(check.hint, indent=""))]
    return lines


def failure_lines(failure: Failure) -> list[str]:
    """Its three parts."""
    return [f"error: {failure.what}", *_indented(failure.why), *_hint(failure.hint)]


def smoke_line(smoke: Smoke) -> str:
    """One line: what was trained, how well and how fast."""
    share = "" if smoke.peak_fraction is None else f", {smoke.peak_fraction:.0%} of this box's own matrix product"
    data = "MNIST" if smoke.dataset == "mnist" else "synthetic digits (MNIST was not at hand: --data DIR)"
    return (
        f"smoke test: {smoke.framework} on {smoke.device}, {data}: accuracy {smoke.accuracy:.2%}, "
        f"{smoke.samples} samples in {smoke.train_s:.1f} s ({smoke.samples_per_s:,.0f} samples/s{share})"
    )


def speed_up_lines(smoke: Smoke) -> list[str]:
    """What the GPU is worth on this box; nothing on a CPU."""
    if smoke.speed_up is None:
        return []
    times = f"{smoke.speed_up:.1f}" if smoke.speed_up < 10 else f"{smoke.speed_up:.0f}"
    bound = "" if smoke.speed_up_expected is None else f" (D2: more than {smoke.speed_up_expected:g})"
    return [f"speed-up: {times} times as fast as this box's CPU{bound}"]


def _verdict(report: Report) -> list[str]:
    environment = report.environment
    if not report.ok:
        kept = [f"still active: {_named(environment)}"] if environment and environment.generation is not None else []
        waits = any(failure.kind == "reboot_needed" for failure in report.failures)
        return ["verdict: not finished; a reboot is asked for" if waits else "verdict: NOT proved", *kept]
    if report.until:
        return [f"verdict: {UNTIL[report.until]} (--until {report.until})"]
    proved = any(check.id.startswith("mnist") for check in report.checks)
    lines = [f"verdict: {'proved to work' if proved else 'in place; verification was left out'}"]
    lines.append("changed: nothing, it was as planned" if report.changed == 0 else f"changed: {report.changed}")
    if environment is not None:
        lines += [f"environment: {_named(environment)}", f"activate: {environment.activate}"]
        if environment.switched:
            lines.append(f"undo: {_undo(environment, report.host)}")
    return lines


def _named(environment: Environment) -> str:
    return f"{environment.name}, generation {environment.generation}, {environment.path}"


def _undo(environment: Environment, on: str) -> str:
    """Back to the generation that was current before this run, or away with the first one."""
    host = "" if on == "localhost" else f" {on}"
    if environment.previous is None:
        return f"provision env remove{host} --name {environment.name}"
    return f"provision env rollback{host} --name {environment.name} --to {environment.previous}"


def _indented(text: str) -> list[str]:
    return ["  " + line for line in text.splitlines()]


def _hint(text: str, indent: str = "  ") -> list[str]:
    return [f"{indent}{'hint: ' if number == 0 else '      '}{line}" for number, line in enumerate(text.splitlines())]


def fleet_text(reports: Sequence[Report]) -> str:
    """The table at the end of a run over several hosts, slowest and failed ones easy to see."""
    width = max(len(report.host) for report in reports)
    lines = ["hosts", ""]
    speeds = [report.smoke.samples_per_s for report in reports if report.smoke]
    median = sorted(speeds)[len(speeds) // 2] if speeds else None
    for report in reports:
        verdict = "ok  " if report.ok else "FAIL"
        lines.append(f"  {verdict}  {report.host:<{width}}  {_fleet_detail(report, median)}")
    failed = sum(not report.ok for report in reports)
    lines += ["", f"{len(reports) - failed} of {len(reports)} hosts as planned"]
    return "\n".join(lines) + "\n"


def _fleet_detail(report: Report, median: float | None) -> str:
    if not report.ok:
        return report.failures[0].what if report.failures else "a check failed"
    text = f"changed {report.changed}"
    if report.smoke is None:
        return text
    text += f", accuracy {report.smoke.accuracy:.2%}, {report.smoke.samples_per_s:,.0f} samples/s"
    # a box at less than half of its peers' median is throttled, busy or misconfigured, and worth a look
    if median is not None and report.smoke.samples_per_s < median / 2:
        text += f"  <- outlier: the median is {median:,.0f}"
    return text
