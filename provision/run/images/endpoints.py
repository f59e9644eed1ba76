"""Where the engine is: $DOCKER_HOST, the current docker context, the usual socket; and what is wrong with a socket."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import shutil
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from provision.errors import HostError, UsageError

SOCKET = "/var/run/docker.sock"
SCHEMES = ("unix", "tcp", "http", "https", "ssh")
ELSEWHERE = "an engine elsewhere: DOCKER_HOST=unix:///PATH or DOCKER_HOST=ssh://USER@HOST"
INSTALL = "install it (Debian, Ubuntu: sudo apt install docker.io; others: https://docs.docker.com/engine/install/)"
START = "start it: sudo systemctl start docker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An engine's address."""

    url: str
    """"unix:///var/run/docker.sock", "ssh://me@box", "tcp://box:2376"."""
    origin: str = ""
    """Where it was read, as the end of a sentence: " ($DOCKER_HOST)"."""
    certificates: Path | None = None
    """A folder with ca.pem, cert.pem and key.pem, for TLS."""
    check: bool = True
    """Whether the engine's certificate is checked."""


def find_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """In the docker command's own order. Raises UsageError for an address or a context that is none."""
    url = environ.get("DOCKER_HOST", "").strip()
    if url:
        certificates = environ.get("DOCKER_CERT_PATH") or str(_configuration(environ))
        tls = bool(environ.get("DOCKER_TLS_VERIFY")) and url.startswith("tcp://")
        found = Endpoint(url=url, origin=" ($DOCKER_HOST)", certificates=Path(certificates) if tls else None)
        return _checked(found)
    name, origin = _context_name(environ)
    if name not in ("", "default"):
        return _checked(_of_context(name, origin, _configuration(environ)))
    rootless = Path(environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "docker.sock"
    path = rootless if not Path(SOCKET).exists() and rootless.exists() else Path(SOCKET)
    return Endpoint(url=f"unix://{path}")


def _checked(found: Endpoint) -> Endpoint:
    scheme, colon, rest = found.url.partition("://")
    if not colon or scheme not in SCHEMES or not rest.strip("/"):
        raise UsageError(
            what=f"{found.url} is not the address of an engine{found.origin}",
            why=f"an address begins with one of {', '.join(f'{each}://' for each in SCHEMES)}",
            hint="DOCKER_HOST=unix:///var/run/docker.sock, DOCKER_HOST=ssh://USER@HOST, or unset DOCKER_HOST",
        )
    return found


def _configuration(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("DOCKER_CONFIG") or Path(environ.get("HOME") or Path.home()) / ".docker")


def _context_name(environ: Mapping[str, str]) -> tuple[str, str]:
    if environ.get("DOCKER_CONTEXT"):
        return environ["DOCKER_CONTEXT"], "$DOCKER_CONTEXT"
    file = _configuration(environ) / "config.json"
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(file.read_text(encoding="utf-8")).get("currentContext") or ""), str(file)
    return "", ""


def _of_context(name: str, origin: str, configuration: Path) -> Endpoint:
    """https://github.com/docker/cli/blob/v20.10.24/cli/context/store/doc.go says where a context's files lie."""
    key = hashlib.sha256(name.encode()).hexdigest()
    file = configuration / "contexts" / "meta" / key / "meta.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))["Endpoints"]["docker"]
        url = str(said["Host"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            what=f"there is no docker context {name!r} that can be read",
            why=f"{origin} names it, and {file} does not say where its engine is ({type(error).__name__})",
            hint="`docker context ls` lists those that are there; `docker context use default` goes back",
        ) from error
    certificates = configuration / "contexts" / "tls" / key / "docker"
    return Endpoint(
        url=url,
        origin=f" (docker context {name})",
        certificates=certificates if certificates.is_dir() else None,
        check=not said.get("SkipTLSVerify", False),
    )


def refused_socket(endpoint: Endpoint) -> None:
    """Raises HostError where nobody listens at the socket, or we may not speak to it.

    Before the SDK tries: it does not close the socket of a connection that failed.
    """
    path = endpoint.url.removeprefix("unix://")
    what = f"no Docker engine answers at {endpoint.url}"
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(path)
    except FileNotFoundError:
        there = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
        why = "Docker is installed and not running" if there else "Docker is not installed, or not running"
        hint = f"{START}; {ELSEWHERE}" if there else f"{INSTALL} and {START}; {ELSEWHERE}"
        raise HostError(what=what, why=f"there is no such socket{endpoint.origin}: {why}", hint=hint) from None
    except PermissionError:
        raise HostError(
            what=f"no right to use the Docker engine at {endpoint.url}",
            why=_rights(path) + endpoint.origin,
            hint="join the socket's group and log in anew: sudo usermod -aG docker $USER (who is in that group can do "
            "all that root can), or run this command with sudo; without either: "
            "https://docs.docker.com/engine/security/rootless/",
        ) from None
    except OSError as error:
        why = f"{error.strerror or error}{endpoint.origin}: the socket is there and nobody listens"
        raise HostError(what=what, why=why, hint=f"{START}; {ELSEWHERE}") from error


def _rights(path: str) -> str:
    """ "the socket is root:docker's with mode 660, and you are me, in the groups me, sudo"."""
    groups = ", ".join(dict.fromkeys(_group(number) for number in (os.getegid(), *os.getgroups())))
    you = f"you are {_user(os.geteuid())}, in the groups {groups}"
    try:
        found = Path(path).stat()
    except OSError:
        return f"a folder on the way to the socket is closed to you, and {you}"
    mode = f"{stat.S_IMODE(found.st_mode):o}"
    return f"the socket is {_user(found.st_uid)}:{_group(found.st_gid)}'s with mode {mode}, and {you}"


def _user(number: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)


def _group(number: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(number).gr_name
    return str(number)
