"""Plays on real SSH hosts: what keeps one from being reached, one connection for all, nothing left after a cancel."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness.fleet import Fleet
from harness.fleet import Host as Box

from provision.model.host import Host
from provision.model.report import Progress
from provision.run import ansible, progress
from provision.run.ssh import ControlDir, run_script

pytestmark = [pytest.mark.docker, pytest.mark.ssh]

PLAY = """
- name: Test
  hosts: provision_targets
  gather_facts: false
  environment: {PROVISION_RUN: "{{ provision_run_id }}"}
  strategy: ansible.builtin.free
  tasks:
"""
PING = "    - name: Ping\n      ansible.builtin.ping:\n"


@pytest.fixture
def control_dir() -> Iterator[str]:
    with ControlDir() as folder:
        yield folder


def host_of(box: Box, **fields: Any) -> Host:
    values = {"address": box.address, "port": box.port, "user": box.user, **fields}
    return Host(name=box.target, connection="ssh", **values)


def as_user_of(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATH", "HOME"):
        monkeypatch.setenv(name, fleet.environment()[name])


def run(tasks: str, hosts: tuple[Host, ...], folder: Path, control_dir: str, **more: Any) -> ansible.PlayResult:
    playbook = folder / "book.yml"
    playbook.write_text(PLAY + tasks)
    arguments: dict[str, Any] = {"on_event": lambda _: None, "cancel": threading.Event(), **more}
    return ansible.play(playbook, hosts, {}, control_dir=control_dir, **arguments)


def kinds(result: ansible.PlayResult) -> Mapping[str, tuple[str, str]]:
    return {
        name: (host.status, host.failure.kind if host.failure is not None else "")
        for name, host in result.results.items()
    }


def test_one_hosts_trouble_is_its_own(
    fleet: Callable[..., Fleet], tmp_path: Path, control_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = fleet(4)
    good, changed, off, keyless = machines.hosts
    changed.replace_host_key()
    off.stop()
    as_user_of(machines, monkeypatch)
    hosts = (host_of(good), host_of(changed), host_of(off), host_of(keyless, user="nobody"))
    nameless = Host(name="no-such-name.invalid", connection="ssh", address="no-such-name.invalid")
    result = run(PING, (*hosts, nameless), tmp_path, control_dir)
    found = dict(kinds(result))
    # which of the two depends on whether that sshd takes passwords
    assert found.pop(keyless.target) in (("unreachable", "key_refused"), ("unreachable", "password_wanted"))
    assert found == {
        good.target: ("ok", ""),
        changed.target: ("unreachable", "host_key_changed"),
        off.target: ("unreachable", "refused"),
        "no-such-name.invalid": ("unreachable", "name_unknown"),
    }
    assert {host.failure.exit_code for host in result.results.values() if host.failure is not None} == {4}


@pytest.mark.parametrize(
    "lax",
    [
        {},
        {"ansible_host_key_checking": False},
        {"ansible_ssh_args": "-o StrictHostKeyChecking=no"},
        {"ansible_ssh_common_args": "-o StrictHostKeyChecking=no"},
    ],
)
def test_an_unknown_host_key_is_refused_and_not_learnt(
    fleet: Callable[..., Fleet],
    tmp_path: Path,
    control_dir: str,
    monkeypatch: pytest.MonkeyPatch,
    lax: Mapping[str, Any],
) -> None:
    machines = fleet(1)
    machines.known_hosts.write_text("")
    as_user_of(machines, monkeypatch)
    host = host_of(machines.hosts[0], variables=lax)
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"all": {"hosts": {host.address: {}}, "vars": dict(lax)}}))
    result = run(PING, (host,), tmp_path, control_dir, inventory_sources=[str(inventory)])
    (found,) = result.results.values()
    assert found.failure is not None
    assert (found.status, found.failure.kind) == ("unreachable", "host_key_unknown")
    assert "host key" in found.failure.what
    assert machines.known_hosts.read_text() == ""


def test_a_host_without_python_is_told_so(
    fleet: Callable[..., Fleet], tmp_path: Path, control_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = fleet(1, "ssh-nopython")
    as_user_of(machines, monkeypatch)
    result = run(PING, (host_of(machines.hosts[0]),), tmp_path, control_dir)
    (found,) = result.results.values()
    assert found.failure is not None
    assert (found.failure.kind, found.failure.exit_code) == ("no_python", 4)


def test_ansible_uses_the_connection_that_is_there(
    fleet: Callable[..., Fleet], tmp_path: Path, control_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = fleet(1)
    as_user_of(machines, monkeypatch)
    host = host_of(machines.hosts[0])
    assert run_script(host, "true", control_dir=control_dir, timeout_s=20).ok
    sockets = sorted(Path(control_dir).iterdir())
    result = run(PING, (host,), tmp_path, control_dir)
    assert kinds(result)[host.name] == ("ok", "")
    assert sorted(Path(control_dir).iterdir()) == sockets
    assert len(sockets) == 1
    log = machines.hosts[0].sh("ps -eo args | grep -c '^sshd: me$' || true") or "0"
    assert int(log) <= 1


def test_a_cancel_leaves_nothing_on_four_hosts(
    fleet: Callable[..., Fleet], tmp_path: Path, control_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = fleet(4)
    as_user_of(machines, monkeypatch)
    hosts = tuple(host_of(box) for box in machines.hosts)
    cancel, started, asked = threading.Event(), [], [0.0]

    def on_event(event: Progress) -> None:
        started.append(event.host)
        if len(started) == len(hosts):
            threading.Timer(1.5, stop).start()

    def stop() -> None:
        asked[0] = time.monotonic()
        cancel.set()

    tasks = """
    - name: Sleep
      ansible.builtin.shell: {cmd: "(trap '' TERM HUP; sleep 71) & sleep 72"}
"""
    result = run(tasks, hosts, tmp_path, control_dir, on_event=on_event, cancel=cancel, run_id="rcancelssh")
    assert time.monotonic() - asked[0] < 3
    assert {host.status for host in result.results.values()} == {"cancelled"}
    assert result.unreaped == ()
    for box in machines.hosts:
        assert box.sh("ps -eo args | grep '[s]leep 7' || true") == ""
    assert [path for path in Path("/proc").glob("[0-9]*/environ") if carries(path, b"PROVISION_RUN=rcancelssh")] == []


def carries(path: Path, mark: bytes) -> bool:
    try:
        return mark in path.read_bytes()
    except OSError:
        return False


def test_progress_comes_over_ssh_and_its_loop_ends(
    fleet: Callable[..., Fleet], control_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = fleet(1)
    as_user_of(machines, monkeypatch)
    (box,) = machines.hosts
    host, events = host_of(box), []
    with progress.watched([host], "rprogress", control_dir, events.append):
        write = 'mkdir -p ~/.local/share/provision/run; echo \'{"step": "uv", "text": "half"}\' > %s'
        box.ssh(write % "~/.local/share/provision/run/rprogress.progress")
        deadline = time.monotonic() + 10
        while not events and time.monotonic() < deadline:
            time.sleep(0.05)
    assert [(event.host, event.step, event.text) for event in events] == [(box.target, "Bring the uv program", "half")]
    time.sleep(1)
    assert "rprogress" not in box.sh("ps -eo args")
