"""State present: a complete generation of the plan is there."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_generations as generations
from ansible.module_utils import provision_uv as uv
from ansible.module_utils.provision_activate import activate_script
from ansible.module_utils.provision_current import switched
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure
from ansible.module_utils.provision_files import remove_if_empty, remove_tree, utf8, write_atomically
from ansible.module_utils.provision_layout import Layout, home
from ansible.module_utils.provision_lock import locked
from ansible.module_utils.provision_process import STOP_SIGNALS, run
from ansible.module_utils.provision_progress import Progress


def now_text() -> str:
    """This moment, UTC, ISO 8601 to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def owner(params: Mapping[str, Any]) -> dict[str, Any]:
    """What the lock file says about us."""
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "controller": params["controller"],
        "run_id": params["run_id"],
        "since": now_text(),
    }


def present(layout: Layout, params: Mapping[str, Any], progress: Progress, check_mode: bool) -> dict[str, Any]:
    """A complete generation of the plan is there: found, or made now. With ``activate`` it is the one in use, too."""
    plan = generations.wanted(params["plan"])
    environment = layout.environment(plan.name)
    if check_mode:
        return _predicted(environment, plan, params)
    with locked(
        environment / "lock", plan.name, owner(params), params["lock_timeout_s"],
        lambda who: progress.say(f"waiting: {who}"), create=True,
    ) as lock:  # fmt: skip
        current = generations.current_number(environment)
        dropped = _drop(generations.half_made(generations.all_found(environment), current), progress)
        there = generations.all_found(environment)
        match = generations.matching(there, plan.fingerprint, current)
        if match is None:
            maker = Maker(layout, params, plan, environment, progress, lock)
            match = maker.make(generations.next_number(there))
            created = True
            surplus = generations.surplus(generations.all_found(environment), current, rival=plan.rival)
        else:
            created, surplus = False, []
        in_use = {one.number: generations.users_of(one.path) for one in surplus}
        dropped += _drop([one for one in surplus if not in_use[one.number]], progress)
        switch = switched(environment, plan.name, match.number, check_mode=False) if params["activate"] else {}
        return {
            **_answer(environment, plan, match.number),
            **switch,
            "changed": created or bool(dropped) or switch.get("changed", False),
            "created": created,
            "removed": dropped,
            "in_use": sorted(number for number, pids in in_use.items() if pids),
            "python": python_version(match.path / "venv"),
            "packages": len(generations.packages(match.path / "venv")),
        }


def _answer(environment: Path, plan: generations.Wanted, number: int) -> dict[str, Any]:
    path = environment / "generations" / str(number)
    return {
        "name": plan.name,
        "path": str(environment),
        "generation": number,
        "generation_path": str(path),
        "summary": plan.summary,
    }


def _predicted(environment: Path, plan: generations.Wanted, params: Mapping[str, Any]) -> dict[str, Any]:
    current = generations.current_number(environment)
    there = generations.all_found(environment)
    match = generations.matching(there, plan.fingerprint, current)
    rest = [one for one in there if one not in generations.half_made(there, current)]
    number = match.number if match else generations.next_number(rest)
    switch = switched(environment, plan.name, number, check_mode=True) if params["activate"] else {}
    changed = match is None or switch.get("changed", False)
    return {**_answer(environment, plan, number), **switch, "changed": changed, "created": match is None, "removed": []}


def _drop(ones: Sequence[generations.Found], progress: Progress) -> list[int]:
    for one in ones:
        progress.say(f"removing generation {one.number}")
        remove_generation(one.path)
    return [one.number for one in ones]


def remove_generation(path: Path) -> None:
    """Remove it; a removal that is killed leaves a half-made one (its state goes first), which the next run removes."""
    with contextlib.suppress(FileNotFoundError):
        (path / "state.json").unlink()
    remove_tree(path)


def python_version(venv: Path) -> str | None:
    """ "3.11.2", as the interpreter says (pyvenv.cfg says "3.11" of one that uv brought). None where it cannot run."""
    said = bytearray()
    code = "import platform; print(platform.python_version())"
    try:
        run([str(venv / "bin" / "python"), "-I", "-c", code], env=os.environ, hear=lambda _, data: said.extend(data))
    except OSError:
        return None
    return said.decode().strip() or None


