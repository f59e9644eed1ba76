"""Wheels made from source in a builder stage: built in the engine, taken out of it, kept in this user's cache."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.catalog.failures import build_failures
from provision.detect.build_failures import failure_from
from provision.errors import Interrupted, ProvisionError, StepFailed, VerificationFailed
from provision.model.build import Build, Source
from provision.model.image import ImagePlan
from provision.model.labels import RUN
from provision.model.plan import Plan
from provision.model.report import BuildOutcome, CheckOutcome, Progress
from provision.render.dockerfile_wheels import Credentials, wheels_dockerfile
from provision.run.build_settings import BuildSettings
from provision.run.built import BuiltWheel, build_outcomes, built_wheels
from provision.run.images import wheels_context as context
from provision.run.images.builders import BuildAsk
from provision.run.images.cleanup import TEMPORARY
from provision.run.images.context import ContextFile, templates
from provision.run.lock import locked, target_environment
from provision.run.source_archive import Archive, archive_of
from provision.run.uv import cache_folder, uv_for

if TYPE_CHECKING:
    from provision.run.images.builders import Builder
    from provision.run.images.engine import Engine

OnEvent = Callable[[Progress], None]

TITLE = "Build the wheel"
KEEP_S = 30 * 24 * 3600
"""Wheels that nobody used for so long are removed when others are taken out of an engine."""
ANSWER = re.compile(r"provision-answer:(\d+)/(\d+):([A-Za-z0-9+/=]+)")
"""How dockerfiles/files/build_wheel.py tells what the recipe answered, in parts."""
LOG_LINES = 20_000
"""Of a build that failed, that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeWheels:
    """What the plan's builds came to."""

    wheels: tuple[BuiltWheel, ...]
    files: tuple[Path, ...]
    """The wheels themselves, on this machine."""
    outcomes: tuple[BuildOutcome, ...]
    checks: tuple[CheckOutcome, ...] = ()
    """isa_audit of each: done in the stage, where objdump is. In an image it could not tell."""


def make_wheels(
    engine: Engine,
    builder: Builder,
    plan: ImagePlan,
    *,
    settings: BuildSettings,
    on_event: OnEvent,
    cancel: threading.Event,
    run_id: str,
    no_cache: bool,
    packages: Sequence[str] = (),
) -> MadeWheels:
    """Make the wheels of ``plan.plan.builds``; one that the builder's cache has is not made again.

    ``packages``: further ones of the distribution for the builder stage. Raises UsageError for credentials that the
    builder would put into a layer, StepFailed with the known cause where a build fails, VerificationFailed where the
    wheel holds other instructions than were asked for, Interrupted.
    """
    environment = target_environment(plan.plan, os.environ, local=False)
    secret = context.credentials(settings, environment)
    if not builder.mounts:
        context.refuse_credentials(secret)
    files = context.wheels_context(
        plan, settings=settings, uv=uv_for(plan.plan.arch, cancel=cancel), uv_environment=environment,
        archives=sources_of(plan, on_event=on_event, cancel=cancel), answer=True,
    )  # fmt: skip
    how: Credentials = "none" if secret is None else "context"
    heard = Heard()
    begun = datetime.now(timezone.utc).replace(microsecond=0)
    ask = BuildAsk(
        dockerfile=wheels_dockerfile(plan, templates(), mounts=builder.mounts, packages=packages, credentials=how),
        context=(*files, *([secret] if secret else [])),
        tag=f"{TEMPORARY}:{run_id}-wheels-{os.urandom(2).hex()}",
        target="wheels",
        no_cache=no_cache,
        run_id=run_id,
        host=plan.tag,
        title=TITLE,
        heard=heard.line,
    )
    try:
        builder.build(ask, on_event=_without_answer(on_event), cancel=cancel)
    except StepFailed as error:
        raise _explained(plan.plan, error, heard) from error
    try:
        return _taken(engine, ask.tag, run_id, begun, cancel)
    finally:
        engine.remove_image(ask.tag, noprune=True)  # the stages below it are the classic builder's cache


def _without_answer(on_event: OnEvent) -> OnEvent:
    """What is meant for a program is not shown to people."""
    return lambda event: None if "provision-answer:" in event.text else on_event(event)


def sources_of(plan: ImagePlan, *, on_event: OnEvent, cancel: threading.Event) -> dict[Source, Archive | None]:
    """The source archives, made or found in this user's cache; equal ones once. Raises as ``archive_of`` does."""
    found: dict[Source, Archive | None] = {}
    for build in plan.plan.builds:
        if build.source not in found:
            found[build.source] = _archive(build, lambda event: on_event(replace(event, host=plan.tag)), cancel)
    return found


