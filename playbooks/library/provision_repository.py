#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: configure a package repository of NVIDIA's, or take it away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_repository
short_description: Configures a signed package repository
description:
  - Fetches the key, compares its fingerprint (no gpg is needed), and writes the keyring and a deb822 or .repo file.
  - What else on the host configures the same address is switched off, and on again with O(state=absent).
  - NVIDIA's old key 7fa2af80 is taken out of apt's keyrings.
author: provision contributors
options:
  state: {description: "Whether it is configured.", type: str, choices: [present, absent], default: present}
  repository: {description: "id, manager, url, suite, components, key_url, fingerprint.", type: dict, default: {}}
  components:
    description: "Parts of the distribution's own archive (contrib, non-free, restricted) that are to be on."
    type: list
    elements: str
    default: []
  mirror: {description: "In place of NVIDIA's address.", type: str, default: ""}
  key_url: {description: "The mirror's key.", type: str, default: ""}
  fingerprint: {description: "The fingerprint of the mirror's key.", type: str, default: ""}
"""

EXAMPLES = r"""
- name: Configure NVIDIA's repository
  provision_repository:
    repository:
      id: cuda-debian12-x86_64
      manager: apt
      url: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64
      key_url: https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/3bf863cc.pub
      fingerprint: EB693B3035CD5710E231E123A4B469963BF863CC
"""

RETURN = r"""
files: {description: "Paths that changed.", type: list, elements: str, returned: success}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_failure import Failure, os_failure  # noqa: E402
from ansible.module_utils.provision_repository import (  # noqa: E402
    COMPONENTS,
    configure,
    disable_components,
    enable_components,
    remove,
)

REPOSITORY = {
    "id": {"type": "str", "required": True},
    "manager": {"type": "str", "choices": ["apt", "dnf"], "required": True},
    "url": {"type": "str", "required": True},
    "suite": {"type": "str", "default": "/"},
    "components": {"type": "list", "elements": "str", "default": []},
    "key_url": {"type": "str", "required": True},
    "fingerprint": {"type": "str", "required": True},
}

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "repository": {"type": "dict", "options": REPOSITORY},
    "components": {"type": "list", "elements": "str", "default": []},
    "mirror": {"type": "str", "default": ""},
    # an address and a fingerprint: nothing of them is secret
    "key_url": {"type": "str", "default": "", "no_log": False},
    "fingerprint": {"type": "str", "default": ""},
}


def changed_files(params, dry):
    repository, components = params["repository"], params["components"]
    if params["state"] == "absent":
        files = remove(repository, dry=dry) if repository else []
        return files + ([f"/{COMPONENTS}"] if components and disable_components(dry=dry) else [])
    files = []
    if repository:
        files += configure(repository, params["mirror"], params["key_url"], params["fingerprint"], dry=dry)
    if components and enable_components(components, dry=dry):
        files.append(f"/{COMPONENTS}")
    return files


def main():
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        files = changed_files(module.params, module.check_mode)
    except Failure as failure:
        module.fail_json(**failure.result())
    except OSError as error:
        module.fail_json(**os_failure(error, "configure the repository").result())
    module.exit_json(changed=bool(files), files=files)


if __name__ == "__main__":
    main()
