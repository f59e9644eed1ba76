"""What an image says of itself: its labels, written and read.

The names below org.opencontainers.image are those of github.com/opencontainers/image-spec, annotations.md; the others
are ours. All values are text. Reading is tolerant: an engine is full of images that are not ours, and of old ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from provision.model.data import from_data, to_data
from provision.model.image import ImagePlan, ImageRow, Verdict
from provision.model.plan import Stack

OURS = "io.provision."
"""What all of our own names begin with."""
SCHEMA = "io.provision.schema"
PLAN = "io.provision.plan"
FRAMEWORKS = "io.provision.frameworks"
STACK = "io.provision.stack"
DEVICE = "io.provision.device"
ORIGIN = "io.provision.origin"
CPU = "io.provision.cpu"
CPU_LEVEL = "io.provision.cpu-level"
CPU_FLAGS = "io.provision.cpu-flags"
COMPUTE_CAPABILITIES = "io.provision.compute-capabilities"
DRIVER_MINIMUM = "io.provision.driver-minimum"
MINIMAL = "io.provision.minimal"
PYTHON = "io.provision.python"
VERDICT = "io.provision.verdict"
RUN = "io.provision.run"
"""Of what is temporary: the run that made it, and removes it."""

TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
VERSION = "org.opencontainers.image.version"
SOURCE = "org.opencontainers.image.source"
REVISION = "org.opencontainers.image.revision"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"

THIS_SCHEMA = "1"


def labels_of(plan: ImagePlan, users: Mapping[str, str] | None = None) -> dict[str, str]:
    """All labels but the verdict, sorted by name. The user's own come last, and so win over what is not ours."""
    stack = plan.plan.stack
    drivers = [each.driver.minimum for each in stack if each.driver is not None and each.driver.minimum]
    capabilities = sorted({text for each in stack for text in each.compute_capabilities}, key=_numbers)
    found: dict[str, str | None] = {
        TITLE: f"{', '.join(frameworks_of(stack))} ({plan.device}, {plan.cpu})",
        CREATED: iso_time(plan.epoch),
        VERSION: stack[0].version if len(stack) == 1 else ", ".join(frameworks_of(stack)),
        BASE_NAME: plan.base.reference,
        BASE_DIGEST: plan.base.digest,
        SCHEMA: THIS_SCHEMA,
        PLAN: plan.plan.fingerprint,
        FRAMEWORKS: ",".join(frameworks_of(stack)),
        STACK: _compact(to_data(stack)),
        DEVICE: plan.device,
        ORIGIN: "source" if any(each.origin == "source" for each in stack) else "wheel",
        CPU: plan.cpu,
        CPU_LEVEL: plan.level,
        CPU_FLAGS: ",".join(plan.flags),
        COMPUTE_CAPABILITIES: ",".join(capabilities) or None,
        DRIVER_MINIMUM: max(drivers, key=_numbers, default=None),
        MINIMAL: "true" if plan.minimal else "false",
        PYTHON: stack[0].python if stack else None,
    }
    known = {name: value for name, value in found.items() if value is not None}
    return dict(sorted({**known, **(users or {})}.items()))


def frameworks_of(stack: Sequence[Stack]) -> tuple[str, ...]:
    """("tensorflow 2.21.0", "keras 3.15.1")."""
    return tuple(f"{each.framework} {each.version}" for each in stack)


def iso_time(seconds: int) -> str:
    """Seconds since 1970 as RFC 3339, "2026-11-22T00:00:00Z"."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def verdict_text(verdict: Verdict) -> str:
    """One line of JSON, for the label."""
    return _compact(to_data(verdict))


def verdict_from(text: str | None) -> Verdict | None:
    """None where there is none, or none that can be read."""
    if not text:
        return None
    try:
        return from_data(Verdict, json.loads(text))
    except (ValueError, RecursionError):
        return None


def stack_from(text: str | None) -> tuple[Stack, ...] | None:
    """What is in the image; None where the label is missing or cannot be read."""
    if not text:
        return None
    try:
        rows = json.loads(text)
        return tuple(from_data(Stack, row) for row in rows) if isinstance(rows, list) and rows else None
    except (ValueError, RecursionError):
        return None


def flags_from(labels: Mapping[str, str] | None) -> tuple[str, ...]:
    """The CPU flags that the image refuses to start without; none of one that does not say."""
    return words(labels, CPU_FLAGS)


def words(labels: Mapping[str, str] | None, name: str) -> tuple[str, ...]:
    """The parts of a label that is a list: "avx,avx2"."""
    text = (labels or {}).get(name)
    return tuple(word for part in text.split(",") if (word := part.strip())) if isinstance(text, str) else ()


def is_ours(labels: Mapping[str, str] | None) -> bool:
    """Whether provision made the image, in this version or another."""
    return bool((labels or {}).get(SCHEMA))


def row_from(
    labels: Mapping[str, str] | None, *, tag: str, image_id: str, size_bytes: int, created: str
) -> ImageRow | None:
    """A line of `image list`; None for an image that is not ours, or of a schema that this version does not know."""
    if labels is None or labels.get(SCHEMA) != THIS_SCHEMA:
        return None
    frameworks = words(labels, FRAMEWORKS)
    if not frameworks:
        return None
    return ImageRow(
        tag=tag,
        id=image_id,
        frameworks=frameworks,
        device=labels.get(DEVICE) or "cpu",
        cpu=labels.get(CPU) or "generic",
        level=labels.get(CPU_LEVEL) or None,
        minimal=labels.get(MINIMAL) == "true",
        size_bytes=size_bytes,
        created=created,
        verdict=verdict_from(labels.get(VERDICT)) or Verdict(status="not run", why="the image carries no verdict"),
    )


def _compact(data: object) -> str:
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


def _numbers(text: str) -> tuple[int, ...]:
    """Of "8.6", "9.0+PTX" and "580.65.06"."""
    return tuple(int("".join(filter(str.isdecimal, part)) or 0) for part in text.split("."))
