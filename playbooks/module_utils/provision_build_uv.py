"""Engine "uv": a source distribution of the package index, built by its own backend, as NumPy's is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.module_utils import provision_uv as uv
from ansible.module_utils.provision_build_context import Context, EngineResult
from ansible.module_utils.provision_build_sdist import fetched, sdist_of
from ansible.module_utils.provision_build_source import unpacked
from ansible.module_utils.provision_build_steps import Steps
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_tree

MESON = re.compile(r'^\s*build-backend\s*=\s*["\']mesonpy["\']', re.MULTILINE)


def build(context: Context) -> EngineResult:
    """Fetch the source distribution with the hash that the index gives, and let uv call its backend.

    Where the plan names build requirements, the backend runs in the build environment and keeps its output for the
    next try; else uv makes an environment for it that lasts as long as the call.
    """
    environment = uv_variables(context)
    archive, sha256 = _source(context, environment)
    _unpack(context, archive, sha256)
    folder = context.scratch / "output"
    folder.mkdir(exist_ok=True)
    steps = Steps(context, "compiling")
    steps.run(build_argv(context, folder), environment)
    return EngineResult(
        folder=context.wheels,
        actions=steps.done or None,
        compile_actions=steps.compiled,
        tool=f"uv {context.uv.name.partition('-')[2]}",
    )


def uv_variables(context: Context) -> dict[str, str]:
    """The build's environment, with what uv has to know."""
    its = {name: value for name, value in context.uv_environment.items() if name.startswith(("UV_", "SSL_"))}
    return {**context.filled_environment(), **its, "NO_COLOR": "1"}


def build_argv(context: Context, output: Path) -> list[str]:
    settings = context.fill_all(context.build["config_settings"])
    isolated = not context.build["build_requirements"]
    project = context.tree / "pyproject.toml"
    if project.is_file() and MESON.search(project.read_text(encoding="utf-8", errors="replace")):
        if not any(one.startswith("compile-args=") for one in settings):
            settings.append(f"compile-args=-j{context.jobs}")
        if not isolated and not any(one.startswith(("build-dir=", "builddir=")) for one in settings):
            settings.append(f"build-dir={output}")
    argv = [
        str(context.uv), "build", "--wheel", "--no-config", "--index-strategy", "unsafe-best-match",
        "--python", str(context.python), "--out-dir", str(context.wheels),
    ]  # fmt: skip
    for one in settings:
        argv += ["--config-setting", one]
    return [*argv, *([] if isolated else ["--no-build-isolation"]), str(context.tree)]


def _source(context: Context, environment: Mapping[str, str]) -> tuple[Path, str]:
    """The source distribution and its SHA-256."""
    requirement = context.build["source"]["location"]
    asked, answer = context.scratch / "requirement.txt", context.scratch / "pylock.toml"
    asked.write_text(requirement + "\n", encoding="utf-8")
    context.say(f"asking the index for the source of {requirement}")
    said: list[str] = []
    argv = _lock_argv(context, asked, answer)
    status = context.run(argv, on_line=lambda _, line: said.append(line), environment=environment, cwd=context.scratch)
    if status != 0:
        raise uv.explained(f"find the source of {requirement}", status, "\n".join(said), context.build["python"])
    found = sdist_of(answer.read_text(encoding="utf-8"))
    if found is None:
        why = "the index has no source distribution of it, with a SHA-256"
        raise Failure("source", f"there is no source of {requirement}", why, "ask for a version that has one")
    return fetched(found, context.scratch, context.uv_environment, context.say), found.sha256


def _lock_argv(context: Context, asked: Path, answer: Path) -> Sequence[str]:
    return [
        str(context.uv), "pip", "compile", "--no-config", "--no-deps", "--no-binary", ":all:", "--quiet",
        "--index-strategy", "unsafe-best-match", "--python", str(context.python), "--format", "pylock.toml",
        "--no-header", "--output-file", str(answer), str(asked),
    ]  # fmt: skip


def _unpack(context: Context, archive: Path, sha256: str) -> None:
    mark = context.scratch / "sdist.sha256"
    before = mark.read_text(encoding="ascii") if mark.is_file() else ""
    if before != sha256:
        remove_tree(context.tree)
        remove_tree(context.scratch / "output")
    context.say("unpacking the source")
    unpacked(archive, sha256, context.tree)
    mark.write_text(sha256, encoding="ascii")
