"""Which Bazel a tree is built with: the one that the user names, Bazelisk, one on PATH, or Bazelisk brought by npm."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.provision_build_context import Context
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_tree, sha256_of

# What @bazel/bazelisk carries, by machine: a static program each. Read from the package of npm's registry, 2026-11-22.
BAZELISK = "1.28.1"
LAUNCHERS = {
    "x86_64": ("bazelisk-linux_amd64", "22e7d3a188699982f661cf4687137ee52d1f24fec1ec893d91a6c4d791a75de8"),
    "aarch64": ("bazelisk-linux_arm64", "8ded44b58a0d9425a4178af26cf17693feac3b87bdcfef0a2a0898fcd1afc9f2"),
}
ASK_S = 900.0
"""Bazelisk downloads Bazel (40 to 60 MB) before it answers."""
NPM_S = 120.0
# bazel 6.1.0 · bazel 6.1.0- (head (@non-git)) · bazel no_version (Debian's)
SAID = re.compile(r"^bazel (\S+)", re.MULTILINE)
NUMBER = re.compile(r"\d+\.\d+(?:\.\d+)?(?:rc\d+|-pre\.\S+)?")
# what Debian's and Bazel's own apt package put in /usr/bin/bazel: it runs bazel-VERSION from beside itself, or says
WRAPPER = re.compile(r"you're trying to build requires Bazel (\S+) .*but it wasn't found in (\S+?)\.(?:\x1b|\s|$)")


@dataclass(frozen=True)
class Bazel:
    """The program that was chosen."""

    program: str
    version: str | None
    """ "6.1.0"; None for one that says no number (Debian's)."""
    environment: Mapping[str, str]
    """What it is to be run with, besides the build's own environment."""
    stand_in: bool = False
    """It only answers --version: enough for configure, not for a build."""

    @property
    def tool(self) -> str:
        return f"bazel {self.version or '(no version number)'}"


@dataclass(frozen=True)
class Answer:
    """What a program said to --version."""

    status: int
    text: str

    @property
    def version(self) -> str | None:
        said = SAID.search(self.text)
        match = NUMBER.match(said[1]) if said else None
        return match[0].rstrip("-") if match else None

    @property
    def wrapper(self) -> re.Match[str] | None:
        return WRAPPER.search(self.text)

    @property
    def is_bazel(self) -> bool:
        return self.status == 0 and SAID.search(self.text) is not None

    @property
    def last_line(self) -> str:
        lines = [line for line in self.text.splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it printed nothing"


def tree_version(text: str) -> str | None:
    """The number of a .bazelversion: its first line (TensorFlow 2.10 and newer have a comment below it)."""
    lines = text.splitlines()
    match = NUMBER.fullmatch(lines[0].strip()) if lines else None
    return match[0] if match else None


def wanted_version(context: Context) -> str | None:
    """What the tree's .bazelversion names, which beats what the plan says."""
    named = None
    with contextlib.suppress(OSError):
        named = tree_version((context.tree / ".bazelversion").read_text(encoding="utf-8", errors="replace"))
    return named or (context.build.get("bazel") or {}).get("version") or None


def find(context: Context, *, stand_in: bool = False) -> Bazel:
    """The Bazel for this tree; it is `bazel` in ``shim_folder`` and {bazel} in texts from here on.

    ``stand_in``: where there is none, one that only tells its version will do. Raises Failure (kind "bazel").
    """
    wanted = wanted_version(context)
    if context.setting("bazel"):
        found = _named(context, str(context.setting("bazel")), wanted)
    else:
        try:
            found = _on_this_machine(context, wanted)
        except Failure as failure:
            if not stand_in or wanted is None:
                raise
            found = _stand_in(context, wanted)
            note(context, f"no Bazel {wanted} is here ({failure.what}): configure was told that there is one")
    place(context, found)
    return found


def shim_folder(context: Context) -> Path:
    """Goes first on PATH. Before 2.9, TensorFlow's configure looks for nothing but a program called `bazel`."""
    return context.scratch / "bin"


def place(context: Context, found: Bazel) -> None:
    link = shim_folder(context) / "bazel"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not found.stand_in:
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(found.program)
    context.values["bazel"] = str(link)


def note(context: Context, text: str) -> None:
    if text not in context.notes:
        context.notes.append(text)


def environment(context: Context, wanted: str | None) -> dict[str, str]:
    """How Bazelisk is told what to bring and where from. A plain Bazel does not look at any of it."""
    ambient = context.environment
    found = {"BAZELISK_HOME": ambient.get("BAZELISK_HOME") or str(context.build_folder / "bazelisk")}
    if wanted:
        found["USE_BAZEL_VERSION"] = wanted
    if base := context.setting("bazelisk_base_url") or ambient.get("BAZELISK_BASE_URL"):
        found["BAZELISK_BASE_URL"] = str(base)
    # a tree's own tools/bazel would run instead of the Bazel that was asked for
    found["BAZELISK_SKIP_WRAPPER"] = "1"
    return found


def ask(context: Context, program: str, extra: Mapping[str, str]) -> Answer:
    """What ``program --version`` says in the tree. Bazelisk downloads Bazel for that."""
    lines: list[str] = []
    whole = context.filled_environment(extra)
    try:
        status = context.run(
            [program, "--version"], on_line=lambda _, line: lines.append(line), environment=whole, timeout_s=ASK_S
        )
    except OSError as error:
        return Answer(-1, f"{program}: {error.strerror}")
    return Answer(status, "\n".join(lines))


# ── one that the user names ───────────────────────────────────────────────────────────────────────────────────────


def _named(context: Context, program: str, wanted: str | None) -> Bazel:
    path = shutil.which(os.path.expanduser(program), path=context.environment.get("PATH"))  # noqa: PTH111
    if path is None:
        raise Failure(
            "bazel",
            f"there is no program {program}",
            f"it was named as the Bazel to build {_what(context)} with",
            "give the path of a Bazel or Bazelisk on the machine that builds, or leave --bazel out",
        )
    path = str(Path(path).absolute())
    force = bool(context.setting("force"))
    extra = environment(context, wanted)
    answer = ask(context, path, extra)
    if answer.wrapper and force:
        # Debian's wrapper would run the newest it has, were it not for the tree
        note(context, f"the tree asks for Bazel {wanted}, and {path} has another: used because of --force")
        extra["USE_BAZEL_VERSION"] = "latest"
        answer = ask(context, path, extra)
    if not answer.is_bazel:
        raise _not_usable(context, path, answer, wanted)
    if answer.version is None:
        note(context, f"{path} says no version number; {_what(context)} asks for Bazel {wanted or 'of any version'}")
    elif wanted and answer.version != wanted:
        if not force:
            raise _wrong(context, path, answer.version, wanted)
        note(context, f"the tree asks for Bazel {wanted}, and {path} is {answer.version}: used because of --force")
    return Bazel(path, answer.version, extra)


def _not_usable(context: Context, path: str, answer: Answer, wanted: str | None) -> Failure:
    if answer.wrapper:
        return Failure(
            "bazel",
            f"{path} has no Bazel {answer.wrapper[1]}, which {_what(context)} is built with",
            f"it only chooses among programs called bazel-VERSION in {answer.wrapper[2]}, and downloads none",
            f"leave --bazel out (Bazelisk then brings {answer.wrapper[1]}), or name another program, "
            f"as {_beside(answer.wrapper[2])}, or give --force",
        )
    return Failure(
        "bazel",
        f"{path} does not work as Bazel {wanted}" if wanted else f"{path} does not work as Bazel",
        f"`{path} --version` ended with status {answer.status}: {answer.last_line}",
        ways_out(context, wanted),
    )


def _beside(folder: str) -> str:
    """The newest real Bazel beside Debian's wrapper."""
    there = sorted(str(path) for path in Path(folder).glob("bazel-[0-9]*"))
    return there[-1] if there else f"{folder}/bazel-VERSION"


def _wrong(context: Context, path: str, version: str, wanted: str) -> Failure:
    return Failure(
        "bazel",
        f"{path} is Bazel {version}, and {_what(context)} is built with {wanted}",
        f"the tree's .bazelversion or the release's row in the catalogue names {wanted}; others fail after a while",
        f"leave --bazel out (Bazelisk then brings {wanted}), or give --force to try {version} all the same",
    )


# ── the machine's own, or npm's ───────────────────────────────────────────────────────────────────────────────────


def _on_this_machine(context: Context, wanted: str | None) -> Bazel:
    extra = environment(context, wanted)
    tried: list[str] = []
    wrong: tuple[str, str] | None = None
    for name in ("bazelisk", "bazel"):
        path = shutil.which(name, path=context.environment.get("PATH"))
        if path is None:
            continue
        answer = ask(context, path, extra)
        if answer.is_bazel and (wanted is None or answer.version == wanted):
            return Bazel(path, answer.version, extra)
        if answer.is_bazel:
            tried.append(f"{path} is Bazel {answer.version}" if answer.version else f"{path} says no version number")
            wrong = wrong or ((path, answer.version) if answer.version else None)
        elif answer.wrapper:
            tried.append(f"{path} has no Bazel {answer.wrapper[1]} and downloads none")
        else:
            tried.append(f"{path}: {answer.last_line}")
    try:
        path = str(bring_bazelisk(context))
    except Failure as failure:
        if wrong and wanted and context.setting("force"):
            note(context, f"the tree asks for Bazel {wanted}, and {wrong[0]} is {wrong[1]}: used because of --force")
            return Bazel(*wrong, extra)
        raise _none(context, wanted, [*tried, failure.what]) from failure
    answer = ask(context, path, extra)
    if answer.is_bazel:
        if wanted and answer.version is None:
            note(context, f"the Bazel that Bazelisk brought says no version number; {wanted} was asked for")
        return Bazel(path, answer.version, extra)
    raise _none(context, wanted, [*tried, f"Bazelisk: {answer.last_line}"])


def _none(context: Context, wanted: str | None, tried: list[str]) -> Failure:
    name = f"Bazel {wanted}" if wanted else "Bazel"
    return Failure(
        "bazel", f"there is no {name} for {_what(context)}, and none could be brought", "\n".join(tried),
        ways_out(context, wanted),
    )  # fmt: skip


def ways_out(context: Context, wanted: str | None) -> str:
    version = wanted or "VERSION"
    machine = "arm64" if platform.machine() == "aarch64" else "x86_64"
    return (
        f"give --bazelisk-base-url (provision_bazelisk_base_url) a mirror that has {version}/bazel-{version}-linux-"
        f"{machine}, or copy the folder {environment(context, wanted)['BAZELISK_HOME']} from a machine that has been "
        "online, or name a Bazel on this machine with --bazel PATH (provision_bazel)"
    )


def _what(context: Context) -> str:
    return f"{context.build['framework']} {context.build['version']}"


def bring_bazelisk(context: Context) -> Path:
    """Bazelisk's own program from npm's package, checked. Raises Failure where it cannot be had."""
    machine = platform.machine()
    if machine not in LAUNCHERS:
        raise Failure("bazel", f"npm's Bazelisk has no program for {machine}")
    name, sha256 = LAUNCHERS[machine]
    place_ = context.build_folder / "bin" / f"bazelisk-{BAZELISK}"
    if sha256_of(place_) == sha256:
        return place_
    npm = shutil.which("npm", path=context.environment.get("PATH"))
    if npm is None:
        raise Failure("bazel", "npm, which could bring Bazelisk, is not here")
    context.say(f"bringing Bazelisk {BAZELISK}")
    folder = context.scratch / "npm"
    remove_tree(folder)
    folder.mkdir(parents=True)
    try:
        _unpack(_pack(context, npm, folder), name, folder / name)
        if sha256_of(folder / name) != sha256:
            raise Failure("bazel", f"what npm brought as Bazelisk {BAZELISK} is not Bazelisk {BAZELISK}")
        (folder / name).chmod(0o755)
        place_.parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(place_)
    finally:
        remove_tree(folder)
    return place_


def _pack(context: Context, npm: str, folder: Path) -> Path:
    """npm's package as a file. The user's npm settings say where from."""
    lines: list[str] = []
    argv = [npm, "pack", f"@bazel/bazelisk@{BAZELISK}", "--ignore-scripts", "--loglevel=error"]
    extra = {"npm_config_update_notifier": "false", "npm_config_cache": str(folder / "cache")}
    status = context.run(
        argv, on_line=lambda _, line: lines.append(line), environment=context.filled_environment(extra), cwd=folder,
        timeout_s=NPM_S,
    )  # fmt: skip
    packed = sorted(folder.glob("*.tgz"))
    if status != 0 or not packed:
        why = next((line for line in lines if "npm ERR!" in line or "npm error" in line), "")
        raise Failure("bazel", f"npm could not bring Bazelisk {BAZELISK}: {why or f'status {status}'}")
    return packed[0]


def _unpack(packed: Path, name: str, place_: Path) -> None:
    try:
        with tarfile.open(packed, "r:gz") as archive:
            place_.write_bytes(_content(archive, f"package/{name}"))
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise Failure("bazel", f"npm's package of Bazelisk {BAZELISK} has no {name}") from error


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found.read()


# ── for configure alone ───────────────────────────────────────────────────────────────────────────────────────────


def _stand_in(context: Context, wanted: str) -> Bazel:
    """configure asks `bazel --version` and nothing else (TensorFlow 2.4 to 2.21)."""
    program = shim_folder(context) / "bazel"
    program.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        program.unlink()
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$*" = --version ]; then echo "bazel {wanted}"; exit 0; fi\n'
        'echo "this stands in for Bazel, which is not here: it only knows --version" >&2\nexit 1\n',
        encoding="ascii",
    )
    program.chmod(0o755)
    return Bazel(str(program), wanted, environment(context, wanted), stand_in=True)
