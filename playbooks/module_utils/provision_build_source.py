"""The source archive, unpacked once: nothing in it can land outside its folder."""

from __future__ import annotations

import os
import posixpath
import tarfile
from pathlib import Path

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_tree, sha256_of

TEMPORARY = ".unpacking-"


def unpacked(archive: Path, sha256: str, tree: Path) -> bool:
    """``tree`` holds the archive's content, without the one folder that all of it may lie in. False: it did before.

    Only for who has the lock on ``tree``. Raises Failure for an archive that is not the one sent, cannot be read, or
    would write outside.
    """
    if tree.is_dir():
        return False
    got = sha256_of(archive)
    if got != sha256:
        why = f"wanted SHA-256 {sha256}, found {got or 'no such file'}"
        raise Failure("source", "the source archive is not the one that was sent", why, "run the same command again")
    tree.parent.mkdir(parents=True, exist_ok=True)
    temporary = tree.parent / f"{TEMPORARY}{tree.name}"
    remove_tree(temporary)
    temporary.mkdir()
    try:
        with tarfile.open(archive, "r:*") as tar:
            _extract(tar, temporary)
    except (tarfile.TarError, EOFError, ValueError) as error:
        remove_tree(temporary)
        raise Failure("source", "the source archive cannot be read", f"{archive.name}: {error}") from error
    except BaseException:
        remove_tree(temporary)
        raise
    _only_folder(temporary).rename(tree)
    remove_tree(temporary)
    return True


def _only_folder(folder: Path) -> Path:
    """Archives of a release have all in one folder, "tensorflow-2.15.1"."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() and not inside[0].is_symlink() else folder


def _extract(tar: tarfile.TarFile, root: Path) -> None:
    links, folders = [], []
    for member in tar:
        name = posixpath.normpath(member.name)
        if name.startswith(("/", "..")):
            raise _escapes(member, "its name leads outside the archive")
        place = root / name
        if place == root:
            continue
        if any(parent.is_symlink() for parent in place.parents if root in parent.parents):
            raise _escapes(member, "it would be written through a symbolic link")
        place.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            place.mkdir(exist_ok=True)
            folders.append((place, member))
        elif member.issym():
            _check_link(member, posixpath.join(posixpath.dirname(name), member.linkname))
            place.symlink_to(member.linkname)
            links.append((place, member))
        elif member.islnk():
            _check_link(member, member.linkname)
            os.link(root / posixpath.normpath(member.linkname), place, follow_symlinks=False)
        elif member.isfile():
            _write(tar, member, place)
        else:
            raise _escapes(member, "it is neither a file, a folder nor a link")
    for place, member in links:  # a link may lead outside by way of another
        real = os.path.realpath(place)
        if not real.startswith(os.path.realpath(root) + "/") and real != os.path.realpath(root):
            raise _escapes(member, f"it is a link to {member.linkname}, outside the archive")
    for place, member in reversed(folders):
        os.utime(place, (member.mtime, member.mtime))


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    source = tar.extractfile(member)
    if source is None:
        raise _escapes(member, "it has no content")
    if place.is_symlink():
        raise _escapes(member, "it would be written through a symbolic link")
    with source, place.open("wb") as file:
        while True:
            block = source.read(1 << 20)
            if not block:
                break
            file.write(block)
        # no set-user-ID, nothing that others may write; ours to write, so that it can be removed again
        os.fchmod(file.fileno(), (member.mode & 0o755) | 0o600)
    os.utime(place, (member.mtime, member.mtime))


def _check_link(member: tarfile.TarInfo, target: str) -> None:
    if member.linkname.startswith("/") or posixpath.normpath(target).startswith(".."):
        raise _escapes(member, f"it is a link to {member.linkname}, outside the archive")


def _escapes(member: tarfile.TarInfo, why: str) -> Failure:
    return Failure(
        "source",
        "the source archive is not safe to unpack",
        f"{member.name}: {why}",
        "take the source from its project",
    )
