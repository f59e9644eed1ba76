"""Ansible inventories as they are, read by Ansible itself.

``ansible-inventory --list`` in a process of its own takes 0.38 s; Ansible's InventoryManager in ours takes the same
(0.33 s of imports, 0.05 s of work) and 30 MiB that stay.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from provision.errors import ProvisionError, UsageError
from provision.model.host import Host
from provision.run.command import Completed, run
from provision.run.hosts import checked_address

TIMEOUT_S = 120.0
"""A dynamic inventory asks a cloud over the network."""
UNMATCHED = re.compile(r"Could not match supplied host pattern, ignoring: (\S+)")
VAULT = "__ansible_vault"
UNSAFE = "__ansible_unsafe"
SSH = ("ssh", "ansible.builtin.ssh", "smart")
LOCAL = ("local", "ansible.builtin.local")
HOST = ("ansible_host", "ansible_ssh_host")
PORT = ("ansible_port", "ansible_ssh_port")
USER = ("ansible_user", "ansible_ssh_user")
KEY = ("ansible_private_key_file", "ansible_ssh_private_key_file")
OPTIONS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
EXECUTABLE = ("ansible_ssh_executable",)
TIMEOUT = ("ansible_timeout", "ansible_ssh_timeout")
READ = (*HOST, *PORT, *USER, *KEY, *OPTIONS, *EXECUTABLE, *TIMEOUT)
"""What we read ourselves. Of two spellings Ansible takes the last that is set."""
PASSWORD = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password")
ONLY_ANSIBLE = (
    *PASSWORD,
    "ansible_private_key",
    "ansible_ssh_private_key",
    "ansible_private_key_passphrase",
    "ansible_ssh_private_key_passphrase",
    "ansible_ssh_pkcs11_provider",
)
"""Variables of a host that only Ansible can log in to: it has the means to hand over a password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    hosts: tuple[Host, ...]
    groups: Mapping[str, tuple[str, ...]]
    """Names of the hosts in each group, those of its children included."""

    def named(self, name: str) -> list[Host]:
        """The host of that name, else the hosts of the group of that name, else none."""
        names = (name,) if any(host.name == name for host in self.hosts) else self.groups.get(name, ())
        return [host for host in self.hosts if host.name in names]


def read_inventory(paths: Sequence[Path], *, limit: str | None) -> Inventory:
    """The hosts of the inventories, merged, that ``limit`` (an Ansible pattern) leaves. Raises UsageError."""
    for path in paths:
        _must_be_there(path)
    sources = [part for path in paths for part in ("-i", str(path))]
    done = _ansible("ansible-inventory", [*sources, "--list", *(["--limit", limit] if limit is not None else [])])
    if not done.ok:
        raise _explained(paths, limit, done)
    _must_have_matched(limit, done.stderr)
    inventory = parsed(json.loads(done.stdout))
    if not inventory.hosts:
        raise _without_hosts(paths, limit)
    _must_be_decrypted(inventory.hosts)
    return inventory


def parsed(data: Mapping[str, Any]) -> Inventory:
    """What ``ansible-inventory --list`` prints: groups with "hosts" and "children", and ``_meta.hostvars``.

    Raises UsageError where a host's address cannot be one.
    """
    variables = data.get("_meta", {}).get("hostvars", {})
    groups = {name: tuple(dict.fromkeys(_members(data, name, ()))) for name in data if name != "_meta"}
    names = dict.fromkeys([*groups.get("all", ()), *variables])
    return Inventory(hosts=tuple(host_from(name, variables.get(name, {})) for name in names), groups=groups)


def _members(data: Mapping[str, Any], group: str, above: tuple[str, ...]) -> Iterator[str]:
    found = data.get(group, {})
    yield from found.get("hosts", ())
    for child in found.get("children", ()):
        if child not in above:
            yield from _members(data, child, (*above, group))


def host_from(name: str, variables: Mapping[str, Any]) -> Host:
    """A host of the inventory with its merged variables. Raises UsageError where its address cannot be one."""
    connection = _connection(variables)
    if connection == "local":
        return Host(name=name, connection="local", variables=variables)
    address, port, user = (_plain(last_set(variables, names)) for names in (HOST, PORT, USER))
    # the name of a host in a container or behind another plugin is that plugin's business
    checked = _address(name, address or name) if connection == "ssh" else address or name
    return Host(
        name=name, connection=connection, address=checked, port=_port(name, port), user=user, variables=variables
    )


