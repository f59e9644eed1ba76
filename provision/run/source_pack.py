"""Source archives: read in whatever form they come, written in one that depends on their content alone.

What is written is a .tar.gz with one folder at its top, ``TOP``: same content, same bytes, so that its SHA-256 says
which source a wheel was built from.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO

from provision.errors import UsageError
from provision.run.source_tree import TEXTS, Entry, Peek, joined_sha256, leads_out

TOP = "source"
MTIME = 315_619_200
"""2 January 1980 in seconds: wheels are zip files, which know no earlier day."""
LEVEL = 4
"""Of gzip. TensorFlow's tree: half the time of level 6, and 3 % larger."""
BLOCK = 1 << 20
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, LZMAError, gzip.BadGzipFile, NotImplementedError)
"""What the standard library raises for an archive that is none, or is cut off."""

Tell = Callable[[int], None]
"""Told how many bytes are done; raises where the work is to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file or link of an archive."""

    name: str
    """Relative to the tree, the archive's own top folder taken away."""
    link: str | None
    executable: bool
    size: int
    content: Callable[[], IO[bytes]]


@contextmanager
def members(path: Path) -> Iterator[tuple[Member, ...]]:
    """The files and links of a tarball or zip file, safe to be unpacked. Raises UsageError where they are not."""
    try:
        with zipfile.ZipFile(path) if path.suffix == ".zip" else tarfile.open(path) as archive:
            found = _zipped(archive) if isinstance(archive, zipfile.ZipFile) else _tarred(archive)
            yield _checked(path, _without_top(list(found)))
    except BROKEN as error:
        raise UsageError(
            what=f"{path.name} cannot be unpacked",
            why=f"{error or type(error).__name__}",
            hint="fetch it again, and compare its SHA-256 with the one of its page",
        ) from error


def archive_peek(path: Path) -> Peek:
    """Into an archive without unpacking it: TensorFlow's of 80 MB takes 3 s. Raises UsageError."""
    with members(path) as found:
        names = {member.name for member in found}
        texts = {
            member.name: _whole(member).decode("utf-8", "replace")
            for member in found
            if member.name in TEXTS and member.link is None
        }
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    return Peek(
        has=lambda name: name in names or name in folders,
        read=lambda name: texts.get(name, ""),
        empty=lambda name: name not in folders,
    )


def _whole(member: Member) -> bytes:
    with member.content() as file:
        return file.read()


def repack(path: Path, out: Path, tell: Tell) -> str:
    """The archive ``path`` in our form at ``out``; its SHA-256."""
    with members(path) as found, _writing(out) as (tar, digest):
        done = 0
        for member in found:
            with member.content() as content:
                _add(tar, member.name, member.link, member.executable, member.size, content)
            done += member.size
            tell(done)
    return digest()


def pack(found: Iterable[Entry], out: Path, tell: Tell) -> tuple[str, str]:
    """The entries of a folder in our form at ``out``; its SHA-256 and that of the tree as it was read."""
    digests: list[tuple[Entry, str]] = []
    with _writing(out) as (tar, digest):
        done = 0
        for entry in found:
            digests.append((entry, _add_entry(tar, entry)))
            done += entry.size
            tell(done)
    return digest(), joined_sha256(digests)


def _add_entry(tar: tarfile.TarFile, entry: Entry) -> str:
    if entry.link is not None:
        _add(tar, entry.name, entry.link, False, 0, BytesIO())
        return sha256(entry.link.encode(errors="surrogateescape")).hexdigest()
    try:
        with entry.path.open("rb") as file:
            hashed = _Hashed(file, entry.size)
            _add(tar, entry.name, None, entry.executable, entry.size, hashed)  # type: ignore[arg-type]
            return hashed.digest.hexdigest()
    except (FileNotFoundError, _Shrunk) as error:
        raise UsageError(
            what="the source tree changed while it was read",
            why=f"{entry.name} is {'gone' if isinstance(error, FileNotFoundError) else 'shorter than before'}",
            hint="run the same command again when nothing writes there",
        ) from error


class _Shrunk(Exception):
    pass


class _Hashed:
    """A file of a known size, hashed while it is read."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self.digest = sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(min(self._left, size if size >= 0 else self._left))
        if not block and self._left:
            raise _Shrunk
        self._left -= len(block)
        self.digest.update(block)
        return block


def _add(tar: tarfile.TarFile, name: str, link: str | None, executable: bool, size: int, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(f"{TOP}/{name}")
    info.mtime = MTIME
    info.mode = 0o755 if executable or link is not None else 0o644
    if link is not None:
        info.type, info.linkname = tarfile.SYMTYPE, link
        tar.addfile(info)
    else:
        info.size = size
        tar.addfile(info, content)


@contextmanager
def _writing(out: Path) -> Iterator[tuple[tarfile.TarFile, Callable[[], str]]]:
    """A tar file that is compressed on its way to ``out``, and what says its SHA-256 in the end."""
    with out.open("xb") as raw:
        file = _Written(raw)
        with (
            # no name and no time of its own in its head
            gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            yield tar, file.hexdigest


class _Written:
    """A file that is hashed while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._digest = file, sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


# --- what archives hold -----------------------------------------------------------------------------------------


def _tarred(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive.getmembers():
        if info.isdir():
            continue
        if not (info.isfile() or info.issym() or info.islnk()):
            raise _unsafe(info.name, "is a device, a pipe or the like")
        link = info.linkname if info.issym() else None
        yield Member(
            name=info.name, link=link, executable=bool(info.mode & stat.S_IXUSR),
            size=_size(archive, info), content=_tar_content(archive, info),
        )  # fmt: skip


def _size(archive: tarfile.TarFile, info: tarfile.TarInfo) -> int:
    """A hard link has its file's."""
    if not info.islnk():
        return info.size if info.isfile() else 0
    try:
        return archive.getmember(info.linkname).size
    except KeyError:
        raise _unsafe(info.name, f"is a link to {info.linkname}, which is not in it") from None


def _tar_content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    return lambda: (None if info.issym() else archive.extractfile(info)) or BytesIO()


def _zipped(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        mode = info.external_attr >> 16
        linked = stat.S_ISLNK(mode)
        yield Member(
            name=info.filename,
            link=archive.read(info).decode("utf-8", "surrogateescape") if linked else None,
            executable=bool(mode & stat.S_IXUSR) and not linked,
            size=0 if linked else info.file_size,
            content=_zip_content(archive, info),
        )


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _without_top(found: list[Member]) -> list[Member]:
    """ "tensorflow-2.15.1/configure.py" is configure.py where everything lies in that one folder."""
    from dataclasses import replace

    plain = [replace(member, name=str(PurePosixPath(member.name))) for member in found]
    tops = {member.name.partition("/")[0] for member in plain}
    if len(tops) != 1 or any("/" not in member.name for member in plain):
        return plain
    return [replace(member, name=member.name.partition("/")[2]) for member in plain]


def _checked(path: Path, found: list[Member]) -> tuple[Member, ...]:
    if not found:
        raise UsageError(what=f"{path.name} is empty", why="it holds no file", hint="give an archive of a source tree")
    for member in found:
        if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
            raise _unsafe(member.name, "would be unpacked outside the tree")
        if member.link is not None and leads_out(member.name, member.link):
            raise _unsafe(member.name, f"is a link to {member.link}, outside the tree")
    return tuple(found)


def _unsafe(name: str, why: str) -> UsageError:
    return UsageError(
        what="the archive holds what no source tree does",
        why=f"{name} {why}",
        hint="take an archive from the framework's own page",
    )
