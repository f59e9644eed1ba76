"""The steps of a build as its reader sees them: Progress while they run, and StepFailed with the failed one's words."""

from __future__ import annotations

import re
import shutil
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from provision.catalog.image_failures import image_failures
from provision.detect.build_failures import COLOURS, diagnose, own_lines
from provision.errors import StepFailed
from provision.model.report import Progress
from provision.run.images.trace import Trace

if TYPE_CHECKING:
    from provision.run.images.builders import BuildAsk, OnEvent
    from provision.run.images.engine import Engine

MIB = 2**20
KEPT_LINES = 400
"""Of each step's output."""
SHOWN_NAME = 100
SHOWN_LINE = 80
EVERY_S = 0.1
"""A program may print thousands of lines a second."""
NOT_STEPS = ("[internal]", "exporting", "naming to", "writing image", "resolve image config", "preparing build cache")
STATUS = re.compile(r"(?:exit code: |non-zero code: |did not complete successfully: exit code: )(\d+)")
UNKNOWN = "no known cause fits: what is above is all that was said"
FULL = "disk-full"
OPTIONS = re.compile(r"--(?:mount|network|chown|chmod|from)=\S+\s+")
"""Of an instruction, before what it does."""


@dataclass(slots=True, kw_only=True)
class Step:
    name: str
    """"[environment 4/7] RUN uv pip sync …"."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    rest: str = ""
    """Of a line whose end has not come yet."""
    cached: bool = False
    error: str = ""

    @property
    def title(self) -> str:
        return shortened(OPTIONS.sub("", self.name), SHOWN_NAME)

    def said(self, text: str) -> list[str]:
        """The lines that are whole now."""
        *whole, self.rest = (self.rest + text).replace("\r\n", "\n").split("\n")
        self.lines.extend(whole)
        return whole

    @property
    def all_lines(self) -> list[str]:
        """A progress bar overwrites its line: of "10 %\\r20 %" the last is what is seen."""
        last = [self.rest] if self.rest else []
        return [COLOURS.sub("", line).rstrip("\r").rpartition("\r")[2] for line in [*self.lines, *last]]


class Steps:
    """What a build tells, and has told."""

    def __init__(self, ask: BuildAsk, on_event: OnEvent) -> None:
        self._ask, self._on_event = ask, on_event
        self.steps: dict[str, Step] = {}
        self.warnings: list[str] = []
        self._sizes: dict[tuple[str, str], tuple[int, int]] = {}
        self._shown = 0.0

    def begin(self) -> None:
        self._tell("step", "")

    def end(self) -> None:
        cached = sum(step.cached for step in self.steps.values())
        count = f"{len(self.steps)} steps" + (f", {cached} from the cache" if cached else "")
        self._tell("done", count if self.steps else "")

    def pass_on(self, progress: Progress) -> None:
        """What a part of the build tells by itself."""
        self._on_event(progress)

    def note(self, text: str) -> None:
        self._tell("note", text)

    def step(self, key: str, name: str, *, cached: bool = False) -> Step:
        """A step begins, or turns out to be in the cache."""
        found = self.steps.get(key)
        if found is None:
            found = self.steps[key] = Step(name=name)
        fresh = not found.cached and cached
        found.cached = found.cached or cached
        self._tell("progress", found.title + (" (from the cache)" if fresh else ""))
        return found

    def said(self, key: str, text: str) -> None:
        step = self.steps.get(key)
        if step is None:
            return
        for line in step.said(text):
            if self._ask.heard is not None:
                self._ask.heard(line)
        now = time.monotonic()
        lines = step.all_lines
        if now - self._shown >= EVERY_S and lines and lines[-1].strip():
            self._shown = now
            self._tell("progress", f"{step.title} · {shortened(lines[-1].strip(), SHOWN_LINE)}")

    def moved(self, text: str, done: int, total: int) -> None:
        """Bytes went somewhere."""
        now = time.monotonic()
        if now - self._shown >= EVERY_S or (total and done >= total):
            self._shown = now
            self._tell("progress", text, done / MIB, total / MIB if total else None)

    def traced(self, trace: Trace) -> None:
        """A message of BuildKit's."""
        for vertex in trace.vertexes:
            if vertex.name.startswith(NOT_STEPS) or not vertex.name.startswith("["):
                if vertex.error and vertex.completed:
                    self.steps.setdefault(vertex.digest, Step(name=vertex.name)).error = vertex.error
                elif vertex.started and not vertex.completed:
                    self._tell("progress", shortened(vertex.name, SHOWN_NAME))
                continue
            if vertex.started or vertex.cached or vertex.error:
                known = self.steps.get(vertex.digest)
                if known is None or (vertex.cached and not known.cached):
                    known = self.step(vertex.digest, vertex.name, cached=vertex.cached)
                known.error = vertex.error or known.error
        for log in trace.logs:
            self.said(log.vertex, log.text)
        for status in trace.statuses:
            self._sizes[(status.vertex, status.id)] = (status.current, status.total)
            done, total = self._amount(status.vertex)
            name = self.steps[status.vertex].title if status.vertex in self.steps else status.id
            if done:
                self.moved(name, done, total)

    def _amount(self, vertex: str) -> tuple[int, int]:
        """Of all the parts of a step; no total where one part's is not known."""
        parts = [amounts for (each, _), amounts in self._sizes.items() if each == vertex]
        known = all(total for _, total in parts)
        return sum(done for done, _ in parts), sum(total for _, total in parts) if known else 0

    def failed(self, engine: Engine, message: str, step: Step | None = None) -> StepFailed:
        """What to raise for a build that the engine ended with ``message``."""
        broken = [each for each in self.steps.values() if each.error and "context canceled" not in each.error]
        step = step or (broken[-1] if broken else None)
        self._tell("failed", step.title if step else "")
        lines = step.all_lines if step else []
        where = f" at {step.name.partition(']')[0]}]" if step and step.name.startswith("[") else ""
        instruction = shortened(step.name.partition("] ")[2] or step.name, 6 * SHOWN_NAME) if step else ""
        return explained(
            engine,
            what=f"{self._ask.title}: the build of {self._ask.host or self._ask.tag} failed{where}",
            message=message,
            lines=[*([instruction] if instruction else []), *own_lines(_without_blank_ends(lines))],
            log="\n".join(lines),
        )

    def _tell(self, kind: str, text: str, done_mib: float | None = None, total_mib: float | None = None) -> None:
        self._on_event(
            Progress(
                host=self._ask.host,
                kind=kind,  # type: ignore[arg-type]  # one of its literals
                step=self._ask.title,
                text=text,
                done_mib=done_mib,
                total_mib=total_mib,
            )
        )


