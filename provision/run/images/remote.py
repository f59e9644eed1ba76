"""An engine behind SSH: a way to it, and why there is none."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

from provision.errors import HostError, StepFailed, UsageError
from provision.model.host import Host
from provision.run.command import Running, attach, run
from provision.run.ssh import REFUSED, ControlDir, arguments, explain_ssh_failure

TIMEOUT_S = 60.0
QUESTION = "docker version --format '{{.Server.APIVersion}}'"
"""What is wrong there: `docker system dial-stdio` alone says nothing of it."""
DIAL = "docker system dial-stdio"
"""The docker command's own way over SSH: its input and output are the engine's socket, wherever that is."""
NOT_THERE = 127


class Tunnel:
    """A Unix socket here, of ours alone, each of whose connections is `docker system dial-stdio` there.

    The SDK has SSH of its own, which needs paramiko installed even where it only starts ssh, and starts it without our
    options: here host keys are always checked, nothing is asked of a terminal, and one login serves all connections.
    """

    def __init__(self, url: str) -> None:
        """Raises HostError: SSH refused, an unknown or changed host key, no docker there, no engine there, no right to
        its socket; UsageError for an address that is none."""
        host = _host(url)
        with ExitStack() as undo:
            folder = undo.enter_context(ControlDir())
            ssh = arguments(host, folder)
            _require_docker(url, host, ssh)
            # not beside the sockets of SSH masters, which are all closed as such
            path = Path(folder) / "e" / "s"
            path.parent.mkdir(mode=0o700)
            self._server = undo.enter_context(socket.socket(socket.AF_UNIX))
            self._server.bind(str(path))
            self._server.listen(64)
            self._running: set[Running] = set()
            self._lock = threading.Lock()
            undo.callback(self._end_all)
            threading.Thread(target=self._serve, args=((*ssh, DIAL),), daemon=True).start()
            self._undo = undo.pop_all()
        self.url = f"unix://{path}"

    def close(self) -> None:
        """Twice does no harm."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # accept() would go on with a socket that is only closed
        self._undo.close()

    def _serve(self, argv: Sequence[str]) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, suppress(StepFailed):
                running = attach(argv, connection)
                with self._lock:
                    self._running.add(running)
                threading.Thread(target=self._reap, args=(running,), daemon=True).start()

    def _reap(self, running: Running) -> None:
        running.wait()
        with self._lock:
            self._running.discard(running)

    def _end_all(self) -> None:
        with self._lock:
            left = list(self._running)
        for running in left:
            with running:
                running.kill()


def _require_docker(url: str, host: Host, ssh: Sequence[str]) -> None:
    """One round trip, which logs in."""
    done = run([*ssh, QUESTION], timeout_s=TIMEOUT_S)
    if done.ok:
        return
    if done.status == NOT_THERE and done.stderr.startswith("ssh:"):
        raise HostError(
            what=f"{url} needs the ssh program", why=done.stderr, hint="install it (Debian, Ubuntu: openssh-client)"
        )
    if done.status == REFUSED:
        failure = explain_ssh_failure(host, done.stderr)
        what = f"the engine at {url} cannot be reached: {failure.what}"
        raise HostError(what=what, why=failure.why, hint=failure.hint)
    raise _refusal(url, host, done.status, done.stderr.strip())


def _refusal(url: str, host: Host, status: int, said: str) -> HostError:
    if status == NOT_THERE or "not found" in said:
        return HostError(
            what=f"{host.name} has no docker command",
            why=f"an engine over SSH is reached through it: {said}",
            hint="install it there (Debian, Ubuntu: sudo apt install docker.io), on the PATH of `ssh HOST docker`",
        )
    if "permission denied" in said.lower():
        return HostError(
            what=f"no right to use the Docker engine of {host.name}",
            why=said,
            hint=f"there: sudo usermod -aG docker {host.user or 'USER'} (that group can do all that root can)",
        )
    return HostError(
        what=f"no Docker engine answers at {url}",
        why=said or f"`{QUESTION}` exited {status} there and said nothing",
        hint="there: sudo systemctl start docker",
    )


def _host(url: str) -> Host:
    try:
        found = urlsplit(url)
        port = found.port
    except ValueError as error:
        raise _unusable(url, str(error)) from error
    if found.path.strip("/") or found.query or found.fragment:
        raise _unusable(url, "an address ends with its host or port; a socket's path cannot be given")
    if found.password is not None:
        raise _unusable(
            re.sub(r":[^:@/]*@", ":…@", url), "a password would be seen by everybody on this machine: use a key"
        )
    address = found.hostname or ""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", address):
        raise _unusable(url, f"{address!r} is no name or IPv4 address")
    if found.username is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", found.username):
        raise _unusable(url, f"{found.username!r} is no user name")
    name = f"{found.username}@{address}" if found.username else address
    return Host(name=name, address=address, user=found.username, port=port, connection="ssh")


def _unusable(url: str, why: str) -> UsageError:
    return UsageError(what=f"{url} is not the address of an engine", why=why, hint="DOCKER_HOST=ssh://USER@HOST[:PORT]")
