"""Action plugin: ask the target which files it lacks, copy those over, let the target put them in place."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

DOCUMENTATION = "See the module of the same name."


class ActionModule(ActionBase):
    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset({"files", "wheels", "mnist"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        try:
            files = sent(self._task.args)
        except OSError as error:
            what = f"a file that has to be sent cannot be read: {error.filename}"
            parts = {"kind": "bad_input", "what": what, "why": str(error.strerror), "hint": ""}
            return {**result, "failed": True, "msg": f"{what}: {error.strerror}", **parts}
        answer: dict[str, Any] = self._execute_module("provision_ship", {"files": files}, task_vars=task_vars)
        missing = answer.get("missing")
        if answer.get("failed") or not missing or self._task.check_mode:
            return {**result, **answer}
        folder = self._make_tmp_path()
        try:
            for number, file in enumerate(files):
                if file["dest"] in missing:
                    file["staged"] = self._connection._shell.join_path(folder, f"ship-{number}")
                    self._transfer_file(file["src"], file["staged"])
            answer = self._execute_module("provision_ship", {"files": files}, task_vars=task_vars)
        finally:
            self._remove_tmp_path(folder)
        return {**result, **answer}


def sent(args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of a task with their places and sums. A wheel's folder is named for its content, so that a wheel that
    was built anew under an old name does not take the old one's place. Raises OSError for what cannot be read."""
    files = [{**file, "sha256": file.get("sha256") or sha256_of(Path(file["src"]))} for file in args.get("files") or []]
    for source in map(Path, args.get("wheels") or []):
        sha256 = sha256_of(source)
        files.append({"src": str(source), "dest": f"wheels/{sha256[:16]}/{source.name}", "sha256": sha256})
    for source in map(Path, args.get("mnist") or []):
        files.append({"src": str(source), "dest": f"mnist/{source.name}", "sha256": sha256_of(source)})
    return files


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
