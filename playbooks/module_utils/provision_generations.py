"""Generations of an environment: what a plan wants, what is there, and which of them go."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_failure import Failure

SCHEMA = 1
KEEP_NEWEST = 3


@dataclass(frozen=True)
class Wanted:
    """What the environment module needs of a plan."""

    name: str
    fingerprint: str
    python: str
    lock: str
    summary: str
    variables: Mapping[str, str]
    document: Mapping[str, Any]
    """The plan without its lock: what plan.json holds."""
    rival: str = ""
    """Fingerprint of the plan that this one's build is to be compared with; empty where there is none."""


def wanted(plan: Mapping[str, Any]) -> Wanted:
    """Read a plan's data (provision/model/plan.py). Raises Failure where it cannot be carried out."""
    try:
        stack = list(plan["stack"])
        pythons = {entry["python"] for entry in stack}
        lock, fingerprint, name = plan["lock"], plan["fingerprint"], plan["request"]["name"]
        variables = {key: str(value) for entry in stack for key, value in entry["environment"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise Failure("bad_input", "the plan is not one of provision's", f"{type(error).__name__}: {error}") from error
    for problem in _problems(pythons, lock, fingerprint, variables):
        raise Failure("bad_input", "the plan cannot be carried out", problem, "plan again")
    document = {key: value for key, value in plan.items() if key != "lock"}
    stock = plan.get("stock")
    rival = str(stock.get("fingerprint") or "") if isinstance(stock, Mapping) else ""
    return Wanted(name, fingerprint, pythons.pop(), lock, summary(stack), variables, document, rival)


def _problems(pythons: set[str], lock: Any, fingerprint: Any, variables: Mapping[str, str]) -> list[str]:
    found = []
    if len(pythons) != 1:
        found.append(f"one environment has one Python, and this plan names {', '.join(sorted(pythons)) or 'none'}")
    if not isinstance(lock, str):
        found.append("it has no lock: the exact versions have not been resolved")
    if not isinstance(fingerprint, str) or not fingerprint:
        found.append("it has no fingerprint")
    found += [f"{name!r} is not a variable's name" for name in variables if not re.fullmatch(r"[A-Za-z_]\w*", name)]
    return found


def summary(stack: Sequence[Mapping[str, Any]]) -> str:
    """ "tensorflow 2.21.0 · cpu · python 3.11", "tensorflow 2.21.0 · source · cpu · python 3.11"; where only some of it
    was built, "tensorflow 2.21.0 (source) · keras 3.12.0 · cpu · python 3.11"."""
    if not stack:
        return ""
    built = [entry.get("origin") == "source" for entry in stack]
    frameworks = [
        f"{entry['framework']} {entry['version']}{' (source)' if its and not all(built) else ''}"
        for entry, its in zip(stack, built)
    ]
    frameworks += ["source"] if all(built) else []
    devices = list(dict.fromkeys(entry["device"] for entry in stack))
    return " · ".join([*frameworks, "/".join(devices), f"python {stack[0]['python']}"])


@dataclass(frozen=True)
class Found:
    """A generation as it lies there. ``state`` is None where it is half-made (or its state cannot be read)."""

    number: int
    path: Path
    state: Mapping[str, Any] | None
    drifted: bool

    @property
    def complete(self) -> bool:
        return self.state is not None and self.state.get("complete") is True

    @property
    def verified(self) -> bool:
        return self.complete and self.state is not None and self.state.get("verified") is True

    @property
    def usable(self) -> bool:
        return self.complete and not self.drifted


def packages(venv: Path) -> list[str]:
    """Installed distributions, "name-version" as their .dist-info folders are called, sorted."""
    found = (path.name[: -len(".dist-info")] for path in venv.glob("lib/python3*/site-packages/*.dist-info"))
    return sorted(found)


def packages_sha256(names: Sequence[str]) -> str:
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode("utf-8", "surrogateescape")).hexdigest()


def answers(state: Mapping[str, Any]) -> list[str]:
    """Fingerprints of the plans that a generation stands for besides its own: source builds that it has beaten."""
    listed = state.get("answers")
    return [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []


def state_of(path: Path) -> Mapping[str, Any] | None:
    """The content of state.json; None where it is missing, cut short or something else."""
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def found(path: Path) -> Found:
    """The generation in the folder ``path``."""
    state = state_of(path)
    venv = path / "venv"
    drifted = state is not None and (
        state.get("packages_sha256") != packages_sha256(packages(venv)) or not (venv / "bin" / "python").exists()
    )
    return Found(int(path.name), path, state, drifted)


def all_found(environment: Path) -> list[Found]:
    """Every generation of the environment in that folder, oldest first."""
    try:
        names = [path.name for path in (environment / "generations").iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    numbers = sorted(int(name) for name in names if re.fullmatch(r"[1-9]\d*", name))
    return [found(environment / "generations" / str(number)) for number in numbers]


def current_number(environment: Path) -> int | None:
    """The generation that ``current`` names; None where there is no such link."""
    try:
        target = os.readlink(environment / "current")
    except OSError:
        return None
    match = re.fullmatch(r"generations/([1-9]\d*)", target)
    return int(match[1]) if match else None


def matching(generations: Sequence[Found], fingerprint: str, current: int | None) -> Found | None:
    """The usable generation made from that plan: the current one before a verified one before the newest."""
    fits = [one for one in generations if one.usable and one.state and one.state.get("fingerprint") == fingerprint]
    return max(fits, key=lambda one: (one.number == current, one.verified, one.number), default=None)


def half_made(generations: Sequence[Found], current: int | None) -> list[Found]:
    """What runs that were killed left behind. Only for who holds the lock: then nobody is making them any more."""
    return [one for one in generations if not one.complete and one.number != current]


def surplus(generations: Sequence[Found], current: int | None, keep: int = KEEP_NEWEST, rival: str = "") -> list[Found]:
    """Complete generations that are neither current nor among the newest ``keep``.

    One made from the plan with fingerprint ``rival`` stays too: a build is about to be measured against it.
    """
    complete = [one for one in generations if one.complete]
    old = complete[: max(0, len(complete) - keep)]
    spared = matching(old, rival, current) if rival else None
    return [one for one in old if one.number != current and one is not spared]


def next_number(generations: Sequence[Found]) -> int:
    return max((one.number for one in generations), default=0) + 1


def rollback_target(generations: Sequence[Found], current: int | None, name: str) -> Found:
    """The newest verified generation older than the current one. Raises Failure where there is none."""
    older = [one for one in generations if current is not None and one.number < current and one.usable and one.verified]
    if older:
        return older[-1]
    have = ", ".join(str(one.number) for one in generations) or "none"
    raise Failure(
        "no_generation",
        f"environment {name} has no earlier generation to go back to",
        f"current is {current or 'none'}; wanted an older one that passed verification; there are: {have}",
        "see `provision env list`; a generation that was not verified can be taken by its number",
    )


def chosen(generations: Sequence[Found], number: int, name: str) -> Found:
    """Generation ``number``, complete. One that has drifted may be chosen by its number: its user knows why.

    Raises Failure.
    """
    match = numbered(generations, number, name)
    if not match.complete:
        what = f"generation {number} of environment {name} cannot be used"
        raise Failure("no_generation", what, "it is half-made: its run was stopped", "run `provision up` again")
    return match


def numbered(generations: Sequence[Found], number: int, name: str) -> Found:
    """Generation ``number``, half-made or not. Raises Failure where there is none."""
    match = next((one for one in generations if one.number == number), None)
    if match is None:
        have = ", ".join(str(one.number) for one in generations) or "none"
        what = f"environment {name} has no generation {number}"
        raise Failure("no_generation", what, f"there are: {have}", "see `provision env list`")
    return match


def users_of(folder: Path, proc: Path = Path("/proc")) -> list[int]:
    """Processes that run from ``folder``: their interpreter or a library that they have loaded lies in it.

    Those of other users cannot be looked into and are not seen.
    """
    prefix = os.fsencode(folder) + b"/"
    seen = []
    for entry in proc.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if (entry / "cmdline").read_bytes().startswith(prefix) or prefix in (entry / "maps").read_bytes():
                seen.append(int(entry.name))
        except OSError:
            continue
    return sorted(seen)
