"""What Bazel is given, by its release and by the settings; and how a remote cache is asked before the build."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible.module_utils import provision_bazel as bazel
from ansible.module_utils import provision_bazel_caches as caches
from ansible.module_utils import provision_bazel_options as options
from ansible.module_utils.provision_bazel_find import Bazel
from ansible.module_utils.provision_failure import Failure
from hypothesis import given
from hypothesis import strategies as st
from playbook_bazel import build_data, context

NAMES = (
    "jobs", "memory_mib", "disk_cache", "disk_cache_size", "repository_cache", "events", "profile", "progress_s",
)  # fmt: skip
VALUES = {name: name.upper() for name in NAMES}

# Lines of `bazel help build --long` of 4.2.3.
MANUAL = """
  --curses (a tri-state (auto, yes, no); default: "auto")
  --disk_cache (a path; default: see description)
  --jobs [-j] (an integer, or a keyword ("auto", "HOST_CPUS", "HOST_RAM"), ...
  --local_ram_resources (an integer, or "HOST_RAM", optionally followed by ...
  --[no]slim_profile (a boolean; default: "true")
  --[no]announce_rc (a boolean; default: "false")
"""


@pytest.mark.parametrize(
    ("version", "there", "missing"),
    [
        ("3.7.2", ["--local_ram_resources=MEMORY_MIB"], ["--noslim_profile", "--local_resources=memory=MEMORY_MIB"]),
        ("5.3.0", ["--local_ram_resources=MEMORY_MIB", "--noslim_profile"], ["--local_resources=cpu=JOBS"]),
        ("6.5.0", ["--local_cpu_resources=JOBS"], ["--experimental_disk_cache_gc_max_size=DISK_CACHE_SIZE"]),
        ("7.0.2", ["--local_cpu_resources=JOBS"], ["--local_resources=cpu=JOBS"]),
        (
            "7.1.0",
            ["--local_resources=cpu=JOBS", "--local_resources=memory=MEMORY_MIB"],
            ["--local_cpu_resources=JOBS"],
        ),
        ("7.4.1", ["--experimental_disk_cache_gc_max_size=DISK_CACHE_SIZE"], ["--local_ram_resources=MEMORY_MIB"]),
    ],
)
def test_a_release_gets_what_it_knows(version: str, there: list[str], missing: list[str]) -> None:
    found = options.reporting_options(version, VALUES)
    assert {"--jobs=JOBS", "--disk_cache=DISK_CACHE", "--verbose_failures", "--noannounce_rc"} <= set(found)
    assert set(there) <= set(found)
    assert not set(missing) & set(found)


def test_one_without_a_number_is_asked_for_its_options() -> None:
    assert options.reporting_options(None, VALUES, MANUAL) == [
        "--jobs=JOBS", "--local_ram_resources=MEMORY_MIB", "--disk_cache=DISK_CACHE", "--noslim_profile",
        "--curses=no", "--noannounce_rc",
    ]  # fmt: skip
    assert options.reporting_options(None, VALUES, "") == []


@pytest.mark.parametrize(
    ("kib", "heap"),
    [
        ("", 1024),
        ("MemTotal: 4000000 kB", 1024),
        ("MemTotal:       24682496 kB", 3013),
        ("MemTotal: 999999999 kB", 4096),
    ],
)
def test_the_servers_own_memory(kib: str, heap: int) -> None:
    assert options.heap_mib(kib) == heap


def test_the_users_own_file_is_not_read_and_the_systems_is() -> None:
    found = options.startup_options(Path("/b/bazel"), 2048, Path("/b/rc"))
    assert found == [
        "--nohome_rc", "--output_user_root=/b/bazel", "--max_idle_secs=60", "--host_jvm_args=-Xmx2048m",
        "--bazelrc=/b/rc",
    ]  # fmt: skip


def test_a_whole_call_with_a_remote_executor(tmp_path: Path) -> None:
    build = build_data(compiler=None)
    build["bazel"]["options"] = ["--config=opt", "--jobs=1", "--repo_env=HERMETIC_PYTHON_VERSION={python}"]
    made = context(
        tmp_path, tmp_path, build, remote_executor="grpc://lab:8980", distdir=["/d1", "/d2"], disk_cache="/disk",
        memory_mib_per_job=3000,
    )  # fmt: skip
    session = bazel.Session(made, Bazel("/b/bazel", "6.5.0", {}))
    found = session.arguments(caches.Remote("grpc://lab:8980", upload=False))
    assert found[:3] == ["build", "--config=opt", "--jobs=1"]
    assert found[-2:] == ["--", "//src:wheel"]
    assert f"--repo_env=HERMETIC_PYTHON_VERSION={made.values['python']}" in found
    for option in (
        "--jobs=2", "--local_ram_resources=6000", "--disk_cache=/disk", "--distdir=/d1", "--distdir=/d2",
        f"--repository_cache={made.build_folder}/repository_cache",
        f"--remote_default_exec_properties=cache-silo-key={made.silo}", "--remote_executor=grpc://lab:8980",
        "--spawn_strategy=remote,worker,standalone,local", "--remote_cache=grpc://lab:8980",
        f"--remote_instance_name={made.silo}", "--remote_upload_local_results=false",
    ):  # fmt: skip
        assert option in found, option
    assert not any("password" in one or "header" in one for one in found)


def test_every_box_searches_programs_in_the_same_order(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "patchelf-of-mine").touch(mode=0o755)
    build = build_data(compiler=None)
    build["needs"]["tools"] = [{"name": "patchelf-of-mine"}, {"name": "sh"}]
    made = context(tmp_path, tmp_path, build)
    made.environment["PATH"] = f"/home/me/bin:{tools}:/usr/bin:/opt/x"
    assert bazel.search_path(made) == f"/usr/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin:/bin:{tools}"


# ── the address ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"remote_cache": "http://lab:8080/x/"}, caches.Remote("http://lab:8080/x/")),
        ({"remote_cache": "lab:9092"}, caches.Remote("grpcs://lab:9092")),
        ({"remote_cache": "https://[::1]:8443"}, caches.Remote("https://[::1]:8443")),
        ({"remote_cache": "http://me:p%40ss@lab/"}, caches.Remote("http://lab/", "me", "p@ss")),
        (
            {"remote_cache": "http://me:x@lab", "remote_cache_user": "you", "remote_cache_password": "y"},
            caches.Remote("http://lab", "you", "y"),
        ),
        ({"remote_cache": "unix:///run/cache.sock"}, caches.Remote("unix:///run/cache.sock")),
        ({"remote_cache": "grpc://lab:1", "remote_cache_upload": False}, caches.Remote("grpc://lab:1", upload=False)),
        ({"remote_cache": ""}, None),
        ({}, None),
    ],
)
def test_an_address_is_taken_apart(settings: dict[str, object], expected: caches.Remote | None) -> None:
    assert caches.remote(settings) == expected


@pytest.mark.parametrize("url", ["ftp://lab/", "http://", "http://lab:port/", "unix://", "http://lab:99999"])
def test_what_is_no_address_is_said(url: str) -> None:
    with pytest.raises(Failure) as caught:
        caches.remote({"remote_cache": url})
    assert (caught.value.kind, caught.value.what) == ("cache", f"{url} is not the address of a remote cache")


@given(st.text())
def test_no_address_breaks_the_reader(url: str) -> None:
    try:
        caches.remote({"remote_cache": url})
    except Failure as failure:
        assert failure.kind == "cache"


def test_a_unix_socket_is_given_as_a_proxy() -> None:
    assert caches.remote_options(caches.Remote("unix:///run/c.sock"), "S") == [
        "--remote_cache=grpc://localhost", "--remote_proxy=unix:/run/c.sock", "--remote_timeout=60",
        "--remote_instance_name=S",
    ]  # fmt: skip
    assert caches.remote_options(caches.Remote("http://lab"), "S") == [
        "--remote_cache=http://lab",
        "--remote_timeout=60",
    ]


# ── asking it ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def serving() -> Iterator[Callable[[int], str]]:
    """A web server that answers everything with one status."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Location", "http://elsewhere.invalid/")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, ""), (200, ""), (502, "it answers HTTP 502 where a cache says 404"),
     (302, "it answers HTTP 302 where a cache says 404")],
)  # fmt: skip
def test_what_a_cache_answers(serving: Callable[[int], str], status: int, said: str) -> None:
    assert caches.probe(caches.Remote(serving(status))) == said


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials(serving: Callable[[int], str], status: int) -> None:
    url = serving(status)
    with pytest.raises(Failure) as caught:
        caches.probe(caches.Remote(url))
    assert caught.value.what == f"the remote cache {url} refuses these credentials"
    assert caught.value.why == f"given no credentials, it answered HTTP {status}"


