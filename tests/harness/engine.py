"""A Docker engine: the one that runs, or Debian's dockerd in a temporary folder, shared by all test runs here."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import docker
import requests
from docker.errors import DockerException

from harness.caches import remove_homes
from harness.places import RUN, dead_runs, locked, run_is_alive, state_folder

LABEL = "provision-tests.run"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


class Unavailable(Exception):
    """Why this machine cannot give what a test needs; the test is skipped with this text."""


class Engine:
    """A reachable engine. ``own`` is the folder of a dockerd that the harness started, None for somebody else's."""

    def __init__(self, client: docker.DockerClient, url: str, own: Path | None, users: IO[str] | None) -> None:
        self.client = client
        self.url = url
        self._own = own
        self._users = users

    @property
    def ours(self) -> bool:
        """Whether the harness started it: nobody else's images are in it."""
        return self._own is not None

    def environment(self) -> dict[str, str]:
        """For programs that look for an engine themselves."""
        return {"DOCKER_HOST": self.url}

    def close(self) -> None:
        """Remove this run's containers; the last run to leave stops a dockerd of ours."""
        with locked("engine"):
            remove_containers(self.client, RUN)
            self.client.close()
            if self._own is None or self._users is None:
                return
            last = _convert_to_exclusive(self._users)
            if last:
                _stop(self._own)
            self._users.close()


def connect() -> Engine:
    """The engine to use. Raises Unavailable with the exact reason."""
    with locked("engine"):
        running = _running()
        if running is not None:
            _tidy(running.client)
            return running
        own = state_folder() / "engine"
        url = f"unix://{own}/docker.sock"
        client = _client(url)
        if client is None:
            _stop(own)  # what a killed run or a reboot left
            client = _start(own, url)
        users = (state_folder() / "engine.users").open("w")
        fcntl.flock(users, fcntl.LOCK_SH)
        _tidy(client)
        return Engine(client, url, own, users)


def _running() -> Engine | None:
    """Somebody's engine: $DOCKER_HOST, or the usual socket."""
    url = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    client = _client(url)
    return None if client is None else Engine(client, url, None, None)


def _client(url: str) -> docker.DockerClient | None:
    if url.startswith("unix://") and not _listens(url.removeprefix("unix://")):
        return None
    # version="auto": Debian 12 has an old engine, and a new one refuses old API versions
    try:
        client = docker.DockerClient(base_url=url, version="auto", timeout=300)
        client.ping()
    except (DockerException, requests.RequestException, OSError):
        return None
    return client


def _listens(path: str) -> bool:
    # the SDK never closes the socket of a connection that failed, and Python warns about it
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _start(own: Path, url: str) -> docker.DockerClient:
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise Unavailable("no Docker engine is running and dockerd is not installed (Debian: docker.io)")
    if os.getuid() != 0:
        raise Unavailable("no Docker engine is reachable, and starting dockerd needs root")
    own.mkdir(mode=0o711)
    argv = [program, "--data-root", str(own / "data"), "--exec-root", str(own / "exec"), "-H", url]
    argv += ["--pidfile", str(own / "pid")]
    pid = _spawn(argv, own / "log")
    deadline = time.monotonic() + START_TIMEOUT_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline:
        client = _client(url)
        if client is not None:
            return client
        time.sleep(0.1)
    said = (own / "log").read_text(errors="replace").strip().splitlines()[-3:]
    _stop(own)
    raise Unavailable("dockerd does not start here: " + " | ".join(said))


def _spawn(argv: list[str], log: Path) -> int:
    """Start a program that may outlive us (the last run stops it), so no Popen object, which minds that.

    A session of its own: Ctrl-C is for the tests, which then stop it in order.
    """
    out = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), out, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)


def _stop(own: Path) -> None:
    """End the dockerd of this folder, with its containers, and remove the folder."""
    if not own.exists():
        return
    client = _client(f"unix://{own}/docker.sock")
    if client is not None:
        for container in client.containers.list(all=True):
            with suppress(DockerException):
                container.remove(force=True, v=True)
        client.close()
    # dockerd ends its containerd with it, unless it was killed
    _end(own / "pid", "dockerd")
    _end(own / "exec" / "containerd" / "containerd.pid", "containerd")
    _unmount_below(own)
    _remove_later(own)


def _remove_later(folder: Path) -> None:
    trash = folder.with_name(f"trash-{RUN}-{time.monotonic_ns()}")
    folder.rename(trash)
    _remove(trash)


def _remove(trash: Path) -> None:
    # images are a hundred thousand files: nobody has to wait for them to go
    program = shutil.which("rm", path=os.defpath)
    assert program is not None
    _spawn([program, "-rf", str(trash)], Path(os.devnull))


def _end(pid_file: Path, program: str) -> None:
    with suppress(FileNotFoundError, ValueError, ProcessLookupError):
        pid = int(pid_file.read_text())
        if not _runs(pid, program):
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _runs(pid, program):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.05)


def _runs(pid: int, program: str) -> bool:
    """A pid file outlives its process, and the number may be somebody else's by now."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == program
    return False


def _unmount_below(folder: Path) -> None:
    """After SIGKILL of dockerd its overlay mounts stay: they would keep the folder, and rmtree would go into them."""
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)


def _convert_to_exclusive(users: IO[str]) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def remove_containers(client: docker.DockerClient, run: str) -> None:
    for container in client.containers.list(all=True, filters={"label": f"{LABEL}={run}"}):
        with suppress(DockerException):
            container.remove(force=True, v=True)


def _tidy(client: docker.DockerClient) -> None:
    """Remove what killed runs left."""
    for trash in state_folder().glob("trash-*"):
        _remove(trash)
    for name in dead_runs():
        shutil.rmtree(state_folder() / name, ignore_errors=True)
        remove_homes(name)
        (state_folder() / "runs" / f"{name}.lock").unlink(missing_ok=True)
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        if not run_is_alive(container.labels[LABEL]):
            with suppress(DockerException):
                container.remove(force=True, v=True)
