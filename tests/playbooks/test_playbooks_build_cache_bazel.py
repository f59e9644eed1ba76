"""Real builds by Bazel against the cache: what a second one runs, what a reader may, what a collection leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness.caches_http import CacheServer, User, cache_server, role_module

BAZEL = shutil.which("bazel-4") or ""
pytestmark = [
    pytest.mark.bazel,
    pytest.mark.skipif(not BAZEL and not os.environ.get("CI"), reason="no Bazel (Debian: bazel-bootstrap)"),
]
BUILD = """
genrule(name = "one", srcs = ["in.txt"], outs = ["one.txt"], cmd = "cat $< $< > $@")
genrule(name = "two", srcs = ["one.txt"], outs = ["two.txt"], cmd = "wc -c < $< > $@")
genrule(name = "last", srcs = ["two.txt", "in.txt"], outs = ["last.txt", "empty"],
        cmd = "cat $(location two.txt) in.txt > $(location last.txt); touch $(location empty)")
"""
ACTIONS = 3
collect = role_module("files/collect.py")


class Lab:
    """One workspace, and machines that build it: each an output root of its own."""

    def __init__(self, folder: Path, server: CacheServer) -> None:
        self.folder, self.server = folder, server
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        for name, text in {"WORKSPACE": "", "BUILD": BUILD, "in.txt": "hello\n"}.items():
            (self.workspace / name).write_text(text)
        self.used: set[str] = set()

    def bazel(self, machine: str, *words: str) -> subprocess.CompletedProcess[str]:
        self.used.add(machine)
        root = f"--output_user_root={self.folder / machine}"
        return subprocess.run(
            [BAZEL, "--nohome_rc", "--max_idle_secs=60", root, *words],
            cwd=self.workspace, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def build(self, machine: str, user: User, *options: str) -> tuple[int, int, str]:
        """Actions that ran here, actions that were fetched, and everything that was said."""
        cache = self.folder / f"{machine}.bazelrc"
        cache.write_text(f"build --remote_cache={self.server.url_of(user)}\n")
        cache.chmod(0o600)
        done = self.bazel(machine, f"--bazelrc={cache}", "build", "--jobs=2", "--spawn_strategy=local",
                          "--nosandbox_debug", "--curses=no", "--color=no", *options, "//:last")  # fmt: skip
        assert done.returncode == 0, done.stderr
        (said,) = re.findall(r"INFO: \d+ process(?:es)?: (.*)\.", done.stderr)
        counts = {kind: int(number) for number, kind in re.findall(r"(\d+) ([a-z ]+)", said)}
        return counts.get("local", 0), counts.get("remote cache hit", 0), done.stderr

    def result(self) -> str:
        return (self.workspace / "bazel-bin" / "last.txt").read_text()

    def close(self) -> None:
        for machine in self.used:
            self.bazel(machine, "shutdown")
        # Bazel writes its outputs read-only
        subprocess.run(["chmod", "-R", "u+w", str(self.folder)], check=True)
        for machine in self.used:
            shutil.rmtree(self.folder / machine)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with cache_server(tmp_path) as server:
        made = Lab(tmp_path, server)
        yield made
        made.close()


def age(paths: Sequence[Path], days: float) -> None:
    when = time.time() - days * 86400
    for path in paths:
        os.utime(path, (when, when))


def put(lab: Lab, since: int = 0) -> list[int]:
    return [status for method, _, status in lab.server.requests()[since:] if method == "PUT"]


def test_one_machine_builds_and_the_others_fetch(lab: Lab) -> None:
    ran, fetched, _ = lab.build("first", lab.server.writer)
    assert (ran, fetched) == (ACTIONS, 0)
    assert lab.result() == "12\nhello\n"
    asked = len(lab.server.requests())
    ran, fetched, _ = lab.build("second", lab.server.writer)
    assert (ran, fetched) == (0, ACTIONS)
    assert lab.result() == "12\nhello\n"
    assert put(lab, asked) == []


def test_a_reader_is_served_and_cannot_write(lab: Lab) -> None:
    ran, _, said = lab.build("reader", lab.server.reader)
    assert ran == ACTIONS, "the build goes on without the cache"
    assert set(put(lab)) == {403}
    assert "WARNING: Writing to Remote Cache" in said
    assert lab.server.blobs("ac") == lab.server.blobs("cas") == []
    lab.build("writer", lab.server.writer)
    asked = len(lab.server.requests())
    ran, fetched, _ = lab.build("other", lab.server.reader, "--remote_upload_local_results=false")
    assert (ran, fetched) == (0, ACTIONS)
    assert put(lab, asked) == []


@pytest.mark.parametrize("mode", ["all", "minimal"])
def test_builds_succeed_after_a_collection(lab: Lab, mode: str) -> None:
    options = [] if mode == "all" else ["--remote_download_minimal"]
    lab.build("first", lab.server.writer)
    results, files = lab.server.blobs("ac"), lab.server.blobs("cas")
    # the files look old, as they do where results alone were read; two of three results are as well
    age(files, days=90)
    age(results, days=60)
    age(results[:1], days=0)
    # room for three: that result and its two files
    room = 4 * max(path.stat().st_blocks * 512 for path in (*results, *files))
    status = collect.collect(lab.server.folder, room, 0, 0, time.time())
    assert status["RemovedFiles"] > 0
    assert lab.server.blobs("ac") == results[:1]
    ran, fetched, _ = lab.build("second", lab.server.writer, *options)
    assert (ran, fetched) == (ACTIONS - 1, 1)
    # whatever was left in the cache is fetched when somebody changes what needs it
    (lab.workspace / "BUILD").write_text(BUILD.replace("wc -c", "wc -l"))
    lab.build("second", lab.server.writer)
    assert lab.result() == "2\nhello\n"


def test_a_result_without_its_file_ends_a_minimal_build(lab: Lab) -> None:
    """Why the collector keeps a result's files: not all of Bazel copes with a loss."""
    lab.build("first", lab.server.writer)
    for path in lab.server.blobs("cas"):
        path.unlink()
    ran, _, _ = lab.build("second", lab.server.writer)
    assert ran == ACTIONS, "without the option, what is gone is built again"
    for path in lab.server.blobs("cas"):
        path.unlink()
    (lab.workspace / "BUILD").write_text(BUILD.replace("wc -c", "wc -l"))
    with pytest.raises(AssertionError, match="because it does not exist remotely"):
        lab.build("third", lab.server.writer, "--remote_download_minimal")
