#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: packages that make one outcome, asked for first, installed in exact versions, and taken away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_packages
short_description: Installs packages whose candidates were asked for before any change
description:
  - With O(state=available) the repositories are asked in a folder of their own, and nothing changes.
  - With O(state=present) RV(wanted) of that is installed, in one operation that a lost connection does not stop.
  - With O(state=absent) what was brought is removed, with what came along and serves nothing else.
author: provision contributors
options:
  state: {description: "What to do.", type: str, choices: [available, present, absent], required: true}
  name: {description: "The outcome: the name of its record.", type: str, required: true}
  manager: {description: "The package manager; empty where there is none that is known.", type: str, default: ""}
  packages: {description: "name, repository, version (what it begins with).", type: list, elements: dict, default: []}
  repositories: {description: "Of the packages.", type: list, elements: dict, default: []}
  wanted: {description: "name and exact version.", type: list, elements: dict, default: []}
  coming: {description: "Packages that come along.", type: list, elements: str, default: []}
  sets: {description: "Rows of a table, for where no packages are named.", type: list, elements: dict, default: []}
  set_repositories: {description: "Their repositories.", type: list, elements: dict, default: []}
  distribution: {description: "The distribution.", type: str, default: ""}
  release: {description: "Its release.", type: str, default: ""}
  version: {description: "The version that is meant.", type: str, default: ""}
  cuda_version: {description: "CUDA's, for packages that are made for one.", type: str, default: ""}
  mirror: {description: "In place of NVIDIA's address.", type: str, default: ""}
  key_url: {description: "The mirror's key.", type: str, default: ""}
  fingerprint: {description: "The fingerprint of the mirror's key.", type: str, default: ""}
  refuse: {description: "Patterns of packages that must not come along.", type: list, elements: str, default: []}
  pin: {description: "Versions to stay at (from O(state=available)).", type: str, default: ""}
  pin_names: {description: "Patterns of packages that stay at the pin.", type: str, default: ""}
  lock_wait_s: {description: "How long another program may change packages.", type: float, default: 600.0}
"""

EXAMPLES = r"""
- name: See what can be had
  provision_packages:
    state: available
    name: cuda_toolkit
    manager: apt
    packages: [{name: cuda-toolkit-12-6, repository: distribution, version: "12."}]
"""

RETURN = r"""
packages: {description: "With their versions.", type: list, elements: dict, returned: success}
coming: {description: "Packages that are not there yet.", type: list, elements: str, returned: available}
choice: {description: "Packages as they were asked for.", type: list, elements: dict, returned: available}
repositories: {description: "To be configured, or free to be removed.", type: list, elements: dict, returned: success}
held: {description: "What stays at its version.", type: list, elements: str, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_packages import manager  # noqa: E402
from ansible.module_utils.provision_packages_run import patient  # noqa: E402
from ansible.module_utils.provision_packages_state import absent, available, present  # noqa: E402

PACKAGE = {
    "name": {"type": "str", "required": True},
    "repository": {"type": "str", "default": "distribution"},
    "version": {"type": "str", "default": ""},
}
TEXTS = (
    "manager", "distribution", "release", "version", "cuda_version", "mirror", "fingerprint", "pin", "pin_names",
)  # fmt: skip
ROWS = ("repositories", "wanted", "sets", "set_repositories")
ARGUMENTS = {
    "state": {"type": "str", "choices": ["available", "present", "absent"], "required": True},
    "name": {"type": "str", "required": True},
    "packages": {"type": "list", "elements": "dict", "options": PACKAGE, "default": []},
    "refuse": {"type": "list", "elements": "str", "default": []},
    "coming": {"type": "list", "elements": "str", "default": []},
    "lock_wait_s": {"type": "float", "default": 600.0},
    "key_url": {"type": "str", "default": "", "no_log": False},
    **{name: {"type": "str", "default": ""} for name in TEXTS},
    **{name: {"type": "list", "elements": "dict", "default": []} for name in ROWS},
}


def answer(params, dry):
    packages = manager(params["manager"], lock_wait_s=params["lock_wait_s"])
    if params["state"] == "available":
        return {"changed": False, **available(packages, params)}
    return (present if params["state"] == "present" else absent)(packages, params, dry)


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        with patient():
            result = answer(module.params, module.check_mode)
    except Failure as failure:
        module.fail_json(**failure.result())
    except OSError as error:
        module.fail_json(**os_failure(error, "change packages").result())
    except Interrupted as stop:
        failure = Failure("interrupted", "stopped between two operations", str(stop), "run the command again")
        module.fail_json(**failure.result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