class Maker:
    """Makes one generation. state.json comes last: without it, a generation counts as half-made."""

    def __init__(
        self,
        layout: Layout,
        params: Mapping[str, Any],
        plan: generations.Wanted,
        environment: Path,
        progress: Progress,
        lock: int,
    ) -> None:
        self.layout, self.params, self.plan, self.progress, self.lock = layout, params, plan, progress, lock
        self.environment = environment
        self.uv = layout.uv(params["uv_version"])
        cache = uv.user_cache(os.environ, home())
        same = _device(cache) == _device(environment)
        self.variables = uv.variables(
            os.environ, params["uv_environment"], uv.cache_folder(os.environ, home(), layout.root, same)
        )

    def make(self, number: int) -> generations.Found:
        """Generation ``number``. What was made is removed again where it fails; a signal leaves it to the next run."""
        path = self.environment / "generations" / str(number)
        try:
            try:
                self._make(path)
            except OSError as error:
                raise os_failure(error, f"make generation {number} of environment {self.plan.name}") from error
        except Failure:
            self.progress.say("removing what was begun")
            with contextlib.suppress(OSError):
                remove_tree(path)
            remove_if_empty(path.parent)
            if not path.parent.exists() and generations.current_number(self.environment) is None:
                (self.environment / "lock").unlink()
                remove_if_empty(self.environment, self.layout.environments)
            raise
        return generations.found(path)

    def _make(self, path: Path) -> None:
        path.mkdir(parents=True)
        venv = path / "venv"
        write_atomically(path / "plan.json", json.dumps(self.plan.document, indent=2, ensure_ascii=False) + "\n")
        write_atomically(path / "lock.txt", self.plan.lock)
        self._call_uv(f"python {self.plan.python}", uv.venv_argv(self.uv, self.plan.python, venv, self.plan.name))
        folders = [self.layout.inside(one) for one in self.params["find_links"]]
        self._call_uv(
            "asking the index", uv.sync_argv(self.uv, path / "lock.txt", venv, folders, self.params["compile_bytecode"])
        )
        names = generations.packages(venv)
        script = activate_script(utf8(path / "activate"), utf8(venv), self.plan.variables)
        write_atomically(path / "activate", script)
        write_atomically(path / "PROVENANCE.json", self._json(self._provenance(venv, names)))
        write_atomically(path / "state.json", self._json(self._state(names)))

    @staticmethod
    def _json(value: Mapping[str, Any]) -> str:
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

    def _state(self, names: Sequence[str]) -> dict[str, Any]:
        return {
            "schema": generations.SCHEMA,
            "fingerprint": self.plan.fingerprint,
            "complete": True,
            "verified": False,
            "created": now_text(),
            "summary": self.plan.summary,
            "packages_sha256": generations.packages_sha256(names),
            "run_id": self.params["run_id"],
        }

    def _provenance(self, venv: Path, names: Sequence[str]) -> dict[str, Any]:
        return {
            "schema": generations.SCHEMA,
            "made": now_text(),
            "host": platform.node(),
            "run_id": self.params["run_id"],
            "controller": self.params["controller"],
            "uv": self.params["uv_version"],
            "python": python_version(venv),
            "interpreter": os.path.realpath(venv / "bin" / "python"),
            "fingerprint": self.plan.fingerprint,
            "packages": list(names),
        }

    def _call_uv(self, text: str, argv: Sequence[str]) -> None:
        watch = uv.Watch("compiling bytecode" if self.params["compile_bytecode"] else "")

        def hear(_: str, data: bytes) -> None:
            watch.hear(data.decode("utf-8", "replace"), time.monotonic())
            self.progress.say(watch.text or text, watch.done_mib, watch.total_mib)

        self.progress.say(text)
        try:
            # in the environment's folder: a .python-version or uv.toml of wherever we were started has no say
            status = run(
                argv, env=self.variables, hear=hear, cwd=str(self.environment), terminal=True, hold=[self.lock]
            )
        except OSError as error:
            raise uv.not_started(self.uv, error) from error
        if -status in STOP_SIGNALS:  # whoever stops a run may reach uv before us
            raise Interrupted(f"uv got {signal.Signals(-status).name}")
        if status != 0:
            doing = f"make environment {self.plan.name}"
            raise uv.explained(doing, status, uv.plain(watch.raw), self.plan.python)


def _device(path: Path) -> int:
    """The file system that ``path`` lies, or would lie, on."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            return folder.stat().st_dev
    return -1
