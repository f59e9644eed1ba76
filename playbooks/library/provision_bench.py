#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: measure a workload in generations of environments, and change nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_bench
short_description: Measures a workload in one generation, or in two in turn
description:
  - Runs a check script with the generations' own Pythons and returns what it measured. Nothing is written down.
  - The environments' locks are held, so that no install runs beside it.
author: provision contributors
options:
  sides:
    description:
      - Where to measure. C(name) of an environment and C(generation), a number; 0 is the current one.
    type: list
    elements: dict
    required: true
  rounds: {description: "How often, with the sides in turn.", type: int, default: 1}
  scripts: {description: "File names and their texts.", type: dict, required: true}
  command: {description: "The workload, as O(command) of provision_verify has it.", type: dict, required: true}
  run_id: {description: "The run, for the lock and the progress file.", type: str, default: ""}
  controller: {description: "Who runs this, as a waiting user should read it.", type: str, default: ""}
  lock_timeout_s: {description: "How long to wait for another run, in seconds.", type: float, default: 600.0}
"""

EXAMPLES = r"""
- name: Measure the workload
  provision_bench:
    sides: [{name: default, generation: 4}, {name: default, generation: 3}]
    rounds: 3
    scripts: {matmul.py: "{{ lookup('ansible.builtin.file', 'checks/matmul.py') }}"}
    command: {id: matmul, argv: [matmul.py]}
"""

RETURN = r"""
sides:
  description: "For each of O(sides) its name, generation, summary, and answers: each round's data."
  type: list
  elements: dict
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_bench import bench  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_layout import target_layout  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402
from ansible.module_utils.provision_progress import Progress  # noqa: E402

SIDE = {"name": {"type": "str", "required": True}, "generation": {"type": "int", "default": 0}}

COMMAND = {
    "id": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str", "required": True},
    "timeout_s": {"type": "float", "default": 1800.0},
}

ARGUMENTS = {
    "sides": {"type": "list", "elements": "dict", "required": True, "options": SIDE},
    "rounds": {"type": "int", "default": 1},
    "scripts": {"type": "dict", "required": True},
    "command": {"type": "dict", "required": True, "options": COMMAND},
    "run_id": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "lock_timeout_s": {"type": "float", "default": 600.0},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    layout = target_layout()
    if module.check_mode:
        module.exit_json(invocation={}, skipped=True, changed=False, msg="figures come only for real", sides=[])
    try:
        with stoppable(), Progress(layout.runs, module.params["run_id"], "bench") as progress:
            result = bench(layout, module.params, progress)
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "measure the workload").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped while measuring", str(stop), "run the command again")
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
