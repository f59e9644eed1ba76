"""A target in a folder, for the tests of playbooks/, and its Python files importable."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
import uv as uv_package
from playbook_wheels import Wheel

PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
# on a target, Ansible puts them into this package as well
ansible.module_utils.__path__.append(str(PLAYBOOKS / "module_utils"))

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
DRIVER = """
import json, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1])
from pathlib import Path
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_install import present
from ansible.module_utils.provision_layout import Layout
from ansible.module_utils.provision_process import stoppable
from ansible.module_utils.provision_progress import Progress
from ansible.module_utils.provision_switch import current
layout = Layout(Path(sys.argv[2]))
params = json.loads(sys.argv[3])
try:
    with stoppable(), Progress(layout.runs, params["run_id"], "environment") as progress:
        result = present(layout, params, progress, False)
        if params["then_switch"]:
            current(layout, {**params, "generation": result["generation"]}, progress, False)
    print(json.dumps(result))
except Failure as failure:
    print(json.dumps({"failed": True, **failure.result()}))
except Interrupted as stop:
    print(json.dumps({"failed": True, "kind": "interrupted", "why": str(stop)}))
"""


class Target:
    """DATA_HOME/provision in a folder whose name is not plain, with uv in it."""

    def __init__(self, root: Path, home: Path) -> None:
        from ansible.module_utils.provision_layout import Layout

        self.root, self.home = root, home
        self.layout = Layout(root)
        (root / "bin").mkdir(parents=True)
        shutil.copy(uv_package.find_uv_bin(), self.layout.uv("here"))
        self.wheels = home / "wheels"
        self.wheels.mkdir()

    def lock(self, *wheels: Wheel) -> str:
        """A lock of wheels that lie in a folder of this machine: no index is asked."""
        lines = [f"{one.name}=={one.version} --hash=sha256:{one.sha256}" for one in wheels]
        return "\n".join(["--no-index", f"--find-links {self.wheels.as_uri()}", *lines, ""])

    def plan(self, lock: str, fingerprint: str = "f1", **changes: Any) -> dict[str, Any]:
        stack = {
            "framework": "demo",
            "version": "1.0",
            "device": "cpu",
            "python": changes.pop("python", PYTHON),
            "environment": changes.pop("environment", {"DEMO": "it's $HOME"}),
        }
        plan = {"schema": 1, "request": {"name": "default"}, "stack": [stack], "fingerprint": fingerprint, "lock": lock}
        return {**plan, **changes}

    def params(self, plan: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """What AnsibleModule would give the functions."""
        params = {
            "plan": plan,
            "name": "default",
            "generation": None,
            "uv_version": "here",
            "uv_environment": {},
            "find_links": [],
            "compile_bytecode": False,
            "run_id": "run-1",
            "controller": "me@laptop",
            "lock_timeout_s": 30.0,
            "activate": False,
            "then_switch": False,
        }
        return {**params, **changes}

    def make(self, plan: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        from ansible.module_utils.provision_install import present
        from ansible.module_utils.provision_progress import Progress

        with Progress(self.layout.runs, "run-1", "environment") as progress:
            return present(self.layout, self.params(plan, **changes), progress, False)

    def switch(self, state: str, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
        from ansible.module_utils import provision_switch
        from ansible.module_utils.provision_progress import Progress

        function = getattr(provision_switch, state)
        return function(self.layout, self.params(**changes), Progress(self.layout.runs, "", state), check_mode)

    def start(self, plan: Mapping[str, Any], **changes: Any) -> subprocess.Popen[str]:
        """The same as ``make`` in a process of its own, marked as a run is, with its group."""
        argv = [sys.executable, "-c", DRIVER, str(PLAYBOOKS / "module_utils"), str(self.root)]
        return subprocess.Popen(
            [*argv, json.dumps(self.params(plan, **changes))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PROVISION_RUN": str(self.root)},
            start_new_session=True,
        )

    @property
    def environment(self) -> Path:
        return self.layout.environment("default")

    def generation(self, number: int) -> Path:
        return self.environment / "generations" / str(number)

    def numbers(self) -> list[int]:
        return sorted(int(path.name) for path in (self.environment / "generations").iterdir())

    def copied(self, number: int, fingerprint: str) -> None:
        """Generation ``number`` as if made from another plan: a copy of the first."""
        shutil.copytree(self.generation(1), self.generation(number), symlinks=True)
        state = json.loads((self.generation(1) / "state.json").read_text())
        (self.generation(number) / "state.json").write_text(json.dumps({**state, "fingerprint": fingerprint}))

    def verified(self, number: int) -> None:
        """As if its checks had passed."""
        state = json.loads((self.generation(number) / "state.json").read_text())
        (self.generation(number) / "state.json").write_text(json.dumps({**state, "verified": True}))


def marked(mark: str) -> list[int]:
    """Processes whose environment holds PROVISION_RUN=mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            variables = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if f"PROVISION_RUN={mark}".encode() in variables:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def kill_marked(mark: str, number: int = signal.SIGKILL) -> None:
    for pid in marked(mark):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
