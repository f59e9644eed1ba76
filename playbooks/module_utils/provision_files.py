"""Files on a target: written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

CHUNK = 1 << 20


def utf8(path: Path | str) -> str:
    """A path as text whose UTF-8 is the path's own bytes, whatever the locale makes of them."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """``path`` holds ``text`` once this returns, also after a power cut; until then it is what it was."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` last."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def point(link: Path, target: str) -> None:
    """The symbolic link ``link`` points at ``target`` from one moment to the next."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    if temporary.is_symlink():
        temporary.unlink()
    temporary.symlink_to(target)
    try:
        temporary.replace(link)
    except BaseException:
        temporary.unlink()
        raise
    sync_folder(link.parent)


def sha256_of(path: Path) -> str | None:
    """Hexadecimal SHA-256 of a file's content; None where there is no such file."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(CHUNK), b""):
                digest.update(block)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return digest.hexdigest()


def remove_tree(path: Path) -> None:
    """Remove a folder with all it holds, folders without write permission included; nothing where it is gone.

    Raises OSError where something in it cannot be removed.
    """

    def open_and_retry(function, name, info):  # type: ignore[no-untyped-def]
        error = info[1]
        if isinstance(error, FileNotFoundError):
            return
        if not isinstance(error, PermissionError):
            raise error
        for folder in (Path(name).parent, Path(name)):
            if folder.is_dir() and not folder.is_symlink():
                folder.chmod(folder.stat().st_mode | stat.S_IRWXU)
        if Path(name).is_dir() and not Path(name).is_symlink():
            remove_tree(Path(name))
        else:
            function(name)

    shutil.rmtree(path, onerror=open_and_retry)


def remove_if_empty(*folders: Path) -> None:
    """Remove each of ``folders`` that holds nothing, in this order."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
