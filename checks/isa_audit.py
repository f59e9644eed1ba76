#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Does the installed binary hold the instructions that it was to be built with, and no others?

Disassembles the shared libraries of a framework with objdump (binutils) and counts instructions by CPU flag. Fails
where a flag that is expected has none, or next to none, in code that every CPU runs; and where such code holds one that
is not allowed. Code that is chosen at run time is left out of both, and is told apart by evidence, not by following
branches: functions that ask the CPU themselves, libraries that are known to choose their kernels, names of functions
and of their source files, IFUNC resolvers, neighbours in the same object file, and callers that are all such code
(isa_dispatch.py says which). A name counts up to what it promises. Functions without a symbol and without evidence are
unattributed: instructions that are not allowed there give "cannot tell", never a pass, and never a failure alone.

The framework is not loaded: nothing is executed that this CPU might lack. Changes nothing.
Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python isa_audit.py --framework tensorflow --expect avx2,fma --allow avx2,fma,bmi1,bmi2,popcnt
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import isa_dispatch
import isa_files
import isa_tables

PACKAGES = {"tensorflow": "tensorflow", "pytorch": "torch", "jax": "jaxlib", "numpy": "numpy", "keras": "keras"}
LEAST_SHARE = 1e-4
"""Of the vector instructions in code that every CPU runs: an expected flag below it is missing. Built with a flag,
TensorFlow's and Eigen's code has it in more than one of a hundred; leftovers of others' inline assembler have less."""
SCARCE = frozenset({"aes", "pclmulqdq", "sha_ni", "gfni", "adx", "cx16", "sse4a", "vaes", "vpclmulqdq", "movbe"})
"""Flags that compilers do not use of their own accord (or hardly): that there is none proves nothing."""
BY_NAME = frozenset({"aes", "pclmulqdq", "sha_ni", "gfni", "adx", "vaes", "vpclmulqdq", "sse4a"})
"""Flags that compilers never use unless a program asks for the instruction by name: cryptography and checksums, which
ask the CPU. They are counted, and being there is no fault of the build's options."""
MANY = 20_000
"""Functions with instructions that are not allowed: of so many the callers are not looked for, since that is a build
with wrong options."""
FIRST = 5
"""How many functions are named."""


class CannotTellError(Exception):
    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.hint = what, why, hint


@dataclass
class Found:
    """What one library holds, counted by flag."""

    path: Path
    counts: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    """In code that every CPU runs, of the flags that are asked about."""
    dispatched: Counter[str] = field(default_factory=Counter)
    unattributed: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)
    """Functions by what told them apart."""
    foreign: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    """Flag -> the functions of ``own`` with most of its instructions, where it is not allowed."""
    instructions: int = 0
    size: int = 0
    read: int = 0
    undecoded: int = 0
    seconds: float = 0.0

    def data(self, name: str) -> dict[str, Any]:
        return {
            "library": name,
            "instructions": self.instructions,
            "bytes": self.read,
            "bytes_left_out": self.size - self.read,
            "seconds": round(self.seconds, 2),
            "counts": dict(self.counts.most_common()),
            "own": dict(self.own.most_common()),
            "dispatched": dict(self.dispatched.most_common()),
            "unattributed": dict(self.unattributed.most_common()),
            "evidence": dict(self.evidence.most_common()),
            "foreign": {flag: [list(row) for row in rows[:FIRST]] for flag, rows in self.foreign.items()},
            "functions_with_undecoded": self.undecoded,
        }


