"""The build context: every file that a Dockerfile of ours reads, as values; a folder of them for `--output`."""

from __future__ import annotations

import io
import json
import shlex
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from provision.assets import folder as asset_folder
from provision.catalog.images import slim_rules
from provision.errors import UsageError
from provision.model.data import to_data
from provision.model.image import Copied, ImagePlan, SlimRule
from provision.model.plan import Plan
from provision.render.dockerfile import brings_python, variables
from provision.render.image_cpu import cpu_file

SCRIPTS = ("make", "slim.py", "shorten.py", "minimal.py", "compiled.py")
"""Of the build stage only."""
PROGRAMS = ("entrypoint", "check-cpu", "healthcheck", "healthcheck.py")
"""In the image, below /opt/provision/bin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextFile:
    """A file of the context."""

    name: str
    """Its path there: "environment/lock.txt"."""
    content: bytes | Path
    """A path is a file of this machine, read when it is sent."""
    mode: int = 0o644
    mtime: int = 0
    """Seconds since 1970; what reaches an image is no newer than its epoch."""


def templates() -> Mapping[str, str]:
    """The Dockerfiles' templates by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(asset_folder("dockerfiles").glob("*.j2"))}


def environment_context(
    plan: ImagePlan, *, uv: Path, uv_environment: Mapping[str, str], wheels: Sequence[Path]
) -> tuple[ContextFile, ...]:
    """What the stages up to ``environment`` read. ``uv_environment`` may hold credentials: it is in the build stage
    alone, and no layer of the image."""
    files = asset_folder("dockerfiles") / "files"
    texts = {
        "lock.txt": plan.plan.lock or "",
        "plan.json": json.dumps(to_data(_shared(plan.plan)), indent=2, ensure_ascii=False) + "\n",
        "environment": "".join(f"{name}={value}\n" for name, value in variables(plan).items()),
        "settings": settings(plan, uv_environment),
        "requirements.txt": "".join(f"{line}\n" for line in requirements(plan)),
        "slim.json": json.dumps([_rule(rule) for rule in rules(plan)], indent=2) + "\n",
    }
    found = [ContextFile(name="environment/uv", content=uv, mode=0o755, mtime=plan.epoch)]
    for name in SCRIPTS:
        found.append(ContextFile(name=f"environment/{name}", content=files / name, mtime=plan.epoch))
    for name in PROGRAMS:
        found.append(ContextFile(name=f"environment/bin/{name}", content=files / name, mode=0o755, mtime=plan.epoch))
    for name, text in texts.items():
        found.append(ContextFile(name=f"environment/{name}", content=text.encode(), mtime=plan.epoch))
    for wheel in wheels:
        found.append(ContextFile(name=f"environment/wheels/{wheel.name}", content=wheel, mtime=plan.epoch))
    return tuple(sorted(found, key=lambda file: file.name))


def settings(plan: ImagePlan, uv_environment: Mapping[str, str]) -> str:
    """What the build stage's shell reads: every value quoted, so that none of it is taken for shell."""
    values = {
        **uv_environment,
        "EPOCH": str(plan.epoch),
        "PYTHON": plan.plan.stack[0].python,
        "PYTHON_PREFERENCE": "only-managed" if brings_python(plan) else "only-system",
        "MINIMAL": "1" if plan.minimal else "",
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())


def requirements(plan: ImagePlan) -> tuple[str, ...]:
    """What is asked for, for an environment that has no lock."""
    lines = [line for stack in plan.plan.stack for line in stack.requirements]
    return tuple(dict.fromkeys([*lines, *plan.plan.request.requirements]))


def rules(plan: ImagePlan) -> tuple[SlimRule, ...]:
    """What goes from this environment."""
    frameworks = {stack.framework for stack in plan.plan.stack}
    return tuple(
        rule
        for rule in slim_rules()
        if (not rule.frameworks or frameworks & set(rule.frameworks)) and (plan.minimal or not rule.minimal)
    )


def _shared(plan: Plan) -> Plan:
    """What all tags of an environment have in common: a tag's name, its CPU and the reasons for both are in labels and
    reports, and would make its layer another one."""
    request = replace(plan.request, cpu="generic", cpu_flags=(), cpu_left_out=())
    return replace(plan, host="image", request=request, reasons=(), rejected=(), steps=(), stock=None)


def _rule(rule: SlimRule) -> dict[str, object]:
    return {"remove": list(rule.remove), "strip": list(rule.strip), "shorten": list(rule.shorten), "why": rule.why}


def final_context(plan: ImagePlan) -> tuple[ContextFile, ...]:
    """What the last stage reads. Raises UsageError where a file of the user's is not there."""
    archive = ContextFile(name="cpu.tar", content=_cpu_archive(plan), mtime=plan.epoch)
    copied = [file for number, each in enumerate(plan.copied) for file in _copied(each, number, plan.epoch)]
    return (archive, *copied)


def _cpu_archive(plan: ImagePlan) -> bytes:
    text = cpu_file(plan).encode()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("opt", "opt/provision"):
            tar.addfile(_entry(name, tarfile.DIRTYPE, 0o755, 0, plan.epoch))
        tar.addfile(_entry("opt/provision/cpu", tarfile.REGTYPE, 0o644, len(text), plan.epoch), io.BytesIO(text))
    return made.getvalue()


def _entry(name: str, kind: bytes, mode: int, size: int, mtime: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, mtime
    return entry


def _copied(copied: Copied, number: int, epoch: int) -> Iterator[ContextFile]:
    source = Path(copied.source).expanduser()
    into = f"copied/{number}/{source.name}" if copied.target.endswith("/") else f"copied/{number}"
    try:
        folder = source.is_dir()
        paths = sorted(path for path in source.rglob("*") if path.is_file()) if folder else [source]
        for path in paths:
            status = path.stat()
            yield ContextFile(
                name=f"copied/{number}/{path.relative_to(source)}" if folder else into,
                content=path,
                mode=0o755 if status.st_mode & 0o100 else 0o644,
                mtime=min(int(status.st_mtime), epoch),
            )
    except OSError as error:
        raise UsageError(
            what=f"{copied.source} cannot be copied into the image",
            why=str(error),
            hint="name a file or folder of this machine that you may read: --copy SOURCE:TARGET",
        ) from error


def write_context(folder: Path, dockerfile: str, files: Sequence[ContextFile]) -> None:
    """The context as files, for a builder that is called by hand. ``folder`` is made where it is not there.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    for file in files:
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(file.content, Path):
            shutil.copyfile(file.content, path)
        else:
            path.write_bytes(file.content)
        path.chmod(file.mode)
