"""One role played on a box over SSH, as playbooks/nvidia.yml plays it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.gpu_box import GpuBox
from playbook_site import Site
from playbook_target import PLAYBOOKS


class Roles:
    """``play`` returns whether it went well; ``site`` has each task's result."""

    def __init__(self, box: GpuBox, folder: Path) -> None:
        self.box, self._folder = box, folder
        environment = box.fleet.environment(
            ANSIBLE_ROLES_PATH=str(PLAYBOOKS / "roles"),
            ANSIBLE_LIBRARY=str(PLAYBOOKS / "library"),
            ANSIBLE_MODULE_UTILS=str(PLAYBOOKS / "module_utils"),
            ANSIBLE_HOME=str(folder / "ansible"),
        )
        self.site = Site(None, folder, environment)  # type: ignore[arg-type]  # its environment is given

    def play(self, role: str, *options: str, **values: Any) -> bool:
        tasks = [{"name": "Role", "ansible.builtin.include_role": {"name": role}, "vars": values}]
        play = {"hosts": "provision_targets", "gather_facts": False, "become": True, "tasks": tasks}
        book = self._folder / "role.yml"
        book.write_text(json.dumps([play]))
        variables = {**self.box.inventory_variables(), "ansible_python_interpreter": "/usr/bin/python3"}
        return self.site.play(str(book), {"one": variables}, *options) == 0

    def done(self, title: str) -> Mapping[str, Any]:
        return self.site.result(title)

    def told(self) -> str:
        """What the task says that failed in the end."""
        return [result["msg"] for result in self.site.results.values() if result.get("failed")][-1]
