#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: what stands against installing the NVIDIA driver on a host. Changes nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_driver_preflight
short_description: Looks whether the NVIDIA driver can be installed, and which packages exactly
description:
  - Fails where something stands against it, with everything that does; changes nothing.
  - RV(chosen) is what M(provision_driver) takes.
author: provision contributors
options:
  action: {description: "What is to be done.", type: str, choices: [install, upgrade], default: install}
  manager: {description: "The package manager, apt or dnf.", type: str, required: true}
  branch: {description: "Branch of the driver.", type: str, required: true}
  version: {description: "The release that is meant; empty for the newest.", type: str, default: ""}
  module: {description: "Kind of kernel module.", type: str, choices: [open, proprietary], required: true}
  build: {description: "Where the module comes from.", type: str, choices: ["", prebuilt, dkms], default: ""}
  packages: {description: "Packages; empty for the first set that fits.", type: list, elements: dict, default: []}
  headers: {description: "Packages that compiling needs.", type: list, elements: str, default: []}
  next_kernel: {description: "The kernel that boots next, if it is not the running one.", type: str, default: ""}
  components: {description: "Parts of the archive that must be on.", type: list, elements: str, default: []}
  stream: {description: "Module stream of dnf.", type: str, default: ""}
  lock: {description: "Pin or version lock.", type: str, default: ""}
  repositories: {description: "Repositories besides the distribution's.", type: list, elements: dict, default: []}
  secure_boot: {description: "Packages that enrol a key.", type: list, elements: str, default: []}
  sets: {description: "The table of packages.", type: list, elements: dict, default: []}
  set_repositories: {description: "The table of repositories.", type: list, elements: dict, default: []}
  distribution: {description: "Name of the distribution.", type: str, default: ""}
  release: {description: "Its release.", type: str, default: ""}
  mirror: {description: "Address of a mirror of NVIDIA's repositories.", type: str, default: ""}
  key_url: {description: "Address of its key.", type: str, default: ""}
  fingerprint: {description: "Fingerprint of its key.", type: str, default: ""}
  machine_root: {description: "What stands for / in readings of the machine.", type: str, default: ""}
  run_id: {description: "The run, for the progress file.", type: str, default: ""}
"""

EXAMPLES = r"""
- name: Look at the box
  provision_driver_preflight:
    manager: apt
    branch: "580"
    module: open
    sets: "{{ __nvidia_driver_sets }}"
    set_repositories: "{{ __nvidia_driver_repositories }}"
    distribution: Debian
    release: "12"
"""

RETURN = r"""
chosen: {description: "What is to be installed.", type: dict, returned: success}
packages: {description: "Exact versions.", type: list, elements: dict, returned: success}
notes: {description: "What its user should know.", type: list, elements: str, returned: success}
console: {description: "What will be to do at the box's own screen.", type: list, elements: str, returned: success}
kind: {description: "What sort of failure it is, for programs.", type: str, returned: failure}
what: {description: "What failed.", type: str, returned: failure}
why: {description: "Why it failed.", type: str, returned: failure}
hint: {description: "What to do.", type: str, returned: failure}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_driver_box import Box  # noqa: E402
from ansible.module_utils.provision_driver_preflight import look  # noqa: E402
from ansible.module_utils.provision_driver_worker import done_by  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_packages import manager  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402

TEXTS = (
    "version",
    "next_kernel",
    "stream",
    "lock",
    "distribution",
    "release",
    "mirror",
    "key_url",
    "fingerprint",
    "machine_root",
    "run_id",
)
LISTS = {"headers": "str", "secure_boot": "str", "components": "str", "packages": "dict", "repositories": "dict",
         "sets": "dict", "set_repositories": "dict"}  # fmt: skip

ARGUMENTS = {
    "action": {"type": "str", "choices": ["install", "upgrade"], "default": "install"},
    "manager": {"type": "str", "required": True},
    "branch": {"type": "str", "required": True},
    "module": {"type": "str", "choices": ["open", "proprietary"], "required": True},
    "build": {"type": "str", "choices": ["", "prebuilt", "dkms"], "default": ""},
    **{name: {"type": "str", "default": ""} for name in TEXTS},
    **{name: {"type": "list", "elements": kind, "default": []} for name, kind in LISTS.items()},
}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params

    def work(progress):
        box = Box(params["machine_root"], say=progress.say)
        return look(box, manager(params["manager"], box.run, hear=box.say), params)

    try:
        with stoppable():
            result = done_by(work, params["run_id"], "nvidia_driver")
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "look at the host").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped while looking at the host", f"{stop}; nothing was changed")
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
