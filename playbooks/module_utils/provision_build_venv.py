"""The interpreter that a wheel is built for, in an environment with what its build needs."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils import provision_uv as uv
from ansible.module_utils.provision_failure import Interrupted
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_process import STOP_SIGNALS, run

COMPLETE = "provision.json"
"""In the environment, once everything is in it."""


def place(build_folder: Path, build: Mapping[str, Any]) -> Path:
    """Where the environment lies: by Python and requirements alone. The interpreter's path gets into what is built (and
    into the caches' keys), so builds with other flags, and other boxes, should find it at the same place."""
    named = json.dumps([build["python"], sorted(build["build_requirements"])])
    return build_folder / "venvs" / hashlib.sha256(named.encode()).hexdigest()[:16]


def made(
    venv: Path, build: Mapping[str, Any], program: Path, environment: Mapping[str, str], say: Callable[[str], None]
) -> bool:
    """The environment is there, complete. False: it was before. Only for who has the lock on it. Raises Failure."""
    python = venv / "bin" / "python"
    if (venv / COMPLETE).is_file() and python.exists():
        return False
    venv.parent.mkdir(parents=True, exist_ok=True)
    maker = _Maker(build, program, environment, say, venv.parent)
    maker.call(f"python {build['python']}", uv.venv_argv(program, build["python"], venv, "build"))
    if build["build_requirements"]:
        maker.call("bringing what the build needs", install_argv(program, python, build["build_requirements"]))
    write_atomically(venv / COMPLETE, json.dumps(list(build["build_requirements"])) + "\n")
    return True


def install_argv(program: Path, python: Path, requirements: Sequence[str]) -> list[str]:
    return [
        str(program), "pip", "install", "--no-config", "--index-strategy", "unsafe-best-match", "--python", str(python),
        *requirements,
    ]  # fmt: skip


class _Maker:
    def __init__(
        self,
        build: Mapping[str, Any],
        program: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        folder: Path,
    ) -> None:
        self._build, self._program, self._environment, self._say = build, program, environment, say
        self._folder = folder

    def call(self, text: str, argv: Sequence[str]) -> None:
        watch = uv.Watch("")

        def hear(_: str, data: bytes) -> None:
            watch.hear(data.decode("utf-8", "replace"), time.monotonic())
            self._say(f"build environment: {watch.text or text}")

        self._say(f"build environment: {text}")
        try:
            status = run(argv, env=self._environment, hear=hear, cwd=str(self._folder), terminal=True)
        except OSError as error:
            raise uv.not_started(self._program, error) from error
        if -status in STOP_SIGNALS:
            raise Interrupted(f"uv got signal {-status}")
        if status != 0:
            doing = f"make the environment that {self._build['framework']} is built in"
            raise uv.explained(doing, status, uv.plain(watch.raw), self._build["python"])


def site_packages(venv: Path, python: str) -> Path:
    """Its first site-packages folder."""
    found = sorted(venv.glob("lib/python*/site-packages"))
    return found[0] if found else venv / "lib" / f"python{python}" / "site-packages"
