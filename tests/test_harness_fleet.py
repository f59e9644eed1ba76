"""The harness itself: what it starts is real, is apart from other runs, and goes away."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness.fleet import Fleet

pytestmark = [pytest.mark.docker, pytest.mark.ssh]


def test_a_host_is_reached_by_ssh_with_its_host_key_checked(session_fleet: Callable[..., Fleet]) -> None:
    for host in session_fleet(2).hosts:
        assert host.ssh("hostname").stdout == f"{host.name}\n"
        assert host.ssh("id -un; sudo -n id -un").stdout == "me\nroot\n"


def test_logins_trust_what_this_machine_trusts(session_fleet: Callable[..., Fleet]) -> None:
    host = session_fleet(2).hosts[0]
    path = host.ssh("echo $SSL_CERT_FILE").stdout.strip()
    assert "BEGIN CERTIFICATE" in host.ssh("cat", path).stdout
    assert path in host.ssh("sudo -n env").stdout


def test_a_replaced_host_key_is_refused(fleet: Callable[..., Fleet]) -> None:
    (host,) = fleet(1).hosts
    host.replace_host_key()
    done = host.ssh("true")
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_a_stopped_host_refuses_and_comes_back(fleet: Callable[..., Fleet]) -> None:
    (host,) = fleet(1).hosts
    host.stop()
    assert "Connection refused" in host.ssh("true").stderr
    host.start()
    assert host.ssh("true").returncode == 0


def test_a_paused_host_answers_nothing(fleet: Callable[..., Fleet]) -> None:
    (host,) = fleet(1).hosts
    host.pause()
    done = host.fleet.run(["ssh", "-oConnectTimeout=1", host.target, "true"])
    host.unpause()
    assert done.returncode == 255
    assert "timed out" in done.stderr


def test_hosts_of_one_image_have_keys_of_their_own(session_fleet: Callable[..., Fleet]) -> None:
    keys = {host.sh("cat /etc/ssh/ssh_host_*_key.pub") for host in session_fleet(2).hosts}
    assert len(keys) == 2


def test_a_host_without_python_has_none(fleet: Callable[..., Fleet]) -> None:
    (host,) = fleet(1, "ssh-nopython").hosts
    assert host.ssh("command -v python3 || echo none").stdout == "none\n"


def test_a_systemd_host_runs_units(fleet: Callable[..., Fleet]) -> None:
    (host,) = fleet(1, "systemd").hosts
    assert host.ssh("sudo -n systemd-run --wait -q true").returncode == 0


def test_the_users_own_keys_and_hosts_are_left_alone(session_fleet: Callable[..., Fleet]) -> None:
    fleet = session_fleet(2)
    said = fleet.run(["ssh", "-G", fleet.hosts[0].target]).stdout.splitlines()
    assert f"userknownhostsfile {fleet.known_hosts}" in said
    assert [line for line in said if line.startswith("identityfile ")] == [f"identityfile {fleet.key}"]
    assert "stricthostkeychecking ask" in said  # the product decides, and a test sees what it decided


def test_a_package_cache_is_lent_to_each_host(fleet: Callable[..., Fleet]) -> None:
    first = fleet(1, uv_cache=True)
    first.hosts[0].sh("mkdir -p ~/.cache/uv/archive-v0/it && echo kept > ~/.cache/uv/archive-v0/it/file", user="me")
    first.close()
    (host,) = fleet(1, uv_cache=True).hosts
    assert host.ssh("cat .cache/uv/archive-v0/it/file").stdout == "kept\n"
    # an environment in the home can have links to the cache; hosts of other runs beside this one may have some, too
    assert int(host.ssh("ln .cache/uv/archive-v0/it/file linked && stat -c %h linked").stdout) >= 3
