"""docker buildx, where the user has it: newer BuildKit front ends, caches of every kind, registry tokens.

It runs as a program, on the engine's own builder ("default", driver docker): another one would neither see the images
of this engine, which later stages start from, nor leave its own there. https://docs.docker.com/build/builders/drivers/
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from provision.errors import Interrupted
from provision.model.image import BuilderName
from provision.run.command import Running, run, start
from provision.run.images.build_steps import Steps
from provision.run.images.cleanup import forget
from provision.run.images.trace import Log, Trace, TraceBroken, Vertex, from_rawjson

if TYPE_CHECKING:
    from provision.run.images.builders import BuildAsk, OnEvent
    from provision.run.images.engine import Engine

TIMEOUT_S = 30.0
KEPT = "buildx"
BUILDER = "default"
DRIVER = re.compile(r"^Driver:\s+(\S+)", re.MULTILINE)
ERRORS_TOO = ("sh", "-c", 'exec "$@" 2>&1', "sh")
"""What buildx tells, it tells on its standard error."""
# #5 [environment 2/3] RUN uv pip sync lock.txt
PLAIN = re.compile(r"^#(?P<number>\d+) (?P<rest>.*)")
# #5 0.245 Resolved 32 packages
TIMED = re.compile(r"^\d+\.\d+ (?P<text>.*)")
DONE = re.compile(r"^DONE \d")


def missing(engine: Engine) -> str | None:
    """Why `docker buildx` cannot be used with this engine; None where it can."""
    if KEPT not in engine.kept:
        engine.kept[KEPT] = _tried(engine)
    return engine.kept[KEPT]  # type: ignore[no-any-return]


def _tried(engine: Engine) -> str | None:
    env, unset = engine.client_environment()
    version = run(["docker", "buildx", "version"], env=env, unset=unset, timeout_s=TIMEOUT_S)
    if not version.ok:
        return f"there is no docker buildx on this machine: {_first(version.stderr or version.stdout)}"
    inspected = run(["docker", "buildx", "inspect", BUILDER], env=env, unset=unset, timeout_s=TIMEOUT_S)
    driver = DRIVER.search(inspected.stdout)
    if not inspected.ok or driver is None or driver[1] != "docker":
        found = f"its driver is {driver[1]}" if inspected.ok and driver else _first(inspected.stderr)
        return f"docker buildx cannot use {engine.text} as its builder {BUILDER!r}: {found}"
    return None


def _first(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "it said nothing")


def command(ask: BuildAsk, *, folder: Path, iid: Path, progress: str) -> tuple[str, ...]:
    """The command line. Everything that users give is an argument of its own."""
    argv = ["docker", "buildx", "build", "--builder", BUILDER, "--progress", progress, "--load"]
    argv += ["--provenance=false", "--file", str(folder / "Dockerfile"), "--tag", ask.tag, "--iidfile", str(iid)]
    argv += ["--target", ask.target] if ask.target else []
    argv += ["--no-cache"] if ask.no_cache else []
    for name, value in ask.labels.items():
        argv += ["--label", f"{name}={value}"]
    for name, value in ask.build_args.items():
        argv += ["--build-arg", f"{name}={value}"]
    for text in ask.cache_from:
        argv += ["--cache-from", text]
    for text in ask.cache_to:
        argv += ["--cache-to", "type=inline" if text == "inline" else text]
    return (*argv, str(folder))


class PlainReader:
    """--progress=plain, line by line, as the traces that rawjson would have been.

    #5 [environment 2/3] RUN echo one
    #5 0.245 one
    #5 ERROR: process "/bin/sh -c echo one" did not complete successfully: exit code: 3
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def trace(self, line: str) -> Trace:
        found = PLAIN.match(line.rstrip("\n"))
        if found is None:
            return Trace()
        number, rest = found["number"], found["rest"]
        if number not in self._names:
            self._names[number] = rest
            return Trace(vertexes=(Vertex(digest=number, name=rest, started=True),))
        name = self._names[number]
        if rest == "CACHED":
            return Trace(vertexes=(Vertex(digest=number, name=name, cached=True, completed=True),))
        if rest.startswith("ERROR: "):
            error = rest.removeprefix("ERROR: ")
            return Trace(vertexes=(Vertex(digest=number, name=name, started=True, completed=True, error=error),))
        if DONE.match(rest) or rest in ("...", name):  # it goes on with another step, or comes back to this one
            return Trace()
        timed = TIMED.match(rest)
        return Trace(logs=(Log(vertex=number, text=f"{timed['text'] if timed else rest}\n"),))


class Buildx:
    """The newest BuildKit that there is."""

    name: BuilderName = "buildx"
    mounts = True
    note = ""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def build(self, ask: BuildAsk, *, on_event: OnEvent, cancel: threading.Event) -> str:
        """As builders.Builder says."""
        from provision.run.images.context import write_context

        steps = Steps(ask, on_event)
        steps.begin()
        env, unset = self._engine.client_environment()
        progress = self._progress()
        with tempfile.TemporaryDirectory(prefix="provision-build-") as temporary:
            folder, iid = Path(temporary) / "context", Path(temporary) / "iid"
            folder.mkdir()
            write_context(folder, ask.dockerfile, ask.context)
            argv = command(ask, folder=folder, iid=iid, progress=progress)
            with start([*ERRORS_TOO, *argv], env=env, unset=unset) as running, _ended_by(cancel, running):
                last = follow(running.stdout, steps, raw=progress == "rawjson")
                status = running.wait()
            if cancel.is_set():
                forget(self._engine, ask.tag)
                raise Interrupted(what="interrupted", why="docker buildx was stopped, and with it the build")
            if status != 0:
                raise steps.failed(self._engine, "\n".join(last) or f"docker buildx exited {status}")
        image = str(self._engine.inspect(ask.tag)["Id"])
        steps.end()
        return image

    def _progress(self) -> str:
        """rawjson from buildx 0.13 on; the engine's answers do not matter for that."""
        said = run(["docker", "buildx", "build", "--help"], timeout_s=TIMEOUT_S)
        return "rawjson" if "rawjson" in said.stdout else "plain"


def follow(lines: Iterable[str], steps: Steps, *, raw: bool) -> list[str]:
    """Tell what buildx tells; its last words that are no progress: "ERROR: failed to solve: …"."""
    plain, last = PlainReader(), list[str]()
    for line in lines:
        try:
            trace = from_rawjson(line) if raw else plain.trace(line)
        except TraceBroken:
            trace = Trace()
        if trace != Trace():
            steps.traced(trace)
        elif line.strip() and not line.startswith(("#", "{")):
            last.append(line.rstrip("\n"))
    errors = [line for line in last if line.startswith("ERROR")]
    return errors or last[-5:]


@contextmanager
def _ended_by(cancel: threading.Event, running: Running) -> Iterator[None]:
    """Kill the program when ``cancel`` is set: its connection is the build's session, and the build ends with it."""
    over = threading.Event()

    def watch(stop: Callable[[], None] = running.kill) -> None:
        while not over.wait(0.05):
            if cancel.is_set():
                stop()
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=1)
