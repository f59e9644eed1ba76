"""The classic builder, through the SDK: what every engine has. No mounts, one stage after the other."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from provision.errors import Interrupted, StepFailed
from provision.model.image import BuilderName
from provision.run.images import cache_images
from provision.run.images.build_steps import Step, Steps
from provision.run.images.cleanup import forget
from provision.run.images.engine import Refused
from provision.run.images.tar_stream import TarStream

if TYPE_CHECKING:
    from provision.run.images.builders import BuildAsk, OnEvent
    from provision.run.images.engine import Engine, StreamClient

# Step 3/7 : RUN apt-get update
STEP = re.compile(r"^Step (?P<number>\d+)/(?P<total>\d+) : (?P<instruction>.*)", re.DOTALL)
STAGE = re.compile(r"^FROM\s+(?:--\S+\s+)*\S+(?:\s+AS\s+(?P<name>\S+))?", re.IGNORECASE)
#  ---> Running in 4f1c0a2b7d3e
RUNNING = re.compile(r"^ ---> Running in (?P<id>[0-9a-f]{12})")
#  ---> 8d2e1f0c9b7a
MADE = re.compile(r"^ ---> (?P<id>[0-9a-f]{12})$")
CACHED = " ---> Using cache"
REMOVED = "Removing intermediate container "
PATIENCE_S = 5.0
"""How long the engine may take to remove the container of a build that it was told to end."""


class _Reader:
    """What the stream has said so far."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.step: Step | None = None
        self.key = ""
        self.image = ""
        self.container = ""
        self.made: list[str] = []
        """Ids of images that this build made, and not found in the cache."""
        self._stage, self._cached = "", False

    def line(self, line: Mapping[str, Any]) -> None:
        text = str(line.get("stream") or "")
        if "aux" in line and isinstance(line["aux"], dict):
            self.image = str(line["aux"].get("ID") or self.image)
        found = STEP.match(text)
        if found is not None:
            self._begin(found)
        elif text.startswith(CACHED):
            self._cached = True
            self.steps.step(self.key, "", cached=True)
        elif running := RUNNING.match(text):
            self.container = running["id"]
        elif text.startswith(REMOVED):
            self.container = ""
        elif made := MADE.match(text.rstrip("\n")):
            if not self._cached and self.step is not None and not STAGE.match(self.step.name.partition("] ")[2]):
                self.made.append(made["id"])
        elif text and self.step is not None:
            self.steps.said(self.key, text)
        elif line.get("status") and line.get("id"):
            self._moved(line)

    def _begin(self, found: re.Match[str]) -> None:
        instruction = found["instruction"].strip()
        stage = STAGE.match(instruction)
        if stage is not None:
            self._stage = f"{stage['name']} " if stage["name"] else ""
        self.key, self._cached = found["number"], False
        name = f"[{self._stage}{found['number']}/{found['total']}] {instruction}"
        self.step = self.steps.step(self.key, name)

    def _moved(self, line: Mapping[str, Any]) -> None:
        """A base that is pulled."""
        detail = line.get("progressDetail") or {}
        if detail.get("current"):
            self.steps.moved(f"{line['status']} {line['id']}", int(detail["current"]), int(detail.get("total") or 0))


class Classic:
    """The same image as BuildKit's, without mounts."""

    name: BuilderName = "classic"
    mounts = False

    def __init__(self, engine: Engine, note: str = "") -> None:
        self._engine = engine
        self.note = note

    def build(self, ask: BuildAsk, *, on_event: OnEvent, cancel: threading.Event) -> str:
        """As builders.Builder says. What a build that failed has made stays as the cache of the next one; of an
        interrupted one nothing stays."""
        steps = Steps(ask, on_event)
        steps.begin()
        cached = cache_images.pulled(self._engine, ask, steps, cancel=cancel)
        reader = _Reader(steps)
        try:
            with self._lines(ask, cached, steps, cancel) as lines:
                for line in lines:
                    reader.line(line)
                    if "error" in line:
                        raise steps.failed(self._engine, str(line["error"]), reader.step)
        except Refused as error:
            raise steps.failed(self._engine, error.text, reader.step) from error
        except Interrupted:
            self._clear(reader, ask.tag)
            raise
        if not reader.image:
            raise StepFailed(
                what=f"{self._engine.text} ended the build without an image",
                why="its answer stopped before the image's id",
                hint="its log says why: journalctl -u docker",
            )
        cache_images.pushed(self._engine, ask, steps, cancel=cancel)
        steps.end()
        return reader.image

    def _lines(
        self, ask: BuildAsk, cached: Iterable[str], steps: Steps, cancel: threading.Event
    ) -> AbstractContextManager[Iterator[Mapping[str, Any]]]:
        context = TarStream(
            ask.dockerfile, ask.context, cancel=cancel,
            on_sent=lambda done, total: steps.moved("send the context", done, total),
        )  # fmt: skip

        options = {
            "labels": dict(ask.labels),
            "buildargs": dict(ask.build_args),
            "nocache": ask.no_cache,
            "cache_from": list(cached),
            "target": ask.target or "",
        }

        def request(client: StreamClient) -> Iterable[Mapping[str, Any]]:
            return client.build_from(context, ask.tag, options)

        return self._engine.stream(request, cancel=cancel)

    def _clear(self, reader: _Reader, tag: str) -> None:
        """Wait for the step's container to go, help it, and remove what the build made."""
        deadline = time.monotonic() + PATIENCE_S
        while reader.container and self._engine.has_container(reader.container):
            if time.monotonic() > deadline - PATIENCE_S + 1:
                self._engine.remove_container(reader.container)
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        forget(self._engine, tag)
        for image in reversed(reader.made):
            self._engine.remove_image(image, noprune=True)
