"""What `provision image build` is told: CPUs, files to copy, labels, packages, a time. All of it is data to us."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from provision.errors import UsageError
from provision.model.image import Copied
from provision.model.labels import OURS

if TYPE_CHECKING:
    from provision.model.catalog import Catalog

EPOCH = "SOURCE_DATE_EPOCH"
LAST_EPOCH = 2**32 - 1
"""What tar headers and file systems hold everywhere."""
HOME = "/work"
"""The images' working folder: where a copied file goes that names no place."""
RESERVED = "/opt/provision"
SHORT = re.compile(r"v[1-9]")
"""A level without the machine's name."""
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?:=[A-Za-z0-9.+:~-]+)?")
"""deb-control(5), Package; with apt's =VERSION."""
LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9])?")


def cpu_list(text: str, catalog: Catalog) -> tuple[str, ...]:
    """The CPUs to build for: ("x86-64-v2", "x86-64-v3") are two images, "avx2,fma" is one with both flags.

    A list is of images where each of its words names a whole CPU (generic, a level, a microarchitecture), and of flags
    where none does. Raises UsageError for a word that is neither, and for a list of both.
    """
    words = [f"x86-64-{word}" if SHORT.fullmatch(word) else word for word in map(str.strip, text.split(","))]
    if not all(words):
        raise UsageError(
            what=f"--cpu {text!r} has an empty word in it",
            why="levels or flags are written with one comma between them",
            hint="--cpu x86-64-v2,x86-64-v3",
        )
    for word in words:
        _check_word(word, catalog)
    whole = [word for word in words if not _is_flag(word, catalog)]
    if whole and len(whole) < len(words):
        flags = [word for word in words if word not in whole]
        raise UsageError(
            what=f"--cpu {text} mixes CPUs and flags",
            why=f"{', '.join(whole)} would be an image each, {', '.join(flags)} one image together",
            hint=f"either --cpu {','.join(whole)} or --cpu {','.join(flags)}, in calls of their own",
        )
    return tuple(dict.fromkeys(words)) if whole else (",".join(dict.fromkeys(words)),)


def _check_word(word: str, catalog: Catalog) -> None:
    from provision.resolve.copts import known_target

    if word == "native":
        raise UsageError(
            what="--cpu native is for a box, and an image leaves the machine that it is built on",
            why="elsewhere it would die with SIGILL, or refuse to start",
            hint="name a level, --cpu x86-64-v3, or the hosts that are to run it: -i hosts.yml",
        )
    if word == "fleet":
        raise UsageError(
            what="--cpu fleet needs the hosts",
            why="it is what all of them have",
            hint="leave --cpu out and name them: provision image build -i hosts.yml …",
        )
    problem = known_target(word, catalog)
    if problem is not None:
        takes = "it takes generic, a level (x86-64-v3), a microarchitecture (zen4) or CPU flags (avx2,fma)"
        raise replace(problem, why=takes if problem.what.startswith("--cpu does not know") else problem.why)


def _is_flag(word: str, catalog: Catalog) -> bool:
    from provision.resolve.copts import KERNEL_NAMES

    return word in KERNEL_NAMES or any(word in (row.flag, row.option) for row in catalog.compiler_flags)


def copied_files(texts: Sequence[str]) -> tuple[Copied, ...]:
    """Of ``--copy SOURCE[:TARGET]``. Raises UsageError."""
    return tuple(_copied(text) for text in texts)


def _copied(text: str) -> Copied:
    if not text.isprintable():
        raise UsageError(
            what=f"--copy {text!r} has a line break or another control character in it",
            why="a Dockerfile cannot name such a path",
            hint="rename it, or copy the folder that it is in",
        )
    source, target = _parted(text)
    path = Path(source).expanduser()
    if not source or not path.exists():
        raise UsageError(
            what=f"there is no file or folder {source or text!r}",
            why=f"--copy {text} names it, seen from {Path.cwd()}",
            hint="--copy SOURCE or --copy SOURCE:/TARGET, the source on this machine",
        )
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise UsageError(what=f"{source} cannot be read", why=f"--copy {text} names it", hint="change its mode")
    target = target or f"{HOME}/{path.resolve().name}"
    _check_target(text, target)
    return Copied(source=str(path.resolve()), target=target)


def _parted(text: str) -> tuple[str, str]:
    """At the last colon, unless the whole text is a path that is there."""
    source, colon, target = text.rpartition(":")
    if not colon or Path(text).expanduser().exists():
        return text, ""
    return source, target


def _check_target(text: str, target: str) -> None:
    if not target.startswith("/"):
        raise UsageError(
            what=f"the target {target!r} of --copy {text} is not absolute",
            why="a path in an image begins with /",
            hint=f"--copy {text.rpartition(':')[0]}:{HOME}/{target}",
        )
    parts = target.split("/")
    if ".." in parts:
        raise UsageError(what=f"the target of --copy {text} has .. in it", why="a path in an image is written out")
    if f"{target}/".startswith(f"{RESERVED}/"):
        raise UsageError(
            what=f"--copy {text} would change what was proved",
            why=f"the environment and the check of the CPU are below {RESERVED}",
            hint=f"further packages: --with; files of yours: {HOME}",
        )


