"""One outcome of packages: what it would take, bringing it about, and taking it away with what came along."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_packages_choose import Choice, chosen, exact, fits, whole_release

RECORDS = Path("/var/lib/provision/packages")
"""What each outcome has brought: {"packages", "added", "repositories", "held"}, in NAME.json."""
DRIVER_RECORD = Path("/var/lib/provision/nvidia.json")
RESERVE_MIB = 512
"""What is to stay free."""


def available(manager: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be installed, in exact versions, having asked the repositories. Nothing changes.

    Raises Failure: no candidate, packages that do not go together, a disk that is too small, a driver that would come.
    """
    choice = chosen(params)
    names = [one["name"] for one in choice.packages]
    _refuse(names, params["refuse"], "is not to be installed here")
    halves = _halves(manager, names, choice.repositories)
    installed = {name: version for name, version in manager.installed(names).items() if name not in halves}
    wanted, coming = [], []
    if not all(fits(installed.get(one["name"], ""), one.get("version") or "") for one in choice.packages):
        candidates = manager.candidates(names, choice.repositories)
        wanted = exact(choice.packages, candidates, installed, [one["url"] for one in choice.repositories])
        if not halves:  # nothing can be rehearsed on top of them; it was, in the run that has left them
            lock = {"lock": pin_of(choice), "names": params["pin_names"]} if params["pin_names"] else {}
            rehearsal = manager.rehearse(wanted, choice.repositories, **lock)
            _refuse(rehearsal.new, params["refuse"], "would be installed with it")
            _room(rehearsal.disk_mib)
            coming = rehearsal.new
    return {
        "packages": [{"name": name, "version": version} for name, version in wanted],
        "coming": coming,
        "choice": choice.packages,
        "repositories": choice.repositories,
        "pin": pin_of(choice),
    }


def present(manager: Any, params: Mapping[str, Any], dry: bool) -> dict[str, Any]:
    """Install ``params["wanted"]`` (from ``available``): exact versions."""
    wanted = [(one["name"], one["version"]) for one in params["wanted"]]
    names = [one["name"] for one in params["packages"]]
    pin = params["pin"] if params["pin_names"] else ""
    locked = bool(pin) and pin not in manager.held()
    urls = [one["url"] for one in params["repositories"] if one["id"].startswith("cuda-")]
    apart = any(manager.keep_apart(url, dry) for url in urls)
    if dry or not (wanted or locked):
        return _answer(manager, names, changed=bool(wanted or locked or apart), pin=pin, params=params)
    if locked:
        manager.lock(pin, params["pin_names"])
    before = set(manager.installed(()))
    # before the change: a run that is killed in it writes nothing down
    _note(params, names, set(params["coming"]) - before, pin)
    try:
        if wanted and _halves(manager, names, params["repositories"]):
            manager.repair()
        if wanted:
            manager.install(wanted)
    finally:
        # after a failure too: what came is taken away by state absent
        added = set(manager.installed(())) - before
        _note(params, names, added, pin)
    return _answer(manager, names, changed=True, pin=pin, params=params)


def absent(manager: Any, params: Mapping[str, Any], dry: bool) -> dict[str, Any]:
    """Remove what the outcome has brought. Says which repositories nothing else uses."""
    record = _record(params["name"])
    names = record.get("packages") or [one["name"] for one in params["packages"]]
    added = record.get("added", [])
    there = manager.installed([*names, *added]) if names or added else {}
    pin = record.get("pin") or ""
    changed = bool(there or record)
    if changed and not dry:
        if pin:
            manager.unlock(pin, params["pin_names"])
        manager.remove(sorted(name for name in names if name in there))
        left = manager.unneeded(added)
        while left:
            manager.remove(left)
            left = manager.unneeded(added)
        if record:
            (RECORDS / f"{params['name']}.json").unlink()
    unused = _unused(record.get("repositories", []), params["name"])
    if not dry and any(one["id"].startswith("cuda-") for one in unused):
        manager.end_apart()
    return {"changed": changed, "removed": sorted(there), "repositories": unused}


def _halves(manager: Any, names: Sequence[str], repositories: Sequence[Mapping[str, Any]]) -> list[str]:
    """Half-installed packages of the outcome, left by a run that was cut off or by a script that failed."""
    homes = tuple(str(one["url"]).rstrip("/") for one in repositories)
    broken = manager.broken()
    return [name for name in broken if name in names or (homes and manager.origin(name).startswith(homes))]


def pin_of(choice: Choice) -> str:
    """The release that all are to stay at, where one was asked for whole ("9.10.2.*"); else ""."""
    releases = {one["version"].rstrip(".") for one in choice.packages if whole_release(one.get("version") or "")}
    return f"{releases.pop()}.*" if len(releases) == 1 else ""


def _refuse(names: Iterable[str], patterns: Sequence[str], how: str) -> None:
    found = [name for name in names if any(re.match(f"{pattern}$", name) for pattern in patterns)]
    if found:
        raise Failure(
            "brings_driver",
            f"{', '.join(found)} {how}",
            "that brings a driver of its own, which would replace the one that is there; nothing was changed",
            "take the package of the toolkit alone (cuda-toolkit-12-6), never cuda or cuda-drivers",
        )


def _room(needed_mib: int) -> None:
    found = os.statvfs("/usr")
    free = found.f_bavail * found.f_frsize >> 20
    if needed_mib and free < needed_mib + RESERVE_MIB:
        raise Failure(
            "disk_full",
            "there is not enough space in /usr",
            f"{needed_mib} MiB are needed, {RESERVE_MIB} MiB are to stay free, and {free} MiB are free; "
            "nothing was changed",
            "free some space and run the same command again",
        )


def _answer(
    manager: Any, names: Sequence[str], *, changed: bool, pin: str, params: Mapping[str, Any]
) -> dict[str, Any]:
    there = manager.installed(names) if names else {}
    held = [f"{params['pin_names']} at {pin}"] if pin else []
    return {
        "changed": changed,
        "packages": [{"name": name, "version": version} for name, version in sorted(there.items())],
        "held": held,
    }


def _note(params: Mapping[str, Any], names: Sequence[str], added: Iterable[str], pin: str) -> None:
    before = _record(params["name"])
    record = {
        "packages": sorted({*before.get("packages", []), *names}),
        "added": sorted({*before.get("added", []), *added}),
        "repositories": params["repositories"] or before.get("repositories", []),
        "pin": pin,
    }
    RECORDS.mkdir(parents=True, exist_ok=True)
    write_atomically(RECORDS / f"{params['name']}.json", json.dumps(record, indent=1) + "\n")


def _record(name: str) -> dict[str, Any]:
    try:
        found = json.loads((RECORDS / f"{name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _unused(repositories: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    others = {path.stem for path in RECORDS.glob("*.json")} - {name} if RECORDS.is_dir() else set()
    used = {one["id"] for other in others for one in _record(other).get("repositories", [])}
    if DRIVER_RECORD.exists():
        used |= {one["id"] for one in repositories if one["id"].startswith("cuda-")}
    return [one for one in repositories if one["id"] not in used]
