#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: generations of a Python environment on a target."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_environment
short_description: Makes, switches and removes generations of an environment
description:
  - An environment lies in C(DATA_HOME/provision/envs/NAME). Each plan gets a generation of its own there, and
    C(current) names the one in use.
  - One run at a time works on an environment; a second one waits.
author: provision contributors
options:
  state:
    description:
      - V(present) makes sure that a complete generation of O(plan) is there.
      - V(current) makes O(generation) the one in use; V(previous) the newest verified one before it.
      - V(absent) removes the environment, or O(generation) of it.
    type: str
    choices: [present, current, previous, absent]
    default: present
  plan: {description: "The plan as data, with its lock. Needed for V(present).", type: dict}
  name: {description: "The environment. Needed for every state but V(present).", type: str}
  generation: {description: "Number of a generation, from 1. Without it V(absent) removes all.", type: int}
  uv_version: {description: "Version of the uv program below DATA_HOME/provision/bin.", type: str}
  uv_environment: {description: "Environment variables for uv.", type: dict, default: {}}
  find_links: {description: "Folders with wheels below DATA_HOME/provision.", type: list, elements: str, default: []}
  compile_bytecode: {description: "Compile what was installed: the first import is quick.", type: bool, default: true}
  activate: {description: "Make the generation the one in use as well. For V(present).", type: bool, default: false}
  run_id: {description: "The run, for the lock, the progress file and state.json.", type: str, default: ""}
  controller: {description: "Who runs this, as a waiting user should read it.", type: str, default: ""}
  lock_timeout_s: {description: "How long to wait for another run, in seconds.", type: float, default: 600.0}
"""

EXAMPLES = r"""
- name: Make the generation
  provision_environment:
    plan: "{{ provision_plan }}"
    uv_version: 0.13.9
- name: Roll back
  provision_environment:
    state: previous
    name: default
"""

RETURN = r"""
generation: {description: "Number of the generation.", type: int, returned: success}
path: {description: "Folder of the environment.", type: str, returned: success}
kind: {description: "What sort of failure it is, for programs.", type: str, returned: failure}
what: {description: "What failed.", type: str, returned: failure}
why: {description: "Why it failed.", type: str, returned: failure}
hint: {description: "What to do.", type: str, returned: failure}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_install import present  # noqa: E402
from ansible.module_utils.provision_layout import target_layout  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402
from ansible.module_utils.provision_progress import Progress  # noqa: E402
from ansible.module_utils.provision_switch import absent, current, previous  # noqa: E402

STATES = {"present": present, "current": current, "previous": previous, "absent": absent}

ARGUMENTS = {
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
    "plan": {"type": "dict"},
    "name": {"type": "str"},
    "generation": {"type": "int"},
    "uv_version": {"type": "str"},
    "uv_environment": {"type": "dict", "default": {}},
    "find_links": {"type": "list", "elements": "str", "default": []},
    "compile_bytecode": {"type": "bool", "default": True},
    "activate": {"type": "bool", "default": False},
    "run_id": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "lock_timeout_s": {"type": "float", "default": 600.0},
}


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[
            ("state", "present", ["plan", "uv_version"]),
            ("state", "current", ["name", "generation"]),
            ("state", "previous", ["name"]),
            ("state", "absent", ["name"]),
        ],
        no_log=True,  # nothing of the arguments goes into the target's syslog
    )
    layout = target_layout()
    try:
        with stoppable(), Progress(layout.runs, module.params["run_id"], "environment") as progress:
            result = STATES[module.params["state"]](layout, module.params, progress, module.check_mode)
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "work on the environment").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped while working on the environment", str(stop), "run the command again")
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
