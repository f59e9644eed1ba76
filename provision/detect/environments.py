"""What the probe found of provision's environments: lines, because POSIX sh has no JSON.

::

    env default /home/me/.local/share/provision/envs/default
    current 3
    generation 3 {"fingerprint": "…", "complete": true, …}
    plan 3 {"schema": 1, "host": "…", …}
    python 3 yes
    packages 3 absl_py-2.3.1 astunparse-1.6.3 …

``plan`` is there for the current generation only. ``current`` is missing where no symlink is. A generation whose state
file is missing has "-": a run that was killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from provision.detect.text import natural
from provision.model.environment import EnvironmentState, Generation
from provision.model.readings import Readings

READING = "environments"
HOME_READING = "data_home"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataHome:
    """Where provision keeps environments on that host."""

    path: str | None
    """$XDG_DATA_HOME/provision."""
    writable: bool | None
    free_mib: int | None


def data_home(readings: Readings) -> DataHome:
    """From lines "data_home /home/me/.local/share/provision", "home_writable yes" and "df " with a line of `df -Pk`."""
    values: dict[str, str] = {}
    for line in (readings.text(HOME_READING) or "").splitlines():
        key, _, value = line.partition(" ")
        values.setdefault(key, value)
    writable = {"yes": True, "no": False}.get(values.get("home_writable", ""))
    return DataHome(path=values.get("data_home") or None, writable=writable, free_mib=_free_mib(values.get("df", "")))


def _free_mib(line: str) -> int | None:
    # "/dev/vda         264212084 32197108  74193804      31% /", in KiB; the device's name may hold blanks
    match = re.search(r"\s(\d{1,18})\s+\d{1,3}%\s+/", line)
    return int(match[1]) // 1024 if match else None


def environment_states(readings: Readings) -> tuple[EnvironmentState, ...]:
    """By name. Lines that make no sense are passed over."""
    blocks: list[list[str]] = []
    for line in (readings.text(READING) or "").splitlines():
        if line.startswith("env "):
            blocks.append([line])
        elif blocks:
            blocks[-1].append(line)
    states = [state for block in blocks if (state := _environment(block)) is not None]
    return tuple(sorted(states, key=lambda state: state.name))


def packages_sha256(names: Iterable[str]) -> str:
    """Of *.dist-info folder names without that ending: sorted by bytes, each with a line end."""
    import hashlib  # loads OpenSSL: 4 ms that `provision detect` need not pay

    ordered = sorted(names, key=lambda name: name.encode("utf-8", "surrogateescape"))
    return hashlib.sha256("".join(f"{name}\n" for name in ordered).encode("utf-8", "surrogateescape")).hexdigest()


def _environment(lines: list[str]) -> EnvironmentState | None:
    _, _, rest = lines[0].partition(" ")
    name, _, path = rest.partition(" ")
    if not name or not path:
        return None
    current: int | None = None
    states: dict[int, str] = {}
    packages: dict[int, list[str]] = {}
    broken: set[int] = set()
    plan: dict[str, Any] | None = None
    for line in lines[1:]:
        key, _, rest = line.partition(" ")
        first, _, value = rest.partition(" ")
        number = natural(first)
        if number is None:
            continue
        if key == "current":
            current = number
        elif key == "generation":
            states.setdefault(number, value)
        elif key == "plan" and number == current:
            plan = _object(value) or None
        elif key == "packages":
            packages.setdefault(number, value.split())
        elif key == "python" and value == "no":
            broken.add(number)
    generations = (
        _generation(number, states[number], None if number in broken else packages.get(number, []))
        for number in sorted(states)
    )
    return EnvironmentState(name=name, path=path, current=current, generations=tuple(generations), plan=plan)


def _generation(number: int, text: str, packages: list[str] | None) -> Generation:
    """``packages`` is None where the environment's interpreter is gone. Nothing is drifted that never was whole."""
    state = _object(text)
    whole = packages is not None and packages_sha256(packages) == _text(state, "packages_sha256")
    return Generation(
        number=number,
        fingerprint=_text(state, "fingerprint"),
        complete=state.get("complete") is True,
        verified=state.get("verified") is True,
        created=_text(state, "created"),
        summary=_text(state, "summary") or "",
        drifted=bool(state) and not whole,
        answers=_texts(state, "answers"),
    )


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _text(state: dict[str, Any], key: str) -> str | None:
    value = state.get(key)
    return value if isinstance(value, str) and value else None


def _texts(state: dict[str, Any], key: str) -> tuple[str, ...]:
    value = state.get(key)
    return tuple(each for each in value if isinstance(each, str) and each) if isinstance(value, list) else ()
