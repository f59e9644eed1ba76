"""The caches of `bazel build`: a disk cache always, a remote cache or executor where the settings name one.

A remote cache is asked before the build, because Bazel 4.2.3 takes one that is down, or that refuses the credentials,
for a reason to warn once and to go on: nobody would notice that a lab shares nothing.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import socket
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible.module_utils.provision_failure import Failure

PROBE_S = 10.0
MISSING = "0" * 64
"""No content has this SHA-256."""
HTTP = ("http", "https")
GRPC = ("grpc", "grpcs")
PORTS = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
CREDENTIALS = "provision_remote_cache_user and provision_remote_cache_password"


@dataclass(frozen=True)
class Remote:
    """A remote cache, its address without credentials."""

    url: str
    user: str = ""
    password: str = ""
    upload: bool = True

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def token(self) -> str:
        """What the Authorization header says after "Basic"; "" without credentials."""
        if not (self.user or self.password):
            return ""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def remote(settings: Mapping[str, Any]) -> Remote | None:
    """The remote cache that the settings name; None without one. Raises Failure for an address that is none."""
    url = str(settings.get("remote_cache") or "").strip()
    if not url:
        return None
    if "://" not in url:
        url = f"grpcs://{url}"  # as Bazel reads it
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    scheme = parts.scheme.lower()
    known = scheme in (*HTTP, *GRPC) and parts.hostname
    if not (known or (scheme == "unix" and parts.path)):
        raise Failure(
            "cache",
            f"{url} is not the address of a remote cache",
            "it is http://HOST[:PORT]/…, https://…, grpc://HOST:PORT, grpcs://… or unix:///PATH",
            "set provision_remote_cache, or --remote-cache, to such an address",
        )
    user = str(settings.get("remote_cache_user") or unquote(parts.username or ""))
    password = str(settings.get("remote_cache_password") or unquote(parts.password or ""))
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    bare = urlunsplit((scheme, f"{host}:{port}" if port else host, parts.path, parts.query, ""))
    if scheme == "unix":
        bare = f"unix://{parts.path}"
    upload = settings.get("remote_cache_upload")
    return Remote(bare, user, password, True if upload is None or upload == "" else bool(upload))


# ── is it there ───────────────────────────────────────────────────────────────────────────────────────────────────


def probe(cache: Remote, timeout_s: float = PROBE_S) -> str:
    """Ask for something that no cache has: "" where it answers as a cache does, else why it is left out.

    Raises Failure (kind "cache") where it refuses the credentials.
    """
    if cache.scheme in HTTP:
        return _probe_http(cache, timeout_s)
    try:
        with _connected(cache, timeout_s):
            return ""
    except OSError as error:
        return f"down: {_words(error)}"


def _probe_http(cache: Remote, timeout_s: float) -> str:
    request = urllib.request.Request(f"{cache.url.rstrip('/')}/ac/{MISSING}")  # noqa: S310  remote() knows its scheme
    if cache.token:
        request.add_header("Authorization", f"Basic {cache.token}")
    # Bazel uses no proxy for its cache, and follows no redirect
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, ValueError) as error:  # URLError is an OSError
        return f"down: {_words(error)}"
    except http.client.HTTPException as error:
        return f"down: it does not speak HTTP ({type(error).__name__} {error})".rstrip()
    if status in (401, 403):
        raise refused(cache, status)
    if status in (200, 204, 404):
        return ""
    return f"it answers HTTP {status} where a cache says 404"


def refused(cache: Remote, status: int) -> Failure:
    given = f"the user {cache.user!r} and a password" if cache.token else "no credentials"
    return Failure(
        "cache",
        f"the remote cache {cache.url} refuses these credentials",
        f"given {given}, it answered HTTP {status}",
        f"set {CREDENTIALS} to what the cache knows, in the inventory or here as variables of the environment in "
        "capitals (or leave the cache out to build without it)",
    )


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _connected(cache: Remote, timeout_s: float) -> socket.socket:
    parts = urlsplit(cache.url)
    if cache.scheme == "unix":
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout_s)
        try:
            made.connect(parts.path)
        except OSError:
            made.close()
            raise
        return made
    return socket.create_connection((parts.hostname or "", parts.port or PORTS[cache.scheme]), timeout=timeout_s)


def _words(error: BaseException) -> str:
    """ "Connection refused", "timed out", "certificate verify failed: …"."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _words(inner)
    if isinstance(error, ssl.SSLError):
        return str(getattr(error, "verify_message", "") or inner or error)
    if isinstance(error, socket.timeout):
        return "timed out"
    return str(getattr(error, "strerror", None) or error)


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────


