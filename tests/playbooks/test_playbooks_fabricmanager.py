"""The fabric manager's service on a box of a Debian system, with a unit that stands for nvidia-fabricmanager's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from harness.gpu_box import GpuBox
from playbook_roles import Roles

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
UNIT = "/usr/lib/systemd/system/nvidia-fabricmanager.service"
MACHINE = {"fabricmanager_machine_root": "/machine"}


@pytest.fixture
def roles(gpu_box: Callable[..., GpuBox], tmp_path: Path) -> Roles:
    return Roles(gpu_box(nouveau=False), tmp_path)


def unit(box: GpuBox, runs: str) -> None:
    lines = (
        f"[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart={runs}\\n[Install]\\nWantedBy=multi-user.target\\n"
    )
    box.sh(f"printf '{lines}' > {UNIT} && systemctl daemon-reload")


def state(box: GpuBox) -> tuple[str, str]:
    asked = (["systemctl", verb, "nvidia-fabricmanager"] for verb in ("is-enabled", "is-active"))
    enabled, active = (box.exec(argv).stdout.strip() for argv in asked)
    return enabled, active


def test_it_is_started_where_the_driver_is_loaded_and_a_second_run_changes_nothing(roles: Roles) -> None:
    box = roles.box
    box.install_driver("580.95.05")
    unit(box, "/bin/true")
    assert roles.play("fabricmanager", "--check", **MACHINE), roles.site.output
    assert state(box) == ("disabled", "inactive")
    assert roles.play("fabricmanager", **MACHINE), roles.site.output
    assert state(box) == ("enabled", "active")
    assert roles.play("fabricmanager", **MACHINE), roles.site.output
    assert roles.site.changed() == []
    gone = {"fabricmanager_state": "absent", **MACHINE}
    assert roles.play("fabricmanager", **gone), roles.site.output
    assert state(box) == ("disabled", "inactive")
    assert roles.play("fabricmanager", **gone), roles.site.output
    assert roles.site.changed() == []


def test_before_the_reboot_it_is_enabled_and_not_started(roles: Roles) -> None:
    unit(roles.box, "/bin/false")
    assert roles.play("fabricmanager", **MACHINE), roles.site.output
    assert state(roles.box) == ("enabled", "inactive")


def test_what_it_may_lack_is_said_where_it_does_not_start(roles: Roles) -> None:
    box = roles.box
    assert not roles.play("fabricmanager", **MACHINE)
    assert "nvidia-fabricmanager is not installed on this host" in roles.told()
    box.install_driver("580.95.05")
    unit(box, "/bin/false")
    assert not roles.play("fabricmanager", **MACHINE)
    said = " ".join(roles.told().split())
    assert "It has to be of the driver's own release, 580.95.05" in said
    assert "HGX B200 and newer need the package nvlsm" in said