def test_one_that_is_down_silent_or_something_else(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        for scheme in ("http", "https", "grpc"):
            assert caches.probe(caches.Remote(f"{scheme}://127.0.0.1:{port}")) == "down: Connection refused"
        other.listen()
        assert caches.probe(caches.Remote(f"grpc://127.0.0.1:{port}")) == ""
        assert caches.probe(caches.Remote(f"http://127.0.0.1:{port}"), 0.2) == "down: timed out"
        assert caches.probe(caches.Remote(f"https://127.0.0.1:{port}"), 0.2).startswith("down: ")
    assert caches.probe(caches.Remote(f"unix://{tmp_path}/none")) == "down: No such file or directory"
    assert caches.probe(caches.Remote("http://nowhere.invalid")).startswith("down: ")


def test_a_server_of_another_kind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        said = caches.probe(caches.Remote(f"http://127.0.0.1:{server.getsockname()[1]}"))
        thread.join()
    assert said.startswith("down: it does not speak HTTP (BadStatusLine")


# ── the password ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_credentials_file_is_for_its_owner_and_goes_away(tmp_path: Path) -> None:
    path = tmp_path / "rc"
    cache = caches.Remote("http://lab", "me", "p ä\"'s\\s")
    with pytest.raises(RuntimeError), caches.credentials(path, cache) as rc:
        assert rc == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.read_text() == f'build "--remote_header=Authorization=Basic {cache.token}"\n'
        raise RuntimeError
    assert not path.exists()
    with caches.credentials(path, caches.Remote("http://lab")) as rc:
        assert rc is None


def test_what_was_written_down_is_written_over(tmp_path: Path) -> None:
    cache = caches.Remote("http://lab", "me", "hunter2")
    log, link = tmp_path / "log", tmp_path / "link"
    log.write_text(f"a {cache.token} b hunter2 c")
    log.chmod(0o600)
    link.symlink_to(log)
    assert caches.scrub([link, log, tmp_path / "none", tmp_path], caches.secrets(cache)) == [log]
    assert (log.read_text(), stat.S_IMODE(log.stat().st_mode)) == ("a *** b *** c", 0o600)
    assert caches.scrub([log], caches.secrets(None)) == []


def test_poisoned_results_are_forgotten_and_others_kept(tmp_path: Path) -> None:
    for name, content, age in (("old", "result", 100), ("new", "result", 0), ("empty", "", 100)):
        path = tmp_path / "ac" / name[:2] / name
        path.parent.mkdir(parents=True)
        path.write_text(content)
        os.utime(path, (time.time() - age, time.time() - age))
    (tmp_path / "cas").mkdir()
    (tmp_path / "cas" / "blob").touch()
    assert caches.forget_results(tmp_path, time.time() - 50) == 2
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["blob", "old"]
    assert caches.forget_results(tmp_path / "none", 0) == 0
