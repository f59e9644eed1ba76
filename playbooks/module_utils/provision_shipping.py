"""Files that came from the controller: which are missing, and how they take their places."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import sha256_of, sync_folder
from ansible.module_utils.provision_layout import Layout


def ship(layout: Layout, files: Sequence[Mapping[str, Any]], check_mode: bool) -> dict[str, Any]:
    """Put every file that has a staged copy in its place; name those that are missing still.

    Raises Failure where a staged copy is not the file that was sent, or a place is outside the layout.
    """
    missing = [file["dest"] for file in files if sha256_of(layout.inside(file["dest"])) != file["sha256"]]
    placed = []
    if missing and not check_mode:
        _must_be_writable(layout.root)
    for file in files:
        if file["staged"] and file["dest"] in missing and not check_mode:
            _place(Path(file["staged"]), layout.inside(file["dest"]), file["sha256"], int(file["mode"], 8))
            placed.append(file["dest"])
    return {
        "changed": bool(missing if check_mode else placed),
        "missing": [dest for dest in missing if dest not in placed],
        "placed": placed,
        "folders": list(dict.fromkeys(str(Path(file["dest"]).parent) for file in files)),
    }


def _must_be_writable(folder: Path) -> None:
    """Raises OSError: better here, with its reason, than after a copy of gigabytes has come."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def _place(staged: Path, place: Path, sha256: str, mode: int) -> None:
    got = sha256_of(staged)
    if got != sha256:
        raise Failure(
            "checksum", f"{place.name} was damaged on its way", f"sent SHA-256 {sha256}, received {got}",
            "run the same command again",
        )  # fmt: skip
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    os.close(handle)
    arriving = Path(temporary)
    try:
        shutil.copyfile(staged, arriving)
        arriving.chmod(mode)
        arriving.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            arriving.unlink()
        raise
    sync_folder(place.parent)
