"""The build cache's collector: what goes, what stays, and that no result outlives its files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.caches_http import ROLE, role_module
from hypothesis import given, settings
from hypothesis import strategies as st

collect = role_module("files/collect.py")
SIZE = 8192
NOW = time.time()
DAY = 86400.0


def key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, *length(len(value))]) + value


def length(number: int) -> list[int]:
    return [number & 0x7F | 0x80, *length(number >> 7)] if number > 0x7F else [number]


def digest(name: str) -> bytes:
    return field(1, name.encode()) + bytes([2 << 3, 5])


def result(files: tuple[str, ...] = (), trees: tuple[str, ...] = ()) -> bytes:
    """An ActionResult: output files and folders."""
    out = b"".join(field(2, field(1, b"out/a.o") + field(2, digest(name))) for name in files)
    return out + b"".join(field(3, field(1, b"out/dir") + field(3, digest(name))) for name in trees)


def tree(files: tuple[str, ...]) -> bytes:
    """A Tree whose root folder holds these files."""
    return field(1, b"".join(field(1, field(1, b"a.h") + field(2, digest(name))) for name in files))


class Cache:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in ("blobs/ac", "blobs/cas", "incoming"):
            (folder / path).mkdir(parents=True, exist_ok=True)

    def put(self, kind: str, name: str, days: float, content: bytes = b"", instance: str = "") -> str:
        """A blob of two blocks, last used so many days ago; its key."""
        path = self.folder / "blobs" / instance / kind / key(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.ljust(SIZE, b"\0"))
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
        return key(name)

    def collect(self, blobs: float, reserve: int = 0, grace_s: float = 600) -> dict[str, int]:
        """With a bound of so many blobs, of which nine tenths are filled again."""
        return collect.collect(self.folder, int(blobs * SIZE), reserve, grace_s, NOW)

    def names(self, kind: str) -> set[str]:
        return {path.name for path in self.folder.glob(f"blobs/**/{kind}/*")}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_below_its_bound_nothing_goes(cache: Cache) -> None:
    kept = {cache.put("cas", f"{number}", days=100) for number in range(10)}
    status = cache.collect(10)
    assert cache.names("cas") == kept
    assert (status["CurrSize"], status["NumFiles"], status["MaxSize"]) == (10 * SIZE, 10, 10 * SIZE)


def test_the_least_recently_used_go_until_a_tenth_is_free(cache: Cache) -> None:
    names = [cache.put("cas", f"{number}", days=number) for number in range(1, 21)]
    status = cache.collect(10)
    assert cache.names("cas") == set(names[:9])
    assert (status["CurrSize"], status["RemovedFiles"]) == (9 * SIZE, 11)


def test_what_was_read_lately_counts_as_used(cache: Cache) -> None:
    old = cache.put("cas", "old but read", days=50)
    path = cache.folder / "blobs" / "cas" / old
    os.utime(path, (NOW - 60, NOW - 50 * DAY))
    for number in range(1, 20):
        cache.put("cas", f"{number}", days=number)
    cache.collect(10)
    assert old in cache.names("cas")


def test_a_file_that_a_result_names_stays_as_long_as_the_result(cache: Cache) -> None:
    # with --remote_download_minimal only the result is ever read
    minimal = cache.put("cas", "object", days=90)
    inside = cache.put("cas", "header", days=90)
    folder = cache.put("cas", "folder", days=90, content=tree((inside,)))
    hot = cache.put("ac", "hot", days=1, content=result((minimal,), (folder,)))
    cold = cache.put("ac", "cold", days=60, content=result((cache.put("cas", "cold object", days=30),)))
    for number in range(20):
        cache.put("cas", f"{number}", days=40)
    cache.collect(10)
    assert {minimal, folder, inside, key("cold object")} <= cache.names("cas")
    assert cache.names("ac") == {hot}, "60 days: its file stays only because it was read later"
    assert cold not in cache.names("ac")


def test_a_result_whose_file_is_gone_goes_too(cache: Cache) -> None:
    dangling = cache.put("ac", "dangling", days=0, content=result((key("gone"),)))
    whole = cache.put("ac", "whole", days=0, content=result((cache.put("cas", "there", days=0),)))
    empty = cache.put("ac", "empty", days=0, content=result((collect.EMPTY,)))
    for number in range(20):
        cache.put("cas", f"{number}", days=40)
    cache.collect(10)
    assert cache.names("ac") == {whole, empty}
    assert dangling not in cache.names("ac")


def test_a_file_that_has_just_come_waits_for_its_result(cache: Cache) -> None:
    young = {cache.put("cas", f"{number}", days=60 / DAY) for number in range(20)}
    status = cache.collect(10)
    assert cache.names("cas") == young
    assert status["CurrSize"] == 20 * SIZE, "past its bound, and it says so"


def test_a_date_in_the_future_is_not_for_ever(cache: Cache) -> None:
    cache.put("cas", "future", days=-1000)
    (entry,) = collect.entries(cache.folder / "blobs", "cas", NOW)
    assert entry.used == NOW


def test_instances_have_their_own_files(cache: Cache) -> None:
    inside = cache.put("cas", "object", days=90, instance="lab/tf")
    outside = cache.put("cas", "object", days=90)
    cache.put("ac", "hot", days=1, content=result((inside,)), instance="lab/tf")
    for number in range(20):
        cache.put("cas", f"{number}", days=40)
    cache.collect(10)
    assert inside == outside
    assert (cache.folder / "blobs/lab/tf/cas" / inside).exists()
    assert not (cache.folder / "blobs/cas" / outside).exists()


def test_reading_results_is_not_using_them(cache: Cache) -> None:
    name = cache.put("ac", "old", days=50, content=result((cache.put("cas", "object", days=50),)))
    path = cache.folder / "blobs" / "ac" / name
    os.utime(path, (NOW - 51 * DAY, NOW - 50 * DAY))
    (entry,) = collect.entries(cache.folder / "blobs", "ac", NOW)
    assert collect.named(entry) == {key("object")}
    assert path.stat().st_atime == NOW - 51 * DAY


def test_a_file_system_that_is_nearly_full_counts_as_a_smaller_bound(cache: Cache) -> None:
    for number in range(1, 21):
        cache.put("cas", f"{number}", days=number)
    free = os.statvfs(cache.folder)
    status = cache.collect(1000, reserve=free.f_bavail * free.f_frsize + 2**34)
    assert status["RemovedFiles"] == 20


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.integers(1, 100), min_size=1, max_size=12),
    results=st.lists(st.tuples(st.integers(1, 100), st.sets(st.integers(0, 11), max_size=4)), max_size=8),
    bound=st.integers(0, 20),
)
def test_no_result_outlives_a_file_that_it_names(
    tmp_path_factory: pytest.TempPathFactory, files: list[int], results: list[tuple[int, set[int]]], bound: int
) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    for number, days in enumerate(files):
        cache.put("cas", f"file {number}", days)
    names: dict[str, set[str]] = {}
    for number, (days, wanted) in enumerate(results):
        there = {key(f"file {each}") for each in wanted if each < len(files)}
        names[cache.put("ac", f"result {number}", days, result(tuple(sorted(there))))] = there
    status = cache.collect(bound)
    left = cache.names("cas")
    assert all(names[name] <= left for name in cache.names("ac"))
    assert status["CurrSize"] == SIZE * (len(left) + len(cache.names("ac"))) <= bound * SIZE


def test_as_a_program(cache: Cache, tmp_path: Path) -> None:
    for number in range(1, 21):
        cache.put("cas", f"{number}", days=number)
    stale, fresh = tmp_path / "incoming" / "0000000001", tmp_path / "incoming" / "0000000002"
    for path, days in ((stale, 2), (fresh, 0)):
        path.write_text("half")
        os.utime(path, (NOW - days * DAY, NOW - days * DAY))
    argv = [
        sys.executable,
        ROLE / "files" / "collect.py",
        "--folder",
        tmp_path,
        "--max-size-gib",
        str(10 * SIZE / 2**30),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "removed 11 files, 0.00 GiB; 0.00 GiB left\n"), done.stderr
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["CurrSize"], status["NumFiles"]) == (9 * SIZE, 9)
    assert (tmp_path / "status.json").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in (tmp_path / "incoming").iterdir()) == ["0000000002"]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    argv = [sys.executable, ROLE / "files" / "collect.py", "--folder", tmp_path / "none", "--max-size-gib", "1"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the build cache cannot be looked after: [Errno 2] No such file or directory")
