"""Role nvidia_driver played alone on a workstation made of files, by ansible-playbook."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from harness.gpu_box import GpuBox
from playbook_site import BIN
from playbook_target import PLAYBOOKS

PLAY = """\
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - name: The role
      ansible.builtin.include_role:
        name: nvidia_driver
      vars:
        nvidia_driver_machine_root: "{{ provision_machine_root }}"
        nvidia_driver_mirror: "{{ provision_nvidia_mirror }}"
        nvidia_driver_key_url: "{{ provision_nvidia_key_url }}"
        nvidia_driver_fingerprint: "{{ provision_nvidia_fingerprint }}"
"""


class RolePlay:
    """``play()`` runs the role with inputs; ``results`` holds each task's result by its title."""

    def __init__(self, box: GpuBox, folder: Path) -> None:
        self.box, self.folder = box, folder
        (folder / "play.yml").write_text(PLAY)
        (folder / "ansible.cfg").write_text("")
        self.results: dict[str, dict[str, Any]] = {}

    def play(self, *options: str, **inputs: Any) -> int:
        lines = self.folder / "results.jsonl"
        lines.unlink(missing_ok=True)
        given = {f"nvidia_driver_{name}": value for name, value in inputs.items()}
        environment = self.box.fleet.environment(
            ANSIBLE_CONFIG=str(self.folder / "ansible.cfg"),
            ANSIBLE_ROLES_PATH=str(PLAYBOOKS / "roles"),
            ANSIBLE_LIBRARY=str(PLAYBOOKS / "library"),
            ANSIBLE_MODULE_UTILS=str(PLAYBOOKS / "module_utils"),
            ANSIBLE_CALLBACK_PLUGINS=str(Path(__file__).parent / "callbacks"),
            ANSIBLE_CALLBACKS_ENABLED="task_results",
            TASK_RESULTS=str(lines),
        )
        argv = [BIN / "ansible-playbook", "-i", self.box.inventory(), self.folder / "play.yml", "-e", json.dumps(given)]
        done = subprocess.run([*argv, *options], env=environment, capture_output=True, text=True, check=False)
        assert lines.exists(), done.stdout + done.stderr
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
        self.results = {row["task"].rpartition(" | ")[2].rpartition(" : ")[2]: row["result"] for row in rows}
        return done.returncode

    def changed(self) -> list[str]:
        return [title for title, result in self.results.items() if result.get("changed")]
