#!/usr/bin/env python3
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Keeps a Bazel HTTP cache below its bound, and writes how large it is.

    provision-build-cache-collect --folder DIR --max-size-gib 50 [--reserve-gib 2] [--grace-s 600]

FOLDER/blobs/[INSTANCE/]ac/KEY holds results of actions, FOLDER/blobs/[INSTANCE/]cas/KEY the files that they name. Above
the bound the least recently used go until a tenth of it is free. Last used is the later of a file's access and
modification times: with the usual mount option relatime that is right to a day, with noatime it is when the file was
written.

A result never outlives a file that it names. Where Bazel leaves files in the cache until it needs them
(--remote_download_minimal), a result whose file is gone ends the build: so a file counts as used when a result that
names it was, and of equals the result goes first. A file that was written within the last --grace-s seconds stays: the
result that names it comes after it.

Exit status: 0 done, also when another one runs; 1 with a message, where the folder cannot be read or written.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
FREED = 0.1
"""How much of the bound a collection leaves free, so that the next one is not due at once."""
STALE_S = 86400
"""Uploads that a killed server left half done."""
KEY = re.compile(r"[0-9a-f]{64}")
DIGEST = re.compile(rb"[0-9a-f]{64}")
LONGEST_RESULT = 64 * 2**20
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""No bytes at all: Bazel neither stores nor fetches them."""
TREES = 3
"""Field of an ActionResult: output_directories (build.bazel.remote.execution.v2, remote_execution.proto)."""
TREE_DIGEST = 3
"""Field of an OutputDirectory: digest of a Tree, which names the files of the folder."""


class Entry(NamedTuple):
    used: float
    size: int
    written: float
    path: str

    @property
    def name(self) -> tuple[str, str]:
        """Instance and key: what tells one blob from all others of its kind."""
        folder, key = self.path.rsplit("/", 1)
        return folder.rsplit("/", 1)[0], key


def entries(blobs: Path, kind: str, now: float) -> Iterator[Entry]:
    """All files of a kind ("ac" or "cas"), in every instance."""
    for folder, _, names in os.walk(blobs):
        if folder.rpartition("/")[2] != kind:
            continue
        for name in names:
            with suppress(FileNotFoundError):
                if KEY.fullmatch(name):
                    path = f"{folder}/{name}"
                    found = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, and there may be a million
                    size = max(found.st_size, found.st_blocks * 512)
                    # a client may send a date of its own; one in the future would keep its blob for ever
                    used = min(now, max(found.st_atime, found.st_mtime))
                    yield Entry(used, size, min(now, found.st_mtime), path)


def read(path: str) -> bytes:
    """A file's content, without that counting as use; empty where it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOATIME)
    except PermissionError:  # only a file's owner may ask for that
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return b""
    with os.fdopen(handle, "rb") as file:
        return file.read(LONGEST_RESULT)


def named(entry: Entry) -> set[str]:
    """Keys of the files that a result names.

    A digest is written as 64 hexadecimal digits, so the text is searched: what is too many does no harm.
    """
    data = read(entry.path)
    found = {key.decode() for key in DIGEST.findall(data)}
    folder = entry.path.rsplit("/", 2)[0]
    for number, value in fields(data):
        if number == TREES:
            for inner, digest in fields(value):
                for key in DIGEST.findall(digest) if inner == TREE_DIGEST else ():
                    found.update(each.decode() for each in DIGEST.findall(read(f"{folder}/cas/{key.decode()}")))
    return found


def fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, value) of a Protocol Buffers message's fields that have a length; nothing more where it is none."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            _, at = varint(data, at)
        elif tag & 7 == 2:
            length, at = varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            return


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    return value, at


def victims(results: list[Entry], files: list[Entry], excess: int, now: float, grace_s: float) -> Iterator[Entry]:
    """What has to go so that ``excess`` bytes are freed: least recently used first, a result before its files.

    Results whose files are gone already go in any case.
    """
    keep = {file.name: file.used for file in files}
    young = {file.name for file in files if now - file.written < grace_s}
    order: list[tuple[float, int, Entry]] = []
    for result in results:
        instance, own = result.name
        # the action itself lies among the files under the result's key, and nobody fetches it
        names = {(instance, key) for key in named(result) if key != own}
        if any(name not in keep and name[1] != EMPTY for name in names):
            yield result
            excess -= result.size
            continue
        for name in names & keep.keys():
            keep[name] = max(keep[name], result.used)
        order.append((result.used, 0, result))
    order += [(keep[file.name], 1, file) for file in files if file.name not in young]
    for _, _, entry in sorted(order):
        if excess <= 0:
            return
        excess -= entry.size
        yield entry


def collect(folder: Path, bound: int, reserve: int, grace_s: float, now: float) -> dict[str, int]:
    """Free what is too much. The status afterwards, in the words of bazel-remote's /status: sizes in bytes."""
    # results first: whatever they name was there before them, so it is seen as well
    results = list(entries(folder / "blobs", "ac", now))
    files = list(entries(folder / "blobs", "cas", now))
    total = sum(entry.size for entry in (*results, *files))
    free = os.statvfs(folder)
    allowed = min(bound, max(0, total + free.f_bavail * free.f_frsize - reserve))
    removed = removed_size = 0
    if total > allowed:
        for entry in victims(results, files, total - int(allowed * (1 - FREED)), now, grace_s):
            with suppress(FileNotFoundError):
                Path(entry.path).unlink()
                removed, removed_size = removed + 1, removed_size + entry.size
    return {
        "CurrSize": total - removed_size,
        "MaxSize": bound,
        "NumFiles": len(results) + len(files) - removed,
        "ServerTime": int(now),
        "RemovedFiles": removed,
        "RemovedSize": removed_size,
    }


def clear_incoming(folder: Path, now: float) -> None:
    """Take away what uploads left half done."""
    for path in folder.glob("**/*"):
        with suppress(FileNotFoundError):
            if path.is_file() and now - path.stat().st_mtime > STALE_S:
                path.unlink()


def write(path: Path, status: dict[str, int]) -> None:
    """The status as JSON, at once, readable for everybody."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".status.", delete=False) as file:
        json.dump(status, file)
        file.write("\n")
        os.fchmod(file.fileno(), 0o644)
    Path(file.name).replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep a Bazel HTTP cache below its bound.")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--max-size-gib", type=float, required=True)
    parser.add_argument("--reserve-gib", type=float, default=0)
    parser.add_argument("--grace-s", type=float, default=600)
    given = parser.parse_args()
    now = time.time()
    try:
        with (given.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            bound, reserve = int(given.max_size_gib * GIB), int(given.reserve_gib * GIB)
            status = collect(given.folder, bound, reserve, given.grace_s, now)
            clear_incoming(given.folder / "incoming", now)
            write(given.folder / "status.json", status)
    except OSError as error:
        print(f"the build cache cannot be looked after: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if status["RemovedFiles"]:
        freed = status["RemovedSize"] / GIB
        print(f"removed {status['RemovedFiles']} files, {freed:.2f} GiB; {status['CurrSize'] / GIB:.2f} GiB left")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
