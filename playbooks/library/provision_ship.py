#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: which files are missing below DATA_HOME/provision, and putting those that came in their places.

The action plugin of the same name calls it before and after it copies files over.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_ship
short_description: Brings files from the controller to DATA_HOME/provision, where theirs differ
description:
  - Compares SHA-256 sums first, so that what is there is not sent again; what was sent is compared once more before it
    takes its place, in one step.
author: provision contributors
options:
  files:
    description: "O(files.src) (on the controller), O(files.dest) (relative to DATA_HOME/provision), O(files.sha256),
      O(files.mode). The action plugin sets O(files.staged) (where it has sent the file) and O(files.local)."
    type: list
    elements: dict
  wheels: {description: "Wheels on the controller; each goes to a folder C(wheels/SUM).", type: list, elements: path}
  archives:
    description: "Source archives: O(archives.archive) (on the controller; may be empty) and O(archives.archive_sha256).
      Each goes to a folder C(sources/SUM)."
    type: list
    elements: dict
  mnist: {description: "MNIST's IDX files on the controller. They go to C(mnist).", type: list, elements: path}
"""

EXAMPLES = r"""
- name: Bring the uv program
  provision_ship:
    files:
      - {src: /usr/local/bin/uv, dest: bin/uv-0.13.9, mode: "0755"}
"""

RETURN = r"""
missing: {description: "Files that were not there, or were others.", type: list, elements: str, returned: success}
folders: {description: "Their folders below DATA_HOME/provision.", type: list, elements: str, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_layout import target_layout  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402
from ansible.module_utils.provision_shipping import ship  # noqa: E402

FILE = {
    "src": {"type": "path"},
    "dest": {"type": "str", "required": True},
    "sha256": {"type": "str", "required": True},
    "mode": {"type": "str", "default": "0644"},
    "staged": {"type": "path"},
    "local": {"type": "bool", "default": False},
}

# wheels, archives and mnist never reach the target: the action plugin turns them into files
ARGUMENTS = {"files": {"type": "list", "elements": "dict", "required": True, "options": FILE}}


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        with stoppable():
            result = ship(target_layout(), module.params["files"], module.check_mode)
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "put a file in its place").result())
    except Interrupted as stop:
        failure = Failure(
            "interrupted", "stopped while putting a file in its place", str(stop), "run the command again"
        )
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
