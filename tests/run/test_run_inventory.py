from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provision.errors import UsageError
from provision.run.inventory import Inventory, ansible_program, host_from, parsed, read_inventory

GRAPH = "see its names with `ansible-inventory -i INVENTORY --graph`"
YAML = """
all:
  hosts:
    alone: {ansible_connection: local}
  children:
    lab:
      vars: {ansible_user: me}
      children:
        old:
          hosts:
            gpu-[01:03]: {ansible_port: 2222}
      hosts:
        new: {ansible_host: 10.0.0.9}
"""


def read(*paths: Path, limit: str | None = None) -> Inventory:
    return read_inventory(paths, limit=limit)


def refused(*paths: Path, limit: str | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        read(*paths, limit=limit)
    return caught.value


def file_of(folder: Path, text: str, name: str = "hosts.yml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(inventory: Inventory) -> list[str]:
    return [host.name for host in inventory.hosts]


def test_yaml_with_groups_ranges_and_folders_of_variables(tmp_path: Path) -> None:
    file = file_of(tmp_path, YAML)
    file_of(tmp_path, "ansible_ssh_common_args: -J jump\n", "group_vars/old.yml")
    file_of(tmp_path, "ansible_user: root\n", "host_vars/gpu-02.yml")
    found = read(file)
    assert names(found) == ["alone", "new", "gpu-01", "gpu-02", "gpu-03"]
    local, new, first, second, _ = found.hosts
    assert local.connection == "local"
    assert (new.address, new.user, new.port) == ("10.0.0.9", "me", None)
    assert (first.address, first.user, first.port) == ("gpu-01", "me", 2222)
    assert first.variables["ansible_ssh_common_args"] == "-J jump"
    assert second.user == "root"
    assert found.groups["lab"] == ("new", "gpu-01", "gpu-02", "gpu-03")
    assert [host.name for host in found.named("old")] == ["gpu-01", "gpu-02", "gpu-03"]
    assert [host.name for host in found.named("new")] == ["new"]
    assert found.named("nobody") == []


def test_ini_a_script_and_a_folder_of_both(tmp_path: Path) -> None:
    file_of(tmp_path / "inv", "[lab]\nmixed:2200 ansible_user=me\n", "1.ini")
    script = file_of(tmp_path / "inv", '#!/bin/sh\necho \'{"cloud": {"hosts": ["c1"]}}\'\n', "2.sh")
    script.chmod(0o755)
    found = read(tmp_path / "inv")
    assert sorted(names(found)) == ["c1", "mixed"]
    assert next(host for host in found.hosts if host.name == "mixed").port == 2200
    assert sorted(names(read(script, tmp_path / "inv" / "1.ini"))) == ["c1", "mixed"]


def test_limits_are_patterns_of_ansible(tmp_path: Path) -> None:
    file = file_of(tmp_path, YAML)
    assert names(read(file, limit="gpu-*:!gpu-02")) == ["gpu-01", "gpu-03"]
    assert names(read(file, limit="lab,!old")) == ["new"]
    assert names(read(file, limit="gpu-01,!long-gone")) == ["gpu-01"]


def test_a_limit_that_matches_nothing(tmp_path: Path) -> None:
    file = file_of(tmp_path, YAML)
    error = refused(file, limit="gpu-01,gpu-9")
    assert error.what == "--limit gpu-01,gpu-9 matches no host for gpu-9"
    assert error.why == "the inventory has no host, group or pattern match of that name"
    assert error.hint == GRAPH
    error = refused(file, limit="old:!old")
    assert (error.what, error.why, error.hint) == (
        "--limit old:!old leaves no host",
        f"nothing in {file} matches it",
        GRAPH,
    )
    error = refused(file, limit="@nowhere.retry")
    assert error.what == "--limit @nowhere.retry is not a pattern that Ansible understands"
    assert "Unable to find limit file" in error.why
    assert error.hint == "write names, groups and wildcards as in gpu-*,!gpu-07"


def test_there_is_no_such_inventory(tmp_path: Path) -> None:
    error = refused(tmp_path / "nowhere.yml")
    assert error.what == f"there is no inventory {tmp_path}/nowhere.yml"
    assert error.why == "no such file or folder"
    assert error.hint == "check the path after -i"
    assert refused(Path("a,b,")).why == ("no such file or folder (hosts in a list are given as arguments, without -i)")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every file")
def test_an_inventory_that_may_not_be_read(tmp_path: Path) -> None:
    file = file_of(tmp_path, YAML)
    file.chmod(0)
    error = refused(file)
    assert (error.what, error.why) == (f"the inventory {file} cannot be read", "Permission denied")
    assert error.hint == "give a file or folder that you may read"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a: [b\n", "as yaml: YAML parsing failed: While parsing a flow sequence did not find expected ',' or ']'."),
        (b"- a\n- b c\n", "as yaml: YAML inventory has invalid structure, it should be a dictionary"),
        (b"\x00\xff\xfe" * 3 + b"[x", "as yaml: YAML parsing failed: "),
    ],
)
def test_an_inventory_that_is_not_one(tmp_path: Path, content: bytes, why: str) -> None:
    file = tmp_path / "hosts.yml"
    file.write_bytes(content)
    error = refused(file)
    assert error.what == f"the inventory {file} cannot be read"
    assert error.why.startswith(why)
    assert "\nas ini: Failed to parse inventory: " in error.why
    assert len(error.why.splitlines()) == 2
    assert error.hint == "an inventory is a YAML or INI file, a folder of them, or an executable that prints JSON"


def test_an_inventory_script_that_fails(tmp_path: Path) -> None:
    script = file_of(tmp_path, "#!/bin/sh\necho no credentials for the cloud >&2\nexit 3\n", "cloud.sh")
    script.chmod(0o755)
    error = refused(script)
    assert error.what == f"the inventory {script} cannot be read"
    assert error.why == "as script: Inventory script returned non-zero exit code 3.\nno credentials for the cloud"


@pytest.mark.parametrize("text", ["", "[lab]\n"])
def test_an_inventory_without_hosts(tmp_path: Path, text: str) -> None:
    file = file_of(tmp_path, text, "hosts")
    error = refused(file)
    assert error.what == f"the inventory {file} has no hosts"
    assert error.why == "it is empty, or has only groups without hosts"
    assert error.hint == "add hosts to it, or name them as arguments"


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An inventory whose user is encrypted, and beside it the password's file, which nobody has named yet."""
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    file_of(tmp_path, "hush\n", "password")
    return file_of(tmp_path, "a:\n", "inv/hosts.ini").with_name("hosts.ini")


def vaulted(folder: Path, *command: str) -> str:
    argv = [ansible_program("ansible-vault"), *command, "--vault-password-file", str(folder / "password")]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("whole", [True, False])
def test_an_encrypted_inventory_needs_its_password(
    tmp_path: Path, vault: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.write_text("box\n")
    variables = file_of(tmp_path, "ansible_user: me\n", "inv/group_vars/all.yml")
    if whole:
        vaulted(tmp_path, "encrypt", str(variables))
        why = "Attempting to decrypt but no vault secrets found."
    else:
        variables.write_text("ansible_user: " + vaulted(tmp_path, "encrypt_string", "me"))
        why = "ansible_user of box is encrypted"
    error = refused(vault)
    assert error.what == "the inventory is encrypted with Ansible Vault, and there is no password that opens it"
    assert error.why == why
    assert error.hint == "set ANSIBLE_VAULT_PASSWORD_FILE to the file that holds the password"
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    (host,) = read(vault).hosts
    assert (host.user, host.connection) == (("me", "ssh") if whole else (None, "other"))
    if not whole:
        file_of(tmp_path, "wrong\n", "password")
        assert refused(vault).what == error.what


@pytest.mark.parametrize(
    ("variables", "connection"),
    [
        ({}, "ssh"),
        ({"ansible_connection": "smart"}, "ssh"),
        ({"ansible_connection": "ansible.builtin.ssh"}, "ssh"),
        ({"ansible_connection": "local"}, "local"),
        ({"ansible_connection": "community.docker.docker"}, "other"),
        ({"ansible_connection": "{{ how }}"}, "other"),
        ({"ansible_password": "x"}, "other"),
        ({"ansible_ssh_pass": {"__ansible_vault": "…"}}, "other"),
        ({"ansible_host": "{{ inventory_hostname }}.lab"}, "other"),
        ({"ansible_user": "{{ lookup('env', 'USER') }}"}, "other"),
        ({"greeting": "{{ not_about_the_connection }}"}, "ssh"),
        ({"ansible_become_password": {"__ansible_vault": "…"}}, "ssh"),
    ],
)
def test_which_hosts_only_ansible_reaches(variables: dict[str, object], connection: str) -> None:
    assert host_from("box", variables).connection == connection


def test_of_two_spellings_ansible_takes_the_last() -> None:
    host = host_from(
        "box", {"ansible_user": "a", "ansible_ssh_user": "b", "ansible_port": "22", "ansible_ssh_port": 23}
    )
    assert (host.user, host.port) == ("b", 23)


def test_a_port_that_is_none() -> None:
    with pytest.raises(UsageError) as caught:
        host_from("box", {"ansible_port": "ssh"})
    assert caught.value.what == "the inventory gives box no usable port"
    assert caught.value.why == "ansible_port is 'ssh', and a port is a number between 1 and 65535"
    assert caught.value.hint == "correct it in the inventory"


def test_an_address_that_ssh_would_read_as_an_option() -> None:
    with pytest.raises(UsageError) as caught:
        host_from("box", {"ansible_host": "-oProxyCommand=id"})
    assert caught.value.what == "the inventory's host 'box' has no usable address"
    assert caught.value.why == "'-oProxyCommand=id' begins with a dash, which ssh would read as an option"
    assert caught.value.hint == "correct its name or its ansible_host, if that file is meant to be an inventory"


def test_a_file_that_only_looks_like_an_inventory(tmp_path: Path) -> None:
    """Ansible's INI reader takes the first word of any line for a host."""
    error = refused(file_of(tmp_path, "#!/bin/rm;\n\u00bfqu\u00e9?\n", "hosts"))
    assert error.what == "the inventory's host '\u00bfqu\u00e9?' has no usable address"
    assert error.why == "'\u00bfqu\u00e9?' contains '?' '\u00bf' '\u00e9', which no host name does"


def test_groups_that_contain_each_other_end() -> None:
    found = parsed({"all": {"children": ["a"]}, "a": {"children": ["b"], "hosts": ["x"]}, "b": {"children": ["a"]}})
    assert names(found) == ["x"]
