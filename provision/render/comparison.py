"""Builds and what they were worth, as lines of a report."""

from __future__ import annotations

import statistics

from provision.model.report import BuildOutcome, Comparison, Configured

MINUTE_S, HOUR_S = 60, 3600


def build_lines(build: BuildOutcome) -> list[str]:
    """Whose wheel, how long it took and what the caches saved; where it lies; what its reader should know."""
    name = f"{build.framework} {build.version}"
    if not build.built:
        first = f"build: {name} was built before, nothing was done again"
    else:
        first = f"build: {name} in {duration(build.seconds)}{_work(build)}{_by(build)}"
    lines = [first, f"  wheel: {build.wheel}"]
    if build.built and build.remote_cache:
        lines.append(f"  remote cache: {build.remote_cache}")
    lines += [f"  note: {note}" for note in build.notes]
    if build.built and build.log:
        lines.append(f"  log: {build.log}")
    return lines


def configured_lines(configured: Configured) -> list[str]:
    """What the tree's configure wrote, whole: it was read back and is what was asked."""
    lines = [f"configured: {configured.framework}; {configured.file} holds what was asked for"]
    lines += [f"  {line}" for line in configured.text.splitlines()]
    return lines + [f"  note: {note}" for note in configured.notes]


def _work(build: BuildOutcome) -> str:
    """ ": 812 actions: 40 from a cache, 530 compiled here"; empty for engines that do not count."""
    if build.actions is None:
        return ""
    parts = []
    if build.cache_hits is not None:
        parts.append(f"{build.cache_hits:,} from a cache")
    if build.compile_actions is not None:
        parts.append(f"{build.compile_actions:,} compiled here")
    known = f" ({', '.join(parts)})" if parts else ""
    return f": {build.actions:,} action{'' if build.actions == 1 else 's'}{known}"


def _by(build: BuildOutcome) -> str:
    jobs = f"{build.jobs} job{'' if build.jobs == 1 else 's'}" if build.jobs else ""
    by = ", ".join(part for part in (build.compiler, jobs) if part)
    return f", {by}" if by else ""


def duration(seconds: float) -> str:
    """ "7.4 s", "12 min 5 s", "3 h 10 min"."""
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < HOUR_S:
        return f"{whole // MINUTE_S} min {whole % MINUTE_S} s"
    minutes = round(seconds / MINUTE_S)
    return f"{minutes // 60} h {minutes % 60} min"


BUSY = "the machine was busy"
"""What playbooks/module_utils/provision_compare.py adds to the reason of a verdict that says little."""


def comparison_lines(comparison: Comparison) -> list[str]:
    """How much faster the build is, which generation was kept, and how to have the other one."""
    kept, other = ("build", "wheel") if comparison.kept == "build" else ("stock wheel", "build")
    numbers = (comparison.build_generation, comparison.wheel_generation)
    first, second = numbers if comparison.kept == "build" else reversed(numbers)
    lines = [
        f"{comparison.framework}: {_measured(comparison)}kept the {kept} (generation {first}); "
        f"the {other} is generation {second}"
    ]
    if comparison.decided_by == "failure":
        lines.append(f"  {comparison.why}")
    elif comparison.decided_by == "request":
        lines.append(f"  --keep {comparison.kept} asked for it")
    elif comparison.kept == "wheel":
        lines.append("  to take the build all the same: the same command with --keep build")
    _, busy, rest = comparison.why.partition(BUSY)
    return [*lines, f"  {busy}{rest}"] if busy else lines


def _measured(comparison: Comparison) -> str:
    """ "the build runs 3.2× as fast as the stock wheel (3.1 to 3.3, 3 pairs: 12,345 against 3,858 samples/s): "."""
    if comparison.ratio is None or comparison.lowest is None or comparison.highest is None:
        return ""
    count = len(comparison.pairs)
    build = statistics.median(pair.build for pair in comparison.pairs)
    wheel = statistics.median(pair.wheel for pair in comparison.pairs)
    spread = f"{times(comparison.lowest)} to {times(comparison.highest)}, " if count > 1 else ""
    return (
        f"the build runs {times(comparison.ratio)}× as fast as the stock wheel ({spread}{count} "
        f"pair{'' if count == 1 else 's'}: {build:,.0f} against {wheel:,.0f} samples/s): "
    )


def times(ratio: float) -> str:
    """With digits enough to tell it from 1: "3.2", "1.30", "0.87", "1.021", "0.9996"."""
    distance = abs(ratio - 1)
    digits = 1 if ratio >= 2 else 2 if distance >= 0.05 else 4 if 0 < distance < 0.0005 else 3
    return f"{ratio:.{digits}f}"
