"""Run the checks of one generation, and write down whether it passed."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_checks as checks
from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_install import owner
from ansible.module_utils.provision_layout import Layout, home
from ansible.module_utils.provision_lock import locked
from ansible.module_utils.provision_process import STOP_SIGNALS, run
from ansible.module_utils.provision_progress import Progress


def verify(layout: Layout, params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Every check's answer. Raises Failure where there is no generation that could be checked."""
    name = params["name"]
    environment = layout.environment(name)
    for bad in checks.script_names(params["scripts"]):
        raise Failure("bad_input", f"a check script cannot be called {bad!r}")
    with locked(
        environment / "lock", name, owner(params), params["lock_timeout_s"], lambda who: progress.say(f"waiting: {who}")
    ) as lock:
        number = params["generation"] or generations.current_number(environment)
        if number is None:
            raise Failure(
                "no_generation", f"environment {name} has no current generation", "", "run `provision up` first"
            )
        generation = generations.chosen(generations.all_found(environment), number, name)
        answers = _answers(layout, params, generation, progress, lock)
        passed = all(answer["status"] != "fail" for answer in answers)
        _record(generation, passed)
        return {"name": name, "generation": number, "passed": passed, "checks": answers}


def _answers(
    layout: Layout, params: Mapping[str, Any], generation: generations.Found, progress: Progress, lock: int
) -> list[dict[str, Any]]:
    venv = generation.path / "venv"
    variables = checks.check_variables(os.environ, checks.plan_variables(_plan(generation.path)), venv, home())
    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="provision-checks-") as folder:
        scripts = Path(folder)
        for file, text in params["scripts"].items():
            (scripts / file).write_text(text, encoding="utf-8")
        for command in params["commands"]:
            stopped = checks.gated(command, answers)
            if stopped is not None:
                answers.append(stopped)
                continue
            progress.say(command["id"])
            argv = checks.check_argv(venv / "bin" / "python", scripts, command["argv"], layout.mnist)
            heard, begun = checks.Heard(), time.monotonic()
            timeout_s = command["timeout_s"]
            try:
                status = run(argv, env=variables, hear=heard.hear, cwd=folder, timeout_s=timeout_s, hold=[lock])
            except OSError as error:
                what, hint = (
                    "the environment's Python does not run",
                    "run `provision up` again: it makes a new generation",
                )
                raise Failure("python_missing", what, f"{argv[0]}: {error.strerror}", hint) from error
            if -status in STOP_SIGNALS:
                raise Interrupted(f"{command['id']} got signal {-status}")
            answers.append(checks.outcome(command["id"], status, heard, time.monotonic() - begun, timeout_s))
    return answers


def _plan(path: Path) -> Any:
    try:
        return json.loads((path / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _record(generation: generations.Found, passed: bool) -> None:
    """A generation that has drifted is no longer what was verified or not: its state stays."""
    if generation.verified != passed and not generation.drifted and generation.state is not None:
        state = json.dumps({**generation.state, "verified": passed}, indent=2, ensure_ascii=False) + "\n"
        write_atomically(generation.path / "state.json", state)
