"""What one Ansible run is given: a private folder, an inventory of ours, an environment without secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from provision.model.host import Host

GROUP = "provision_targets"
PREFIX = "provision-"
BY_HOST = "provision_by_host"
LEFT_OUT: Mapping[str, Any] = {"provision_uv_sha256": "", "provision_wheels": (), "provision_uv_environment": {}}
"""What playbooks/site.yml takes and a run that only verifies has not: an inventory must not set it either."""
SECRET = re.compile(r"TOKEN|SECRET|PASS|KEY|CRED", re.IGNORECASE)
"""Names of variables that hold secrets as a rule. Ansible's own (ANSIBLE_VAULT_PASSWORD_FILE …) are settings."""
SSH_ARGS = "-o ControlMaster=auto -o ControlPersist=60s -o StrictHostKeyChecking=yes"
"""Before all other arguments, since ssh takes an option's first value: an inventory's "-o StrictHostKeyChecking=no"
does nothing. Without ControlPersist a task takes 580 ms instead of 240. No -C: uv's binary is sent faster as it is."""
MAX_RESULT_CHARS = "8000000"
"""ansible-runner replaces a longer result by {} without a word; its default is 700000."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder of this run alone (0700, in memory where there is such a place), removed with all that is in it.

    What killed runs left behind goes first.
    """
    parent = _parent()
    _remove_stale(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parent() -> Path:
    for name in (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm"):  # noqa: S108 - mkdtemp makes it ours
        if name and os.access(name, os.W_OK | os.X_OK):
            return Path(name)
    return Path(tempfile.gettempdir())


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}[0-9]*-*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        with suppress(OSError):
            if not folder.is_symlink() and folder.stat().st_uid == os.getuid() and not Path("/proc", pid).exists():
                shutil.rmtree(folder, ignore_errors=True)


def write_private(path: Path, data: Any) -> Path:
    """JSON that only we can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(data, file)
    return path


def aliases(hosts: Sequence[Host]) -> dict[str, str]:
    """Ansible's name for each host, by ours. Ansible reads "me@box:2222" as host "me@box", port 2222, so names that
    are not plain get one that is."""
    given: dict[str, str] = {}
    for host in hosts:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", host.name)
        alias, number = plain, 1
        while alias in given.values():
            number += 1
            alias = f"{plain}_{number}"
        given[host.name] = alias
    return given


def inventory(hosts: Sequence[Host], names: Mapping[str, str]) -> dict[str, Any]:
    """Our group of hosts and how to reach them, as Ansible's YAML inventory has it. The user's own inventory says the
    rest about them; what we tell the playbook is in `given`."""
    return {GROUP: {"hosts": {names[host.name]: _connection(host) for host in hosts}}}


def given(
    hosts: Sequence[Host],
    variables: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, str],
    common: Mapping[str, Any],
) -> dict[str, Any]:
    """What the playbook is told, as extra variables: only they beat every inventory and its host_vars folders.

    Extra variables are the same for all hosts: one whose value differs is a template that looks up the host's. The
    others are written once: check scripts are long.
    """
    each = {names[host.name]: {**LEFT_OUT, **variables.get(host.name, {})} for host in hosts}
    shared = _shared(list(each.values()))
    own = {
        alias: {name: value for name, value in values.items() if name not in shared} for alias, values in each.items()
    }
    differing = sorted({name for values in own.values() for name in values})
    return {
        BY_HOST: _untemplated(own),
        **{name: f"{{{{ {BY_HOST}[inventory_hostname].{name} }}}}" for name in differing},
        **_untemplated(shared),
        **common,
    }


def _shared(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first, *rest = each
    return {
        name: value for name, value in first.items() if all(name in other and other[name] == value for other in rest)
    }


def _untemplated(value: Any) -> Any:
    """The same with its text marked as data: Ansible would take {{ in a script for a template."""
    if isinstance(value, str):
        return {"__ansible_unsafe": value}
    if isinstance(value, Mapping):
        return {key: _untemplated(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_untemplated(item) for item in value]
    return value


def _connection(host: Host) -> dict[str, Any]:
    """How to reach a host, as far as the user's inventory does not say it."""
    known: dict[str, Any] = {
        "ansible_connection": host.connection if host.connection != "other" else None,
        "ansible_host": host.address,
        "ansible_port": host.port,
        "ansible_user": host.user,
        "ansible_python_interpreter": _python(host),
    }
    found = {name: value for name, value in known.items() if value is not None and name not in host.variables}
    theirs = host.variables.get("ansible_ssh_args")
    return {**found, "ansible_ssh_args": f"{SSH_ARGS} {theirs}"} if theirs else found


def _python(host: Host) -> str:
    import sys

    # our own interpreter is certain to be there; elsewhere Ansible looks for one, without a warning about its choice
    return sys.executable if host.connection == "local" else "auto_silent"


def settings(folder: Path, control_dir: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Ansible's settings for one run: they beat every ansible.cfg."""
    return {
        # ansible-runner writes False here unless the name is there, and that beats the user's ansible.cfg
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_GATHERING": "explicit",
        "ANSIBLE_SSH_ARGS": SSH_ARGS,
        "ANSIBLE_SSH_CONTROL_PATH_DIR": control_dir,
        "ANSIBLE_SSH_CONTROL_PATH": f"{control_dir}/%%C",
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
        "MAX_EVENT_RES": MAX_RESULT_CHARS,
        # Ansible refuses to start in a locale that is not UTF-8
        "LC_ALL": environ["LC_ALL"] if "UTF-8" in environ.get("LC_ALL", "").upper() else "C.UTF-8",
    }


def secret_names(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Variables that Ansible, its workers and its artefacts must not see."""
    return tuple(name for name in environ if SECRET.search(name) and not name.startswith("ANSIBLE_"))


def own_variables() -> dict[str, Any]:
    """Extra variables, which beat every inventory: nothing there switches host-key checking off."""
    return {"ansible_host_key_checking": True, "ansible_ssh_host_key_checking": True}
