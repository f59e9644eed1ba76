"""Real builds with a real cache server: shared, read only, refused, down, dying, and lying."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.module_utils import provision_bazel as bazel
from ansible.module_utils.provision_build_context import Context, EngineResult
from ansible.module_utils.provision_failure import Failure
from harness.caches_http import CacheServer, User, cache_server
from playbook_bazel import ACTIONS, COMPILES, build_data, context, needs_bazel, workspace
from playbook_target import kill_marked

pytestmark = pytest.mark.bazel

Box = Callable[..., Context]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CacheServer]:
    needs_bazel()
    with cache_server(tmp_path) as made:
        yield made
    kill_marked(str(tmp_path))


@pytest.fixture
def box(tmp_path: Path, server: CacheServer) -> Box:
    """A machine with nothing on it: its tree, its disk cache and its Bazel are its own."""
    number = iter(range(100))

    def make(user: User | None = None, **build: object) -> Context:
        user = user or server.writer
        home = tmp_path / f"box{next(number)}"
        return context(
            home, workspace(home / "tree"), build_data(**build), remote_cache=server.url,
            remote_cache_user=user.name, remote_cache_password=user.password,
        )  # fmt: skip

    return make


def built(done: EngineResult) -> bool:
    return [path.name for path in done.folder.iterdir()] == ["demo-1.0-py3-none-any.whl"]


def test_the_second_box_compiles_nothing_and_another_flag_set_gets_nothing(box: Box, server: CacheServer) -> None:
    first = bazel.build(box())
    assert (first.compile_actions, first.cache_hits, first.remote_cache) == (COMPILES, 0, "used")
    second = bazel.build(box())
    assert (second.compile_actions, second.cache_hits, second.remote_cache) == (0, ACTIONS, "used")
    assert second.actions == first.actions, "those that a cache gave are counted too"
    other = bazel.build(box(copts=[{"option": "-mavx2"}]))
    assert (other.compile_actions, other.cache_hits) == (COMPILES, 0)


def test_the_password_is_in_no_file_and_no_command(box: Box, server: CacheServer, tmp_path: Path) -> None:
    made = box()
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.append(entry.read_bytes().decode(errors="replace"))
                except OSError:
                    continue
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        bazel.build(made)
    finally:
        done.set()
        watcher.join()
    token = base64.b64encode(f"{server.writer.name}:{server.writer.password}".encode()).decode()
    assert any("--remote_cache=" in one for one in seen)
    assert not any(token in one or server.writer.password in one for one in seen)
    files = [path for path in (tmp_path / "box0").rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 50
    leaked = [path for path in files if token.encode() in path.read_bytes()]
    leaked += [path for path in files if server.writer.password.encode() in path.read_bytes()]
    assert leaked == []


def test_a_client_that_may_only_read_builds_and_puts_nothing_there(box: Box, server: CacheServer) -> None:
    made = box(server.reader)
    made.settings["remote_cache_upload"] = False  # type: ignore[index]
    done = bazel.build(made)
    assert built(done)
    assert done.remote_cache == "read only"
    assert server.blobs() == []
    assert not any("remote cache" in note for note in made.notes)


def test_a_server_that_refuses_what_was_built_is_noted(box: Box, server: CacheServer) -> None:
    made = box(server.reader)
    done = bazel.build(made)
    assert built(done)
    assert [note for note in made.notes if "remote cache" in note] == [
        f"the remote cache {server.url} did not take what was built here (HTTP 403 Forbidden): other machines will not "
        "find it there"
    ]
    assert done.remote_cache == "read only"
    assert server.blobs() == []


def test_wrong_credentials_are_the_users_error(box: Box, server: CacheServer) -> None:
    with pytest.raises(Failure) as caught:
        bazel.build(box(User("writer", "no such word")))
    assert caught.value.kind == "cache"
    assert caught.value.what == f"the remote cache {server.url} refuses these credentials"
    assert caught.value.why == "given the user 'writer' and a password, it answered HTTP 401"
    assert "provision_remote_cache_password" in caught.value.hint


def test_a_cache_that_is_down_is_left_out(box: Box, server: CacheServer) -> None:
    server.stop()
    made = box()
    done = bazel.build(made)
    assert built(done)
    assert done.remote_cache == "down: Connection refused"
    assert made.notes[-1] == (
        f"the remote cache {server.url} was left out, and everything built here: down: Connection refused"
    )


def test_a_cache_that_dies_in_the_middle_does_not_fail_the_build(box: Box, server: CacheServer) -> None:
    made = box()
    made.build["bazel"]["options"].append("--jobs=1")
    begun = threading.Event()
    heard = made.report

    def report(text: str, build: object = None) -> None:
        heard(text, build=build)
        if "Analy" in text or build is not None:
            begun.set()

    made.report = report

    def die() -> None:
        begun.wait(120)
        server.stop()

    killer = threading.Thread(target=die)
    killer.start()
    done = bazel.build(made)
    killer.join()
    assert built(done)
    assert done.compile_actions == COMPILES
    assert any("remote cache" in note and "did not take" in note for note in made.notes), made.notes


def flipped(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :]


@pytest.mark.parametrize(
    ("damage", "why"),
    [(flipped, "a blob whose content does not match its digest"), (lambda data: data[: len(data) // 2], "")],
    ids=["one bit flipped", "cut short"],
)
def test_a_damaged_blob_is_detected_and_built_anew(
    box: Box, server: CacheServer, damage: Callable[[bytes], bytes], why: str
) -> None:
    bazel.build(box())
    for blob in server.blobs():
        if blob.stat().st_size > 4:
            blob.write_bytes(damage(blob.read_bytes()))
    made = box()
    done = bazel.build(made)
    assert built(done)
    assert done.compile_actions == COMPILES
    (note,) = [note for note in made.notes if "remote cache" in note]
    assert note.startswith(f"the remote cache {server.url} could not give all that was asked of it")
    assert why in note
    program = done.folder / "demo-1.0-py3-none-any.whl"
    assert program.read_bytes().startswith(b"\x7fELF")
    third = bazel.build(box())
    assert third.cache_hits == ACTIONS  # what was damaged has been replaced


def test_an_action_result_that_is_garbage_is_not_used(box: Box, server: CacheServer) -> None:
    bazel.build(box())
    for result in server.blobs("ac"):
        result.write_bytes(b"<html>not an action result</html>")
    made = box()
    done = bazel.build(made)
    assert built(done)
    assert done.compile_actions == COMPILES
    assert any("an answer that is no action result" in note for note in made.notes), made.notes


def test_an_empty_action_result_makes_bazel_stop_and_us_build_again_without_the_cache(
    box: Box, server: CacheServer
) -> None:
    bazel.build(box())
    for result in server.blobs("ac"):
        result.write_bytes(b"")
    made = box()
    done = bazel.build(made)
    assert built(done)
    assert done.compile_actions == COMPILES
    assert done.remote_cache.startswith("not used: it served something that Bazel could not build with (")
    (note,) = [note for note in made.notes if "remote cache" in note]
    assert "served something that Bazel could not build with" in note
    assert note.endswith("built again without it")
    # what it had put into the disk cache has been replaced as well
    made.settings["remote_cache"] = ""  # type: ignore[index]
    home = made.folder.parent
    again = bazel.build(context(home, workspace(home / "other")))
    assert (again.compile_actions, again.cache_hits) == (0, ACTIONS)
