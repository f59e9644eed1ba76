"""A base image, looked at: which one it is, and what it has in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.errors import HostError, StepFailed, UsageError
from provision.model.facts import Facts
from provision.model.image import Base
from provision.model.labels import RUN
from provision.model.report import Progress
from provision.run.images import registry
from provision.run.images.build_steps import explained
from provision.run.images.engine import Refused
from provision.run.probe import new_boundary, probe_script, readings_of

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

LOOK = "Look at the base"
PROBE_TIMEOUT_S = 120.0
PLATFORM = "linux/amd64"
"""The plans' machine is x86_64, and what is built there is proved there."""
SHELL = "/bin/sh"


def look(
    engine: Engine,
    reference: str,
    *,
    on_event: Callable[[Progress], None],
    cancel: threading.Event,
    run_id: str = "look",
) -> Base:
    """The base of that name: the engine's own, or else pulled. It is probed in a container without a network.

    Raises UsageError where it is for another architecture, or has no shell; StepFailed where it cannot be pulled;
    HostError where the engine's machine is another one than images are built for; Interrupted.
    """
    require_platform(engine)
    on_event(Progress(host=reference, kind="step", step=LOOK))
    found = engine.find(reference)
    if found is None:
        found = _pulled(engine, reference, on_event, cancel)
    _require_architecture(reference, found)
    facts = _probed(engine, reference, run_id, cancel)
    on_event(Progress(host=reference, kind="done", step=LOOK))
    return Base(
        reference=reference,
        digest=registry.digest_of(engine, reference),
        id=str(found["Id"]),
        created=_seconds(str(found.get("Created") or "")),
        facts=facts,
    )


def _pulled(
    engine: Engine, reference: str, on_event: Callable[[Progress], None], cancel: threading.Event
) -> Mapping[str, Any]:
    try:
        registry.pull(engine, reference, host=reference, title=LOOK, on_event=on_event, cancel=cancel)
    except StepFailed as error:
        raise StepFailed(
            what=f"the engine has no image {reference}, and it cannot be pulled", why=error.why, hint=error.hint
        ) from error
    return engine.inspect(reference)


def require_platform(engine: Engine) -> None:
    """Raises HostError where the engine's machine is none that images are built for."""
    if engine.os_arch == PLATFORM:
        return
    raise HostError(
        what=f"{engine.text} runs {engine.os_arch} and images are built for {PLATFORM}",
        why="an image is proved where it is built, and another machine's CPU would only be emulated",
        hint="take the engine of an x86_64 machine: DOCKER_HOST=ssh://USER@HOST",
    )


def _require_architecture(reference: str, found: Mapping[str, Any]) -> None:
    platform = f"{found.get('Os', '')}/{found.get('Architecture', '')}"
    if platform == PLATFORM:
        return
    raise UsageError(
        what=f"the base {reference} is for another architecture",
        why=f"wanted {PLATFORM}, found {platform}",
        hint=f"pull the right one: docker rmi {reference} && docker pull --platform {PLATFORM} {reference}",
    )


def _probed(engine: Engine, reference: str, run_id: str, cancel: threading.Event) -> Facts:
    """The facts of a container of it. The script is its command line: nothing has to be put into the container."""
    boundary = new_boundary()
    try:
        container = engine.create(
            reference, [SHELL, "-c", probe_script(), "sh", boundary], labels={RUN: run_id}, user="0:0"
        )
        try:
            engine.start(container)
            stdout, stderr = engine.output(container, cancel=cancel, timeout_s=PROBE_TIMEOUT_S)
        finally:
            engine.remove_container(container)
    except Refused as error:
        raise _refusal(engine, reference, error.text) from error
    try:
        return host_facts(readings_of(stdout, boundary, host=reference), chips(), host=reference)
    except HostError as error:
        raise explained(
            engine,
            what=f"the base {reference} cannot be looked at",
            message=stderr.strip() or error.why,
            hint=f"`docker run --rm {reference} true` has to work",
        ) from error


def _refusal(engine: Engine, reference: str, text: str) -> Exception:
    if SHELL in text and ("no such file" in text or "not found" in text):
        return UsageError(
            what=f"the base {reference} has no {SHELL}",
            why="images are made by running programs in the base, and it has no shell to run them with",
            hint="take a base with a distribution in it: debian:bookworm, ubuntu:24.04; what --minimal leaves is small",
        )
    return explained(engine, what=f"a container of the base {reference} does not start", message=text)


def _seconds(created: str) -> int:
    """ "2026-11-20T10:11:12.123456789Z": since 1970."""
    text = created.partition(".")[0].removesuffix("Z")
    try:
        return max(0, int(datetime.fromisoformat(f"{text}+00:00").timestamp()))
    except ValueError:
        return 0
