"""Source archives and source distributions: unpacked where they belong, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_build_sdist import Sdist, credentials_for, fetched, sdist_of
from ansible.module_utils.provision_build_source import unpacked
from ansible.module_utils.provision_failure import Failure
from playbook_builds import archive


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tar(path: Path, *members: tuple[str, Callable[[tarfile.TarInfo], Any]]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, change in members:
            member = tarfile.TarInfo(name)
            data = change(member) or b""
            member.size = len(data)
            file.addfile(member, io.BytesIO(data))
    return path


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> Callable[[tarfile.TarInfo], None]:
    def change(member: tarfile.TarInfo) -> None:
        member.type, member.linkname = kind, target

    return change


def test_the_folder_of_an_archive_is_taken_off(tmp_path: Path) -> None:
    path = archive(tmp_path, {"configure.py": "x", "core/a.cc": "y"})
    tree = tmp_path / "trees" / "t"
    assert unpacked(path, sha256(path), tree) is True
    assert sorted(str(one.relative_to(tree)) for one in tree.rglob("*")) == ["configure.py", "core", "core/a.cc"]
    assert os.access(tree / "configure.py", os.X_OK)
    assert (tree / "configure.py").stat().st_mtime == 315619200
    (tree / "kept").touch()
    assert unpacked(path, sha256(path), tree) is False
    assert (tree / "kept").exists()
    assert [one.name for one in tree.parent.iterdir()] == ["t"]


def test_an_archive_without_a_folder_of_its_own(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", ("./setup.py", lambda _: b"x"), ("./lib/a.py", lambda _: b"y"))
    unpacked(path, sha256(path), tmp_path / "t")
    assert (tmp_path / "t" / "lib" / "a.py").read_text() == "y"


def test_links_inside_are_links(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "a.tar.gz",
        ("s/a", lambda _: b"x"),
        ("s/sub/b", link("../a")),
        ("s/c", link("s/a", tarfile.LNKTYPE)),
        ("s/dangling", link("not-yet")),
    )
    unpacked(path, sha256(path), tmp_path / "t")
    assert (tmp_path / "t" / "sub" / "b").read_text() == (tmp_path / "t" / "c").read_text() == "x"
    assert (tmp_path / "t" / "dangling").readlink() == Path("not-yet")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("../x", lambda _: b"x")], "../x: its name leads outside the archive"),
        ([("/etc/x", lambda _: b"x")], "/etc/x: its name leads outside the archive"),
        ([("s/../../x", lambda _: b"x")], "s/../../x: its name leads outside the archive"),
        ([("s/l", link("/etc"))], "s/l: it is a link to /etc, outside the archive"),
        ([("s/l", link("../../etc"))], "s/l: it is a link to ../../etc, outside the archive"),
        ([("s/l", link("../x", tarfile.LNKTYPE))], "s/l: it is a link to ../x, outside the archive"),
        ([("l", link("s")), ("l/x", lambda _: b"x")], "l/x: it would be written through a symbolic link"),
        ([("l", link("s")), ("l", lambda _: b"x")], "l: it would be written through a symbolic link"),
        # up is s/deep/.. to who reads the text, and the root's parent once "s/deep" is itself a link to the root
        (
            [("s/d/x", lambda _: b""), ("a", link("s/d")), ("b", link("a/../../.."))],
            "b: it is a link to a/../../.., outside the archive",
        ),
        ([("s/fifo", link("", tarfile.FIFOTYPE))], "s/fifo: it is neither a file, a folder nor a link"),
    ],
)
def test_an_archive_that_would_write_outside(members: Any, why: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar.gz", *members)
    tree = tmp_path / "deep" / "trees" / "t"
    with pytest.raises(Failure) as caught:
        unpacked(path, sha256(path), tree)
    assert (caught.value.kind, caught.value.what) == ("source", "the source archive is not safe to unpack")
    assert caught.value.why == why
    assert sorted(one.name for one in tree.parent.iterdir()) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.tar.gz", "deep"]


def test_an_archive_that_was_changed_or_cut(tmp_path: Path) -> None:
    path = archive(tmp_path, {"a": "x" * 5000})
    with pytest.raises(Failure) as caught:
        unpacked(path, "0" * 64, tmp_path / "t")
    assert caught.value.what == "the source archive is not the one that was sent"
    assert caught.value.why == f"wanted SHA-256 {'0' * 64}, found {sha256(path)}"
    with pytest.raises(Failure, match="not the one that was sent"):
        unpacked(tmp_path / "gone", "0" * 64, tmp_path / "t")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(Failure) as caught:
        unpacked(path, sha256(path), tmp_path / "t")
    assert caught.value.what == "the source archive cannot be read"
    assert not (tmp_path / "t").exists()


# ── source distributions ─────────────────────────────────────────────────────────────────────────────────────────────

LOCK = """lock-version = "1.0"
[[packages]]
name = "demo"
version = "1.0"
index = "https://index.example/simple"
sdist = { url = "ADDRESS", upload-time = 2025-11-16T22:52:42Z, size = 5, hashes = { sha256 = "DIGEST" } }
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder to whoever says me:s3cret, and says it is longer than it is where asked."""

    def do_GET(self) -> None:
        said = base64.b64encode(b"me:s3cret").decode()
        if self.path.startswith("/private") and self.headers.get("Authorization") != f"Basic {said}":
            self.send_error(401)
            return
        if self.path.startswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", "50")
            self.end_headers()
            self.wfile.write(b"short")
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    (folder / "private").mkdir(parents=True)
    (folder / "demo-1.0.tar.gz").write_bytes(b"sdist")
    (folder / "private" / "demo-1.0.tar.gz").write_bytes(b"sdist")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_address[1]}"
        made.shutdown()
        thread.join()


DIGEST = hashlib.sha256(b"sdist").hexdigest()


def test_what_a_lock_says_of_a_source_distribution() -> None:
    text = LOCK.replace("ADDRESS", "https://f.example/a%2Bb/demo-1.0.tar.gz").replace("DIGEST", DIGEST)
    found = sdist_of(text)
    assert found == Sdist("https://f.example/a%2Bb/demo-1.0.tar.gz", DIGEST)
    assert found.name == "demo-1.0.tar.gz"
    assert sdist_of(LOCK.replace("sdist =", "wheels =")) is None


def test_a_source_distribution_is_fetched_once(server: str, tmp_path: Path) -> None:
    said: list[str] = []
    sdist = Sdist(f"{server}/demo-1.0.tar.gz", DIGEST)
    assert fetched(sdist, tmp_path, {}, said.append).read_bytes() == b"sdist"
    assert said == ["downloading demo-1.0.tar.gz, 0 of 0 MiB"]
    assert fetched(sdist, tmp_path, {}, said.append).name == "demo-1.0.tar.gz"
    assert len(said) == 1
    local = Sdist("served/demo-1.0.tar.gz", DIGEST)
    (tmp_path / "demo-1.0.tar.gz").unlink()
    assert fetched(local, tmp_path, {}, said.append).read_bytes() == b"sdist"


def test_credentials_of_an_index_are_used_for_its_host_only(server: str, tmp_path: Path) -> None:
    sdist = Sdist(f"{server}/private/demo-1.0.tar.gz", DIGEST)
    with pytest.raises(Failure) as caught:
        fetched(sdist, tmp_path, {}, print)
    assert caught.value.what == "could not fetch demo-1.0.tar.gz"
    assert "Unauthorized" in caught.value.why
    environment = {"UV_DEFAULT_INDEX": f"{server.replace('://', '://me:s3cret@')}/simple"}
    assert fetched(sdist, tmp_path, environment, lambda _: None).is_file()
    named = {
        "UV_INDEX": "https://other.example/simple lab=https://index.example/simple",
        "UV_INDEX_LAB_USERNAME": "u",
        "UV_INDEX_LAB_PASSWORD": "p",
    }
    assert credentials_for("https://index.example/f.tar.gz", named) == "u:p"
    assert credentials_for("https://other.example/f.tar.gz", named) == ""
    assert credentials_for("https://third.example/f.tar.gz", named) == ""


def test_a_source_distribution_that_is_another_or_cut_or_away(server: str, tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        fetched(Sdist(f"{server}/demo-1.0.tar.gz", "0" * 64), tmp_path, {}, lambda _: None)
    assert caught.value.kind == "source"
    assert caught.value.why == f"the index says SHA-256 {'0' * 64}, the file has {DIGEST}"
    with pytest.raises(Failure, match="could not fetch"):
        fetched(Sdist(f"{server}/cut/demo-1.0.tar.gz", DIGEST), tmp_path, {}, lambda _: None)
    with pytest.raises(Failure) as caught:
        fetched(Sdist("http://127.0.0.1:9/demo-1.0.tar.gz", DIGEST), tmp_path, {}, lambda _: None)
    assert (caught.value.kind, "Connection refused" in caught.value.why) == ("network", True)