def _archive(build: Build, on_event: OnEvent, cancel: threading.Event) -> Archive | None:
    if build.source.kind == "index":  # uv fetches it in the stage
        return None
    return archive_of(build.source, on_event=on_event, cancel=cancel, framework=build.framework, version=build.version)


def output_context(
    plan: ImagePlan, *, settings: BuildSettings, on_event: OnEvent, cancel: threading.Event
) -> tuple[ContextFile, ...]:
    """The builder stage's files for somebody who builds the Dockerfile with another program. No credentials in them."""
    return context.wheels_context(
        plan, settings=settings, uv=uv_for(plan.plan.arch, cancel=cancel),
        uv_environment=target_environment(plan.plan, os.environ, local=False),
        archives=sources_of(plan, on_event=on_event, cancel=cancel), answer=False,
    )  # fmt: skip


def rest_locked(plan: Plan, *, cancel: threading.Event | None = None) -> Plan:
    """The plan with a lock of everything but the wheels that it builds, as the published release needs it.

    For a Dockerfile that makes the wheels itself: its lock must be there before they are. Without a lock where no
    published release fits. Raises Interrupted.
    """
    if not plan.builds:
        return locked(plan, cancel=cancel)
    try:
        whole = locked(replace(plan, builds=(), lock=None), cancel=cancel)
    except StepFailed:
        return replace(plan, lock=None)
    names = {name for build in plan.builds for name in build.distributions}
    return replace(plan, lock=without_packages(whole.lock or "", names))


def without_packages(lock: str, names: set[str]) -> str:
    """A lock less the requirements of these names, whose hashes stand on lines of their own below them."""
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    kept: list[str] = []
    leaving = False
    for line in lock.splitlines(keepends=True):
        if match := re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)", line):
            leaving = re.sub(r"[-_.]+", "-", match[1]).lower() in normal
        elif not line.startswith((" ", "\t")):
            leaving = False
        kept += [] if leaving else [line]
    return "".join(kept)


# ── out of the engine ─────────────────────────────────────────────────────────────────────────────────────────────


def _taken(engine: Engine, tag: str, run_id: str, begun: datetime, cancel: threading.Event) -> MadeWheels:
    """What lies in the image's /wheels. Nothing is started: the image has no program."""
    container = engine.client.api.create_container(tag, command=["none"], labels={RUN: run_id})["Id"]
    try:
        answers = json.loads(_file(engine, container, "/wheels/result.json"))
        records = [record for answer in answers for record in answer["builds"]]
        files = tuple(_kept(engine, container, record, cancel) for record in records)
    except (ValueError, KeyError, TypeError) as error:
        raise StepFailed(
            what="the builder stage has left no result that can be read",
            why=f"/wheels/result.json: {error}",
            hint="build it anew: --no-cache",
        ) from error
    finally:
        engine.client.api.remove_container(container, v=True, force=True)
    shown = [_record(record, file, begun) for record, file in zip(records, files, strict=True)]
    return MadeWheels(
        wheels=built_wheels(shown), files=files, outcomes=build_outcomes(shown), checks=tuple(map(_check, records))
    )


def _check(record: Mapping[str, Any]) -> CheckOutcome:
    found = record["audit"]
    return CheckOutcome(
        id=f"isa_audit:{record['framework']}",
        status=found["status"],
        what=str(found["what"]),
        why=str(found["why"]),
        hint=str(found["hint"]),
    )


def _record(record: Mapping[str, Any], file: Path, begun: datetime) -> dict[str, Any]:
    """As the report has it: the wheel lies here, the log nowhere, and a stage of the cache was not built now."""
    return {**record, "wheel": str(file), "log": "", "built": _made(record) >= begun}


def _made(record: Mapping[str, Any]) -> datetime:
    made = datetime.fromisoformat(str(record["made"]).replace("Z", "+00:00"))
    return made if made.tzinfo else made.replace(tzinfo=timezone.utc)


