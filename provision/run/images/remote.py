"""An engine behind SSH: why it cannot be reached, before the SDK's ssh would ask questions of a terminal."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from provision.errors import HostError, UsageError
from provision.model.host import Host
from provision.run.command import run
from provision.run.ssh import CONNECT_TIMEOUT_S, REFUSED, explain_ssh_failure

TIMEOUT_S = 60.0
QUESTION = "docker version --format '{{.Server.APIVersion}}'"
"""The SDK runs `docker system dial-stdio` there, which says nothing where it does not work; this says why."""
NOT_THERE = 127


def require_docker_over_ssh(url: str) -> None:
    """One round trip. Raises HostError: SSH refused, an unknown or changed host key, no docker there, no engine there,
    no right to its socket; UsageError for an address that the SDK cannot take."""
    host = _host(url)
    options = ("StrictHostKeyChecking=yes", "BatchMode=yes", f"ConnectTimeout={CONNECT_TIMEOUT_S}")
    argv = ["ssh", "-T", *(part for option in options for part in ("-o", option))]
    argv += [*(("-l", host.user) if host.user else ()), *(("-p", str(host.port)) if host.port else ())]
    done = run([*argv, "--", host.address, QUESTION], timeout_s=TIMEOUT_S)
    if done.ok:
        return
    if done.status == NOT_THERE and done.stderr.startswith("ssh:"):
        raise HostError(
            what=f"{url} needs the ssh program", why=done.stderr, hint="install it (Debian, Ubuntu: openssh-client)"
        )
    if done.status == REFUSED:
        failure = explain_ssh_failure(host, done.stderr)
        raise HostError(
            what=f"the engine at {url} cannot be reached: {failure.what}", why=failure.why, hint=failure.hint
        )
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
