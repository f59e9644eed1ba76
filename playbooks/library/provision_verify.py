#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: run check scripts with an environment's own Python."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_verify
short_description: Runs check scripts in a generation of an environment
description:
  - Each script answers one question with its exit status (0 yes, 1 no, 2 cannot tell) and one JSON line.
  - A check that fails does not fail the task; RV(passed) says whether all did well, and the generation's state says it.
author: provision contributors
options:
  name: {description: "The environment.", type: str, required: true}
  generation: {description: "Number of the generation; 0 is the current one.", type: int, default: 0}
  scripts: {description: "File names and their texts.", type: dict, required: true}
  commands:
    description:
      - What to run. O(commands.argv) is a script's name and its arguments, with {data} for the folder of MNIST files.
      - O(commands.needs) is the id of an earlier check. Where that one fails, this one is not run, and says why.
    type: list
    elements: dict
    required: true
  run_id: {description: "The run, for the lock and the progress file.", type: str, default: ""}
  controller: {description: "Who runs this, as a waiting user should read it.", type: str, default: ""}
  lock_timeout_s: {description: "How long to wait for another run, in seconds.", type: float, default: 600.0}
"""

EXAMPLES = r"""
- name: Run the checks
  provision_verify:
    name: default
    scripts:
      cpu_flags.py: "{{ lookup('ansible.builtin.file', 'checks/cpu_flags.py') }}"
    commands:
      - id: cpu_flags
        argv: [cpu_flags.py, --need, sse4_2]
"""

RETURN = r"""
passed: {description: "No check failed.", type: bool, returned: success}
checks: {description: "Their answers.", type: list, elements: dict, returned: success}
generation: {description: "The generation that was checked.", type: int, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_layout import target_layout  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402
from ansible.module_utils.provision_progress import Progress  # noqa: E402
from ansible.module_utils.provision_verification import verify  # noqa: E402

COMMAND = {
    "id": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str", "required": True},
    "timeout_s": {"type": "float", "default": 1800.0},
    "needs": {"type": "str", "default": ""},
}

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "generation": {"type": "int", "default": 0},
    "scripts": {"type": "dict", "required": True},
    "commands": {"type": "list", "elements": "dict", "required": True, "options": COMMAND},
    "run_id": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "lock_timeout_s": {"type": "float", "default": 600.0},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    layout = target_layout()
    if module.check_mode:
        module.exit_json(
            invocation={}, skipped=True, msg="checks run only for real", passed=True, checks=[],
            generation=module.params["generation"],
        )  # fmt: skip
    try:
        with stoppable(), Progress(layout.runs, module.params["run_id"], "verification") as progress:
            result = verify(layout, module.params, progress)
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "run the checks").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped while running the checks", str(stop), "run the command again")
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, changed=False, **result)


if __name__ == "__main__":
    main()
