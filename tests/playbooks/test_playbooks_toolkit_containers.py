"""The container toolkit on a box of a Debian system: its packages, and what Docker is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.gpu_box import GpuBox
from playbook_roles import Roles

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
ROLE = "nvidia_container_toolkit"
FILE = "/etc/docker/daemon.json"
UNIT = """\
[Service]
ExecStart=/bin/sleep infinity
ExecReload=/bin/sh -c 'test ! -e /docker-refuses && echo reloaded >> /docker-was-reloaded'
"""


@pytest.fixture
def roles(gpu_box: Callable[..., GpuBox], tmp_path: Path) -> Roles:
    return Roles(gpu_box(nouveau=False), tmp_path)


def given(box: GpuBox, **more: Any) -> dict[str, Any]:
    """The mirror keeps the repository's layout, and signs with a key of its own."""
    return {
        f"{ROLE}_mirror": box.mirror.toolkit_url.rpartition("/")[0],
        f"{ROLE}_key_url": f"{box.mirror.url}/libnvidia-container/gpgkey",
        f"{ROLE}_fingerprint": box.mirror.key.fingerprint,
        **more,
    }


def docker(box: GpuBox, configuration: str | None, running: bool = True) -> None:
    """Docker as its package leaves it. What it does with the configuration is its own affair."""
    box.write("/usr/bin/dockerd", b"#!/bin/sh\n", 0o755)
    box.write("/etc/systemd/system/docker.service", UNIT.encode())
    if configuration is not None:
        box.write(FILE, configuration.encode())
    box.sh("systemctl daemon-reload; " + ("systemctl start docker" if running else "true"))


def reloads(box: GpuBox) -> int:
    return len(box.exec(["cat", "/docker-was-reloaded"]).stdout.splitlines())


def test_docker_is_told_once_and_its_configuration_comes_back(roles: Roles) -> None:
    box = roles.box
    mine = '{"log-driver": "journald",\n   "runtimes": {"own": {"path": "/opt/own"}}}\n'
    docker(box, mine)
    packages = box.installed()
    assert roles.play(ROLE, "--check", **given(box)), roles.site.output
    assert (box.sh(f"cat {FILE}"), box.installed()) == (mine, packages)

    assert roles.play(ROLE, **given(box)), roles.site.output
    done = [one["name"] for one in roles.done("Set the container toolkit up")["packages"]]
    assert done == sorted(box.installed("*nvidia-container*"))
    assert len(done) == 4
    now = json.loads(box.sh(f"cat {FILE}"))
    assert now["log-driver"] == "journald"
    assert set(now["runtimes"]) == {"own", "nvidia"}
    assert box.sh(f"cat {FILE}.before-provision") == mine
    assert reloads(box) == 1

    assert roles.play(ROLE, **given(box)), roles.site.output
    assert (roles.site.changed(), reloads(box)) == ([], 1)

    assert roles.play(ROLE, **given(box, **{f"{ROLE}_state": "absent"})), roles.site.output
    assert box.sh(f"cat {FILE}") == mine
    assert (box.installed(), reloads(box)) == (packages, 2)
    assert box.sh("ls /etc/docker; ls /etc/apt/sources.list.d") == "daemon.json\n"
    assert roles.play(ROLE, **given(box, **{f"{ROLE}_state": "absent"})), roles.site.output
    assert roles.site.changed() == []


@pytest.mark.parametrize("mine", ['{"log-driver": "journald"}\n', None])
def test_a_configuration_that_docker_refuses_is_as_it_was(roles: Roles, mine: str | None) -> None:
    box = roles.box
    docker(box, mine)
    box.sh("touch /docker-refuses")
    assert not roles.play(ROLE, **given(box))
    assert "Job for docker.service failed" in roles.told() + roles.site.output
    assert box.exec(["cat", FILE]).stdout == (mine or "")
    box.sh("rm /docker-refuses")
    assert roles.play(ROLE, **given(box)), roles.site.output
    assert reloads(box) == 1
    assert "nvidia" in json.loads(box.sh(f"cat {FILE}"))["runtimes"]


def test_what_was_added_meanwhile_stays(roles: Roles) -> None:
    box = roles.box
    docker(box, None, running=False)
    assert roles.play(ROLE, **given(box)), roles.site.output
    now = json.loads(box.sh(f"cat {FILE}"))
    box.write(FILE, json.dumps({**now, "debug": True, "default-runtime": "nvidia"}).encode())
    assert roles.play(ROLE, **given(box, **{f"{ROLE}_state": "absent"})), roles.site.output
    assert json.loads(box.sh(f"cat {FILE}")) == {"debug": True}
    assert reloads(box) == 0


def test_a_box_without_docker_gets_the_toolkit_alone(roles: Roles) -> None:
    assert roles.play(ROLE, **given(roles.box)), roles.site.output
    assert "nvidia-container-toolkit" in roles.box.installed()
    assert roles.box.exec(["test", "-e", FILE]).status == 1


def test_docker_from_snap_is_refused(roles: Roles) -> None:
    box = roles.box
    box.write("/snap/bin/docker", b"#!/bin/sh\n", 0o755)
    packages = box.installed()
    assert not roles.play(ROLE, **given(box))
    assert roles.told().startswith("Docker is installed from snap on this host, and there it sees neither")
    assert box.installed() == packages


def test_a_configuration_that_cannot_be_read_is_not_touched(roles: Roles) -> None:
    box = roles.box
    docker(box, "{ broken")
    packages = box.installed()
    assert not roles.play(ROLE, **given(box))
    assert f"{FILE} is no JSON object" in roles.told()
    assert (box.sh(f"cat {FILE}"), box.installed()) == ("{ broken", packages)
