"""Files that came from the controller: which are missing, and how they take their places.

A staged copy lies in a folder of its own below ``incoming`` and is moved; on the controller's own machine the file
itself is given, and copied.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_if_empty, sha256_of, sync_folder
from ansible.module_utils.provision_layout import Layout


def ship(layout: Layout, files: Sequence[Mapping[str, Any]], check_mode: bool) -> dict[str, Any]:
    """Put every file that has a staged copy in its place; name those that are missing still.

    Raises Failure where a staged copy is not the file that was sent, or a place is outside the layout.
    """
    missing = [file["dest"] for file in files if sha256_of(layout.inside(file["dest"])) != file["sha256"]]
    placed = []
    if missing and not check_mode:
        layout.incoming.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="here-", dir=layout.incoming) as here:
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
