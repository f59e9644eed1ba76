#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: whether an installed NVIDIA driver works, after the reboot that it needed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_driver_confirm
short_description: Sees that the NVIDIA driver works
description:
  - The module is loaded, of the right kind, of one release with the libraries, and every GPU answers.
  - Where a reboot is still to come RV(reboot) says so; where it was rebooted and does not work, fails with the reason.
author: provision contributors
options:
  branch: {description: "Branch of the driver.", type: str, required: true}
  module: {description: "Kind of kernel module.", type: str, choices: [open, proprietary], required: true}
  gpus: {description: "How many GPUs must answer; 0 is as many as the bus has.", type: int, default: 0}
  initramfs: {description: "The command that rebuilds it, for the undo.", type: list, elements: str, default: []}
  machine_root: {description: "What stands for / in readings of the machine.", type: str, default: ""}
  run_id: {description: "The run, for the progress file.", type: str, default: ""}
"""

EXAMPLES = r"""
- name: Confirm the NVIDIA driver
  provision_driver_confirm:
    branch: "580"
    module: open
    gpus: 2
"""

RETURN = r"""
state: {description: "confirmed, or installed where a reboot is still to come.", type: str, returned: success}
version: {description: "Of the driver.", type: str, returned: success}
reboot: {description: "Whether a reboot is needed, and why.", type: dict, returned: success}
persistence: {description: "Whether GPUs stay initialised while nobody uses them.", type: bool, returned: success}
kind: {description: "What sort of failure it is, for programs.", type: str, returned: failure}
what: {description: "What failed.", type: str, returned: failure}
why: {description: "Why it failed.", type: str, returned: failure}
hint: {description: "What to do.", type: str, returned: failure}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_driver_box import Box  # noqa: E402
from ansible.module_utils.provision_driver_confirm import confirm  # noqa: E402
from ansible.module_utils.provision_driver_worker import done_by  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402

ARGUMENTS = {
    "branch": {"type": "str", "required": True},
    "module": {"type": "str", "choices": ["open", "proprietary"], "required": True},
    "gpus": {"type": "int", "default": 0},
    "initramfs": {"type": "list", "elements": "str", "default": []},
    "machine_root": {"type": "str", "default": ""},
    "run_id": {"type": "str", "default": ""},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        with stoppable():
            result = done_by(
                lambda progress: confirm(Box(params["machine_root"], say=progress.say), params, module.check_mode),
                params["run_id"], "nvidia_driver",
            )  # fmt: skip
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "confirm the NVIDIA driver").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped while confirming the NVIDIA driver", str(stop))
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
