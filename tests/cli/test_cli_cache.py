"""`provision cache`: what it takes and refuses, what it shows, and its whole life on a real host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from harness.caches_http import cache_server
from harness.fleet import Fleet

from provision.cli import cache_input
from provision.errors import UsageError
from provision.model.cache import CacheReport, CacheSettings, CacheStatus, CacheUsage
from provision.render.cache import intention_text, removal_text, report_text, status_text

READER = "correct horse battery"
ANYWHERE = "0.0.0.0"  # noqa: S104 - nothing listens here
SETTINGS = CacheSettings(
    engine="nginx", address=ANYWHERE, port=9090, folder="/srv/cache", size_gib=50, writers=("ci",), readers=("lab",)
)


def provision(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[2])
    return subprocess.run(
        [sys.executable, "-m", "provision", *words], env={**os.environ, "PYTHONPATH": root, **more},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("text", "gib"), [("50G", 50), ("50", 50), ("100GiB", 100), ("1T", 1024), ("2 TB", 2048)])
def test_sizes(text: str, gib: int) -> None:
    assert cache_input.size_gib(text) == gib


@pytest.mark.parametrize("text", ["", "0G", "-1G", "1.5T", "50M", "much"])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as stop:
        cache_input.size_gib(text)
    assert stop.value.what == f"{text!r} is not a size"


def test_each_password_is_given_kept_or_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cache_input.WRITER_VARIABLE, raising=False)
    monkeypatch.setenv(cache_input.READER_VARIABLE, "a reader's password")
    passwords, origins = cache_input.choose_passwords(SETTINGS, None, ask=False)
    assert origins == {"ci": "generated", "lab": "given"}
    assert (len(passwords["ci"]), passwords["lab"]) == (32, "a reader's password")
    monkeypatch.delenv(cache_input.READER_VARIABLE)
    assert cache_input.choose_passwords(SETTINGS, SETTINGS, ask=False) == ({}, {"ci": "kept", "lab": "kept"})
    wider = replace(SETTINGS, readers=("lab", "guest"))
    assert cache_input.choose_passwords(wider, SETTINGS, ask=False)[1]["guest"] == "generated"
    monkeypatch.setenv(cache_input.READER_VARIABLE, "one for two, which is none")
    with pytest.raises(UsageError, match="one password for several users"):
        cache_input.choose_passwords(wider, SETTINGS, ask=False)


@pytest.mark.parametrize("password", ["short", "x" * 73, "with a line\nend in it"])
def test_passwords_that_are_refused(password: str) -> None:
    with pytest.raises(UsageError) as stop:
        cache_input.checked_password("ci", password)
    assert stop.value.what == "the password of ci cannot be taken"
    assert password not in stop.value.why


def test_a_program_from_the_network_needs_its_sum(tmp_path: Path) -> None:
    sha = "ab" * 32
    assert cache_input.program(f"https://example.invalid/b#sha256={sha}") == ("https://example.invalid/b", sha)
    for text in ("https://example.invalid/b", f"http://example.invalid/b#sha256={sha}"):
        with pytest.raises(UsageError, match="is not taken as it is"):
            cache_input.program(text)
    with pytest.raises(UsageError, match="'abc' is not a SHA-256"):
        cache_input.program("/b#sha256=abc")
    with pytest.raises(UsageError, match="there is no file /nonexistent"):
        cache_input.program("/nonexistent")
    (tmp_path / "b").touch()
    assert cache_input.program(str(tmp_path / "b")) == (str(tmp_path / "b"), "")
    assert cache_input.program("") == ("", "")


def test_a_group_is_no_host(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"lab": {"hosts": {"a": {}, "b": {}}}}))
    with pytest.raises(UsageError) as stop:
        cache_input.one_host("lab", [inventory])
    assert stop.value.what == "lab is 2 hosts"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["status", "http://ci:secret@box:9090"], 2, "a password in an address can be read by everybody"),
        (["status", "http://127.0.0.1:1"], 4, "no build cache answers at http://127.0.0.1:1"),
        (["status", "http://127.0.0.1:1", "--user", "ci"], 2, "the password of ci cannot be asked for"),
        (["up", "localhost", "--size", "much"], 2, "'much' is not a size"),
        (["up", "localhost", "--engine", "apache"], 2, "'apache' is not one of 'nginx', 'bazel-remote'"),
        (["up", "me@127.0.0.1:1"], 4, "refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_refused(words: list[str], code: int, said: str) -> None:
    done = provision("cache", *words)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    document = provision("cache", *words, "--json")
    assert document.returncode == code
    assert said in json.loads(document.stdout)["failures"][0]["what"]


def test_the_status_of_an_address(tmp_path: Path) -> None:
    with cache_server(tmp_path) as server:
        asked = ["cache", "status", server.url, "--user", server.reader.name]
        told = provision(*asked, PROVISION_CACHE_PASSWORD=server.reader.password)
        data = json.loads(provision(*asked, "--json", PROVISION_CACHE_PASSWORD=server.reader.password).stdout)
    assert told.returncode == 0, told.stderr
    assert told.stdout == (
        f"build cache {server.url}\n"
        "  reachable from here    yes\n"
        "  reader may             read\n"
        "  reads without password nobody\n"
    )
    assert (data["ok"], data["reachable"], data["may_read"], data["may_write"]) == (True, True, True, False)
    assert (data["anonymous_read"], data["anonymous_write"], data["usage"]) == (False, False, None)


def test_what_will_change_is_shown_with_what_was() -> None:
    wanted = replace(SETTINGS, size_gib=100, readers=())
    told = intention_text("box", SETTINGS, wanted, {"ci": "kept"})
    assert "at most                   100 GiB (was: 50 GiB)" in told
    assert "may only read             nobody (was: lab)" in told
    assert "port                      9090\n" in told
    assert "password of ci            kept" in told
    assert "(was:" not in intention_text("box", None, wanted, {})


def test_what_is_removed_is_shown() -> None:
    usage = CacheUsage(used_mib=2048, bound_mib=51200, blobs=7, counted_at=0)
    assert removal_text("box", SETTINGS, usage) == (
        "build cache on box: /srv/cache with 7 blobs, 2.0 GiB goes, with its service on port 9090; nginx stays\n"
    )


def test_the_lines_to_paste() -> None:
    report = CacheReport(
        ok=True, host="box", url="http://box:9090", changed=3, cache=SETTINGS, generated_passwords={"ci": "s3cret"}
    )
    told = report_text(report)
    assert "  provision_remote_cache: http://box:9090\n  provision_remote_cache_user: ci\n" in told
    assert '  provision_remote_cache_password: "{{ vault_build_cache_password }}"\n' in told
    assert "  provision_remote_cache_upload: false\n  provision_remote_cache_user: lab\n" in told
    assert told.count("s3cret") == 1
    assert "firewall: let the hosts that build reach 9090/tcp" in told
    assert "s3cret" not in repr(report)


def test_a_cache_that_anybody_may_write_is_a_warning() -> None:
    status = CacheStatus(
        ok=True, host=None, url="http://box:9090", cache=None, usage=None, answers_on_host=None, reachable=True,
        anonymous_read=True, anonymous_write=True,
    )  # fmt: skip
    assert "everybody may write, so anybody decides what the hosts run" in status_text(status, now=0)


@pytest.mark.docker
@pytest.mark.ssh
@pytest.mark.slow
def test_a_cache_from_nothing_to_nothing(fleet: Callable[..., Fleet]) -> None:
    machines = fleet(1, "systemd")
    (host,) = machines.hosts
    tried = machines.provision("cache", "up", host.target, "--dry-run")
    assert (tried.returncode, "dry run: nothing was changed" in tried.stderr) == (0, True), tried.stderr
    refused = machines.provision("cache", "up", host.target)
    assert refused.returncode == 2
    assert "nobody can be asked" in refused.stderr

    asked = ["cache", "up", host.target, "--size", "2G", "--writer", "ci", "--reader", "lab", "--yes"]
    made = machines.provision(*asked, "--json", PROVISION_CACHE_READER_PASSWORD=READER)
    assert made.returncode == 0, made.stderr
    report = json.loads(made.stdout)
    assert (report["ok"], report["url"]) == (True, f"http://{host.address}:9090")
    assert list(report["generated_passwords"]) == ["ci"]
    password = report["generated_passwords"]["ci"]
    assert password not in made.stderr
    assert password not in host.sh("cat /etc/provision-build-cache.* /etc/nginx/conf.d/*; journalctl || true")

    again = machines.provision("cache", "up", host.target, "--yes", "--json")
    assert (again.returncode, json.loads(again.stdout)["changed"]) == (0, 0), again.stderr

    # its port is not reachable through the container's published one: the host itself answers
    status = json.loads(machines.provision("cache", "status", host.target, "--json").stdout)
    assert (status["ok"], status["answers_on_host"], status["reachable"]) == (True, True, False)
    assert (status["cache"]["writers"], status["usage"]["bound_mib"]) == (["ci"], 2048.0)
    host.container.reload()
    inside = f"http://{next(iter(host.container.attrs['NetworkSettings']['Networks'].values()))['IPAddress']}:9090"
    for user, word, write in (("ci", password, True), ("lab", READER, False)):
        told = machines.provision("cache", "status", inside, "--user", user, "--json", PROVISION_CACHE_PASSWORD=word)
        found = json.loads(told.stdout)
        assert (told.returncode, found["may_read"], found["may_write"]) == (0, True, write), told.stderr
        assert found["anonymous_read"] is False

    host.sh("systemctl stop nginx")
    down = machines.provision("cache", "status", host.target)
    assert (down.returncode, "does not answer" in down.stderr) == (4, True), down.stderr
    gone = machines.provision("cache", "remove", host.target, "--yes", "--json")
    assert (gone.returncode, json.loads(gone.stdout)["cache"]) == (0, None), gone.stderr
    nothing = machines.provision("cache", "remove", host.target, "--yes")
    assert (nothing.returncode, nothing.stdout) == (0, f"{host.target}: there was no build cache\n")
    assert machines.provision("cache", "status", host.target).returncode == 2
