"""One check script, run again and again in several generations: what measuring one against another takes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_checks as checks
from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_layout import Layout, home
from ansible.module_utils.provision_process import STOP_SIGNALS, run


class Workload:
    """A command of ``provision_verify`` (id, argv, timeout_s) with its scripts in ``folder``; ``lock`` is held by each
    child too."""

    def __init__(self, layout: Layout, command: Mapping[str, Any], folder: Path, lock: int) -> None:
        self.layout, self.command, self.folder, self.lock = layout, command, folder, lock

    def run(self, generation: generations.Found) -> dict[str, Any]:
        """The check's answer in that generation, as `provision verify` would get it. Writes nothing down.

        Raises Failure where the generation's Python does not run, Interrupted where a signal ended the check.
        """
        venv = generation.path / "venv"
        variables = checks.check_variables(os.environ, checks.plan_variables(plan_of(generation.path)), venv, home())
        argv = checks.check_argv(venv / "bin" / "python", self.folder, self.command["argv"], self.layout.mnist)
        heard, begun, timeout_s = checks.Heard(), time.monotonic(), float(self.command["timeout_s"])
        try:
            status = run(
                argv, env=variables, hear=heard.hear, cwd=str(self.folder), timeout_s=timeout_s, hold=[self.lock]
            )
        except OSError as error:
            what = f"the Python of generation {generation.number} does not run"
            hint = "run `provision up` again: it makes a new generation"
            raise Failure("python_missing", what, f"{argv[0]}: {error.strerror}", hint) from error
        if -status in STOP_SIGNALS:
            raise Interrupted(f"{self.command['id']} got signal {-status}")
        return checks.outcome(self.command["id"], status, heard, time.monotonic() - begun, timeout_s)


@contextmanager
def workload(layout: Layout, command: Mapping[str, Any], scripts: Mapping[str, str], lock: int) -> Iterator[Workload]:
    """``command`` ready to be run, its scripts in a folder of their own. Raises Failure for a script's bad name."""
    for bad in checks.script_names(scripts):
        raise Failure("bad_input", f"a check script cannot be called {bad!r}")
    with tempfile.TemporaryDirectory(prefix="provision-checks-") as folder:
        for file, text in scripts.items():
            (Path(folder) / file).write_text(text, encoding="utf-8")
        yield Workload(layout, command, Path(folder), lock)


def plan_of(path: Path) -> Any:
    """The plan that the generation in the folder ``path`` was made from; None where it cannot be read."""
    try:
        return json.loads((path / "plan.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
