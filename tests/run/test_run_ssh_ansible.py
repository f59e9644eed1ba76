"""Where raw ssh and Ansible meet: one connection for both, and hosts that only Ansible reaches."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sshd import Sshd

from provision.model.host import Host
from provision.run.ansible import play
from provision.run.inventory import read_inventory
from provision.run.observe import observe
from provision.run.ssh import explain_ssh_failure, run_script

MakeSshd = Callable[..., Sshd]
PLAYBOOK = """
- hosts: provision_targets
  gather_facts: false
  tasks:
    - name: Say hello
      ansible.builtin.command: echo hello
      changed_when: false
"""


def inventory_of(folder: Path, host: Host) -> Path:
    path = folder / "inventory.yml"
    path.write_text(json.dumps({"all": {"hosts": {host.name: dict(host.variables)}}}))
    return path


@pytest.mark.ssh
def test_ansible_goes_over_the_connection_that_is_there(sshd: MakeSshd, control_dir: str, tmp_path: Path) -> None:
    server = sshd()
    inventory = inventory_of(tmp_path, server.host())
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAYBOOK)
    (host,) = read_inventory([inventory], limit=None).hosts
    assert host == server.host()
    assert run_script(host, "true", control_dir=control_dir).ok
    done = play(
        playbook,
        [host],
        {},
        inventory_sources=[str(inventory)],
        on_event=lambda _: None,
        cancel=threading.Event(),
        control_dir=control_dir,
    )
    assert done.results["box"].data["Say hello"]["stdout"] == "hello"
    assert run_script(host, "true", control_dir=control_dir).ok
    assert server.accepted() == 1


def other(host: Host) -> Host:
    return replace(host, connection="other")


@pytest.mark.ssh
def test_a_script_through_ansible(sshd: MakeSshd, control_dir: str) -> None:
    host = other(sshd().host("box.lab"))
    done = run_script(
        host, 'printf "<%s>" "$@"; cat; echo story >&2; exit 3', "a 'b'", "$(id)", control_dir=control_dir
    )
    assert (done.status, done.stdout) == (3, "<a 'b'><$(id)>")
    assert "story" in done.stderr
    (found,) = observe([host], control_dir=control_dir)
    assert found.failure is None
    assert found.readings is not None
    assert "proc_cpuinfo" in found.readings.files


@pytest.mark.ssh
def test_a_templated_address_is_ansibles_to_read(sshd: MakeSshd, control_dir: str, tmp_path: Path) -> None:
    server = sshd()
    host = server.host(ansible_host="{{ ('127', '0', '0', '1') | join('.') }}")
    (host,) = read_inventory([inventory_of(tmp_path, host)], limit=None).hosts
    assert host.connection == "other"
    assert run_script(host, "echo there", control_dir=control_dir).stdout == "there\n"


@pytest.mark.ssh
def test_what_ansible_says_about_a_host_it_cannot_reach(sshd: MakeSshd, control_dir: str) -> None:
    server = sshd()
    server.known_hosts.write_text("")
    host = other(server.host(ansible_host_key_checking=False))  # not even for Ansible can an inventory switch it off
    done = run_script(host, "true", control_dir=control_dir)
    assert done.status == 255
    assert explain_ssh_failure(host, done.stderr).kind == "host_key_unknown"
    assert server.known_hosts.read_text() == ""
    server.stop()
    server.trust()
    (found,) = observe([host], control_dir=control_dir)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.what) == ("refused", "box refused the connection")
