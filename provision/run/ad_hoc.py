"""Hosts that only Ansible reaches (a password, another connection plugin, a template in the address): one script, run
by Ansible's own ad hoc command. 1 to 2 s where ssh takes 0.3 s."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from provision.model.host import Host
from provision.run import play_files
from provision.run.command import Completed, run
from provision.run.inventory import ansible_program

ALIAS = "host"


def run_script(
    host: Host, script: str, *, control_dir: str, timeout_s: float | None, cancel: threading.Event | None
) -> Completed:
    """The script's own status and output. 255 is a host that cannot be reached, with Ansible's message on stderr."""
    with play_files.private_folder() as folder:
        inventory = play_files.write_private(folder / "inventory.json", {"all": {"hosts": {ALIAS: variables(host)}}})
        own = play_files.write_private(folder / "own.json", play_files.own_variables())
        file, results = folder / "script.sh", folder / "results"
        file.write_text(script, encoding="utf-8")
        done = run(
            [
                *(ansible_program("ansible"), ALIAS, "-i", str(inventory), "-e", f"@{own}"),
                *("--tree", str(results), "-m", "ansible.builtin.script"),
                *("-a", json.dumps({"cmd": str(file), "executable": "/bin/sh"})),
            ],
            # a terminal would mix stderr into stdout, and write \\r before each line end
            env={**play_files.settings(folder, control_dir, os.environ), "ANSIBLE_SSH_USETTY": "False"},
            unset=play_files.secret_names(os.environ),
            timeout_s=timeout_s,
            cancel=cancel,
        )
        return completed(done, _result(results / ALIAS))


def variables(host: Host) -> dict[str, Any]:
    """The host's variables under a name that is surely plain, so that its own name must be said."""
    given = dict(host.variables)
    if not {"ansible_host", "ansible_ssh_host"} & given.keys():
        given["ansible_host"] = host.address
    return {**given, "inventory_hostname_short": host.name.split(".")[0]}


def _result(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def completed(done: Completed, result: dict[str, Any]) -> Completed:
    """What the script did, from Ansible's result; what Ansible said, where there is none."""
    if "rc" in result and not result.get("unreachable"):
        return Completed(
            argv=done.argv, status=int(result["rc"]), stdout=str(result["stdout"]), stderr=str(result["stderr"])
        )
    said = str(result.get("msg") or done.stderr or done.stdout)
    return Completed(argv=done.argv, status=done.status if done.status in (124, 130) else 255, stdout="", stderr=said)
