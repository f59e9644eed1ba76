"""ansible-playbook run on playbooks/, and what each task returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uv as uv_package
from playbook_target import PLAYBOOKS, Target

BIN = Path(sys.executable).parent
CHECK = """import json, os, sys
print(json.dumps({"what": "{{ braces }} stay {% as they are", "data": sys.argv[1:]}))
raise SystemExit(int(open(os.environ["ANSWER"]).read()) if "ANSWER" in os.environ else 0)
"""


def unsafe(value: Any) -> Any:
    """Strings as data, never as templates: how the controller writes them into its inventory."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, Mapping):
        return {key: unsafe(item) for key, item in value.items()}
    return [unsafe(item) for item in value] if isinstance(value, list) else value


class Site:
    """Runs playbooks against ``targets``: host names, each with its variables."""

    def __init__(self, target: Target, tmp_path: Path, environment: Mapping[str, str] | None = None) -> None:
        self.environment = environment or {"XDG_DATA_HOME": str(target.root.parent)}
        self.target, self.inventory, self.lines = target, tmp_path / "inventory.json", tmp_path / "results.jsonl"
        self.config = tmp_path / "ansible.cfg"
        self.config.write_text("")  # the user's own has no say here
        self.results: dict[tuple[str, str], dict[str, Any]] = {}

    def variables(self, plan: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        commands = [{"id": "check", "argv": ["check.py", "--data", "{data}"]}]
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "provision_plan": unsafe(plan),
            "provision_run_id": "run-1",
            "provision_uv_binary": uv_package.find_uv_bin(),
            "provision_uv_version": "1.2.3",
            "provision_checks": {"check.py": unsafe(CHECK)},
            "provision_check_commands": unsafe(commands),
            "provision_generation": None,
            "provision_compile_bytecode": False,
            **changes,
        }

    def play(self, playbook: str, hosts: Mapping[str, Any], *options: str) -> int:
        """Exit status of ansible-playbook; ``results`` holds each task's result by host and task."""
        self.inventory.write_text(json.dumps({"provision_targets": {"hosts": hosts}}))
        environment = {
            **os.environ,
            **self.environment,
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_results",
            "TASK_RESULTS": str(self.lines),
            "ANSIBLE_CONFIG": str(self.config),
        }
        argv = [BIN / "ansible-playbook", "-i", self.inventory, PLAYBOOKS / playbook, *options]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        assert "WARNING" not in done.stderr, done.stderr
        assert self.lines.exists(), done.stdout + done.stderr
        self.output = self.lines.read_text()
        self.lines.unlink()
        lines = [json.loads(line) for line in self.output.splitlines()]
        self.results = {(line["host"], line["task"]): line["result"] for line in lines}
        return done.returncode

    def result(self, task: str, host: str = "one") -> dict[str, Any]:
        return next(result for (name, title), result in self.results.items() if name == host and title.endswith(task))

    def changed(self) -> list[str]:
        return [title for (_, title), result in self.results.items() if result.get("changed")]
