"""The build cache's own configuration, served by nginx on loopback: who gets what."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from harness.caches_http import CacheServer, User, cache_server, role_module

KEY = "0123456789abcdef" * 4
EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheServer]:
    with cache_server(tmp_path_factory.mktemp("cache")) as server:
        yield server


def ask(
    server: CacheServer,
    method: str,
    path: str,
    user: User | None = None,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body; the path is sent as it is, dots and all."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    given = dict(headers or {})
    if user is not None:
        word = base64.b64encode(f"{user.name}:{user.password}".encode()).decode()
        given["Authorization"] = f"Basic {word}"
    try:
        connection.request(method, path, body=body, headers=given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_writer_stores_what_a_reader_gets(served: CacheServer) -> None:
    for kind in ("ac", "cas"):
        assert ask(served, "GET", f"/{kind}/{KEY}", served.reader)[0] == 404
        assert ask(served, "PUT", f"/{kind}/{KEY}", served.writer, b"what was built")[0] == 201
        assert ask(served, "GET", f"/{kind}/{KEY}", served.reader) == (200, b"what was built")
        assert ask(served, "HEAD", f"/{kind}/{KEY}", served.reader) == (200, b"")
        assert ask(served, "PUT", f"/{kind}/{KEY}", served.writer, b"once more")[0] == 204
        assert ask(served, "GET", f"/{kind}/{KEY}", served.writer) == (200, b"once more")


def test_an_empty_blob_is_a_blob(served: CacheServer) -> None:
    assert ask(served, "PUT", f"/cas/{EMPTY}", served.writer, b"")[0] in (201, 204)
    assert ask(served, "GET", f"/cas/{EMPTY}", served.reader) == (200, b"")


def test_a_reader_may_not_write_and_a_stranger_nothing(served: CacheServer) -> None:
    wrong = User(served.writer.name, "guessed")
    nobody = User("nobody", "guessed")
    other = KEY[::-1]
    assert ask(served, "PUT", f"/cas/{other}", served.reader, b"poison")[0] == 403
    for stranger in (None, wrong, nobody, User(served.reader.name, "guessed")):
        assert ask(served, "GET", f"/cas/{KEY}", stranger)[0] == 401
        assert ask(served, "PUT", f"/cas/{other}", stranger, b"poison")[0] == 401
        assert ask(served, "GET", "/status", stranger)[0] == 401
    assert other not in [path.name for path in served.blobs()]


@pytest.mark.parametrize("method", ["DELETE", "MKCOL", "PROPFIND", "COPY", "MOVE", "POST", "PATCH", "OPTIONS"])
def test_other_methods_are_refused_even_to_a_writer(served: CacheServer, method: str) -> None:
    ask(served, "PUT", f"/cas/{KEY}", served.writer, b"stays")
    headers = {"Destination": f"/cas/{KEY[::-1]}"}
    assert ask(served, method, f"/cas/{KEY}", served.writer, headers=headers)[0] == 405
    assert ask(served, method, "/cas/", served.writer)[0] in (404, 405)
    assert ask(served, "GET", f"/cas/{KEY}", served.writer) == (200, b"stays")


@pytest.mark.parametrize(
    "path",
    [
        "/cas/../../users",
        f"/cas/../../{KEY}",
        "/cas/%2e%2e/%2e%2e/users",
        "/cas/..%2f..%2fusers",
        "/../users",
        "/cas/",
        "/cas",
        f"/cas/{KEY}/",
        f"/cas/{KEY}x",
        f"/cas/{KEY[1:]}",
        f"/cas/{KEY.upper()}",
        f"/cas/{KEY}%00",
        f"/tmp/{KEY}",
        f"/instance/cas/{KEY}",
        "/status.json",
        "/incoming/0000000001",
        "/blobs/",
        "/",
    ],
)
def test_nothing_but_keys_can_be_read_or_written(served: CacheServer, path: str) -> None:
    before = sorted(path for path in served.folder.rglob("*"))
    assert ask(served, "GET", path, served.writer)[0] in (400, 404)
    assert ask(served, "PUT", path, served.writer, b"poison")[0] in (400, 404)
    assert sorted(path for path in served.folder.rglob("*")) == before


def test_half_a_blob_is_none(served: CacheServer) -> None:
    key = hashlib.sha256(b"half").hexdigest()
    word = base64.b64encode(f"{served.writer.name}:{served.writer.password}".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.putrequest("PUT", f"/cas/{key}")
    connection.putheader("Authorization", f"Basic {word}")
    connection.putheader("Content-Length", "100000")
    connection.endheaders(b"x" * 50000)
    assert ask(served, "GET", f"/cas/{key}", served.reader)[0] == 404
    connection.close()
    assert ask(served, "GET", f"/cas/{key}", served.reader)[0] == 404
    ranged = {"Content-Range": "bytes 0-3/6"}
    assert ask(served, "PUT", f"/cas/{key}", served.writer, b"half", ranged)[0] == 501
    assert key not in [path.name for path in served.blobs()]


def test_blobs_are_for_the_server_alone(served: CacheServer) -> None:
    ask(served, "PUT", f"/cas/{KEY}", served.writer, b"what was built")
    (blob,) = (path for path in served.blobs() if path.name == KEY)
    assert stat.S_IMODE(blob.stat().st_mode) == 0o640


def test_reading_without_a_password_where_that_is_allowed(tmp_path: Path) -> None:
    with cache_server(tmp_path, anonymous_read=True) as server:
        assert ask(server, "PUT", f"/ac/{KEY}", server.writer, b"result")[0] == 201
        assert ask(server, "GET", f"/ac/{KEY}") == (200, b"result")
        assert ask(server, "PUT", f"/ac/{KEY}", None, b"poison")[0] == 401
        assert ask(server, "PUT", f"/ac/{KEY}", server.reader, b"poison")[0] == 403


def test_a_prefix_is_part_of_every_address(tmp_path: Path) -> None:
    with cache_server(tmp_path, prefix="/lab/tensorflow") as server:
        assert server.url.endswith("/lab/tensorflow")
        assert ask(server, "PUT", f"/lab/tensorflow/cas/{KEY}", server.writer, b"x")[0] == 201
        assert ask(server, "PUT", f"/cas/{KEY}", server.writer, b"x")[0] == 404
        assert [path.name for path in server.blobs("cas", "/lab/tensorflow")] == [KEY]


def test_a_blob_that_is_too_large(tmp_path: Path) -> None:
    with cache_server(tmp_path, build_cache_max_blob_mib=1) as server:
        assert ask(server, "PUT", f"/cas/{KEY}", server.writer, bytes(2**20))[0] == 201
        assert ask(server, "PUT", f"/cas/{EMPTY}", server.writer, b"", {"Content-Length": str(2**20 + 1)})[0] == 413


def test_a_server_that_was_stopped_comes_back_with_its_blobs(tmp_path: Path) -> None:
    with cache_server(tmp_path) as server:
        ask(server, "PUT", f"/cas/{KEY}", server.writer, b"kept")
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            ask(server, "GET", f"/cas/{KEY}", server.reader)
        server.start()
        assert ask(server, "GET", f"/cas/{KEY}", server.reader) == (200, b"kept")
        assert ("PUT", f"/cas/{KEY}", 201) in server.requests()


def test_the_configuration_holds_over_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=cache", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    import requests

    tls = {"build_cache_tls_certificate": str(certificate), "build_cache_tls_key": str(key)}
    with cache_server(tmp_path, **tls) as server:
        login = (server.writer.name, server.writer.password)
        address, trust = f"{server.url}/cas/{KEY}", str(certificate)
        assert requests.put(address, data=b"x", auth=login, verify=trust, timeout=20).status_code == 201
        assert requests.get(address, verify=trust, timeout=20).status_code == 401


def test_users_keep_their_line_while_the_password_is_the_same() -> None:
    users = role_module()
    first = users.lines_for([("ci", "correct horse battery")], {})
    name, _, known = first[0].partition(":")
    assert (name, known[:7]) == ("ci", "$2y$05$")
    assert "horse" not in known
    old = {"ci": known, "gone": "$2y$05$x"}
    assert users.lines_for([("ci", "correct horse battery")], old) == first
    assert users.lines_for([("ci", "")], old) == first
    assert users.lines_for([("ci", "another one")], old) != first


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([("a:b", "x")], "'a:b' is not a name for a user of the cache"),
        ([("", "x")], "'' is not a name for a user of the cache"),
        ([('a"; include /etc', "x")], "is not a name for a user of the cache"),
        ([("ci", "x"), ("ci", "y")], "user ci of the cache is given twice"),
        ([("ci", "")], "user ci of the cache has no password"),
        ([("ci", "x" * 73)], "the password of user ci is too long"),
    ],
)
def test_users_that_are_refused(given: list[tuple[str, str]], what: str) -> None:
    users = role_module()
    with pytest.raises(users.Refused) as stop:
        users.lines_for(given, {})
    assert what in stop.value.what


def test_the_password_file_is_for_its_group_alone(tmp_path: Path) -> None:
    users = role_module()
    path = tmp_path / "users"
    users.write(str(path), "ci:$2y$05$x\n", os.getuid(), os.getgid())
    assert users.state(str(path)) == (os.getuid(), os.getgid(), 0o640)
    assert users.read(str(path)) == {"ci": "$2y$05$x"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["users"]
