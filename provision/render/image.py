"""Images as text: what will be built, what was built, which host takes which, and the list of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime

from provision.errors import Interrupted
from provision.model.image import ImageOutcome, ImagePlan, ImageReport, ImageRow, Verdict
from provision.render.report import check_lines, failure_lines, smoke_line

WIDTH = 100
CHANGE = "change"
"""The rule of reasons that say what would have to change: they are in --json."""
AGES = ((86400 * 365, "year"), (86400 * 30, "month"), (86400 * 7, "week"), (86400, "day"), (3600, "hour"))
HUB = "Docker Hub: the tag names no registry"


def plans_text(plans: Sequence[ImagePlan], shared: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> str:
    """Each image in a few lines, what they share, and why, each reason once. ``shared``: tags by environment."""
    blocks = [_plan(plan) for plan in plans]
    if len(plans) > 1:
        blocks.append(["shared", *(line for tags in shared for line in _wrapped(_sharing(tags), "  "))])
    blocks += _why(plans)
    blocks.append([line for note in notes for line in _wrapped(note, "")])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _why(plans: Sequence[ImagePlan]) -> list[list[str]]:
    """Reasons of all images first, then those of some, by which they are."""
    by_reason: dict[str, list[str]] = {}
    for plan in plans:
        for text in dict.fromkeys(reason.text for reason in plan.plan.reasons if reason.rule != CHANGE):
            by_reason.setdefault(text, []).append(plan.tag)
    by_tags: dict[tuple[str, ...], list[str]] = {tuple(plan.tag for plan in plans): []}
    for text, tags in by_reason.items():
        by_tags.setdefault(tuple(tags), []).append(text)
    return [
        [
            "why" if len(tags) == len(plans) else f"why {', '.join(tags)}",
            *(line for text in texts for line in _wrapped(f"- {text}", "  ", "  ")),
        ]
        for tags, texts in by_tags.items()
        if texts
    ]


def _plan(plan: ImagePlan) -> list[str]:
    stack = ", ".join(
        f"{each.framework} {each.version} · {each.origin} · {each.device} · Python {each.python}"
        for each in plan.plan.stack
    )
    capabilities = sorted({text for each in plan.plan.stack for text in each.compute_capabilities}, key=_numbers)
    drivers = [each.driver.minimum for each in plan.plan.stack if each.driver is not None and each.driver.minimum]
    rows = {
        "stack": stack,
        "with": ", ".join(plan.plan.request.requirements),
        "CPU": f"{plan.cpu}; {_flags(plan)}",
        "capability": ", ".join(capabilities),
        "driver": f"{max(drivers, key=_numbers)} or newer" if drivers else "",
        "base": _base(plan.base.reference, plan.base.digest),
        "compiled by": ", ".join(dict.fromkeys(each.compiler for each in plan.plan.stack if each.compiler)),
        "minimal": "nothing left of the distribution but libraries, Python and a shell" if plan.minimal else "",
        "copied": ", ".join(f"{each.source} to {each.target}" for each in plan.copied),
    }
    name = plan.tag or "without a tag"
    return [f"image {name}", *(line for title, text in rows.items() if text for line in _row(title, text))]


def _flags(plan: ImagePlan) -> str:
    if not plan.flags:
        return "it starts on any x86-64 CPU"
    what = plan.flags[0] if len(plan.flags) == 1 else f"one of {len(plan.flags)} flags"
    return f"a CPU that lacks {what} is refused with a sentence"


def _base(reference: str, digest: str | None) -> str:
    if digest is None:
        return f"{reference} (only this engine has it: no digest)"
    return reference if "@" in reference else f"{reference}@{digest}"


def _sharing(tags: Sequence[str]) -> str:
    if len(tags) == 1:
        return f"{tags[0]}: an environment of its own"
    return f"{', '.join(tags)}: one environment, built and proved once; what differs is the CPU that they ask for"


def report_text(report: ImageReport) -> str:
    """Each image: checks, smoke test, size, verdict, how to run it and how to undo it. Equal checks are shown once."""
    built = f"built by {report.builder}, {report.engine}" if report.builder else ""
    blocks: list[list[str]] = []
    for number, image in enumerate(report.images):
        before = (each for each in report.images[:number] if (each.checks, each.smoke) == (image.checks, image.smoke))
        same = next(before, None) if image.checks else None
        blocks.append(_outcome(image, report.images, same.tag if same else None))
    blocks += [failure_lines(failure) for failure in report.failures]
    blocks.append([*([built] if built else []), *report.notes])
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _outcome(image: ImageOutcome, images: Sequence[ImageOutcome], as_of: str | None) -> list[str]:
    lines = [image.tag or "without a tag", ""]
    if as_of is not None:
        lines += [f"  checks as of {as_of}: the environment is the same", ""]
    else:
        lines += [*check_lines(image.checks), ""] if image.checks else []
        lines += [smoke_line(image.smoke), ""] if image.smoke else []
    for failure in image.failures:
        lines += [*failure_lines(failure), ""]
    rows = {
        "stack": ", ".join(f"{each.framework} {each.version}" for each in image.stack),
        "CPU": image.cpu,
        "base": _base(image.base, image.base_digest),
        "size": size_text(image.size_bytes) + ", unpacked" if image.size_bytes is not None else "",
        "layers": _layers(image, images) if image.id is not None else "",
        "pushed": image.pushed or "",
        "SBOM": image.sbom or "",
        "hosts": ", ".join(image.hosts),
    }
    lines += [line for title, text in rows.items() if text for line in _row(title, text)]
    lines += ["", f"verdict: {_verdict(image)}"]
    if image.id is not None:
        gpus = " --gpus all" if any(each.device == "cuda" for each in image.stack) else ""
        lines += [f"run: docker run --rm -it{gpus} {image.tag}", f"undo: docker rmi {image.tag}"]
    return lines


def _layers(image: ImageOutcome, images: Sequence[ImageOutcome]) -> str:
    """How many there are, and how many the earlier tags of the call have too: those take no room twice."""
    text = str(len(image.layers))
    for other in images:
        if other is image:
            return text
        common = _common(other.layers, image.layers)
        if common:
            return f"{text}, {common} of them those of {other.tag}"
    return text


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Layers from the base up that are equal."""
    number = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        number += 1
    return number


