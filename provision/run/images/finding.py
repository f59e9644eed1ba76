"""Which Python an image has, and which frameworks that has; found without a shell, which an image may lack."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from provision.errors import StepFailed, VerificationFailed
from provision.run.images import containers
from provision.run.images.containers import WORK, Container

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

OURS = "/opt/provision/venv/bin/python"
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ELSEWHERE = (
    "/opt/venv/bin/python",
    "/opt/conda/bin/python",
    "/opt/miniconda3/bin/python",
    "/opt/miniforge3/bin/python",
    "/opt/mambaforge/bin/python",
    "/usr/local/bin/python3",
    "/usr/bin/python3",
    "/venv/bin/python",
    "/app/.venv/bin/python",
)
"""Where images have Pythons that are not on their PATH: virtual environments, conda's distributions."""
OLDEST = (3, 9)
"""The checks are written for it."""
LOOK_TIMEOUT_S = 120.0
LIFE_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    python: str
    """Its path in the image."""
    version: str
    frameworks: Mapping[str, str]
    """By framework, its version; empty where it does not say one."""
    cuda: str
    """What shows that it was made for NVIDIA GPUs; empty where nothing does."""
    others: str = ""
    """Other Pythons that were looked at, for messages: "; neither has /usr/bin/python3"."""

    @property
    def text(self) -> str:
        """ "python 3.11.2 (/usr/bin/python3): tensorflow 2.21.0, numpy 2.4.6"."""
        named = ", ".join(f"{name} {version}".strip() for name, version in self.frameworks.items())
        return f"python {self.version} ({self.python}): {named or 'no framework'}"

    def to_check(self) -> tuple[str, ...]:
        """Those that were meant, not what they bring along: Keras is TensorFlow's, and NumPy everybody's."""
        there = set(self.frameworks)
        if "tensorflow" in there:
            there.discard("keras")
        if there - {"numpy"}:
            there.discard("numpy")
        return tuple(name for name in self.frameworks if name in there)


def find_python(engine: Engine, tag: str, config: Mapping[str, Any], *, run_id: str, cancel: threading.Event) -> Found:
    """The first Python with a framework, else the first.

    Raises VerificationFailed where there is none, or none that the checks run on.
    """
    candidates = _there(engine, tag, config, run_id, cancel)
    if not candidates:
        raise VerificationFailed(
            what=f"there is no Python in {tag}",
            why=f"looked for {OURS}, python3 and python in {_path(config)}, and {', '.join(ELSEWHERE)}",
            hint="provision verifies images that have the framework's Python in one of these places",
        )
    looked: list[Found] = []
    broken: list[str] = []
    for python in candidates:
        try:
            found = _look(engine, tag, python, run_id, cancel)
        except StepFailed as error:
            broken.append(f"{python}: {error.why or error.what}")
            continue
        if found.frameworks:
            return found
        looked.append(found)
    new = [each for each in looked if _numbers(each.version) >= OLDEST]
    if new:
        more = [each.python for each in looked if each is not new[0]]
        others = f"; nor has {', '.join(more)}" if more else ""
        return Found(python=new[0].python, version=new[0].version, frameworks={}, cuda="", others=others)
    why = [f"{each.python} is Python {each.version}" for each in looked] + broken
    raise VerificationFailed(
        what=f"no Python in {tag} can run the checks",
        why="wanted Python 3.9 or newer, found " + "\n".join(why),
        hint=f"docker run --rm --entrypoint {candidates[0]} {tag} --version shows what it says itself",
    )


def _there(engine: Engine, tag: str, config: Mapping[str, Any], run_id: str, cancel: threading.Event) -> list[str]:
    places = [f"{folder}/{name}" for folder in _path(config).split(":") if folder for name in ("python3", "python")]
    found: list[str] = []
    with Container(engine, tag, run_id=run_id, cancel=cancel) as container:
        for path in dict.fromkeys((OURS, *places, *ELSEWHERE)):
            if container.has(path):
                found.append(path)
    return found


def _path(config: Mapping[str, Any]) -> str:
    for line in config.get("Env") or ():
        name, _, value = str(line).partition("=")
        if name == "PATH" and value:
            return value
    return USUAL_PATH


def _look(engine: Engine, tag: str, python: str, run_id: str, cancel: threading.Event) -> Found:
    """Ask a Python what it has. Raises StepFailed where it does not run."""
    command = [python, f"{WORK}/inside.py", "look"]
    with Container(engine, tag, run_id=run_id, entrypoint=command, command=[], cancel=cancel) as container:
        container.put({"inside.py": containers.inside_script()})
        container.start()
        status = container.wait(LOOK_TIMEOUT_S)
        said = container.output()
    line = next((line for line in reversed(said.splitlines()) if line.startswith("{")), "")
    if status != 0 or not line:
        raise StepFailed(what=f"{python} does not run", why=f"it ended with {status}: {said.strip()[-400:]}")
    found = json.loads(line)
    frameworks = dict(found["frameworks"])
    return Found(python=python, version=str(found["python"]), frameworks=frameworks, cuda=str(found["cuda"]))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
