"""Archives of sources: the same bytes for the same source, made once, and nothing half-made left behind."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from source_values import git, repository, tree, write

from provision.errors import Interrupted, ProvisionError, StepFailed, UsageError
from provision.model.build import Source
from provision.model.report import Progress
from provision.run import source_download
from provision.run.source_archive import Archive, archive_of
from provision.run.source_git import explained
from provision.run.sources import source_of

NEVER = threading.Event()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache/provision/sources"


def made(source: Source, **wanted: Any) -> tuple[Archive, list[Progress]]:
    events: list[Progress] = []
    return archive_of(source, on_event=events.append, cancel=NEVER, **wanted), events


def failed(source: Source, **wanted: Any) -> ProvisionError:
    with pytest.raises(ProvisionError) as stop:
        made(source, **wanted)
    return stop.value


def left(store: Path) -> list[str]:
    """What is there beside locks."""
    return sorted(path.name for path in store.glob("*") if path.suffix != ".lock")


def names(archive: Archive) -> list[str]:
    with tarfile.open(archive.path) as tar:
        return tar.getnames()


# --- trees ------------------------------------------------------------------------------------------------------


def test_a_tree_becomes_one_folder_in_an_archive(tmp_path, store):
    folder = tree(tmp_path / "tensorflow 2", **{"tensorflow/run.sh": "x"})
    (folder / "tensorflow/run.sh").chmod(0o755)
    (folder / "link").symlink_to("tensorflow/run.sh")
    source = source_of(str(folder), "tensorflow")
    archive, events = made(source)
    assert archive.path.parent == store
    assert archive.path.name.startswith("tensorflow_2-")
    assert archive.sha256 == hashlib.sha256(archive.path.read_bytes()).hexdigest()
    assert (archive.framework, archive.version, archive.bazel) == ("tensorflow", "2.15.1", "6.1.0")
    assert [event.kind for event in events if event.kind != "progress"] == ["step", "done"]
    with tarfile.open(archive.path) as tar:
        found = {info.name: info for info in tar}
    assert list(found) == sorted(found)
    assert found["source/link"].linkname == "tensorflow/run.sh"
    assert [found[f"source/{name}"].mode for name in ("tensorflow/run.sh", "WORKSPACE")] == [0o755, 0o644]
    assert {(info.uid, info.gid, info.uname, info.mtime) for info in found.values()} == {(0, 0, "", 315_619_200)}


def test_the_same_content_gives_the_same_bytes_wherever_it_lies(tmp_path, store):
    first, _ = made(source_of(str(tree(tmp_path / "a")), "tensorflow"))
    content = first.path.read_bytes()
    shutil.rmtree(store)
    other = tree(tmp_path / "b")
    for path in other.rglob("*"):
        os.utime(path, (0, 0))
    second, _ = made(source_of(str(other), "tensorflow"))
    assert second.path.read_bytes() == content
    assert gzip.decompress(content)


def test_a_second_time_it_is_found_and_a_damaged_one_made_again(tmp_path, store):
    folder = tree(tmp_path / "t")
    source = source_of(str(folder), "tensorflow")
    first, _ = made(source)
    shutil.move(folder, tmp_path / "elsewhere")
    assert made(source)[0] == first
    first.path.write_bytes(b"damaged")
    assert failed(source).what == f"the source tree {folder} is gone"
    shutil.move(tmp_path / "elsewhere", folder)
    assert made(source)[0] == first
    assert first.path.stat().st_size > 100


def test_a_tree_that_changed_since_the_plan(tmp_path, store):
    folder = tree(tmp_path / "t")
    source = source_of(str(folder), "tensorflow")
    (folder / "WORKSPACE").write_text("changed")
    error = failed(source)
    assert error.what == f"{folder} is not what was planned with"
    assert source.sha256 in error.why
    assert error.hint == "plan again: provision plan -o plan.json"
    assert left(store) == []


def test_another_framework_or_version_than_the_one_to_be_built(tmp_path):
    source = source_of(str(tree(tmp_path / "t")), "tensorflow")
    error = failed(source, framework="pytorch")
    assert error.what == f"{tmp_path}/t is not a source tree of PyTorch"
    assert error.why == "it is one of TensorFlow 2.15.1"
    error = failed(source, framework="tensorflow", version="2.16.2")
    assert error.what == f"{tmp_path}/t is TensorFlow 2.15.1, and 2.16.2 is to be built"
    assert error.exit_code == UsageError.exit_code
    assert made(source, framework="tensorflow", version="2.15.1.post1")[0].version == "2.15.1"


def test_a_pytorch_tree_says_the_alpha_of_its_series_at_every_tag(tmp_path):
    source = source_of(str(tree(tmp_path / "t", "pytorch", **{"version.txt": "2.9.0a0\n"})), "pytorch")
    assert made(source, framework="pytorch", version="2.9.1")[0].version == "2.9.0a0"
    error = failed(source, framework="pytorch", version="2.10.0")
    assert error.what == f"{tmp_path}/t is PyTorch 2.9.0a0, and 2.10.0 is to be built"


def test_cancelled_while_it_is_packed(tmp_path, store):
    source = source_of(str(tree(tmp_path / "t")), "tensorflow")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Interrupted):
        archive_of(source, on_event=lambda _: None, cancel=cancel)
    assert left(store) == []


def program(source: Source) -> list[str]:
    code = (
        "import sys, threading\n"
        "from provision.model.build import Source\n"
        "from provision.run.source_archive import archive_of\n"
        "from provision.errors import ProvisionError\n"
        f"source = {source!r}\n"
        "try:\n    print(archive_of(source, on_event=lambda e: None, cancel=threading.Event()).sha256)\n"
        "except ProvisionError as error:\n    print(error.what, error.why, error.hint, sep='\\n')\n"
    )
    return [sys.executable, "-c", code]


def test_a_full_disk(tmp_path, store):
    folder = tree(tmp_path / "t", **{"tensorflow/big": os.urandom(200_000).hex()})
    source = source_of(str(folder), "tensorflow")

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(program(source), capture_output=True, text=True, preexec_fn=limited, check=True)
    what, why, hint = done.stdout.splitlines()
    assert what == "there is no room for the source on this machine"
    assert why.startswith(str(store))
    assert hint == "make room, or use another folder: XDG_CACHE_HOME=FOLDER"
    assert left(store) == []


def test_two_runs_at_once_make_it_once(tmp_path, store):
    folder = tree(tmp_path / "t", **{"tensorflow/big": os.urandom(3_000_000).hex()})
    source = source_of(str(folder), "tensorflow")
    running = [subprocess.Popen(program(source), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert len(said) == 1
    assert len([name for name in left(store) if name.endswith(".tar.gz")]) == 1
    assert len(left(store)) == 2


def test_what_a_killed_run_left_is_removed(tmp_path, store):
    process = subprocess.Popen(["true"])
    process.wait()
    write(store / f"tmp-{process.pid}-x", {"half": "made"})
    write(store / f"tmp-{os.getpid()}-x", {"ours": ""})
    made(source_of(str(tree(tmp_path / "t")), "tensorflow"))
    assert [name for name in left(store) if name.startswith("tmp")] == [f"tmp-{os.getpid()}-x"]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    source = source_of(str(tree(tmp_path / "t")), "tensorflow")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    error = failed(source)
    assert error.what == "the source cannot be kept on this machine"
    assert "XDG_CACHE_HOME=FOLDER" in error.hint


# --- repositories -----------------------------------------------------------------------------------------------


def test_a_tag_with_its_submodule(tmp_path):
    inner = repository(tmp_path / "inner", framework="numpy")
    outer = repository(tmp_path / "outer", framework="pytorch")
    git(outer, "submodule", "--quiet", "add", str(inner), "third_party/inner")
    git(outer, "commit", "--quiet", "-m", "two")
    git(outer, "tag", "v2.9.0")
    (outer / "later").touch()
    git(outer, "add", "later")
    git(outer, "commit", "--quiet", "-m", "three")
    archive, _ = made(source_of(f"file://{outer}@v2.9.0", "pytorch"))
    assert (archive.framework, archive.version) == ("pytorch", "2.9.0")
    assert archive.path.name.startswith("outer-v2.9.0-")
    assert "source/third_party/inner/pyproject.toml" in names(archive)
    assert not {"source/later", "source/.git/HEAD"} & set(names(archive))


def test_a_commit_and_a_branch(tmp_path):
    folder = repository(tmp_path / "r")
    commit = git(folder, "rev-parse", "HEAD")
    first, _ = made(source_of(f"{folder}@master", "tensorflow"))
    assert made(source_of(f"{folder}@{commit}", "tensorflow"))[0].sha256 == first.sha256
    (folder / "more").touch()
    git(folder, "add", "more")
    git(folder, "commit", "--quiet", "-m", "two")
    assert "source/more" in names(made(source_of(f"{folder}@master", "tensorflow"))[0])


def test_a_repository_that_went_away_is_taken_from_the_cache(tmp_path, store):
    folder = repository(tmp_path / "r", "v2.15.1", "v2")
    source = source_of(f"{folder}@v2.15.1", "tensorflow")
    other = source_of(f"{folder}@v2", "tensorflow")
    first, _ = made(source)
    shutil.rmtree(folder)
    again, events = made(source)
    assert again == first
    assert f"{folder} cannot be asked; taking v2.15.1 as it was last fetched" in [event.text for event in events]
    error = failed(other)
    assert error.what == f"{folder} cannot be asked for its tags: there is no such repository"
    assert len(left(store)) == 2


def test_a_repository_that_nothing_answers_for(store):
    error = failed(Source(kind="git", location="https://127.0.0.1:1/x.git", ref="v1"))
    assert error.what == "https://127.0.0.1:1/x.git cannot be asked for its tags: the repository cannot be reached"
    assert "Failed to connect" in error.why
    assert "without a network" in error.hint
    error = failed(Source(kind="git", location="https://no-such-host.invalid/x.git", ref="v1"))
    assert error.what.endswith("its host is not known")
    assert left(store) == []


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "asks for credentials"),
        ("ERROR: Repository not found.\nfatal: Could not read from remote", "there is no such repository"),
        ("remote: Repository not found.\nfatal: repository 'https://x/' not found", "there is no such repository"),
        ("fatal: write error: No space left on device", "there is no room for the clone"),
        ("git@x: Permission denied (publickey).\nfatal: Could not read", "asks for credentials"),
        ("Host key verification failed.\nfatal: Could not read", "SSH key is not known"),
        ("fatal: detected dubious ownership in repository at '/x'", "another user owns that folder"),
        ("fatal: couldn't find remote ref refs/tags/v1", "does not hand out that commit"),
        ("fatal: something new", "cannot be cloned"),
    ],
)
def test_each_failure_of_git_has_its_words(said, what):
    from provision.run.command import Completed

    error = explained(Completed(argv=("git",), status=128, stdout="", stderr=said), "it cannot be cloned")
    assert error.what.endswith(what)
    assert "fatal" in error.why or "Host key" in error.why
    assert error.hint


# --- downloads --------------------------------------------------------------------------------------------------


class Server:
    """A web server of one file that can break connections, forget how to resume, and be silent."""

    def __init__(self, content: bytes) -> None:
        self.content, self.breaks, self.ranges, self.status, self.silent = content, 0, True, 200, False
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/t-2.15.1.tar.gz"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "")
        self.asked.append(asked)
        start = int(asked[6:-1]) if asked and self.ranges else 0
        if self.silent:
            time.sleep(20)
        if self.status != 200:
            request.send_error(self.status)
            return
        request.send_response(206 if start else 200)
        rest = self.content[start:]
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        if self.breaks:
            self.breaks -= 1
            rest = rest[: len(rest) // 2]
        request.wfile.write(rest)
        request.wfile.flush()
        request.connection.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tree(tmp_path / "t-2.15.1", **{"tensorflow/big": os.urandom(300_000).hex()})
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    started = Server((tmp_path / "t.tar.gz").read_bytes())
    yield started
    started.server.shutdown()
    started.server.server_close()


def wanted(server: Server, content: bytes | None = None) -> Source:
    digest = hashlib.sha256(server.content if content is None else content).hexdigest()
    return source_of(f"{server.address}#sha256={digest}", "tensorflow")


def test_a_download_is_checked_and_packed_anew(server, tmp_path, store):
    archive, _ = made(wanted(server))
    assert (archive.version, archive.bazel) == ("2.15.1", "6.1.0")
    of_the_tree, _ = made(source_of(str(tmp_path / "t-2.15.1"), "tensorflow"))
    assert archive.sha256 == of_the_tree.sha256
    assert len(server.asked) == 1
    made(wanted(server))
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_again(server, ranges):
    server.breaks, server.ranges = 1, ranges
    assert made(wanted(server))[0].version == "2.15.1"
    assert server.asked == ["", "bytes=131072-"]


def test_a_wrong_checksum_names_both_and_keeps_nothing(server, store):
    error = failed(wanted(server, b"other"))
    assert error.what == f"{server.address} is not the file that was asked for"
    assert hashlib.sha256(server.content).hexdigest() in error.why
    assert hashlib.sha256(b"other").hexdigest() in error.why
    assert left(store) == []


def test_a_file_that_is_not_there(server, store):
    server.status = 404
    error = failed(wanted(server))
    assert error.what == f"{server.address} cannot be downloaded: there is no such file"
    assert error.why == "127.0.0.1 answers 404 Not Found"
    assert left(store) == []
    server.status = 403
    assert failed(wanted(server)).what.endswith("it was refused")


def test_a_server_that_is_out_of_order_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(source_download, "WAIT_S", 0.001)
    server.status = 503
    error = failed(wanted(server))
    assert error.why == "127.0.0.1 answers 503 Service Unavailable"
    assert len(server.asked) == source_download.TRIES


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(source_download, "WAIT_S", 0.001)
    digest = "a" * 64
    error = failed(Source(kind="tarball", location="http://127.0.0.1:1/x.tar.gz", sha256=digest))
    assert error.what == "http://127.0.0.1:1/x.tar.gz cannot be downloaded: the connection failed"
    assert "Connection refused" in error.why
    error = failed(Source(kind="tarball", location="http://no-such-host.invalid/x.tar.gz", sha256=digest))
    assert error.what.endswith("its host is not known")
    assert error.why == "no address was found for no-such-host.invalid"
    assert isinstance(error, StepFailed)


def test_ctrl_c_does_not_wait_for_a_silent_server(server, store):
    server.silent = True
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        archive_of(wanted(server), on_event=lambda _: None, cancel=cancel)
    assert time.monotonic() - begun < 10
    assert left(store) == []