def explained(
    engine: Engine, *, what: str, message: str, lines: Iterable[str] = (), log: str = "", hint: str = UNKNOWN
) -> StepFailed:
    """A failure in the engine's ``message`` and a step's own ``lines``, with its known cause from the catalog.

    ``log`` is looked through besides; ``hint`` is what to do where no known cause fits.
    """
    known = diagnose(f"{log}\n{message}", image_failures())
    status = STATUS.search(message)
    ending = f"exit status {status[1]}" if status else message.strip()
    shown = [*lines]
    # standard output and error arrive in any order: the line that tells may not be among the last
    shown += [each.line for each in known if each.line not in message and not any(each.line in line for line in shown)]
    parts = [*shown, ending, *(f"known cause: {each.cause}" for each in known)]
    if any(each.id == FULL for each in known):
        parts.append(room(engine))
    return StepFailed(
        what=what,
        why="\n".join(part for part in parts if part.strip()),
        hint="\n".join(dict.fromkeys(each.remedy for each in known)) or hint,
    )


def room(engine: Engine) -> str:
    """Where the engine keeps its images, and how much is free there, where that is this machine's."""
    root = engine.data_root()
    if not root:
        return ""
    if engine.url.startswith("unix://"):
        with suppress(OSError):
            free = shutil.disk_usage(root).free / MIB
            return f"the engine keeps images in {root}, and {free:,.0f} MiB are free there"
    return f"the engine keeps images in {root} of its own machine"


def shortened(text: str, length: int) -> str:
    """One line of at most ``length`` characters."""
    plain = " ".join(COLOURS.sub("", text).split())
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def _without_blank_ends(lines: list[str]) -> list[str]:
    return "\n".join(lines).strip("\n").splitlines()
