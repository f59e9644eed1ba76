#!/usr/bin/python
# Copyright: provision contributors. Licensed under the Apache License 2.0 (see LICENSE).
"""Ansible module: the wheel of a source build on a target."""

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_build
short_description: Builds a framework's wheel from its source, unless it is there
description:
  - A build lies in C(DATA_HOME/provision/builds/KEY); the key is made from the build, the source and the toolchain.
  - The long part runs in a process of its own session. It goes on when the connection is lost, and a second call goes
    along with it. SIGTERM and SIGINT to this module stop it; SIGHUP does not.
author: provision contributors
options:
  build: {description: "What to build, as data (provision/model/build.py).", type: dict, required: true}
  archive:
    description: "The source archive, relative to DATA_HOME/provision; empty for a source of the package index."
    type: str
    default: ""
  archive_sha256: {description: "Its SHA-256, in hexadecimal.", type: str, default: ""}
  uv_version: {description: "Version of the uv program below DATA_HOME/provision/bin.", type: str, required: true}
  uv_environment: {description: "Environment variables for uv.", type: dict, default: {}}
  settings:
    description: What the machine, or its user, has to say about building. Each may be left out, or empty.
    type: dict
    default: {}
    suboptions:
      bazel: {description: "A Bazel or Bazelisk on the target.", type: str}
      bazelisk_base_url: {description: "Where Bazelisk downloads Bazel.", type: str}
      jobs: {description: "Compilers at once; without, from memory and processors.", type: int}
      memory_mib_per_job: {description: "How much memory one job may need, in MiB.", type: int}
      remote_cache: {description: "Address of a Bazel cache.", type: str}
      remote_cache_user: {description: "Who we are there.", type: str}
      remote_cache_password: {description: "The password for it.", type: str}
      remote_cache_upload: {description: "Put results into it.", type: bool, default: true}
      remote_executor: {description: "Address of a Bazel remote executor.", type: str}
      disk_cache: {description: "Folder of Bazel's disk cache.", type: str}
      repository_cache: {description: "Folder of what Bazel has downloaded.", type: str}
      distdir: {description: "Folders with files that Bazel need not download.", type: list, elements: str}
      build_folder: {description: "Where trees and outputs lie. Default CACHE_HOME/provision/build.", type: str}
      until: {description: "How far to go.", type: str, choices: ["", preflight, configure, build], default: ""}
      force: {description: "Only note a Bazel of another version.", type: bool, default: false}
  run_id: {description: "The run, for the progress file and the records.", type: str, default: ""}
  controller: {description: "Who runs this, as a waiting user should read it.", type: str, default: ""}
  lock_timeout_s: {description: "How long to wait for another run, in seconds.", type: float, default: 600.0}
"""

EXAMPLES = r"""
- name: Build the wheel
  provision_build:
    build: "{{ provision_builds[0].build }}"
    archive: sources/2f9a7c1e00d3b4a5/source.tar.gz
    archive_sha256: "{{ provision_builds[0].archive_sha256 }}"
    uv_version: 0.13.9
    settings:
      jobs: 8
"""

RETURN = r"""
builds: {description: "The build, and its wheel.", type: list, elements: dict, returned: success}
configured: {description: "What configure wrote (with until configure).", type: dict, returned: success}
removed: {description: "Keys of old builds that were removed.", type: list, elements: str, returned: success}
kind: {description: "What sort of failure it is, for programs.", type: str, returned: failure}
what: {description: "What failed.", type: str, returned: failure}
why: {description: "Why it failed.", type: str, returned: failure}
hint: {description: "What to do.", type: str, returned: failure}
log_tail: {description: "What the failing action wrote.", type: str, returned: failure}
log: {description: "The whole log on the target.", type: str, returned: failure}
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402
from ansible.module_utils.provision_build import present  # noqa: E402
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure  # noqa: E402
from ansible.module_utils.provision_layout import target_layout  # noqa: E402
from ansible.module_utils.provision_process import stoppable  # noqa: E402
from ansible.module_utils.provision_progress import Progress  # noqa: E402

SETTINGS = {
    "bazel": {"type": "str"},
    "bazelisk_base_url": {"type": "str"},
    "jobs": {"type": "int"},
    "memory_mib_per_job": {"type": "int"},
    "remote_cache": {"type": "str"},
    "remote_cache_user": {"type": "str"},
    "remote_cache_password": {"type": "str", "no_log": True},
    "remote_cache_upload": {"type": "bool", "default": True},
    "remote_executor": {"type": "str"},
    "disk_cache": {"type": "str"},
    "repository_cache": {"type": "str"},
    "distdir": {"type": "list", "elements": "str"},
    "build_folder": {"type": "str"},
    "until": {"type": "str", "choices": ["", "preflight", "configure", "build"], "default": ""},
    "force": {"type": "bool", "default": False},
}

ARGUMENTS = {
    "build": {"type": "dict", "required": True},
    "archive": {"type": "str", "default": ""},
    "archive_sha256": {"type": "str", "default": ""},
    "uv_version": {"type": "str", "required": True},
    "uv_environment": {"type": "dict", "default": {}},
    "settings": {"type": "dict", "default": {}, "options": SETTINGS, "apply_defaults": True},
    "run_id": {"type": "str", "default": ""},
    "controller": {"type": "str", "default": ""},
    "lock_timeout_s": {"type": "float", "default": 600.0},
}


def main():
    # no_log: nothing of the arguments goes into the target's syslog
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True, no_log=True)
    layout = target_layout()
    try:
        with stoppable(), Progress(layout.runs, module.params["run_id"], "source_build") as progress:
            result = present(layout, module.params, progress, module.check_mode)
    except Failure as failure:
        module.fail_json(invocation={}, **failure.result())
    except OSError as error:
        module.fail_json(invocation={}, **os_failure(error, "build").result())
    except Interrupted as stop:
        failure = Failure(
            "interrupted", "stopped while building", str(stop), "run the command again: it goes on where it was"
        )
        module.fail_json(invocation={}, **failure.result())
    module.exit_json(invocation={}, **result)


if __name__ == "__main__":
    main()
