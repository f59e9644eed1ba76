"""Action plugin: ask the target which files it lacks, send those, let the target put them in place.

Asking is a line of shell: a fifth of a module's time over SSH, and in most runs nothing is missing.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

DOCUMENTATION = "See the module of the same name."

# prints the folder to send to (made only where something is missing), then the sum of each file, or "-"
ASK = """
case ${{XDG_DATA_HOME-}} in /*) root=$XDG_DATA_HOME/provision ;; *) root=$HOME/.local/share/provision ;; esac
find "$root/incoming" -mindepth 1 -maxdepth 1 -mtime +0 -exec rm -rf {{}} + 2>/dev/null
lacking=
sums=$(for file in {files}; do sha256sum 2>/dev/null < "$root/$file" || echo -; done)
[ "$(echo "$sums" | cut -c1-64)" = {wanted} ] || lacking=yes
if [ -n "$lacking" ] && {make}
then mkdir -p "$root/incoming" && mktemp -d "$root/incoming/XXXXXX" || exit 1
else echo -
fi
echo "$sums"
"""


class ActionModule(ActionBase):
    # Ansible would make a folder below ~/.ansible first: a round trip, and a home that cannot be written to
    # would end there, unexplained. Files go to a folder of ours.
    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset({"files", "wheels", "mnist", "archives"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        try:
            files = sent(self._task.args)
        except OSError as error:
            return failed("bad_input", f"a file that has to be sent cannot be read: {error.filename}", error.strerror)
        if self._connection.transport == "local":
            here = [{**file, "local": True} for file in files]
            return {**result, **self._execute_module("provision_ship", {"files": here}, task_vars=task_vars)}
        folder, missing = self._asked(files)
        if missing == [] or (missing and self._task.check_mode):
            return {**result, "changed": bool(missing), "missing": missing, "placed": [], "folders": folders(files)}
        for number, file in enumerate(files):
            if folder and file["dest"] in (missing or []):
                file["staged"] = f"{folder}/{number}"
                try:
                    self._transfer_file(file["src"], file["staged"])
                except AnsibleError as error:
                    return failed("transfer", f"could not send {Path(file['src']).name} to that machine", str(error))
        # where asking failed, the module finds out why and says it
        answer = self._execute_module("provision_ship", {"files": files}, task_vars=task_vars)
        if answer.get("missing") and not self._task.check_mode:
            return failed("transfer", f"{', '.join(answer['missing'])} did not get there", "the target took no files")
        return {**result, **answer}

    def _asked(self, files: list[dict[str, Any]]) -> tuple[str | None, list[str] | None]:
        """(folder to send to, places of the files that are missing); the latter None where the target cannot say."""
        script = ASK.format(
            files=" ".join(shlex.quote(file["dest"]) for file in files),
            wanted=shlex.quote("\n".join(file["sha256"] for file in files)),
            make="false" if self._task.check_mode else "true",
        )
        answer = self._low_level_execute_command(script.strip())
        lines = answer["stdout"].splitlines()
        if answer["rc"] != 0 or len(lines) != len(files) + 1:
            return None, None
        missing = [
            file["dest"] for file, line in zip(files, lines[1:], strict=True) if line.split(" ")[0] != file["sha256"]
        ]
        return lines[0] if lines[0].startswith("/") else None, missing


def failed(kind: str, what: str, why: str | None) -> dict[str, Any]:
    """A failed task's result, in the form of our modules' failures."""
    return {"failed": True, "msg": f"{what}\n  {why}", "kind": kind, "what": what, "why": why or "", "hint": ""}


def folders(files: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(Path(file["dest"]).parent) for file in files))


def sent(args: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of a task with their places and sums. A wheel's folder is named for its content, so that a wheel that
    was built anew under an old name does not take the old one's place. Raises OSError for what cannot be read."""
    files = [{**file, "sha256": file.get("sha256") or sha256_of(Path(file["src"]))} for file in args.get("files") or []]
    for source in map(Path, args.get("wheels") or []):
        sha256 = sha256_of(source)
        files.append({"src": str(source), "dest": f"wheels/{sha256[:16]}/{source.name}", "sha256": sha256})
    for source in map(Path, args.get("mnist") or []):
        files.append({"src": str(source), "dest": f"mnist/{source.name}", "sha256": sha256_of(source)})
    for one in args.get("archives") or []:
        if one["archive"]:  # none for what comes from a package index
            source, sha256 = Path(one["archive"]), one.get("archive_sha256") or sha256_of(Path(one["archive"]))
            file = {"src": str(source), "dest": f"sources/{sha256[:16]}/{source.name}", "sha256": sha256}
            files += [file] if file not in files else []
    missing = next((file["src"] for file in files if not Path(file["src"]).is_file()), None)
    if missing is not None:
        raise FileNotFoundError(2, "No such file or directory", missing)
    return files


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