def labels(texts: Sequence[str]) -> dict[str, str]:
    """Of ``--label NAME=VALUE``. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not LABEL.fullmatch(name):
            raise UsageError(
                what=f"--label {text!r} is not NAME=VALUE",
                why="there is no = in it"
                if not equals
                else f"{name!r} has more than letters, digits, dots, dashes, slashes",
                hint="--label org.opencontainers.image.vendor=Example",
            )
        if re.search(r"[\r\n\x00]", value):
            raise UsageError(
                what=f"the value of --label {name} has a line break or a zero byte in it",
                why="a Dockerfile cannot hold it",
                hint="put it into a file, and copy that into the image: --copy",
            )
        if name.startswith(OURS):
            raise UsageError(
                what=f"--label {name} is one of provision's own",
                why="those say what was built and proved, so that they can be believed",
                hint="choose another name",
            )
        found[name] = value
    return found


def packages(names: Sequence[str]) -> tuple[str, ...]:
    """Of ``--builder-package``. Raises UsageError for what is no name of a distribution's package."""
    for name in names:
        if not PACKAGE.fullmatch(name):
            raise UsageError(
                what=f"--builder-package {name!r} is not a package's name",
                why="it is small letters, digits, dots, dashes and plus signs, with =VERSION if need be",
                hint="--builder-package libssl-dev",
            )
    return tuple(dict.fromkeys(names))


def epoch(environ: Mapping[str, str]) -> int | None:
    """SOURCE_DATE_EPOCH, in seconds since 1970; None where it is not set. Raises UsageError."""
    text = environ.get(EPOCH, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > LAST_EPOCH:
        raise UsageError(
            what=f"{EPOCH} is {text!r}, which is not a time",
            why=f"it is a number of seconds since 1970, 0 to {LAST_EPOCH}",
            hint=f"export {EPOCH}=$(git log -1 --format=%ct), or unset it: the base image's own time is taken then",
        )
    return int(text)


def cache_places(option: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Of ``--cache-from`` and ``--cache-to``: a reference, or what buildx takes (type=registry,ref=…)."""
    from provision.resolve.image_tags import checked_reference

    for text in texts:
        if "=" not in text:
            checked_reference(text)
        elif not text.isprintable():
            raise UsageError(what=f"{option} {text!r} has a control character in it")
    return tuple(texts)


def check_tag(tag: str | None, output: Path | None) -> None:
    """Raises UsageError where there is none though something is built, or one that is no reference."""
    from provision.resolve.image_tags import LEVEL, checked_reference

    if tag is None and output is None:
        raise UsageError(
            what="the image has no name",
            why="--tag was not given",
            hint="--tag me/tensorflow:2.21, or --output Dockerfile to write the recipe and build nothing",
        )
    if tag is not None:
        checked_reference(tag.replace(LEVEL, "v3"))


def check_output(output: Path | None, **given: object) -> None:
    """Raises UsageError where ``--output``, which builds nothing, goes with an option about what was built."""
    others = [f"--{name}" for name, value in given.items() if value]
    if output is not None and others:
        raise UsageError(
            what=f"--output and {' and '.join(others)} contradict each other",
            why="--output writes a Dockerfile and its context, and builds nothing",
            hint="leave one of them out",
        )


def check_one_output(output: Path | None, cpus: Sequence[str]) -> None:
    """Raises UsageError where one Dockerfile would have to be several images."""
    if output is not None and len(cpus) > 1:
        raise UsageError(
            what=f"--output writes one Dockerfile, and {len(cpus)} images were asked for",
            why=f"one for each of {', '.join(cpus)}",
            hint="name one CPU, and call it once for each file",
        )


def check_sweep(hosts: bool, per_level: bool, cpu: str | None) -> None:
    """Raises UsageError where hosts and options about them, or about the CPU, do not go together."""
    if per_level and not hosts:
        raise UsageError(
            what="--per-level is about hosts, and none was named",
            why="it builds the fewest images of which each host can run one",
            hint="-i hosts.yml --per-level; for levels by name: --cpu x86-64-v2,x86-64-v3",
        )
    if hosts and cpu is not None:
        raise UsageError(
            what=f"--cpu {cpu} and hosts contradict each other",
            why="with hosts the image is for what all of them have",
            hint="leave one of them out; --per-level gives each level of the hosts an image of its own",
        )


def check_sbom(path: Path | None) -> None:
    """Raises UsageError where the bill could not be written: an hour later would be too late to say so."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise UsageError(
            what=f"--sbom {path} cannot be written",
            why="it is a folder" if path.is_dir() else f"{path.absolute().parent} is no folder that you may write to",
            hint="--sbom names a file: --sbom sbom.json",
        )
