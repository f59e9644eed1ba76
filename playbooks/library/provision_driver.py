#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: the NVIDIA driver of a host, installed as one transaction, or removed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_driver
short_description: Installs the NVIDIA driver, or removes it
description:
  - Packages, a kernel module that was really built, nouveau kept out, holds, a record; a stage that fails is undone.
  - The work is done in a process of its own. It goes on when the connection is lost, and a package operation that has
    begun is always finished; a second call waits for it and goes on where it stopped.
  - Reboots nothing. RV(reboot) says whether a reboot is asked for, and why.
author: provision contributors
options:
  state: {description: "Whether the driver is there.", type: str, choices: [present, absent], default: present}
  action: {description: "Keep what fits, or take the newest.", type: str, choices: [install, upgrade], default: install}
  manager: {description: "The package manager, apt or dnf.", type: str, required: true}
  chosen: {description: "What M(provision_driver_preflight) has chosen.", type: dict, default: {}}
  initramfs: {description: "The command that rebuilds it; {kernel} is filled.", type: list, elements: str, default: []}
  block_nouveau: {description: "Keep nouveau from being loaded.", type: bool, default: true}
  machine_root: {description: "What stands for / in readings of the machine.", type: str, default: ""}
  run_id: {description: "The run, for the progress file.", type: str, default: ""}
"""

EXAMPLES = r"""
- name: Install the NVIDIA driver
  provision_driver:
    manager: apt
    chosen: "{{ nvidia_driver_seen.chosen }}"
    initramfs: [update-initramfs, -u, -k, "{kernel}"]
  register: nvidia_driver_done
"""

RETURN = r"""
state: {description: "installed, confirmed, removed; kept where a stage was undone.", type: str, returned: always}
version: {description: "Of the driver.", type: str, returned: always}
branch: {description: "Its branch.", type: str, returned: always}
module: {description: "Kind of kernel module.", type: str, returned: always}
packages: {description: "The driver's packages.", type: list, elements: dict, returned: success}
reboot: {description: "Whether a reboot is needed, and why.", type: dict, returned: always}
console: {description: "What is to be typed or chosen at the console.", type: list, elements: str, returned: always}
held: {description: "Packages that upgrades leave alone.", type: list, elements: str, returned: always}
undo: {description: "Commands that take it back, in order.", type: list, elements: str, returned: always}
kind: {description: "What sort of failure it is, for programs.", type: str, returned: failure}
what: {description: "What failed.", type: str, returned: failure}
why: {description: "Why it failed.", type: str, returned: failure}
hint: {description: "What to do.", type: str, returned: failure}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_driver_check import foreseen  # noqa: E402
from ansible.module_utils.provision_driver_worker import carried_out, done_by  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "action": {"type": "str", "choices": ["install", "upgrade"], "default": "install"},
    "manager": {"type": "str", "required": True},
    "chosen": {"type": "dict", "default": {}},
    "initramfs": {"type": "list", "elements": "str", "default": []},
    "block_nouveau": {"type": "bool", "default": True},
    "machine_root": {"type": "str", "default": ""},
    "run_id": {"type": "str", "default": ""},
}


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("state", "present", ["chosen"])]
    )
    params = module.params

    def work(progress):
        return foreseen(params) if module.check_mode else carried_out(params, progress)

    try:
        with stoppable():
            result = done_by(work, params["run_id"], "nvidia_driver")
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "change the NVIDIA driver").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped before the NVIDIA driver was changed", str(stop))
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
