"""The files that a builder stage is given: uv, the recipe, the sources, and what is to be built."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from provision import assets
from provision.errors import UsageError
from provision.model.build import Build, Source
from provision.model.data import to_data
from provision.model.image import ImagePlan
from provision.render.dockerfile_wheels import without_credentials
from provision.run.build_settings import PASSWORD, USER, BuildSettings
from provision.run.images.context import ContextFile
from provision.run.source_archive import Archive
from provision.run.uv import Uv

Archives = Mapping[Source, Archive | None]

FOLDER = "build"
"""All files of the builder stage lie below it, so that they mix with those of other stages."""
CREDENTIALS = f"{FOLDER}/credentials.json"
LOCK_TIMEOUT_S = 600.0
SECRET_SETTINGS = ("remote_cache_user", "remote_cache_password")
UTILS = "ansible.module_utils"


def wheels_context(
    plan: ImagePlan,
    *,
    settings: BuildSettings,
    uv: Uv,
    uv_environment: Mapping[str, str],
    archives: Archives,
    answer: bool,
) -> tuple[ContextFile, ...]:
    """All but the credentials. ``answer``: whether a failed build is told in full for a program that listens."""
    params = {
        "builds": [_entry(build, archives.get(build.source), plan.epoch) for build in plan.plan.builds],
        "uv_version": uv.version,
        "uv_environment": {name: value for name, value in uv_environment.items() if not is_secret(name, value)},
        "settings": {name: value for name, value in _settings(settings).items() if name not in SECRET_SETTINGS},
        "lock_timeout_s": LOCK_TIMEOUT_S,
        "answer": answer,
    }
    script = (assets.folder("dockerfiles") / "files" / "build_wheel.py").read_bytes()
    found = [
        ContextFile(name=f"{FOLDER}/uv", content=uv.path, mode=0o755),
        *recipe(),
        *(
            ContextFile(name=f"{FOLDER}/checks/{file.name}", content=file.read_bytes())
            for file in sorted(assets.folder("checks").glob("isa_[!b]*.py"))
        ),
        ContextFile(name=f"{FOLDER}/build_wheel.py", content=script),
        ContextFile(name=f"{FOLDER}/params.json", content=_json(params)),
    ]
    for archive in dict.fromkeys(each for each in archives.values() if each is not None):
        found.append(ContextFile(name=f"{FOLDER}/{place(archive)}", content=archive.path))
    return tuple(found)


def credentials(settings: BuildSettings, uv_environment: Mapping[str, str]) -> ContextFile | None:
    """What must not be in a layer; None where nothing is secret.

    RUN binds this file out of the context, so it stays in the engine's build cache and gets into no image.
    """
    secret = {name: value for name, value in _settings(settings).items() if name in SECRET_SETTINGS}
    variables = {name: value for name, value in uv_environment.items() if is_secret(name, value)}
    if not (settings.remote_cache_password or variables):
        return None
    return ContextFile(name=CREDENTIALS, content=_json({"settings": secret, "uv_environment": variables}), mode=0o600)


def refuse_credentials(found: ContextFile | None) -> None:
    """Raises UsageError where there are some, and the builder would put them into a layer."""
    if found is None:
        return
    raise UsageError(
        what="the classic builder cannot keep a secret",
        why="credentials of the remote cache or of a package index are given, and its RUN has no mounts: they would\n"
        "stay in a layer of the engine, for everybody who may use it",
        hint=f"--builder buildx or --builder buildkit; or without credentials: unset {USER} {PASSWORD}, and those of "
        "UV_INDEX_…",
    )


def is_secret(name: str, value: str) -> bool:
    """Whether a variable of uv's is, or has, a credential: UV_INDEX_LAB_PASSWORD, https://me:secret@host/."""
    return name.endswith(("_PASSWORD", "_USERNAME")) or without_credentials(value) != value


def place(archive: Archive) -> str:
    """Where an archive lies, relative to DATA_HOME/provision: as on a box."""
    return f"sources/{archive.sha256[:16]}/{archive.path.name}"


def recipe() -> tuple[ContextFile, ...]:
    """The Ansible module's Python files that build, as the package that they are on a box.

    Only those that are needed: a change in another one is no reason to build anew.
    """
    folder = assets.folder("playbooks") / "module_utils"
    names = sorted(_needed(folder, "provision_build"))
    empty = [ContextFile(name=f"{FOLDER}/ansible/{name}__init__.py", content=b"") for name in ("", "module_utils/")]
    return (
        *empty,
        *(
            ContextFile(name=f"{FOLDER}/ansible/module_utils/{name}.py", content=(folder / f"{name}.py").read_bytes())
            for name in names
        ),
    )


def _needed(folder: Path, first: str) -> set[str]:
    """A module of module_utils with all that it imports of them, and so on."""
    found: set[str] = set()
    todo = [first]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _imported((folder / f"{name}.py").read_text(encoding="utf-8"))
    return found


def _imported(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module == UTILS:
            yield from (alias.name for alias in node.names)
        elif node.module.startswith(f"{UTILS}."):
            yield node.module.removeprefix(f"{UTILS}.")


def _entry(build: Build, archive: Archive | None, epoch: int) -> dict[str, Any]:
    """As the playbook's module takes it. The engine's machine is not the one that was planned for: its processor need
    not have the flags. The compiler is the distribution's, which says itself what version it is."""
    compiler = replace(build.compiler, version="") if build.compiler else None
    location = archive.path.name if archive else without_credentials(build.source.location)
    source = replace(build.source, location=location)
    # what packs wheels in Python takes the files' time from it: the same build then gives the same bytes
    environment = {**build.environment, "SOURCE_DATE_EPOCH": str(epoch)}
    as_here = replace(build, compiler=compiler, source=source, runs_here=False, environment=environment)
    return {
        "build": to_data(as_here),
        "audit": [
            "--framework",
            build.framework,
            "--expect",
            ",".join(build.expect),
            "--allow",
            ",".join(build.allow),
        ],
        "archive": place(archive) if archive else "",
        "archive_sha256": archive.sha256 if archive else "",
    }


def _settings(settings: BuildSettings) -> dict[str, Any]:
    """As the playbook's module takes them: what was given, by its names."""
    given = {name.removeprefix("provision_"): value for name, value in settings.variables().items()}
    return {**given, "until": ""}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
