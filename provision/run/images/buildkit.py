"""BuildKit through the engine's API, as `docker build` of Docker 18.09 to 22 had it: POST /build with version=2.

The SDK has no argument for that. What an API client lacks is a session: no secrets, and no registry tokens, so bases
are pulled before. Whether it works is tried once an engine, and any other answer than the expected one means no.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from provision.errors import Interrupted, ProvisionError, StepFailed
from provision.model.image import BuilderName
from provision.run.images import cache_images
from provision.run.images.build_steps import Steps
from provision.run.images.cleanup import TEMPORARY, forget
from provision.run.images.engine import Refused
from provision.run.images.tar_stream import TarStream
from provision.run.images.trace import TraceBroken, from_aux

if TYPE_CHECKING:
    from provision.run.images.builders import BuildAsk, OnEvent
    from provision.run.images.engine import Engine, StreamClient

TRACE, IMAGE = "moby.buildkit.trace", "moby.image.id"
PROBE = 'FROM scratch\nLABEL io.provision.probe="{name}"\n'
"""Each with a name of its own: two runs at once would share one image, and take it from each other."""
PROBE_TIMEOUT_S = 30.0
INLINE = {"BUILDKIT_INLINE_CACHE": "1"}
"""https://github.com/moby/buildkit/tree/v0.8.3#export-cache"""
KEPT = "buildkit"


def missing(engine: Engine) -> str | None:
    """Why BuildKit cannot be used through this engine's API; None where a build with it has just worked.

    The header Builder-Version of /_ping says only what `docker build` prefers: 20.10 has BuildKit and says 1.
    """
    if KEPT not in engine.kept:
        engine.kept[KEPT] = _tried(engine)
    return engine.kept[KEPT]  # type: ignore[no-any-return]


def _tried(engine: Engine) -> str | None:
    name = os.urandom(4).hex()
    tag = f"{TEMPORARY}:probe-{name}"
    late = threading.Event()
    timer = threading.Timer(PROBE_TIMEOUT_S, late.set)
    timer.daemon = True
    timer.start()
    refusal = f"{engine.text} did not build with BuildKit"
    traced, image = False, ""
    try:
        with _lines(engine, tag, TarStream(PROBE.format(name=name), (), cancel=late), {}, late) as lines:
            for line in lines:
                if "error" in line:
                    return f"{refusal}: {line['error']}"
                if line.get("id") == TRACE:
                    from_aux(str(line.get("aux")))
                    traced = True
                elif line.get("id") == IMAGE:
                    image = str((line.get("aux") or {}).get("ID") or "")
    except Interrupted:
        return f"{refusal}: it did not end within {PROBE_TIMEOUT_S:g} s"
    except (Refused, TraceBroken, ProvisionError) as error:
        return f"{refusal}: {error}"
    finally:
        timer.cancel()
        forget(engine, tag)
    return None if traced and image else f"{refusal}: its answer is the classic builder's"


class BuildKit:
    """Cache mounts, stages at once, unused ones left out."""

    name: BuilderName = "buildkit"
    mounts = True
    note = ""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(self, ask: BuildAsk, *, on_event: OnEvent, cancel: threading.Event) -> str:
        """As builders.Builder says."""
        steps = Steps(ask, on_event)
        steps.begin()
        cached = cache_images.pulled(self._engine, ask, steps, cancel=cancel)
        context = TarStream(
            ask.dockerfile, ask.context, cancel=cancel,
            on_sent=lambda done, total: steps.moved("send the context", done, total),
        )  # fmt: skip
        options = {
            "labels": dict(ask.labels),
            "buildargs": {**ask.build_args, **(INLINE if ask.cache_to else {})},
            "nocache": ask.no_cache,
            "cache_from": list(cached),
            "target": ask.target or "",
        }
        try:
            with _lines(self._engine, ask.tag, context, options, cancel) as lines:
                image = self._read(lines, steps)
        except Refused as error:
            raise steps.failed(self._engine, error.text) from error
        except Interrupted:
            forget(self._engine, ask.tag)
            raise
        cache_images.pushed(self._engine, ask, steps, cancel=cancel)
        steps.end()
        return image

    def _read(self, lines: Iterable[Mapping[str, Any]], steps: Steps) -> str:
        image = ""
        for line in lines:
            if line.get("id") == TRACE:
                with suppress(TraceBroken):  # a build is not to end because its progress cannot be read
                    steps.traced(from_aux(str(line.get("aux"))))
            elif line.get("id") == IMAGE:
                image = str((line.get("aux") or {}).get("ID") or "")
            elif "error" in line:
                raise steps.failed(self._engine, str(line["error"]))
        if not image:
            raise StepFailed(
                what=f"{self._engine.text} ended the build without an image",
                why="its answer stopped before the image's id",
                hint="its log says why: journalctl -u docker",
            )
        return image


def _lines(
    engine: Engine, tag: str, context: TarStream, options: Mapping[str, Any], cancel: threading.Event
) -> AbstractContextManager[Iterator[Mapping[str, Any]]]:
    build_id = os.urandom(16).hex()

    def ask(client: StreamClient) -> Iterable[Mapping[str, Any]]:
        return client.build_from(context, tag, options)

    def stop() -> None:
        engine.cancel_build(build_id)

    parameters = {"version": "2", "buildid": build_id}
    return engine.stream(ask, cancel=cancel, build_parameters=parameters, stop=stop)