class Disassembler:
    """Runs pieces side by side, each in a Python and an objdump of its own, until the time is up."""

    def __init__(self, objdump: str, folder: Path, workers: int, seconds: float) -> None:
        self.objdump, self.folder, self.workers = objdump, folder, workers
        self.end = time.monotonic() + seconds
        self._broken = threading.Event()

    def run(self, pieces: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        # every so manieth piece first: where the time does not suffice, what was read is spread over the library
        step = max(1, len(pieces) // 8)
        order = [piece for first in range(step) for piece in pieces[first::step]]
        with ThreadPoolExecutor(self.workers) as pool:
            for piece, answer in zip(order, pool.map(self._one, order)):
                if answer is not None:
                    yield piece, answer

    def _one(self, piece: dict[str, Any]) -> dict[str, Any] | None:
        if time.monotonic() > self.end or self._broken.is_set():
            return None
        job = json.dumps({"piece": piece, "objdump": self.objdump, "folder": str(self.folder)})
        command = [sys.executable, __file__, "--inside"]
        done = subprocess.run(command, input=job, capture_output=True, text=True, errors="replace")
        if done.returncode:
            self._broken.set()
            last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
            raise CannotTellError(f"{Path(piece['path']).name} could not be disassembled", last[0])
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def audit(path: Path, allow: frozenset[str], expect: Sequence[str], runner: Disassembler) -> Found:
    """Raises CannotTellError; NotReadable."""
    begun = time.monotonic()
    library = isa_files.read(path)
    if library.machine != "x86_64":
        raise CannotTellError(f"{path.name} is for {library.machine}", "instructions are told apart for x86-64 alone")
    wanted = sorted((isa_tables.KNOWN - allow) | set(expect))
    found = Found(path, size=sum(span.size for span in library.spans))
    holds: dict[int, Counter[str]] = {}
    guarded: set[int] = set()
    targets: set[int] = set()
    pieces = list(isa_files.pieces(library, wanted))
    for _, answer in runner.run(pieces):
        found.instructions += answer["instructions"]
        found.read += answer["bytes"]
        found.counts.update(answer["counts"])
        found.undecoded += len(answer["undecoded"])
        holds.update((start, Counter(counts)) for start, counts in answer["functions"])
        guarded.update(answer["guarded"])
        targets.update(answer["targets"])
    evidence = _evidence(library, holds, guarded, targets)
    _ask_callers(library, evidence, holds, allow, pieces, runner)
    _sort_out(library, found, holds, evidence, allow)
    found.seconds = time.monotonic() - begun
    return found


def _evidence(
    library: isa_files.Library, holds: Iterable[int], guarded: set[int], targets: set[int]
) -> isa_dispatch.Evidence:
    symbols = library.symbols(library.named)
    names = {start: [*rows, *symbols.sources.get(start, ())] for start, rows in symbols.names.items()}
    local = {start for start in holds if start in library.named and start not in library.globals}
    return isa_dispatch.Evidence(library.path.name, names, local, sorted(library.globals), guarded, targets)


def _tier(counts: Iterable[str], allow: frozenset[str]) -> int:
    """What a function with ``counts`` must be dispatched for; 0 where all of it is allowed."""
    return max((isa_dispatch.tier_of_flag(flag) for flag in counts if flag not in allow), default=0)


def _ask_callers(
    library: isa_files.Library,
    evidence: isa_dispatch.Evidence,
    holds: dict[int, Counter[str]],
    allow: frozenset[str],
    pieces: Sequence[dict[str, Any]],
    runner: Disassembler,
) -> None:
    asked = {
        start: tier
        for start, tier in ((start, _tier(counts, allow)) for start, counts in holds.items())
        if tier > evidence.of(start)[0]
    }
    if not asked or len(asked) > MANY:
        return
    stored, stubs = library.indirect(set(asked))
    callers: dict[int, set[int]] = {}
    answers = [answer for _, answer in runner.run([{**piece, "callees": [*asked, *stubs]} for piece in pieces])]
    for caller, callee in (lead for answer in answers for lead in answer["leads"]):
        callers.setdefault(stubs.get(callee, callee), set()).add(caller)
    if len(answers) == len(pieces):  # else there may be callers that nobody has seen
        isa_dispatch.by_callers(evidence, asked, callers, stored)


def _sort_out(
    library: isa_files.Library,
    found: Found,
    holds: dict[int, Counter[str]],
    evidence: isa_dispatch.Evidence,
    allow: frozenset[str],
) -> None:
    rows: dict[str, list[tuple[int, str]]] = {}
    for start, counts in holds.items():
        tier, how = evidence.of(start)
        if tier:
            found.evidence[how] += 1
        for flag, count in counts.items():
            if tier >= isa_dispatch.tier_of_flag(flag):
                found.dispatched[flag] += count
            elif start in library.named:
                found.own[flag] += count
                if flag not in allow:
                    rows.setdefault(flag, []).append((count, next(iter(evidence.names.get(start, ())), "?")))
            else:
                found.unattributed[flag] += count
    for flag, several in rows.items():
        several.sort(key=lambda row: (-row[0], row[1]))
        found.foreign[flag] = [(name[:160], count) for count, name in several]


def libraries(framework: str, path: str) -> tuple[Path, list[Path]]:
    """The folder that paths are shown from, and the shared libraries. Raises CannotTellError."""
    if path:
        place = Path(path)
        if place.is_file():
            return place.parent, [place]
        if not place.is_dir():
            raise CannotTellError(f"there is no {place}")
        return place, _some(framework, place, [place])
    folders = [Path(sysconfig.get_paths()[name]) for name in ("platlib", "purelib")]
    package = PACKAGES[framework]
    for folder in folders:
        if (folder / package).is_dir():
            return folder, _some(framework, folder / package, [folder / package, folder / f"{package}.libs"])
    why = f"no folder {package} in {folders[0]}"
    raise CannotTellError(f"{framework} is not installed for {sys.executable}", why)


def _some(framework: str, shown: Path, folders: Iterable[Path]) -> list[Path]:
    found = {
        path.resolve()
        for folder in folders
        for path in sorted(folder.rglob("*.so*"))
        if path.is_file() and (path.suffix == ".so" or ".so." in path.name)
    }
    libraries = sorted(path for path in found if _begins(path) == b"\x7fELF")
    if not libraries:
        raise CannotTellError(f"{framework} has no shared libraries", f"{shown} holds Python alone")
    return libraries


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def judge(options: argparse.Namespace) -> dict[str, Any]:
    expect, unknown = _flags(options.expect)
    allow = isa_tables.closure([*_flags(options.allow)[0], *expect]) | isa_tables.MINIMUM | BY_NAME
    data: dict[str, Any] = {
        "framework": options.framework, "expect": expect, "allow": sorted(allow & isa_tables.KNOWN),
        "not_told_apart": unknown, "rule": isa_dispatch.RULE,
    }  # fmt: skip
    objdump = shutil.which("objdump")
    if objdump is None:
        hint = "install binutils (apt install binutils, dnf install binutils)"
        return answer("skip", "there is no objdump to disassemble with", "it is not on PATH", hint, data)
    try:
        base, paths = libraries(options.framework, options.path)
        found = _all(paths, allow, expect, options, objdump)
    except CannotTellError as unclear:
        return answer("skip", unclear.what, unclear.why, unclear.hint, data)
    except (OSError, isa_files.NotReadable) as error:
        return answer("skip", f"{options.framework} could not be disassembled", str(error), "", data)
    return verdict(found, base, allow, expect, {**data, "seconds": options.seconds})


def _all(
    paths: Sequence[Path], allow: frozenset[str], expect: Sequence[str], options: argparse.Namespace, objdump: str
) -> list[Found]:
    with tempfile.TemporaryDirectory(prefix="isa-audit-") as folder:
        runner = Disassembler(objdump, Path(folder), options.workers, options.seconds)
        # the large ones first, so that time that is short is missing for the small
        return [audit(path, allow, expect, runner) for path in sorted(paths, key=lambda one: -one.stat().st_size)]


def verdict(
    found: Sequence[Found], base: Path, allow: frozenset[str], expect: Sequence[str], data: dict[str, Any]
) -> dict[str, Any]:
    """What was found, against what was asked for."""
    total = Found(base)
    for one in found:
        for name in ("counts", "own", "dispatched", "unattributed", "evidence"):
            getattr(total, name).update(getattr(one, name))
        for name in ("instructions", "size", "read", "undecoded", "seconds"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        for flag, functions in one.foreign.items():
            total.foreign.setdefault(flag, []).extend(functions)
    if not total.read:
        why = f"none of the code was read within {data.pop('seconds'):g} s"
        return answer("skip", f"{data['framework']} could not be disassembled in the time", why, "", data)
    shares = {flag: _share(flag, total, allow) for flag in expect}
    data.update(
        expected={flag: round(share, 6) for flag, share in shares.items()},
        total=total.data("all"),
        libraries=[one.data(_shown(one.path, base)) for one in found],
    )
    missing = [flag for flag, share in shares.items() if share < LEAST_SHARE and flag not in SCARCE]
    foreign = sorted(total.foreign, key=lambda flag: -total.own[flag])
    unclear = [flag for flag, _ in total.unattributed.most_common() if flag not in allow]
    part = "" if total.read == total.size else f"; only {total.read / total.size:.0%} of the code was read in the time"
    if missing or foreign:
        return _failed(missing, foreign, total, part, data)
    if unclear:
        rows = ", ".join(f"{flag} {total.unattributed[flag]}" for flag in unclear[:FIRST])
        why = f"{rows} in functions without a symbol, so that nobody can say whether they are chosen at run time{part}"
        hint = "keep the symbols (.symtab) in the build, so that the audit can tell"
        return answer("skip", f"{data['framework']} holds instructions that are not allowed, perhaps", why, hint, data)
    listed = ", ".join(f"{flag} ({total.own[flag]})" for flag in expect) or "nothing in particular"
    what = f"{data['framework']} holds the instructions that it was to have, and no others"
    more = ", ".join(f"{flag} {count}" for flag, count in total.dispatched.most_common(FIRST) if flag not in allow)
    return answer(
        "pass", what, f"expected and found: {listed}{f'; chosen at run time: {more}' if more else ''}{part}", "", data
    )


def _share(flag: str, total: Found, allow: frozenset[str]) -> float:
    """Of ``flag``'s instructions (or those that take their place) among vector instructions that every CPU runs."""
    flags = (flag, *(one for one in isa_tables.SUPERSEDED.get(flag, ()) if one in allow))
    here = sum(total.own[one] + total.unattributed[one] for one in flags)
    vector = sum(count for one, count in total.counts.items() if one in isa_tables.VECTOR)
    dispatched = sum(count for one, count in total.dispatched.items() if one in isa_tables.VECTOR)
    return here / max(1, vector - dispatched)


def _failed(
    missing: Sequence[str], foreign: Sequence[str], total: Found, part: str, data: dict[str, Any]
) -> dict[str, Any]:
    name, whats, whys = data["framework"], [], []
    if missing:
        whats.append(f"lacks instructions of {', '.join(missing)}")
        rows = ", ".join(f"{flag} {total.own[flag] + total.unattributed[flag]}" for flag in missing)
        whys.append(f"expected, and found in code that every CPU runs: {rows}")
    if foreign:
        whats.append(f"holds instructions of {', '.join(foreign)}, which are not allowed")
        rows = "; ".join(
            f"{flag} {total.own[flag]}, in {total.foreign[flag][0][0]}"
            + (f" and {len(total.foreign[flag]) - 1} more" if len(total.foreign[flag]) > 1 else "")
            for flag in foreign[:FIRST]
        )
        whys.append(f"outside code that is chosen at run time: {rows}")
    hint = (
        "the build's options did not reach the compiler: look for them in the build's log"
        if missing
        else "a file was compiled with other options: look for its own in the build's log, or for -march=native"
    )
    return answer("fail", f"{name} {' and '.join(whats)}", f"{'; '.join(whys)}{part}", hint, data)


def _flags(text: str) -> tuple[list[str], list[str]]:
    """Flags that are told apart, and those that are not."""
    words = [word for word in text.lower().replace(",", " ").split() if word]
    known = [word for word in words if word in isa_tables.KNOWN]
    return known, [word for word in words if word not in isa_tables.KNOWN]


def _shown(path: Path, base: Path) -> str:
    try:
        return str(path.relative_to(base.resolve()))
    except ValueError:
        return path.name


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    check = f"isa_audit:{data['framework']}" if data else "isa_audit"
    return {"id": check, "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", required=True, choices=sorted(PACKAGES))
    parser.add_argument("--path", default="", metavar="PATH", help="a library, or a folder of them, instead")
    parser.add_argument("--expect", default="", metavar="FLAGS", help="CPU flags whose instructions must be there")
    parser.add_argument("--allow", default="", metavar="FLAGS", help="CPU flags whose instructions may be there")
    parser.add_argument("--seconds", type=float, default=900, metavar="S", help="read no more after this (900)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="at once (CPUs)")
    options = parser.parse_args()
    result = judge(options)
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(isa_files.inside() if sys.argv[1:] == ["--inside"] else main())
