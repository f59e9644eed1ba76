"""A build cache on loopback: nginx with the configuration that role build_cache writes, without Ansible or root."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).parents[2] / "playbooks" / "roles" / "build_cache"
ADDRESS = "127.0.0.1"
START_TIMEOUT_S = 10.0
WRAPPER = """\
daemon off;
worker_processes 2;
pid "{folder}/nginx.pid";
error_log "{folder}/error.log" info;
{user}
events {{}}
http {{
    proxy_temp_path "{folder}/tmp";
    fastcgi_temp_path "{folder}/tmp";
    uwsgi_temp_path "{folder}/tmp";
    scgi_temp_path "{folder}/tmp";
    include "{folder}/site.conf";
}}
"""


@dataclass(frozen=True, slots=True)
class User:
    name: str
    password: str = field(repr=False)


@dataclass(slots=True, kw_only=True)
class CacheServer:
    """A running cache. ``with`` it, or ``stop()`` it; once stopped, ``start()`` brings it back with its blobs."""

    url: str
    """Without a user: "http://127.0.0.1:34567", the prefix included."""
    writer: User
    reader: User
    folder: Path
    """What build_cache_folder is on a host: blobs/ac, blobs/cas, incoming, status.json."""
    port: int
    address: str = ADDRESS
    _own: Path = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url_of(self, user: User) -> str:
        """The address with this user's name and password in it, as Bazel's --remote_cache takes it."""
        return self.url.replace("://", f"://{user.name}:{user.password}@", 1)

    def blobs(self, kind: str = "cas", prefix: str = "") -> list[Path]:
        """Files of the kind ("ac", "cas"), by name."""
        return sorted((self.folder / "blobs" / prefix.strip("/") / kind).glob("*"))

    def requests(self) -> list[tuple[str, str, int]]:
        """(method, path, status) of every request so far."""
        rows = []
        for line in (self._own / "access.log").read_text().splitlines():
            method, path, status = json.loads(line)
            rows.append((str(method), str(path), int(status)))
        return rows

    def log(self) -> str:
        return (self._own / "error.log").read_text(errors="replace")

    def start(self) -> None:
        self._process = subprocess.Popen(
            [_program(), "-c", str(self._own / "nginx.conf"), "-p", str(self._own)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"nginx did not start: {self.log()}")

    def stop(self) -> None:
        """Connections are refused from here on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def __enter__(self) -> CacheServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def cache_server(tmp_path: Path, *, anonymous_read: bool = False, prefix: str = "", **variables: Any) -> CacheServer:
    """Start a cache whose files are below ``tmp_path``; ``variables`` are further ones of the role.

    Skips the test where there is no nginx, but not in CI, which installs it.
    """
    _program()
    own = tmp_path / f"build-cache-{time.monotonic_ns()}"
    folder = own / "cache"
    for path in (folder / "blobs", folder / "incoming", own / "tmp"):
        path.mkdir(parents=True)
    for name in ("access.log", "error.log"):
        (own / name).touch()
    writer, reader = User("writer", "may-write-7f3a"), User("reader", "may-read-91cd")
    port = _free_port()
    given = {
        **yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()),
        "build_cache_address": ADDRESS,
        "build_cache_port": port,
        "build_cache_folder": str(folder),
        "build_cache_prefix": prefix,
        "build_cache_anonymous_read": anonymous_read,
        "build_cache_writers": [{"name": writer.name}],
        "build_cache_readers": [{"name": reader.name}],
        "__build_cache_users_file": str(own / "users"),
        "__build_cache_access_log": f"{own}/access.log requests",
        **variables,
    }
    lines = role_module().lines_for([(user.name, user.password) for user in (writer, reader)], {})
    (own / "users").write_text("".join(f"{line}\n" for line in lines))
    log = """log_format requests escape=json '["$request_method", "$uri", "$status"]';\n"""
    (own / "site.conf").write_text(log + rendered("nginx.conf.j2", given))
    user = "user root;" if os.getuid() == 0 else ""  # pytest's folders are for their owner alone
    (own / "nginx.conf").write_text(WRAPPER.format(folder=own, user=user))
    address = str(given["build_cache_address"])
    url = f"{'https' if given['build_cache_tls_certificate'] else 'http'}://{address}:{port}{prefix}"
    server = CacheServer(url=url, writer=writer, reader=reader, folder=folder, port=port, address=address, _own=own)
    server.start()
    return server


def rendered(template: str, variables: dict[str, Any]) -> str:
    """A template of the role, as Ansible fills it."""
    loader = jinja2.FileSystemLoader(ROLE / "templates")
    environment = jinja2.Environment(  # noqa: S701 - no HTML
        loader=loader, undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template(template).render(variables)


def role_module(name: str = "library/build_cache_users.py") -> ModuleType:
    """A Python file of the role, imported."""
    spec = importlib.util.spec_from_file_location(f"role_{Path(name).stem}", ROLE / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _program() -> str:
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        stop: Callable[[str], Any] = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("nginx is not installed, and it serves the build cache (Debian: nginx)")
        raise AssertionError
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])
