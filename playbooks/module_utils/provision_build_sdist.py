"""A source distribution of a package index: where it is, as uv says, and fetching it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Callable  # that of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import sha256_of

TIMEOUT_S = 60
MIB = 1 << 20


@dataclass(frozen=True)
class Sdist:
    address: str
    """An address, or a path relative to the lock."""
    sha256: str

    @property
    def name(self) -> str:
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(self.address).path)).name


def sdist_of(lock: str) -> Sdist | None:
    """The sdist in a pylock.toml with one package (packaging.python.org, "pylock.toml Specification").

    sdist = { url = "https://…/numpy-2.3.5.tar.gz", upload-time = …, size = 20584950, hashes = { sha256 = "784d…" } }
    """
    line = re.search(r"^sdist = \{(.*)\}$", lock, re.MULTILINE)
    if line is None:
        return None
    place = re.search(r'\b(?:url|path) = "([^"]+)"', line[1])
    digest = re.search(r'\bsha256 = "([0-9a-f]{64})"', line[1])
    return Sdist(place[1], digest[1]) if place and digest else None


def fetched(sdist: Sdist, folder: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """The file in ``folder``, with the hash that the index gave. ``environment`` is uv's. Raises Failure."""
    place = folder / sdist.name
    if sha256_of(place) == sdist.sha256:
        return place
    partial = folder / f".{sdist.name}"
    try:
        if urllib.parse.urlsplit(sdist.address).scheme in ("http", "https", "file"):
            _download(sdist, partial, environment, say)
        else:
            shutil.copyfile(folder / sdist.address, partial)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = getattr(error, "reason", None) or error
        raise Failure(
            "network", f"could not fetch {sdist.name}", f"{sdist.address}: {reason}",
            "check that machine's network and proxy settings, or give an index that it reaches with --index",
        ) from error  # fmt: skip
    got = sha256_of(partial)
    if got != sdist.sha256:
        partial.unlink()
        why = f"the index says SHA-256 {sdist.sha256}, the file has {got}"
        raise Failure("source", f"{sdist.name} is not what the index says", why, "run the same command again")
    partial.replace(place)
    return place


def _download(sdist: Sdist, place: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    request = urllib.request.Request(sdist.address)  # noqa: S310  the schemes are looked at above
    credentials = credentials_for(sdist.address, environment)
    if credentials:
        token = base64.b64encode(credentials.encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    # without a file of its own (SSL_CERT_FILE in uv's environment): the system's
    trusted = ssl.create_default_context(cafile=environment.get("SSL_CERT_FILE") or None)
    proxies = urllib.request.ProxyHandler(_proxies(environment))
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=trusted), proxies)
    with contextlib.closing(opener.open(request, timeout=TIMEOUT_S)) as answer, place.open("wb") as file:
        total = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while True:
            block = answer.read(256 << 10)
            if not block:
                break
            file.write(block)
            done += len(block)
            of = f" of {total / MIB:.0f}" if total else ""
            say(f"downloading {sdist.name}, {done / MIB:.0f}{of} MiB")
        if total and done != total:
            raise OSError(f"the connection ended after {done} of {total} bytes")


def _proxies(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for scheme in ("http", "https"):
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"):
            if environment.get(name):
                found.setdefault(scheme, environment[name])
    return found


def credentials_for(address: str, environment: Mapping[str, str]) -> str:
    """ "user:password" for ``address``, from uv's variables: in an index's address, or UV_INDEX_NAME_USERNAME and
    _PASSWORD beside an index that has a name. "" where there are none for that host."""
    host = urllib.parse.urlsplit(address).hostname
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        for one in environment.get(variable, "").split():
            name, _, url = one.rpartition("=") if re.match(r"[\w.-]+=\w+://", one) else ("", "", one)
            parts = urllib.parse.urlsplit(url)
            if parts.hostname != host:
                continue
            start = "UV_INDEX_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
            user = urllib.parse.unquote(parts.username or "") or environment.get(f"{start}_USERNAME", "")
            password = urllib.parse.unquote(parts.password or "") or environment.get(f"{start}_PASSWORD", "")
            if user or password:
                return f"{user}:{password}"
    return ""
