"""`--output`: an image's Dockerfile and its context as files, for somebody who builds it by hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from provision.errors import UsageError
from provision.model.image import ImagePlan
from provision.model.report import Progress
from provision.render.dockerfile import whole_dockerfile
from provision.run.build_settings import BuildSettings
from provision.run.files import write_atomically
from provision.run.images import wheels
from provision.run.images.context import (
    ContextFile,
    environment_context,
    final_context,
    templates,
    write_context,
)
from provision.run.lock import target_environment, wheels_to_ship
from provision.run.uv import ready, uv_for

OnEvent = Callable[[Progress], None]

STEP = "Write the Dockerfile"
SEAL = ".provision"
"""In the context: the SHA-256 of the Dockerfile beside it, which says that both are ours and as we left them."""


def place(output: Path) -> Path:
    """The Dockerfile's path: in a folder it is called Dockerfile."""
    path = output.expanduser()
    return path / "Dockerfile" if path.is_dir() or str(output).endswith("/") else path


def context_of(dockerfile: Path) -> Path:
    """The folder beside it."""
    return dockerfile.with_name(f"{dockerfile.name}.context")


def check_place(dockerfile: Path) -> None:
    """Raises UsageError where something lies there that is not ours, or that was changed since we wrote it."""
    folder = context_of(dockerfile)
    if not dockerfile.parent.is_dir():
        raise UsageError(
            what=f"there is no folder {dockerfile.parent}", why="--output names a file in it", hint="make it: mkdir -p"
        )
    seal = _read(folder / SEAL)
    if folder.exists() and seal is None:
        raise _taken(folder, "it was not written by provision")
    if dockerfile.exists():
        content = dockerfile.read_bytes() if dockerfile.is_file() else b""
        if seal is None:
            raise _taken(dockerfile, "it was not written by provision")
        if seal.strip() != hashlib.sha256(content).hexdigest():
            raise _taken(dockerfile, "it was changed since provision wrote it")


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None


def _taken(path: Path, why: str) -> UsageError:
    return UsageError(what=f"{path} is there already", why=why, hint="give another name, or move it away")


def write(
    plan: ImagePlan,
    output: Path,
    *,
    mounts: bool,
    packages: Sequence[str] = (),
    settings: BuildSettings,
    on_event: OnEvent,
    cancel: threading.Event,
) -> Path:
    """The Dockerfile's path; its context lies beside it. What we wrote there before is replaced, both or neither.

    ``mounts``: for BuildKit, with cache mounts. ``packages``: further ones for the stage that builds from source.
    Raises UsageError where the place is taken or cannot be written, and what resolving versions raises.
    """
    dockerfile = place(output)
    check_place(dockerfile)
    on_event(Progress(host=dockerfile.name, kind="step", step=STEP))
    ready()
    locked_plan = replace(plan, plan=wheels.rest_locked(plan.plan, cancel=cancel))
    text = whole_dockerfile(locked_plan, templates(), mounts=mounts, packages=packages)
    _write(dockerfile, text, _files(locked_plan, settings, on_event, cancel))
    on_event(Progress(host=dockerfile.name, kind="done", step=STEP))
    return dockerfile


def _files(
    plan: ImagePlan, settings: BuildSettings, on_event: OnEvent, cancel: threading.Event
) -> tuple[ContextFile, ...]:
    builder: tuple[ContextFile, ...] = ()
    if plan.plan.builds:
        builder = wheels.output_context(plan, settings=settings, on_event=on_event, cancel=cancel)
    environment = environment_context(
        plan,
        uv=uv_for(plan.plan.arch, cancel=cancel).path,
        uv_environment=target_environment(plan.plan, os.environ, local=False),
        wheels=wheels_to_ship(plan.plan),
    )
    return (*builder, *environment, *final_context(plan))


def _write(dockerfile: Path, text: str, files: tuple[ContextFile, ...]) -> None:
    """Made beside its place and moved there whole. Only the user may read it: what uv is told may hold a password."""
    folder = context_of(dockerfile)
    try:
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=dockerfile.parent))
    except OSError as error:
        raise _unwritable(dockerfile, error) from error
    try:
        write_context(fresh, text, files)
        # one copy of it, so that nobody changes the other
        (fresh / "Dockerfile").unlink()
        (fresh / SEAL).write_text(hashlib.sha256(text.encode()).hexdigest() + "\n", encoding="ascii")
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
        write_atomically(dockerfile, text)
    except OSError as error:
        raise _unwritable(dockerfile, error) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _unwritable(path: Path, error: OSError) -> UsageError:
    where = error.filename or path
    return UsageError(
        what=f"cannot write {path} and its context",
        why=f"{where}: {error.strerror or error}",
        hint="give a place that you may write, with room for the context",
    )
