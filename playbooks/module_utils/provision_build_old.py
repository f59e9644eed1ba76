"""Builds that are there: found by their build.json, kept or removed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_build_supervisor import living, read_state, try_lock
from ansible.module_utils.provision_files import remove_tree
from ansible.module_utils.provision_layout import Layout

KEEP_NEWEST = 3


def record_of(folder: Path) -> dict[str, Any] | None:
    """build.json of a complete build whose wheel is there; None else."""
    try:
        record = json.loads((folder / "build.json").read_text(encoding="utf-8"))
        return record if isinstance(record, dict) and Path(record["wheel"]).is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def all_builds(layout: Layout) -> list[dict[str, Any]]:
    """The records of all complete builds, newest first."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = [(path / "build.json", record_of(path)) for path in layout.builds.iterdir() if path.is_dir()]
        kept = [(file.stat().st_mtime, record) for file, record in found if record is not None]
        return [record for _, record in sorted(kept, key=lambda one: -one[0])]
    return []


def earlier(layout: Layout, build: Mapping[str, Any]) -> dict[str, Any] | None:
    """The newest complete build of the same framework and version, whatever its flags, for estimates."""
    same = (build["framework"], build["version"])
    return next((one for one in all_builds(layout) if (one["framework"], one["version"]) == same), None)


def clear_old(layout: Layout, build_folder: Path, build: Mapping[str, Any], key: str) -> list[str]:
    """Remove builds of this framework beyond the newest three, but none that runs or that an environment came from;
    then trees, build environments and scratch folders that no build left needs. Returns the keys of removed builds."""
    of_framework = [one for one in all_builds(layout) if one["framework"] == build["framework"]]
    wanted = _installed(layout)
    removed = []
    for one in of_framework[KEEP_NEWEST:]:
        if one["key"] != key and one["sha256"] not in wanted and _removed(layout, one["key"]):
            removed.append(one["key"])
    if removed:
        _clear_folders(layout, build_folder)
    return removed


def _installed(layout: Layout) -> str:
    """The text of all locks: a wheel whose hash is in one can be installed again."""
    texts = []
    for lock in layout.environments.glob("*/generations/*/lock.txt"):
        with contextlib.suppress(OSError):
            texts.append(lock.read_text(encoding="utf-8", errors="replace"))
    return "\n".join(texts)


def _removed(layout: Layout, key: str) -> bool:
    """False where the build is at work right now."""
    path = layout.builds / f"{key}.lock"
    lock = try_lock(path)
    if lock is None:
        return False
    try:
        with contextlib.suppress(FileNotFoundError):
            (layout.builds / key / "build.json").unlink()
        remove_tree(layout.builds / key)
        path.unlink()
    finally:
        os.close(lock)
    return True


def _clear_folders(layout: Layout, build_folder: Path) -> None:
    """Not while anything is built: what a running build needs is its own business."""
    keys = _names(layout.builds)
    states = [record_of(layout.builds / key) or read_state(layout.builds / key) for key in keys]
    if any(living(read_state(layout.builds / key)) for key in keys):
        return
    used = {
        "trees": {str(state.get("tree")) for state in states},
        "venvs": {str(state.get("venv")) for state in states},
        "work": keys,
    }
    for kind, names in used.items():
        for name in _names(build_folder / kind) - names:
            _clear_folder(build_folder / kind / name)


def _clear_folder(folder: Path) -> None:
    path = folder.with_name(f".{folder.name}.lock")
    lock = try_lock(path)
    if lock is None:
        return
    try:
        with contextlib.suppress(OSError):
            remove_tree(folder)
            path.unlink()
    finally:
        os.close(lock)


def _names(folder: Path) -> set[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return {path.name for path in folder.iterdir() if path.is_dir()}
    return set()
