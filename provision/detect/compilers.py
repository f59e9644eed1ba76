"""Compilers: from lines "/usr/bin/gcc-12 12.2.0" and "/usr/lib/llvm-16/bin/clang Debian clang version 16.0.6 (…)"."""

from __future__ import annotations

import re

from provision.model.build import Compiler
from provision.model.readings import Readings
from provision.model.versions import numbers

READING = "compilers"
LINE = re.compile(
    r"(/\S{1,4000}) (?:(\d{1,3}(?:\.\d{1,4}){0,3})$|.{0,100}?\bclang version (\d{1,3}(?:\.\d{1,4}){1,3}))"
)


def compilers(readings: Readings) -> tuple[Compiler, ...]:
    """GCC and Clang, each family newest first; of two of the same version both."""
    found: dict[str, Compiler] = {}
    for line in (readings.text(READING) or "").splitlines():
        match = LINE.match(line.rstrip())
        if match is None or not match[1].isprintable():
            continue
        path, gcc, clang = match[1], match[2], match[3]
        found.setdefault(path, Compiler(family="gcc" if gcc else "clang", version=gcc or clang, path=path))
    return tuple(sorted(found.values(), key=_order))


def _order(each: Compiler) -> tuple[object, ...]:
    return (each.family != "gcc", tuple(-part for part in numbers(each.version)), each.path)
