#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: measure a source build against the stock wheel, and make the winner current."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_compare
short_description: Measures two generations of an environment against each other and makes the winner current
description:
  - Runs the same workload in the generation with the source build and in the one with the stock wheel, in turn, with
    their own Pythons. One run of each is not counted.
  - Where the stock wheel is kept, its state.json says that it answers the source build's plan.
  - The environment's lock is held throughout.
author: provision contributors
options:
  name: {description: "The environment.", type: str, required: true}
  build_generation: {description: "Number of the generation with the build.", type: int, required: true}
  wheel_generation: {description: "Number of the generation with the stock wheel.", type: int, required: true}
  framework: {description: "What was built, for the result.", type: str, required: true}
  fingerprint: {description: "Fingerprint of the plan with the source build.", type: str, required: true}
  scripts: {description: "File names and their texts.", type: dict, required: true}
  command:
    description:
      - The workload, as O(command) of provision_verify has it. Its answer's data must hold C(samples_per_s).
    type: dict
    required: true
  pairs: {description: "How often both run.", type: int, default: 3}
  keep:
    description:
      - V(faster) keeps the build where it is faster in the median and in more than half of the pairs.
      - V(build) and V(wheel) keep that one, and the figures are taken all the same.
      - One that the workload fails on is never kept.
    type: str
    choices: [faster, build, wheel]
    default: faster
  run_id: {description: "The run, for the lock and the progress file.", type: str, default: ""}
  controller: {description: "Who runs this, as a waiting user should read it.", type: str, default: ""}
  lock_timeout_s: {description: "How long to wait for another run, in seconds.", type: float, default: 600.0}
"""

EXAMPLES = r"""
- name: Compare the build with the stock wheel
  provision_compare:
    name: default
    build_generation: 4
    wheel_generation: 3
    framework: numpy
    fingerprint: "{{ provision_plan.fingerprint }}"
    scripts: "{{ provision_checks }}"
    command: {id: "mnist:numpy", argv: [mnist.py, --framework, numpy, --data, "{data}"], timeout_s: 1800}
"""

RETURN = r"""
comparison:
  description: "framework, pairs (samples/s of each), ratio (median of build by wheel), lowest, highest, kept, why,
    decided_by (figures, request or failure), build_generation, wheel_generation. The three ratios are null where one
    side failed before the first pair."
  type: dict
  returned: success
generation: {description: "The generation that is current now.", type: int, returned: success}
previous: {description: "The one that was.", type: int, returned: success}
path: {description: "Folder of the environment.", type: str, returned: success}
activate: {description: "The script that activates it.", type: str, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_compare import compare  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_layout import target_layout  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402
from ansible.module_utils.provision_progress import Progress  # noqa: E402

COMMAND = {
    "id": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str", "required": True},
    "timeout_s": {"type": "float", "default": 1800.0},
    # of a verification: what the check waits for there has passed before anything is compared
    "needs": {"type": "str", "default": ""},
}

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "build_generation": {"type": "int", "required": True},
    "wheel_generation": {"type": "int", "required": True},
    "framework": {"type": "str", "required": True},
    "fingerprint": {"type": "str", "required": True},
    "scripts": {"type": "dict", "required": True},
    "command": {"type": "dict", "required": True, "options": COMMAND},
    "pairs": {"type": "int", "default": 3},
    "keep": {"type": "str", "choices": ["faster", "build", "wheel"], "default": "faster"},
    "run_id": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "lock_timeout_s": {"type": "float", "default": 600.0},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    layout = target_layout()
    if module.check_mode:
        module.exit_json(invocation={}, skipped=True, changed=False, msg="what is faster shows only for real")
    try:
        with stoppable(), Progress(layout.runs, module.params["run_id"], "comparison") as progress:
            result = compare(layout, module.params, progress)
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "compare the build with the stock wheel").result())
    except Interrupted as stop:
        what = "stopped while comparing the build with the stock wheel"
        module.fail_json(invocation={}, **Failure("interrupted", what, str(stop), "run the command again").result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
