"""--cache-from and --cache-to for the two builders that an engine has in itself: caches are images.

``cache_from`` are images that are pulled before the build, and whose layers then stand for the steps that made them.
``cache_to`` is "inline" (the image says which steps made it, and so is a cache wherever it is pushed to) or an image's
reference, which it is pushed to. Such an image has the layers of the last stage alone. BuildKit needs no others, since
it does not run a stage that nothing is missing of; the classic builder runs the stages before again.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from provision.errors import Interrupted, ProvisionError, UsageError
from provision.run.images import registry
from provision.run.images.engine import split_tag

if TYPE_CHECKING:
    from provision.run.images.build_steps import Steps
    from provision.run.images.builders import BuildAsk
    from provision.run.images.engine import Engine

INLINE = ("inline", "type=inline")
REGISTRY = "type=registry,ref="


def pulled(engine: Engine, ask: BuildAsk, steps: Steps, *, cancel: threading.Event) -> tuple[str, ...]:
    """The images that can serve, each of them here now. One that is not there yet is noted, as before a first build.

    Raises UsageError for a cache of another kind than an image.
    """
    found = []
    for text in ask.cache_from:
        reference = _reference(text, "--cache-from")
        try:
            registry.pull(engine, reference, host=ask.host, title=ask.title, on_event=steps.pass_on, cancel=cancel)
        except Interrupted:
            raise
        except ProvisionError as error:
            if engine.find(reference) is None:
                steps.note(f"no cache from {reference}: {error.why.splitlines()[0] if error.why else error.what}")
                continue
        found.append(reference)
    for text in ask.cache_to:
        if text not in INLINE:
            _reference(text, "--cache-to")
    return tuple(found)


def pushed(engine: Engine, ask: BuildAsk, steps: Steps, *, cancel: threading.Event) -> None:
    """Push what was built to each reference of ``cache_to``. Raises StepFailed as a push does."""
    for text in ask.cache_to:
        if text in INLINE:
            continue
        reference = _reference(text, "--cache-to")
        there = engine.find(reference)
        engine.tag(ask.tag, reference)
        try:
            registry.push(engine, reference, host=ask.host, title=ask.title, on_event=steps.pass_on, cancel=cancel)
        finally:
            if there is None:  # the name was ours for the push
                engine.remove_image(reference, noprune=True)


def _reference(text: str, option: str) -> str:
    """ "type=registry,ref=X" is X. Raises UsageError for other kinds, and for a cache of no name."""
    reference = text.removeprefix(REGISTRY)
    if "=" in reference or "," in reference or not reference or reference in ("inline", "local", "gha"):
        raise UsageError(
            what=f"{option} {text} is not an image",
            why="without buildx a cache is an image: REGISTRY/NAME:TAG"
            + (", or inline" if option == "--cache-to" else ""),
            hint="give an image, or install docker buildx and take it: --builder buildx",
        )
    name, tag = split_tag(reference)
    return f"{name}:{tag}"
