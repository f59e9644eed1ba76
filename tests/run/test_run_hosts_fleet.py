"""The whole way to several real hosts: names on the command line, readings or reasons in the answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fleet import Fleet

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
MakeFleet = Callable[..., Fleet]


def test_each_host_answers_or_says_why_not(fleet: MakeFleet) -> None:
    hosts = fleet(4)
    changed, stopped, silent, good = hosts.hosts
    changed.replace_host_key()
    stopped.stop()
    silent.pause()
    try:
        done = hosts.provision("detect", *(host.target for host in hosts.hosts), "nosuch.invalid")
    finally:
        silent.unpause()
    assert done.returncode == 4
    assert done.stdout.startswith(f"{good.target}\n")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == [
        f"error: {changed.target} shows another host key than the one known for it",
        f"error: {stopped.target} refused the connection",
        f"error: {silent.target} did not answer in time",
        "error: the name nosuch.invalid is not known",
    ]
    assert f'-R "{changed.address}"' in done.stderr


def test_an_inventory_as_it_is(fleet: MakeFleet) -> None:
    hosts = fleet(2)
    inventory = hosts.inventory()
    done = hosts.provision("detect", "-i", str(inventory), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["host"] for each in found] == [host.name for host in hosts.hosts]
    assert all(each["system"]["os"]["id"] == "debian" for each in found)
    one = hosts.provision("detect", "-i", str(inventory), "--limit", hosts.hosts[1].name, "--json")
    assert json.loads(one.stdout)["host"] == hosts.hosts[1].name


def test_a_host_with_a_password_and_no_key(fleet: MakeFleet, tmp_path: Path) -> None:
    hosts = fleet(1)
    (host,) = hosts.hosts
    host.sh(
        "echo me:hush | chpasswd; rm /home/me/.ssh/authorized_keys;"
        "sed -i '/^PasswordAuthentication/d; 1i PasswordAuthentication yes' /etc/ssh/sshd_config;"
        "rm -f /etc/ssh/sshd_config.d/*; pkill -HUP -o sshd"
    )
    time.sleep(0.5)
    by_key = hosts.provision("detect", host.target)
    assert f"error: {host.target} accepted no key and wants a password" in by_key.stderr
    inventory = tmp_path / "hosts.yml"
    variables = {**host.inventory_variables(), "ansible_password": "hush"}
    inventory.write_text(json.dumps({"all": {"hosts": {"box": variables}}}))
    by_password = hosts.provision("detect", "-i", str(inventory), "--json")
    assert by_password.returncode == 0, by_password.stderr
    assert json.loads(by_password.stdout)["host"] == "box"
    inventory.write_text(json.dumps({"all": {"hosts": {"box": {**variables, "ansible_password": "wrong"}}}}))
    refused = hosts.provision("detect", "-i", str(inventory))
    assert refused.returncode == 4
    assert "error: box refused the password" in refused.stderr
    assert "wrong" not in refused.stderr
    assert "hush" not in by_password.stderr + refused.stderr


def test_a_host_without_python_is_read_all_the_same(fleet: MakeFleet) -> None:
    hosts = fleet(1, kind="ssh-nopython")
    done = hosts.provision("detect", hosts.hosts[0].target, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cpu"]["flags"]
