"""From a plan to its lock: exact versions with hashes, resolved by uv for the target's machine and Python."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from provision.errors import Interrupted, ProvisionError, StepFailed, UsageError
from provision.model.plan import Plan
from provision.run.built import BuiltWheel
from provision.run.command import CANCELLED, Completed
from provision.run.files import write_atomically
from provision.run.uv import cache_folder, run_uv, settings, sha256, version

CACHE_SCHEMA = 1
KEEP_S = 24 * 3600
"""After a day the index is asked again: a new environment gets the fixes that were published meanwhile."""

MANYLINUX = {"x86_64": (17, 28, *range(31, 41)), "aarch64": (17, 28, *range(31, 41))}
"""Minor versions of glibc 2.N that uv has a platform for (`uv pip compile --help`)."""
ASSUMED_GLIBC = "2.28"
"""Where the target's is not known: what uv itself assumes for "linux"."""
PLAIN_PLATFORMS = {"riscv64": "riscv64-unknown-linux"}

INDEX_FAMILY = frozenset({"torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torchao", "torchcodec"})
"""What a stack's own index is trusted for. It serves copies of numpy and others too, and a name that PyPI does not have
could be planted there: everything else comes from PyPI (or the user's own indexes)."""

MIRROR_HINT = (
    "check the network and its proxy; a mirror: --index URL or UV_DEFAULT_INDEX=URL;\n"
    "no network at all: put the wheels into a folder and give --find-links FOLDER"
)
CACHE_VARIABLES = "UV_CACHE_DIR=FOLDER (uv's cache alone) or XDG_CACHE_HOME=FOLDER (every program's)"
UNKNOWN_HINT = "uv's words above say what it did not like; `provision plan` shows what it was asked for"
FAILURES: tuple[tuple[str, str, str], ...] = (
    (
        r"Failed to read `--find-links` directory",
        "a folder given with --find-links cannot be read",
        "name a folder that exists on this machine",
    ),
    (
        r"No space left on device|Disk quota exceeded|\(os error (?:28|122)\)",
        "a disk of this machine is full",
        f"make room, or use a folder on another disk: {CACHE_VARIABLES};\nTMPDIR=FOLDER for what is thrown away",
    ),
    (
        r"Failed to initialize cache|Read-only file system|Permission denied|\(os error (?:13|30)\)",
        "uv cannot use its folders on this machine",
        f"use a folder that you may write to: {CACHE_VARIABLES}",
    ),
    (
        r"invalid peer certificate|UnknownIssuer|CertificateRequired|certificate verify",
        "the package index's certificate is not trusted",
        "behind a proxy that opens TLS: SSL_CERT_FILE=/path/to/its/ca-bundle.crt",
    ),
    (
        r"error sending request|dns error|Connection refused|timed out|network was disabled|Network is unreachable",
        "the package index cannot be reached",
        MIRROR_HINT,
    ),
    (
        r"401 Unauthorized|403 Forbidden|authentication",
        "the package index refuses us",
        "give credentials in the index's address, by netrc, or UV_INDEX_NAME_USERNAME and UV_INDEX_NAME_PASSWORD",
    ),
    (
        r"[Hh]ash mismatch",
        "a package is not what its index says it is",
        "do not install it: a mirror or cache holds another file; `uv cache clean` rules out the cache",
    ),
    (
        r"has no wheels with a matching|has no usable wheels",
        "a package has no wheel for this host",
        "another version or another Python may have one: --framework NAME==VERSION, --python 3.N",
    ),
    (
        r"there (is|are) no versions? of|was not found in (the package registry|the provided package locations)",
        "a package or version is not in the index",
        "check the spelling and the index (--index URL, --find-links FOLDER)",
    ),
    (
        r"unsatisfiable|incompatible",
        "the packages contradict each other",
        "loosen or leave out what was asked for in addition (--with, a second --framework)",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of uv: everything that decides the answer."""

    pyproject: str
    arguments: tuple[str, ...]
    options: tuple[str, ...]
    """Option lines that the lock starts with, so that the target finds what was found here."""

    def key(self, seen: Mapping[str, object]) -> str:
        content = [CACHE_SCHEMA, version(), self.pyproject, self.arguments, self.options, seen]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def locked(
    plan: Plan,
    *,
    offline: bool = False,
    cancel: threading.Event | None = None,
    environ: Mapping[str, str] | None = None,
    cache: Path | None = None,
    built: Sequence[BuiltWheel] = (),
) -> Plan:
    """The plan with its lock. A plan that has one keeps it. ``built`` are wheels that no index has.

    Raises StepFailed with uv's own explanation where there is no answer, Interrupted where ``cancel`` was set.
    """
    if plan.lock is not None:
        return plan
    environ = os.environ if environ is None else environ
    folder = cache_folder("locks") if cache is None else cache
    failure: ProvisionError | None = None
    for question in questions(plan, environ, offline=offline, built=built):
        try:
            lock = _answer(question, _seen(plan, environ), folder, offline, cancel)
            return replace(plan, lock=lock + "".join(wheel.lock_line for wheel in built))
        except StepFailed as error:
            failure = failure or error
    raise failure or StepFailed(what="the plan asks for no packages", why="its stack is empty")


def questions(
    plan: Plan, environ: Mapping[str, str], *, offline: bool = False, built: Sequence[BuiltWheel] = ()
) -> Iterator[Question]:
    """What to ask, in order, until there is an answer.

    A package that --find-links may hold is asked for there before it is pinned to its index, since uv does not look at
    --find-links for a pinned one. Nobody can slip in another package meanwhile: a local version such as 2.13.0+cpu
    cannot be on PyPI, and a name of INDEX_FAMILY is the same project's there.
    """
    links = find_links(plan, environ)
    pinned = _pins(plan)
    there = {_normal(file.name.split("-")[0]) for file in _wheels(links)}
    unsure = any(not isinstance(link, Path) for link in links)
    freed = {
        name: url for name, url in pinned.items() if not (name in there or (unsure and _has_local_version(plan, name)))
    }
    yield _question(plan, environ, freed, offline, built)
    if freed != pinned:
        yield _question(plan, environ, pinned, offline, built)


def _question(
    plan: Plan, environ: Mapping[str, str], pins: Mapping[str, str], offline: bool, built: Sequence[BuiltWheel]
) -> Question:
    python = _python(plan)
    links = find_links(plan, environ)
    arguments = ["--python-version", python, "--python-platform", _platform(plan), "--only-binary", ":all:"]
    for index in plan.request.indexes:
        arguments += ["--index", index]
    for link in links:
        arguments += ["--find-links", str(link)]
    for wheel in built:  # it is in the lock by its own line: what stands in for it must not be
        arguments += ["--no-emit-package", wheel.distribution]
    return Question(
        pyproject=_pyproject(_with_built(plan, built), python, pins, _stand_ins(built)),
        arguments=(*arguments, *(["--offline"] if offline else [])),
        options=tuple(_options(plan, environ, pins, links)),
    )


def _with_built(plan: Plan, built: Sequence[BuiltWheel]) -> tuple[str, ...]:
    """The plan's requirements, those of what was built replaced by the very wheels: "tensorflow[and-cuda]==2.21.0"."""
    ours = {(build.framework, _normal(name)) for build in plan.builds for name in build.distributions}
    names = {name for _, name in ours}
    kept = [line for line in _requirements(plan) if _name(line) not in names]
    extras = {_name(line): match[0] for line in _requirements(plan) if (match := re.search(r"\[[^\]]*\]", line))}
    wheels = [
        f"{wheel.distribution}{next((extras[n] for f, n in ours if f == wheel.framework and n in extras), '')}"
        f"=={wheel.version}"
        for wheel in built
    ]
    return (*wheels, *kept)


def _stand_ins(built: Sequence[BuiltWheel]) -> dict[str, Path]:
    return {wheel.distribution: wheel.stand_in(cache_folder("built")) for wheel in built}


def _pyproject(
    requirements: Sequence[str], python: str, pins: Mapping[str, str], files: Mapping[str, Path] | None = None
) -> str:
    """A project file: the one place where uv takes an index, or a file, that serves named packages only."""
    names = {url: f"stack-{number}" for number, url in enumerate(dict.fromkeys(pins.values()))}
    lines = ["[project]", 'name = "stack"', 'version = "0"', f'requires-python = ">={python}"']
    lines += [f"dependencies = {_toml(list(requirements))}"]
    for url, name in names.items():
        lines += ["[[tool.uv.index]]", f'name = "{name}"', f"url = {_toml(url)}", "explicit = true"]
    sources = [f'{name} = {{ index = "{names[url]}" }}' for name, url in pins.items() if name not in (files or {})]
    sources += [f"{name} = {{ path = {_toml(str(path))} }}" for name, path in (files or {}).items()]
    if sources:
        lines += ["[tool.uv.sources]", *sources]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """JSON's strings and lists are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _answer(
    question: Question, seen: Mapping[str, object], folder: Path, offline: bool, cancel: threading.Event | None
) -> str:
    kept = folder / f"{question.key(seen)}.txt"
    with suppress(OSError):
        if offline or time.time() - kept.stat().st_mtime < KEEP_S:
            return kept.read_text(encoding="utf-8")
    lock = "".join(f"{line}\n" for line in question.options) + _resolve(question, cancel)
    with suppress(OSError, UsageError):  # a cache that cannot be written costs time only
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, lock)
    return lock


def _resolve(question: Question, cancel: threading.Event | None) -> str:
    try:
        done = _compiled(question, cancel)
    except OSError as error:
        raise StepFailed(
            what="no temporary file can be written on this machine",
            why=str(error),
            hint=f"make room in {os.environ.get('TMPDIR') or '/tmp'}, or use another folder: TMPDIR=FOLDER",  # noqa: S108
        ) from error
    if done.status == CANCELLED:
        raise Interrupted(what="interrupted", why="versions were being resolved; nothing was changed")
    if not done.ok:
        raise explained(done.stderr)
    return done.stdout


def _compiled(question: Question, cancel: threading.Event | None) -> Completed:
    with tempfile.TemporaryDirectory(prefix="provision-lock-") as folder:
        project = Path(folder) / "pyproject.toml"
        project.write_text(question.pyproject, encoding="utf-8")
        return run_uv(
            ["pip", "compile", "--directory", folder, "--generate-hashes", "--no-header", "--no-annotate", "--quiet",
             # without it uv tries to fetch the target's Python, which resolving does not need
             "--no-python-downloads", "--color", "never", *question.arguments, str(project)],
            cancel=cancel,
        )  # fmt: skip


def explained(stderr: str) -> StepFailed:
    """uv's explanation in our three parts: its words are the why."""
    text = re.sub(r"^(?:error|  cause): ?", "", stderr.strip(), flags=re.MULTILINE)
    for pattern, what, hint in FAILURES:
        if re.search(pattern, stderr):
            return StepFailed(what=what, why=text, hint=hint)
    return StepFailed(
        what="the packages of the stack cannot be resolved", why=text or "uv said nothing", hint=UNKNOWN_HINT
    )


def find_links(plan: Plan, environ: Mapping[str, str]) -> tuple[Path | str, ...]:
    """Where further wheels lie: folders as absolute paths of this machine, pages as their addresses."""
    wanted = [*plan.request.find_links, *(each for each in environ.get("UV_FIND_LINKS", "").split(",") if each.strip())]
    return tuple(dict.fromkeys(_link(each.strip()) for each in wanted))


def _link(text: str) -> Path | str:
    if text.startswith("file://"):
        return Path(urlsplit(text).path)
    return text if re.match(r"[a-z][a-z0-9+.-]*://", text) else Path(text).expanduser().resolve()


def wheels_to_ship(plan: Plan, environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Wheel files on this machine that the lock names by hash, and the target cannot find by itself."""
    hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", plan.lock or ""))
    names = {_normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", plan.lock or "", re.MULTILINE)}
    links = find_links(plan, os.environ if environ is None else environ)
    python, arch = _python(plan).replace(".", ""), plan.arch or "x86_64"
    return tuple(
        file
        for file in _wheels(links)
        if _normal(file.name.split("-")[0]) in names and _fits(file.name, python, arch) and sha256(file) in hashes
    )


def _fits(wheel: str, python: str, arch: str) -> bool:
    """Whether a wheel's tags can be this Python's ("312") and this machine's: the hash decides the rest."""
    *_, pythons, abis, platforms = wheel.removesuffix(".whl").split("-")
    python_fits = any(tag in (f"cp{python}", "py3", f"py{python}") for tag in pythons.split(".")) or "abi3" in abis
    return python_fits and (platforms == "any" or arch in platforms)


def _wheels(links: Iterable[Path | str]) -> list[Path]:
    return sorted(file for link in links if isinstance(link, Path) for file in link.glob("*.whl"))


def _pins(plan: Plan) -> dict[str, str]:
    """Package name to index address, for packages that come from their stack's own index."""
    asked = {_name(line) for line in plan.request.requirements}
    return {
        name: stack.index_url
        for stack in plan.stack
        if stack.index_url is not None
        for name in sorted({*map(_name, stack.requirements), *asked} & INDEX_FAMILY)
    }


def _options(
    plan: Plan, environ: Mapping[str, str], pins: Mapping[str, str], links: Iterable[Path | str]
) -> Iterator[str]:
    default = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    if default:
        yield f"--index-url {_without_credentials(default)}"
    further = (environ.get("UV_INDEX", "") + " " + environ.get("UV_EXTRA_INDEX_URL", "")).split()
    for url in dict.fromkeys([*further, *plan.request.indexes, *pins.values()]):
        yield f"--extra-index-url {_without_credentials(url)}"
    for link in links:
        if not isinstance(link, Path):
            yield f"--find-links {_without_credentials(link)}"


def _without_credentials(url: str) -> str:
    """The address alone. A named index (NAME=URL, as UV_INDEX takes it) loses its name too."""
    parts = urlsplit(re.sub(r"^[\w-]+=(?=[a-z]+://)", "", url))
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def target_environment(plan: Plan, environ: Mapping[str, str], *, local: bool) -> dict[str, str]:
    """What uv on the target has to know beside the lock: the user's index settings, credentials among them.

    Settings that name a file or folder of this machine stay here.
    """
    found = {
        name: value for name, value in settings(environ).items() if local or not re.search(r"(^|=|\s)/|file:", value)
    }
    secret = [url for url in plan.request.indexes if url != _without_credentials(url)]
    if secret:
        found["UV_INDEX"] = " ".join([*found.get("UV_INDEX", "").split(), *secret])
    return found


def _seen(plan: Plan, environ: Mapping[str, str]) -> dict[str, object]:
    """What decides the answer beside the question: the user's settings and the wheels in folders."""
    wheels = [[file.name, file.stat().st_size, file.stat().st_mtime] for file in _wheels(find_links(plan, environ))]
    return {"settings": settings(environ), "wheels": wheels}


def _requirements(plan: Plan) -> tuple[str, ...]:
    lines = [line for stack in plan.stack for line in stack.requirements]
    return tuple(dict.fromkeys([*lines, *plan.request.requirements]))


def _python(plan: Plan) -> str:
    return plan.stack[0].python


def _platform(plan: Plan) -> str:
    """uv's name for the target: the newest glibc it knows that is not newer than the target's."""
    arch = plan.arch or "x86_64"
    if arch in PLAIN_PLATFORMS:
        return PLAIN_PLATFORMS[arch]
    if arch not in MANYLINUX:
        raise StepFailed(
            what=f"packages cannot be resolved for {arch}",
            why=f"uv resolves for {', '.join([*MANYLINUX, *PLAIN_PLATFORMS])}",
            hint="there are no wheels of these frameworks for this machine",
        )
    minor = int((plan.glibc or ASSUMED_GLIBC).split(".")[1])
    known = [each for each in MANYLINUX[arch] if each <= minor]
    return f"{arch}-manylinux_2_{max(known, default=MANYLINUX[arch][0])}"


def _name(requirement: str) -> str:
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return _normal(match[1]) if match else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _has_local_version(plan: Plan, name: str) -> bool:
    return any(_name(line) == name and "+" in line for line in _requirements(plan))
