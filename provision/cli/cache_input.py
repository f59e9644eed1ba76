"""What `provision cache` is told: the host, a size, passwords."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from provision.cli import console
from provision.cli.interrupt import asking
from provision.cli.options import hosts_from
from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.model.cache import CacheSettings
    from provision.model.host import Host

SHORTEST, LONGEST = 12, 72
"""Characters, and bytes: bcrypt looks at no more."""
SIZE = re.compile(r"([1-9][0-9]*) ?(?:([GT])(?:i?B)?)?", re.IGNORECASE)
WRITER_VARIABLE, READER_VARIABLE = "PROVISION_CACHE_WRITER_PASSWORD", "PROVISION_CACHE_READER_PASSWORD"
LOGIN_VARIABLE = "PROVISION_CACHE_PASSWORD"


def one_host(name: str, inventory: Sequence[Path] | None) -> Host:
    """The host meant. Raises UsageError where it is a group of several."""
    found = hosts_from([name], inventory, None)
    if len(found) != 1:
        raise UsageError(
            what=f"{name} is {len(found)} hosts",
            why=", ".join(host.name for host in found),
            hint="a lab shares one cache: name the host that is to have it",
        )
    return found[0]


def size_gib(text: str) -> int:
    """GiB of "50G", "50GiB", "1T" or "50". Raises UsageError."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(what=f"{text!r} is not a size", why="a whole number of GiB or TiB", hint="as in 50G or 1T")
    return int(match[1]) * (1024 if (match[2] or "").upper() == "T" else 1)


def program(text: str) -> tuple[str, str]:
    """A program's path (absolute) or address, and its SHA-256 ("" where none is given). Raises UsageError."""
    place, mark, sha256 = text.partition("#sha256=")
    if mark and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(what=f"{sha256!r} is not a SHA-256", why="it has 64 hexadecimal digits")
    if re.match(r"[a-z]+://", place):
        if not place.startswith("https://") or not sha256:
            raise UsageError(
                what=f"{place} is not taken as it is",
                why="a program from the network needs https and its SHA-256",
                hint="--binary https://…#sha256=HEX",
            )
        return place, sha256.lower()
    if place and not Path(place).is_file():
        raise UsageError(
            what=f"there is no file {place}", hint="--binary names the program bazel-remote, on this machine"
        )
    return str(Path(place).resolve()) if place else "", sha256.lower()


def checked_url(url: str) -> str:
    """The address of a cache without a slash at its end. Raises UsageError where it carries a password."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise UsageError(
            what="a password in an address can be read by everybody on this machine",
            why="command lines are in the process list, and in the shell's history",
            hint=f"--user NAME, and the password in {LOGIN_VARIABLE} or at the question",
        )
    if not parts.hostname or parts.query or parts.fragment:
        raise UsageError(
            what=f"{url} is not the address of a cache", hint="as in http://box:9090 or https://box:9090/lab"
        )
    return url.rstrip("/")


def choose_passwords(
    settings: CacheSettings, before: CacheSettings | None, *, ask: bool
) -> tuple[dict[str, str], dict[str, str]]:
    """Each user's password, and where it is from: "given", "generated" or "kept" (then there is none here).

    Raises UsageError.
    """
    known = () if before is None else (*before.writers, *before.readers)
    passwords: dict[str, str] = {}
    origins: dict[str, str] = {}
    for users, variable in ((settings.writers, WRITER_VARIABLE), (settings.readers, READER_VARIABLE)):
        given = os.environ.get(variable, "")
        if given and len(users) > 1:
            raise UsageError(what=f"{variable} is one password for several users", why=", ".join(users))
        for user in users:
            passwords[user], origins[user] = _password(user, given, user in known, ask)
    return {user: password for user, password in passwords.items() if password}, origins


def _password(user: str, given: str, known: bool, ask: bool) -> tuple[str, str]:
    if given:
        return checked_password(user, given), "given"
    if known:
        return "", "kept"
    if ask and console.interactive():
        with asking():
            typed: str = typer.prompt(
                f"password of {user} (nothing: generate one)", hide_input=True, default="", show_default=False, err=True
            )
        if typed:
            return checked_password(user, typed), "given"
    return secrets.token_urlsafe(24), "generated"


def checked_password(user: str, password: str) -> str:
    """Itself. Raises UsageError where it is too short, too long or has what no header carries."""
    if len(password) < SHORTEST or len(password.encode()) > LONGEST or not password.isprintable():
        raise UsageError(
            what=f"the password of {user} cannot be taken",
            why=f"it needs at least {SHORTEST} characters and at most {LONGEST} bytes, all of them printable",
            hint="leave it empty, and one is generated",
        )
    return password


def login_password(user: str, environ: Mapping[str, str] = os.environ) -> str:
    """The password to ask a cache with. Raises UsageError where there is none and nobody can be asked."""
    if environ.get(LOGIN_VARIABLE):
        return environ[LOGIN_VARIABLE]
    if not console.interactive():
        raise UsageError(
            what=f"the password of {user} cannot be asked for",
            why=f"there is no terminal, and {LOGIN_VARIABLE} is not set",
        )
    with asking():
        typed: str = typer.prompt(f"password of {user}", hide_input=True, err=True)
    return typed