def _file(engine: Engine, container: str, path: str) -> bytes:
    """A small file's content."""
    chunks, _ = engine.client.api.get_archive(container, path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        content = tar.extractfile(tar.getmembers()[0])
        if content is None:
            raise ValueError(f"{path} is no file")
        return content.read()


def _kept(engine: Engine, container: str, record: Mapping[str, Any], cancel: threading.Event) -> Path:
    """The wheel in this user's cache, where it is named by its content."""
    digest, name = str(record["sha256"]), str(record["file"])
    if not re.fullmatch(r"[0-9a-f]{64}", digest) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*\.whl", name):
        raise ValueError(f"{name} ({digest}) is no wheel")
    store = cache_folder("wheels")
    path = store / digest[:32] / name
    if path.is_file():
        os.utime(path.parent)
        return path
    try:
        store.mkdir(parents=True, exist_ok=True)
        _remove_old(store)
        with tempfile.TemporaryDirectory(prefix="tmp-", dir=store) as folder:
            part = Path(folder) / name
            found = _copied(engine, container, f"/wheels/{name}", part, cancel)
            if found != digest:
                raise ValueError(f"{name} has SHA-256 {found}, and {digest} was made")
            part.chmod(0o644)
            path.parent.mkdir(exist_ok=True)
            part.replace(path)
    except OSError as error:
        raise StepFailed(
            what="the wheel cannot be kept on this machine",
            why=f"{error.filename or store}: {error.strerror or error}",
            hint="make room, or use another folder: XDG_CACHE_HOME=FOLDER",
        ) from error
    return path


def _copied(engine: Engine, container: str, path: str, to: Path, cancel: threading.Event) -> str:
    """Copy a file out of a container; its SHA-256."""
    chunks, _ = engine.client.api.get_archive(container, path)
    digest = hashlib.sha256()
    with tarfile.open(fileobj=_Stream(chunks), mode="r|") as tar, to.open("wb") as file:
        for member in tar:
            content = tar.extractfile(member)
            while content is not None and (block := content.read(1 << 20)):
                if cancel.is_set():
                    raise Interrupted(what="interrupted", why="the wheel was being copied out of the engine")
                digest.update(block)
                file.write(block)
    return digest.hexdigest()


class _Stream(io.RawIOBase):
    """Chunks as a file that is read once, from its begin to its end: a wheel with CUDA has a gigabyte."""

    def __init__(self, chunks: Any) -> None:
        self._chunks, self._rest = iter(chunks), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _remove_old(store: Path) -> None:
    for folder in store.iterdir():
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEEP_S:
                shutil.rmtree(folder, ignore_errors=True)


# ── what failed ───────────────────────────────────────────────────────────────────────────────────────────────────


class Heard:
    """The lines of the builder's steps: the recipe's answer is taken out of them, the others are kept for a log."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self._parts: dict[int, str] = {}
        self._whole = 0

    def line(self, text: str) -> None:
        match = ANSWER.search(text)
        if match is None:
            self.lines.append(text)
            return
        self._whole = int(match[2])
        self._parts[int(match[1])] = match[3]

    def answers(self) -> list[dict[str, Any]]:
        """The recipe's answers, the failed one last; none where the build failed before it could say so."""
        if not self._whole or set(self._parts) != set(range(1, self._whole + 1)):
            return []
        with suppress(ValueError):
            text = "".join(self._parts[number] for number in sorted(self._parts))
            found = json.loads(base64.b64decode(text, validate=True))
            return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
        return []


def _explained(plan: Plan, error: StepFailed, heard: Heard) -> ProvisionError:
    """The failure as a build on a box has it; the builder's own where the recipe did not come to say anything."""
    answers = heard.answers()
    if not answers or not answers[-1].get("failed"):
        return error
    answer, build = answers[-1], plan.builds[len(answers) - 1]
    if answer.get("kind") == "audit":
        return VerificationFailed(what=str(answer["what"]), why=str(answer["why"]), hint=str(answer["hint"]))
    log = _log(heard)
    failure = failure_from(
        {**answer, "log": str(log) if log else ""},
        build_failures() if answer.get("kind") == "build" else (),
        framework=build.framework,
        version=build.version,
        compiler=build.compiler.family if build.compiler else None,
        own_compiler=plan.request.compiler is not None,
    )
    return StepFailed(what=failure.what, why=failure.why, hint=failure.hint)


def _log(heard: Heard) -> Path | None:
    """The file that holds what the steps said."""
    with suppress(OSError):
        folder = cache_folder("build-logs")
        folder.mkdir(parents=True, exist_ok=True)
        _remove_old(folder)
        handle, name = tempfile.mkstemp(prefix="build-", suffix=".log", dir=folder)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.writelines(f"{line}\n" for line in heard.lines)
        return Path(name)
    return None
