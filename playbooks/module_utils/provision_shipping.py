"""Files that came from the controller: which are missing, and how they take their places.

A staged copy lies in a folder of its own below ``incoming`` and is moved; on the controller's own machine the file
itself is given, and copied.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_if_empty, remove_tree, sha256_of, sync_folder
from ansible.module_utils.provision_layout import Layout

HERE = "here-"
STALE_S = 3600.0
"""After this time without a change, a folder of copies is one that a killed run has left."""


def ship(layout: Layout, files: Sequence[Mapping[str, Any]], check_mode: bool) -> dict[str, Any]:
    """Put every file that has a staged copy in its place; name those that are missing still.

    Raises Failure where a staged copy is not the file that was sent, or a place is outside the layout.
    """
    if not check_mode:
        _remove_stale(layout.incoming)
    missing = [file["dest"] for file in files if sha256_of(layout.inside(file["dest"])) != file["sha256"]]
    placed = []
    if missing and not check_mode:
        layout.incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=HERE, dir=layout.incoming) as here:
            for file in files:
                if file["dest"] in missing and (file["staged"] or file["local"]):
                    staged = Path(file["staged"]) if file["staged"] else _copied(file, Path(here))
                    _place(staged, layout.inside(file["dest"]), file["sha256"], int(file["mode"], 8))
                    placed.append(file["dest"])
    for folder in {Path(file["staged"]).parent for file in files if file["staged"]}:
        remove_if_empty(folder)
    return {
        "changed": bool(missing if check_mode else placed),
        "missing": [dest for dest in missing if dest not in placed],
        "placed": placed,
        "folders": list(dict.fromkeys(str(Path(file["dest"]).parent) for file in files)),
    }


def _remove_stale(incoming: Path) -> None:
    """Folders of copies that killed runs have left. Those that came over SSH go when the next ones come."""
    for folder in incoming.glob(f"{HERE}*"):
        with contextlib.suppress(OSError):  # another run may be at it right now
            if time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir())) > STALE_S:
                remove_tree(folder)


def _copied(file: Mapping[str, Any], folder: Path) -> Path:
    copy = folder / Path(file["dest"]).name
    shutil.copyfile(file["src"], copy)
    return copy


def _place(staged: Path, place: Path, sha256: str, mode: int) -> None:
    """Move ``staged`` to ``place``, in one step, if it is what was sent."""
    got = sha256_of(staged)
    if got != sha256:
        raise Failure(
            "checksum", f"{place.name} was damaged on its way", f"sent SHA-256 {sha256}, received {got}",
            "run the same command again",
        )  # fmt: skip
    place.parent.mkdir(parents=True, exist_ok=True)
    staged.chmod(mode)
    staged.replace(place)
    sync_folder(place.parent)
