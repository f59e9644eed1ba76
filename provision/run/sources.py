"""What ``--source`` means: a folder, an archive, an address, or a repository with a tag; looked into where it lies."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from provision.errors import UsageError
from provision.model.build import Source
from provision.run.source_git import (
    GIT_FORMS,
    commit_peek,
    commit_size_mib,
    is_repository,
    must_have_ref,
    refused_address,
)
from provision.run.source_pack import archive_peek
from provision.run.source_tree import MISSING, Seen, entries, folder_peek, look_into, tree_sha256
from provision.run.uv import sha256

ARCHIVES = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".zip")
FORMS = (
    "a folder, a tarball (FILE.tar.gz), an address with its checksum (https://…/FILE.tar.gz#sha256=HEX),\n"
    "or a git repository with its tag (https://…/NAME.git@v2.15.1)"
)
SHOWN = 200
FRAGMENT = re.compile(r"sha256=([0-9a-fA-F]{64})")


def source_of(text: str, framework: str) -> Source:
    """The source that ``--source`` names, for a build of ``framework``.

    What lies on this machine is looked into: whose it is, and which version. Of a repository elsewhere only the tag is
    looked up, where it can be reached. Raises UsageError.
    """
    if framework not in MISSING:
        raise UsageError(
            what=f"--source is for {', '.join(MISSING)}, and {framework} was asked for",
            why=f"provision has no recipe that builds {framework} from a source tree",
            hint="leave --source out",
        )
    if not text.strip() or not text.isprintable() or text.startswith("-"):
        raise UsageError(what=f"--source {text!r} names no source", why="it is empty or no name", hint=FORMS)
    try:
        for reader in READERS:
            found = reader(text, framework)
            if found is not None:
                return found
    except (OSError, RuntimeError, ValueError) as error:  # "~nobody", a path that is too long, "http://[x"
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(what=f"--source {text[:SHOWN]!r} names no source", why=why, hint=FORMS) from error
    raise _nothing(text)


def _tree(text: str, framework: str) -> Source | None:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        return None
    folder = folder.resolve()
    seen = look_into(folder_peek(folder), framework, str(folder))
    found = entries(folder)
    size_mib = -(-sum(entry.size for entry in found) // 1024**2)
    return _seen(seen, Source(kind="tree", location=str(folder), sha256=tree_sha256(found), size_mib=size_mib))


def _file(text: str, framework: str) -> Source | None:
    name, _, fragment = text.partition("#")
    path = Path(name).expanduser()
    if "://" in text or not path.is_file():
        return None
    if not name.endswith(ARCHIVES):
        raise UsageError(
            what=f"--source {name} is no archive", why=f"archives end in {', '.join(ARCHIVES)}", hint=FORMS
        )
    wanted = _checksum(text, fragment) if fragment else None
    path = path.resolve()
    try:
        found = sha256(path)
    except OSError as error:
        raise UsageError(
            what=f"{path} cannot be read", why=error.strerror or str(error), hint="give a file that you may read"
        ) from error
    if wanted is not None and wanted != found:
        raise UsageError(
            what=f"{path} is not the file that was asked for",
            why=f"its SHA-256 is {found}, wanted is {wanted}",
            hint="fetch it again, or correct what comes after #sha256=",
        )
    seen = look_into(archive_peek(path), framework, str(path))
    return _seen(seen, Source(kind="tarball", location=str(path), sha256=found))


def _download(text: str, framework: str) -> Source | None:  # noqa: ARG001 - it is looked into when it has been fetched
    address, _, fragment = text.partition("#")
    if not address.startswith(("http://", "https://")) or not urlsplit(address).path.endswith(ARCHIVES):
        return None
    _without_credentials(address)
    if not fragment:
        raise UsageError(
            what=f"--source {address} comes without a checksum",
            why="what is downloaded and then run as a program must be known by its content",
            hint=f"add it: {address}#sha256=HEX (`sha256sum FILE` prints it)",
        )
    return Source(kind="tarball", location=address, sha256=_checksum(text, fragment))


def _git(text: str, framework: str) -> Source | None:
    address, at, ref = text.rpartition("@")
    if not at or not address or ":" in ref:  # git@host:path: the sign of a user, not of a tag
        address, ref = text, ""
    local = Path(address.removeprefix("file://")).expanduser()
    if "://" not in address and not re.match(r"[\w.-]+@[\w.-]+:", address) and not is_repository(local):
        return None
    location = str(local.resolve()) if is_repository(local) else address
    if not ref:
        raise UsageError(
            what=f"--source {address} names a repository without a tag",
            why="which commit is meant must be said, so that two runs build the same",
            hint=f"--source {address}@TAG",
        )
    problem = refused_address(location, ref)
    if problem is not None:
        raise problem
    must_have_ref(location, ref)
    source = Source(kind="git", location=location, ref=ref)
    if not is_repository(local):
        return source
    source = replace(source, size_mib=commit_size_mib(location, ref))
    return _seen(look_into(commit_peek(location, ref), framework, str(source)), source)


READERS: tuple[Callable[[str, str], Source | None], ...] = (_tree, _file, _download, _git)
"""In this order: what exists here is what is meant. None: it is of another form."""


def _seen(seen: Seen, source: Source) -> Source:
    return replace(source, version=seen.version, bazel=seen.bazel)


def _checksum(text: str, fragment: str) -> str:
    match = FRAGMENT.fullmatch(fragment)
    if match is None:
        raise UsageError(
            what=f"--source {text} has no usable checksum",
            why=f"#{fragment} is not #sha256= with the 64 hexadecimal digits of a SHA-256",
            hint="`sha256sum FILE` prints it",
        )
    return match[1].lower()


def _without_credentials(address: str) -> None:
    if urlsplit(address).username is not None:
        raise UsageError(
            what="--source with a user name or password in it",
            why="plans are saved and shown, so a password must not be part of one",
            hint="put the credentials of that host into ~/.netrc, which the download reads",
        )


def _nothing(text: str) -> UsageError:
    folder = Path(text).expanduser().absolute()
    near = next((each for each in folder.parents if each.is_dir()), Path("/"))
    if text.endswith(ARCHIVES) or "/" in text or "@" not in text:
        return UsageError(
            what=f"there is no source {text}",
            why=f"there is no such file or folder; what exists of that path is {near}",
            hint=FORMS,
        )
    return UsageError(what=f"--source {text} names no source", why=GIT_FORMS, hint=FORMS)