def _verdict(image: ImageOutcome) -> str:
    if any(failure.exit_code == Interrupted.exit_code for failure in image.failures):
        return "interrupted" if image.id is None else "interrupted after it got its tag"
    if image.failures and image.id is None:
        return "NOT proved, so it got no tag"
    if image.failures:
        return f"{verdict_words(image.verdict)}; what was to be done with it failed"
    if image.id is None:
        return f"not built{': ' + image.verdict.why if image.verdict.why else ''}"
    return verdict_words(image.verdict)


def verdict_words(verdict: Verdict) -> str:
    """ "proved to work: 9 checks, MNIST 97.85% on cpu"."""
    if verdict.status != "passed":
        state = "NOT proved" if verdict.status == "failed" else "not proved"
        return f"{state}: {verdict.why}" if verdict.why else state
    parts = [f"{len(verdict.checks)} check{'' if len(verdict.checks) == 1 else 's'}"]
    if verdict.accuracy is not None:
        data = "MNIST" if verdict.dataset == "mnist" else "synthetic digits"
        parts.append(f"{data} {verdict.accuracy:.2%}" + (f" on {verdict.device}" if verdict.device else ""))
    return f"proved to work: {', '.join(parts)}"


def size_text(size_bytes: int) -> str:
    """ "1.20 GB (1,148 MiB)": engines count in powers of ten, file systems in those of two."""
    mib = f"{size_bytes / 2**20:,.0f} MiB"
    return f"{size_bytes / 1e9:.2f} GB ({mib})" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB ({mib})"


def sweep_text(takes: Sequence[tuple[str, str, str]]) -> str:
    """``takes``: (host, tag, why), a line for each host."""
    hosts, tags = (max(len(row[column]) for row in takes) for column in (0, 1))
    lines = [f"  {host:<{hosts}}  {tag or 'the image':<{tags}}  {why}".rstrip() for host, tag, why in takes]
    return "\n".join(["which host takes which image", "", *lines]) + "\n"


def list_text(rows: Sequence[ImageRow], now: float) -> str:
    """The table, columns as wide as their contents. ``now``: seconds since 1970."""
    if not rows:
        return "no images of provision's; make one: provision image build --framework tensorflow --tag me/tf\n"
    cells = [("TAG", "FRAMEWORKS", "DEVICE", "CPU", "SIZE", "AGE", "VERDICT")]
    cells += [
        (
            row.tag,
            ", ".join(row.frameworks) or "?",
            row.device or "?",
            f"{row.cpu or '?'}{' minimal' if row.minimal else ''}",
            _short_size(row.size_bytes),
            age_text(row.created, now),
            _short_verdict(row.verdict),
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells) + "\n"


def _short_size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.0f} MB"


def _short_verdict(verdict: Verdict) -> str:
    if verdict.status == "passed":
        return verdict_words(verdict).partition(": ")[2]
    return f"{'FAILED' if verdict.status == 'failed' else 'not proved'}{': ' + verdict.why if verdict.why else ''}"


def age_text(created: str, now: float) -> str:
    """ "3 days" since an ISO 8601 time; "?" where it is none."""
    try:
        seconds = now - datetime.fromisoformat(created.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return "?"
    for length, name in (*AGES, (60, "minute")):
        number = int(seconds // length)
        if number >= 1:
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "now"


def output_text(dockerfile: str, context: str, tag: str, *, mounts: bool) -> str:
    """What was written, and the line that builds it."""
    builder = "DOCKER_BUILDKIT=1 " if mounts else ""
    lines = [
        f"wrote {dockerfile} and its context {context}; nothing was built, so nothing is proved",
        f"build: {builder}docker build -f {_word(dockerfile)} -t {tag or 'NAME:TAG'} {_word(context)}",
        f"then: provision image verify {tag or 'NAME:TAG'}",
    ]
    return "\n".join(lines) + "\n"


def _word(text: str) -> str:
    """As a shell takes it for one word."""
    safe = all(letter.isalnum() or letter in "/._-+=:,@" for letter in text)
    return text if safe else "'" + text.replace("'", "'\"'\"'") + "'"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int("".join(filter(str.isdecimal, part)) or 0) for part in text.split("."))


def _row(title: str, text: str) -> list[str]:
    if " " not in text:  # a digest that is longer than the line stays beside its title
        return [f"  {title:<14}{text}"]
    return _wrapped(f"{title:<14}{text}", "  ", " " * 14)


def _wrapped(text: str, indent: str, hanging: str = "") -> list[str]:
    """At most WIDTH columns; digests and paths stay whole."""
    return textwrap.wrap(
        text,
        width=WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_on_hyphens=False,
        break_long_words=False,
    )
