"""What a host says about its build cache, what the role is given, and what a cache says over HTTP."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.caches_http import CacheServer, User, cache_server

from provision.errors import StepFailed, UsageError
from provision.model.cache import CacheSettings
from provision.model.host import LOCALHOST, Host
from provision.model.report import Failure, StepOutcome
from provision.run import build_cache, cache_http
from provision.run.play_events import HostResult

ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
BOX = Host(name="me@box:2222", connection="ssh", address="192.0.2.7", port=2222, user="me")
SETTINGS = CacheSettings(
    engine="nginx", address=ANYWHERE, port=9090, folder="/srv/cache", size_gib=50, writers=("ci",), readers=("lab",)
)
ON_HOST: dict[str, Any] = {
    "engine": "nginx", "address": ANYWHERE, "port": 9090, "folder": "/srv/cache", "prefix": "", "size_gib": 50,
    "writers": ["ci"], "readers": ["lab"], "anonymous_read": False, "certificate": "", "key": "",
}  # fmt: skip
STATUS = {"CurrSize": 3 * 2**20, "MaxSize": 50 * 2**30, "NumFiles": 7, "ServerTime": 1_700_000_000, "RemovedFiles": 0}


def said(**changes: Any) -> str:
    return json.dumps({"settings": ON_HOST, "status": STATUS, "answer": 401, "problem": "", **changes})


def test_a_cache_that_is_there_and_answers() -> None:
    found = build_cache.found("box", said())
    assert found.settings == SETTINGS
    assert found.usage is not None
    assert (found.usage.used_mib, found.usage.bound_mib, found.usage.blobs) == (3.0, 51200.0, 7)
    assert (found.answers, found.problem) == (True, "")


@pytest.mark.parametrize(
    ("changes", "answers", "problem"),
    [
        ({"answer": 200}, True, ""),
        ({"answer": 502}, False, "its status page answers 502"),
        ({"answer": None, "problem": "[Errno 111] Connection refused"}, False, "[Errno 111] Connection refused"),
    ],
)
def test_whether_it_answers(changes: dict[str, Any], answers: bool, problem: str) -> None:
    found = build_cache.found("box", said(**changes))
    assert (found.answers, found.problem) == (answers, problem)


def test_no_cache_is_an_answer() -> None:
    found = build_cache.found("box", said(settings=None, status=None, answer=None))
    assert (found.settings, found.usage, found.answers) == (None, None, False)


@pytest.mark.parametrize("settings", [{**ON_HOST, "port": "many"}, {**ON_HOST, "newer": 1}, {"engine": "nginx"}, []])
def test_settings_that_cannot_be_read(settings: Any) -> None:
    with pytest.raises(StepFailed) as stop:
        build_cache.found("box", said(settings=settings))
    assert stop.value.what == "the settings of the build cache on box cannot be read"
    assert stop.value.why.startswith("/etc/provision-build-cache.json: ")


def test_the_role_gets_each_user_with_a_password_or_none() -> None:
    wanted = build_cache.Wanted(settings=SETTINGS, passwords={"ci": "{{ not a template }}"})
    given = build_cache.variables(wanted)
    assert given["build_cache_writers"] == [{"name": "ci", "password": "{{ not a template }}"}]
    assert given["build_cache_readers"] == [{"name": "lab", "password": ""}]
    assert "not a template" not in repr(wanted)


@pytest.mark.parametrize(
    ("host", "changes", "url"),
    [
        (BOX, {}, "http://192.0.2.7:9090"),
        (BOX, {"prefix": "/lab", "certificate": "/etc/c.pem"}, "https://192.0.2.7:9090/lab"),
        (BOX, {"address": "10.0.0.5"}, "http://10.0.0.5:9090"),
        (Host(name="b", connection="ssh", address="fd00::7"), {"address": "[::]"}, "http://[fd00::7]:9090"),
    ],
)
def test_the_address_that_other_hosts_use(host: Host, changes: dict[str, Any], url: str) -> None:
    from dataclasses import replace

    assert build_cache.url_of(host, replace(SETTINGS, **changes)) == url


def test_this_machine_is_called_by_its_name() -> None:
    assert "localhost" not in build_cache.url_of(LOCALHOST, SETTINGS)


def test_a_run_that_was_stopped_says_what_may_be_left() -> None:
    step = StepOutcome(id="build_cache", title="Install nginx", status="changed", seconds=1)
    result = HostResult(status="cancelled", steps=(step,), data={}, failure=None)
    report = build_cache.report(BOX, SETTINGS, result, unreaped=True)
    assert (report.ok, report.changed) == (False, 1)
    (failure,) = report.failures
    assert (failure.what, failure.exit_code) == ("interrupted", 130)
    assert failure.why == "the cache may be half set up; something may still run there, since nobody could look"


def test_a_step_that_failed_is_the_reports_failure() -> None:
    failed = Failure(what="'The port is free' failed", why="something else answers on port 22 of this host")
    result = HostResult(status="failed", steps=(), data={}, failure=failed)
    assert build_cache.report(BOX, SETTINGS, result).failures == (failed,)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheServer]:
    with cache_server(tmp_path_factory.mktemp("cache")) as server:
        yield server


def login(user: User) -> tuple[str, str]:
    return user.name, user.password


def test_who_may_do_what_is_found_out(served: CacheServer) -> None:
    nobody = cache_http.ask(served.url)
    assert (nobody.reachable, nobody.anonymous_read, nobody.anonymous_write) == (True, False, False)
    assert (nobody.may_read, nobody.may_write) == (None, None)
    writer = cache_http.ask(served.url, login(served.writer))
    assert (writer.may_read, writer.may_write) == (True, True)
    reader = cache_http.ask(served.url, login(served.reader))
    assert (reader.may_read, reader.may_write) == (True, False)


def test_the_status_page_says_how_full_it_is(served: CacheServer) -> None:
    page = served.folder / "status.json"
    page.write_text(json.dumps(STATUS))
    page.chmod(0o644)
    found = cache_http.url_status(served.url, login(served.reader))
    assert found.ok
    assert found.usage is not None
    assert (found.usage.used_mib, found.usage.blobs) == (3.0, 7)
    assert cache_http.url_status(served.url, None).usage is None


def test_a_wrong_password_is_said(served: CacheServer) -> None:
    found = cache_http.url_status(served.url, (served.reader.name, "guessed"))
    (failure,) = found.failures
    assert failure.what == f"{served.url} refuses user reader"
    assert failure.exit_code == 4


def test_a_cache_without_a_password_for_reading(tmp_path: Path) -> None:
    with cache_server(tmp_path, anonymous_read=True) as server:
        answer = cache_http.ask(server.url)
    assert (answer.anonymous_read, answer.anonymous_write) == (True, False)


def test_a_cache_that_is_down(tmp_path: Path) -> None:
    server = cache_server(tmp_path)
    server.stop()
    found = cache_http.url_status(server.url, None)
    (failure,) = found.failures
    assert (failure.what, failure.why) == (f"no build cache answers at {server.url}", "connection refused")
    assert failure.exit_code == 4


class OtherServer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def test_another_server_is_no_cache() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), OtherServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answer = cache_http.ask(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert answer == cache_http.Answer(reachable=False, problem="something answers there, and it is no build cache")


def test_a_host_without_a_cache() -> None:
    with pytest.raises(UsageError) as stop:
        cache_http.host_status(BOX, build_cache.Found(), None)
    assert (stop.value.what, stop.value.hint) == (
        "there is no build cache on me@box:2222",
        "provision cache up me@box:2222",
    )


def test_a_cache_whose_server_is_down_on_its_host(tmp_path: Path) -> None:
    from dataclasses import replace

    server = cache_server(tmp_path)
    server.stop()
    settings = replace(SETTINGS, address="127.0.0.1", port=server.port)
    found = build_cache.Found(settings=settings, problem="[Errno 111] Connection refused")
    status = cache_http.host_status(BOX, found, None)
    (failure,) = status.failures
    assert failure.what == "the build cache on me@box:2222 does not answer"
    assert failure.why == "[Errno 111] Connection refused"
    assert failure.hint == "on the host: systemctl status nginx"