def remote_options(cache: Remote, silo: str) -> list[str]:
    found = [f"--remote_cache={cache.url}", "--remote_timeout=60"]
    if cache.scheme == "unix":
        found = ["--remote_cache=grpc://localhost", f"--remote_proxy=unix:{urlsplit(cache.url).path}", found[1]]
    if cache.scheme not in HTTP:
        found.append(f"--remote_instance_name={silo}")
    return found if cache.upload else [*found, "--remote_upload_local_results=false"]


def silo_options(silo: str) -> list[str]:
    """What keeps results of another compiler, C library or flag set from ever being served.

    Tried with 4.2.3: without it, a compiler that was exchanged at the same path got the old one's objects from the disk
    cache. Either option alone mends that, for the disk cache and an HTTP cache. The first does not reach actions on a
    platform that has execution properties of its own, the second not those that are given no environment.
    """
    return [
        f"--remote_default_exec_properties=cache-silo-key={silo}",
        f"--action_env=PROVISION_SILO={silo}",
        f"--host_action_env=PROVISION_SILO={silo}",
    ]


def executor_options(address: str, silo: str) -> list[str]:
    """Remote execution, with what cannot go there done here. TensorFlow's .bazelrc says standalone, so the strategy has
    to be named again. Never run against a server by us."""
    return [
        f"--remote_executor={address}",
        f"--remote_instance_name={silo}",
        "--spawn_strategy=remote,worker,standalone,local",
        "--strategy=CppCompile=remote,standalone,local",
        "--remote_local_fallback",
        "--remote_timeout=600",
    ]


def without_results() -> list[str]:
    """For a second try: nothing that a cache says is believed."""
    return ["--noremote_accept_cached"]


def forget_results(disk_cache: Path, since: float) -> int:
    """Take action results out of a disk cache: those put there after ``since`` (s since 1970) and empty ones.

    4.2.3 copies a poisoned result of the remote cache there, and does not replace it later.
    """
    forgotten = 0
    for path in (disk_cache / "ac").rglob("*"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            if stat.S_ISREG(about.st_mode) and (about.st_mtime >= since or about.st_size == 0):
                path.unlink()
                forgotten += 1
    return forgotten


# ── the password ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def credentials(path: Path, cache: Remote | None) -> Any:
    """Inside, ``path`` is a file for Bazel's --bazelrc that only its owner reads; gives it, or None without a password.

    On a command line every user of the machine could read it.
    """
    if cache is None or not cache.token:
        yield None
        return
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f'build "--remote_header=Authorization=Basic {cache.token}"\n')
        yield path
    finally:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def secrets(cache: Remote | None) -> tuple[str, ...]:
    """Texts that must not stay in any file."""
    return () if cache is None else tuple(one for one in (cache.token, cache.password) if one)


def scrub(paths: Iterable[Path], hidden: Iterable[str]) -> list[Path]:
    """Write *** over every one of ``hidden`` in these files; which ones had some. Links are left alone."""
    texts = [one.encode() for one in hidden]
    changed = []
    for path in paths:
        if not texts or path.is_symlink() or not path.is_file():
            continue
        before = path.read_bytes()
        after = before
        for one in texts:
            after = after.replace(one, b"***")
        if after != before:
            # over itself: its mode and its readers stay
            path.write_bytes(after)
            changed.append(path)
    return changed


def shown(cache: Remote) -> Remote:
    """Without the password, for what is kept."""
    return replace(cache, password="")
