"""A real registry: Debian's docker-registry on loopback, with which engines speak plain HTTP. Own folder, own port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 20.0
CONFIGURATION = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {folder}/data}}
  maintenance: {{readonly: {{enabled: {readonly}}}}}
http: {{addr: "{address}"}}
"""
AUTH = "auth: {{htpasswd: {{realm: provision-tests, path: {folder}/htpasswd}}}}\n"


@dataclass(slots=True, kw_only=True)
class Registry:
    """A running registry. ``with`` it, or ``stop()`` it."""

    address: str
    """"127.0.0.1:34567": what a reference begins with."""
    folder: Path
    user: str = ""
    password: str = field(default="", repr=False)
    """Where it wants a login."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        host, _, port = self.address.rpartition(":")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("docker-registry", "docker-registry"), "serve", str(self.folder / "config.yml")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"docker-registry did not start: {self.log()[-2000:]}")

    def stop(self) -> None:
        """Connections are refused from here on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def registry(folder: Path, *, login: bool = False, readonly: bool = False, host: str = LOOPBACK) -> Registry:
    """Start a registry whose files are in ``folder``, which is made.

    Skips the test where there is no docker-registry, but not in CI, which installs it.
    """
    folder.mkdir(parents=True)
    address = f"{host}:{_free_port(host)}"
    text = CONFIGURATION + (AUTH if login else "")
    (folder / "config.yml").write_text(text.format(folder=folder, address=address, readonly=str(readonly).lower()))
    made = Registry(address=address, folder=folder)
    if login:
        made.user, made.password = "me", "s3cret-7f3a"
        argv = [_program("htpasswd", "apache2-utils"), "-B", "-b", "-n", made.user, made.password]
        (folder / "htpasswd").write_text(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    made.start()
    return made


def _program(name: str, package: str) -> str:
    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None:
        stop: Callable[[str], Any] = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"{name} is not installed, and the tests of registries need it (Debian: {package})")
        raise AssertionError
    return program


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
