"""The compiler, linker and C library of a target: what they say they are, and what keys a build and its caches."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TIMEOUT_S = 60


def asked(argv: Sequence[str], text: str = "") -> tuple[int, str]:
    """(status, what it printed) of a quick command, in English; (-1, why) where it cannot be run."""
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            list(argv), input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, env=env,
            encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
    except OSError as error:
        return -1, f"{argv[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        return -1, f"{argv[0]}: no answer within {TIMEOUT_S} s"
    return done.returncode, done.stdout


def first_line(argv: Sequence[str]) -> str:
    status, text = asked(argv)
    return text.splitlines()[0].strip() if status == 0 and text.strip() else ""


def companion(path: str) -> str:
    """The C++ compiler beside a C compiler: g++-12 of gcc-12, clang++-16 of clang-16, c++ of cc."""
    folder, _, name = path.rpartition("/")
    for c, cpp in (("clang", "clang++"), ("gcc", "g++"), ("cc", "c++")):
        if re.search(rf"(?:^|-){c}(?:$|-)", name):
            name = re.sub(rf"(^|-){c}($|-)", rf"\g<1>{cpp}\g<2>", name, count=1)
            break
    return f"{folder}/{name}" if folder else name


def version_of(family: str, path: str) -> str:
    """ "12.2.0"; "" where it does not say."""
    if family == "gcc":
        return first_line([path, "-dumpfullversion", "-dumpversion"])
    # Debian clang version 16.0.6 (15~deb12u1)
    match = re.search(r"clang version (\d+(?:\.\d+)*)", asked([path, "--version"])[1])
    return match[1] if match else ""


def called(compiler: Mapping[str, Any], version: str = "") -> str:
    """ "GCC 12.2.0 (/usr/bin/gcc-12)"."""
    family = "GCC" if compiler["family"] == "gcc" else "Clang"
    known = version or compiler["version"]
    return f"{family}{' ' if known else ''}{known} ({compiler['path']})"


def libc() -> str:
    """The C library's own words: "ldd (Debian GLIBC 2.36-9+deb12u10) 2.36"."""
    return first_line(["ldd", "--version"])


def glibc_version() -> tuple[int, int] | None:
    """(2, 36); None for another C library."""
    match = re.fullmatch(r"glibc (\d+)\.(\d+)", _confstr())
    return (int(match[1]), int(match[2])) if match else None


def _confstr() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def identity(compiler: Mapping[str, Any] | None) -> dict[str, str]:
    """Everything on this machine that a compiled file depends on, besides its source and its options."""
    found = {"machine": platform.machine(), "libc": libc(), "linker": first_line(["ld", "-v"])}
    found["assembler"] = first_line(["as", "--version"])
    if compiler is not None:
        found["family"] = compiler["family"]
        found["compiler"] = first_line([compiler["path"], "--version"])
        found["target"] = first_line([compiler["path"], "-dumpmachine"])
    return found


def silo(who: Mapping[str, str], options: Sequence[str]) -> str:
    """What separates caches: two builds with the same are interchangeable. ``options`` in their order."""
    return _digest({"toolchain": dict(who), "options": list(options)})[:16]


def key(build: Mapping[str, Any], who: Mapping[str, str], archive_sha256: str) -> str:
    """What names a build. Where the source came from does not matter once its archive is here, nor do the reasons."""
    source = dict(build["source"])
    if archive_sha256:
        source = {"sha256": archive_sha256}
    named = {**build, "source": source, "copts": [copt["option"] for copt in build["copts"]]}
    named.pop("needs", None)
    return _digest({"build": named, "toolchain": dict(who)})[:20]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def cpu_flags(text: str) -> frozenset[str]:
    """The first processor's flags in the text of /proc/cpuinfo: "flags : fpu vme …" (x86), "Features : fp …" (ARM)."""
    match = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else frozenset()


def this_cpu() -> frozenset[str]:
    try:
        return cpu_flags(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return frozenset()