def last_set(variables: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value that Ansible takes where a setting has several names; None where none is set."""
    return next((variables[name] for name in reversed(names) if variables.get(name) is not None), None)


def _address(name: str, address: str) -> str:
    try:
        return checked_address(address, name)
    except UsageError as error:
        raise UsageError(
            what=f"the inventory's host {name!r} has no usable address",
            why=error.why,
            hint="correct its name or its ansible_host, if that file is meant to be an inventory",
        ) from error


def _connection(variables: Mapping[str, Any]) -> Literal["local", "ssh", "other"]:
    wanted = variables.get("ansible_connection", "ssh")
    if wanted in LOCAL:
        return "local"
    by_ansible = any(variables.get(name) for name in ONLY_ANSIBLE) or any(
        needs_ansible(variables.get(name)) for name in READ
    )
    return "ssh" if wanted in SSH and not by_ansible else "other"


def needs_ansible(value: Any) -> bool:
    """Whether only Ansible can tell what the value is: a template, or encrypted text."""
    return isinstance(value, Mapping) or (isinstance(value, str) and ("{{" in value or "{%" in value))


def _plain(value: Any) -> str | None:
    return None if value in (None, "") or needs_ansible(value) else str(value)


def _port(name: str, port: str | None) -> int | None:
    if port is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise UsageError(
            what=f"the inventory gives {name} no usable port",
            why=f"ansible_port is {port!r}, and a port is a number between 1 and 65535",
            hint="correct it in the inventory",
        )
    return int(port)


def ansible_program(name: str) -> str:
    """Ansible's program of that name from our own installation, else from PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else (shutil.which(name) or name)


def _ansible(program: str, arguments: Sequence[str], stdin: str | None = None) -> Completed:
    return run([ansible_program(program), *arguments], stdin=stdin, env=_environment(), timeout_s=TIMEOUT_S)


def _environment() -> dict[str, str]:
    locale = os.environ.get("LC_ALL", "")
    return {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "False",
        # without this a file that nobody can read is a warning and an empty inventory
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        # a home that cannot be written is no reason not to read
        "ANSIBLE_LOCAL_TEMP": tempfile.gettempdir(),
        # Ansible refuses to start in a locale that is not UTF-8
        "LC_ALL": locale if "UTF-8" in locale.upper() else "C.UTF-8",
    }


def _must_be_there(path: Path) -> None:
    try:
        with os.scandir(path) if path.is_dir() else path.open("rb"):
            return
    except FileNotFoundError as error:
        comma = " (hosts in a list are given as arguments, without -i)" if "," in str(path) else ""
        raise UsageError(
            what=f"there is no inventory {path}", why=f"no such file or folder{comma}", hint="check the path after -i"
        ) from error
    except OSError as error:
        raise UsageError(
            what=f"the inventory {path} cannot be read",
            why=error.strerror or str(error),
            hint="give a file or folder that you may read",
        ) from error


def _must_have_matched(limit: str | None, stderr: str) -> None:
    """A name in --limit that fits nothing is a slip of the pen, unless it is one to leave out."""
    excluded = {part.strip()[1:] for part in re.split(r"[,:]", limit or "") if part.strip().startswith("!")}
    missing = [name for name in UNMATCHED.findall(stderr) if name not in excluded]
    if missing:
        raise UsageError(
            what=f"--limit {limit} matches no host for {', '.join(missing)}",
            why="the inventory has no host, group or pattern match of that name",
            hint="see its names with `ansible-inventory -i INVENTORY --graph`",
        )


def _without_hosts(paths: Sequence[Path], limit: str | None) -> UsageError:
    files = ", ".join(map(str, paths))
    if limit is not None:
        return UsageError(
            what=f"--limit {limit} leaves no host",
            why=f"nothing in {files} matches it",
            hint="see its names with `ansible-inventory -i INVENTORY --graph`",
        )
    return UsageError(
        what=f"the inventory {files} has no hosts",
        why="it is empty, or has only groups without hosts",
        hint="add hosts to it, or name them as arguments",
    )


def _must_be_decrypted(hosts: Sequence[Host]) -> None:
    """Ansible lists text that is encrypted in place as it is, and fails on it in the middle of a run."""
    vaulted = next(
        (
            (host.name, name, value[VAULT])
            for host in hosts
            for name, value in host.variables.items()
            if name.startswith("ansible_") and isinstance(value, Mapping) and VAULT in value
        ),
        None,
    )
    if vaulted is None:
        return
    host, name, text = vaulted
    if not _ansible("ansible-vault", ["decrypt", "--output", "-", "-"], stdin=text).ok:
        raise _vault_closed(f"{name} of {host} is encrypted")


def _vault_closed(why: str) -> UsageError:
    return UsageError(
        what="the inventory is encrypted with Ansible Vault, and there is no password that opens it",
        why=why,
        hint="set ANSIBLE_VAULT_PASSWORD_FILE to the file that holds the password",
    )


def _explained(paths: Sequence[Path], limit: str | None, done: Completed) -> ProvisionError:
    files = ", ".join(map(str, paths))
    text = done.stderr
    if done.status == 127:
        return ProvisionError(
            what="ansible-inventory is missing", why=text, hint="install provision again: ./run does it"
        )
    if re.search(r"vault secrets|Decryption failed|vault password", text, re.IGNORECASE):
        return _vault_closed(_reasons(text)[-1])
    if re.search(r"limit file|pattern", text, re.IGNORECASE) and limit is not None and "parse inventory" not in text:
        return UsageError(
            what=f"--limit {limit} is not a pattern that Ansible understands",
            why=_reasons(text)[-1],
            hint="write names, groups and wildcards as in gpu-*,!gpu-07",
        )
    failed = re.search(r"Completely failed to parse inventory source (.+)", text)
    source = failed[1].strip() if failed else files
    return UsageError(
        what=f"the inventory {_as_given(paths, source)} cannot be read",
        why="\n".join(_reasons(text)) or "Ansible knows no format that it is written in",
        hint="an inventory is a YAML or INI file, a folder of them, or an executable that prints JSON",
    )


def _as_given(paths: Sequence[Path], source: str) -> str:
    return next((str(path) for path in paths if str(path.resolve()) == source or str(path) == source), source)


def _reasons(text: str) -> list[str]:
    """One line for each reader of Ansible's that gave up, and what an inventory script said on its stderr."""
    tried = re.findall(r"Failed to parse inventory with '(\w+)' plugin: (.+)", text)
    lines = [f"as {plugin}: {why.strip()}" for plugin, why in tried if plugin != "auto" or len(tried) == 1]
    script = re.search(r"Standard error from inventory script:\n(.+(?:\n.+)*)", text)
    if script:
        return [next((line for line in lines if line.startswith("as script")), lines[0]), script[1].strip()]
    if not lines:
        lines = re.findall(r"\[ERROR\]: (?!Completely failed)(.+)", text) or text.strip().splitlines()[-1:]
    return list(dict.fromkeys(lines)) or ["Ansible gave no reason"]
