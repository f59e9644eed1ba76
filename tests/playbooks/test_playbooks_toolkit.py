"""CUDA toolkit, cuDNN and persistence on a box of a Debian system, with a mirror of NVIDIA's repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.gpu_box import GpuBox
from harness.gpu_packages_nvidia import cuda_toolkit, cudnn
from playbook_roles import Roles

pytestmark = [pytest.mark.docker, pytest.mark.ssh]
GpuBoxFixture = Callable[..., GpuBox]
FOLDERS = "/etc/apt /usr/share/keyrings /var/lib/provision"


def mirror_of(box: GpuBox, role: str) -> dict[str, str]:
    return {
        f"{role}_mirror": box.mirror.nvidia_url,
        f"{role}_key_url": box.mirror.key_url,
        f"{role}_fingerprint": box.mirror.key.fingerprint,
    }


def files(box: GpuBox) -> list[str]:
    return box.sh(f"find {FOLDERS} -type f -exec sha256sum {{}} + 2>/dev/null | sort").splitlines()


@pytest.fixture
def roles(gpu_box: GpuBoxFixture, tmp_path: Path) -> Roles:
    return Roles(gpu_box(nouveau=False), tmp_path)


def test_the_toolkit_comes_without_a_driver_stays_and_goes(roles: Roles) -> None:
    box, given = roles.box, mirror_of(roles.box, "cuda_toolkit")
    before, packages = files(box), box.installed()
    assert roles.play("cuda_toolkit", "--check", **given), roles.site.output
    assert "Install the CUDA toolkit" in str(roles.site.changed())
    assert (files(box), box.installed()) == (before, packages)

    assert roles.play("cuda_toolkit", **given), roles.site.output
    done = roles.done("Install the CUDA toolkit")
    assert done["packages"] == [{"name": "cuda-toolkit-12-6", "version": "12.6.3-1"}]
    assert box.sh("/usr/local/cuda/bin/nvcc | tail -1") == "Cuda compilation tools, release 12.6, V12.6.85\n"
    assert not {"cuda", "cuda-drivers", "nvidia-driver-cuda"} & set(box.installed())

    assert roles.play("cuda_toolkit", **given), roles.site.output
    assert roles.site.changed() == []

    assert roles.play("cuda_toolkit", cuda_toolkit_state="absent", **given), roles.site.output
    assert (files(box), box.installed()) == (before, packages)
    assert roles.play("cuda_toolkit", cuda_toolkit_state="absent", **given), roles.site.output
    assert roles.site.changed() == []


def test_no_candidate_is_said_before_any_change(roles: Roles) -> None:
    box = roles.box
    box.mirror.drop("cuda-toolkit-12-6")
    before, packages = files(box), box.installed()
    assert not roles.play("cuda_toolkit", **mirror_of(box, "cuda_toolkit"))
    assert roles.told().startswith("no repository has cuda-toolkit-12-6\n  asked: http://")
    assert "nothing was changed" in roles.told()
    assert (files(box), box.installed()) == (before, packages)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cuda", "cuda is not to be installed here"),
        ("cuda-toolkit-12-6", "cuda-drivers, nvidia-driver, nvidia-driver-cuda"),
    ],
)
def test_what_would_bring_a_driver_is_refused(roles: Roles, name: str, says: str) -> None:
    box = roles.box
    row = cuda_toolkit()[0]
    bringing = [*row.relations.items()]
    relations = dict(bringing) | {"Depends": f"{row.relations['Depends']}, cuda-drivers"}
    box.mirror.replace([type(row)(name=row.name, version=row.version, relations=relations)])
    url = "https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
    repository = {
        "id": "cuda-debian12-x86_64", "manager": "apt", "url": url, "key_url": f"{url}/3bf863cc.pub",
        "fingerprint": "EB693B3035CD5710E231E123A4B469963BF863CC",
    }  # fmt: skip
    packages = [{"name": name, "repository": repository["id"], "version": ""}]
    before = files(box), box.installed()
    given = mirror_of(box, "cuda_toolkit")
    assert not roles.play(
        "cuda_toolkit", cuda_toolkit_packages=packages, cuda_toolkit_repositories=[repository], **given
    )
    assert says in roles.told()
    assert "brings a driver of its own" in roles.told()
    assert (files(box), box.installed()) == before


def test_cudnn_stays_at_the_release_that_serves_old_gpus(roles: Roles) -> None:
    box, given = roles.box, mirror_of(roles.box, "cudnn")
    box.mirror.add(cudnn("9.14.0.64"))
    before, packages = files(box), box.installed()
    assert roles.play("cudnn", cudnn_version="9.10.2", **given), roles.site.output
    assert roles.done("Install cuDNN")["held"] == ["*cudnn* at 9.10.2.*"]
    here = {name: version for name, version in box.installed().items() if "cudnn" in name}
    assert set(here.values()) == {"9.10.2.21-1"}
    assert len(here) == 4
    box.sh("apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get -y -q dist-upgrade")
    assert set(box.installed("*cudnn*").values()) == {"9.10.2.21-1"}
    assert roles.play("cudnn", cudnn_version="9.10.2", **given), roles.site.output
    assert roles.site.changed() == []
    assert roles.play("cudnn", cudnn_state="absent", **given), roles.site.output
    assert (files(box), box.installed()) == (before, packages)


def test_what_was_left_half_installed_is_installed_again(roles: Roles) -> None:
    box, given = roles.box, mirror_of(roles.box, "cudnn")
    box.hook("postinst:libcudnn9-cuda-12", "echo refused by the test >&2; exit 1")
    assert not roles.play("cudnn", **given)
    assert "refused by the test" in roles.told()
    assert {"cudnn9-cuda-12", "libcudnn9-cuda-12"} <= set(box.broken())
    box.hook("postinst:libcudnn9-cuda-12")
    assert roles.play("cudnn", **given), roles.site.output
    assert box.broken() == []
    assert roles.play("cudnn", **given), roles.site.output
    assert roles.site.changed() == []


def test_the_repository_stays_as_long_as_something_uses_it(roles: Roles) -> None:
    box = roles.box
    for role in ("cuda_toolkit", "cudnn"):
        assert roles.play(role, **mirror_of(box, role)), roles.site.output
    assert roles.play("cuda_toolkit", cuda_toolkit_state="absent")
    assert "cuda-debian12-x86_64.sources" in box.sh("ls /etc/apt/sources.list.d")
    assert roles.play("cudnn", cudnn_state="absent")
    assert "cuda-debian12-x86_64.sources" not in box.sh("ls /etc/apt/sources.list.d")


def test_a_distribution_without_a_row_is_told(roles: Roles) -> None:
    roles.box.sh('sed -i \'s/^VERSION_ID=.*/VERSION_ID="10"/; s/^VERSION=.*/VERSION="10 (buster)"/\' /etc/os-release')
    roles.box.sh("echo 10.13 > /etc/debian_version")
    assert not roles.play("cuda_toolkit", **mirror_of(roles.box, "cuda_toolkit"))
    assert "provision does not know how to install cuda_toolkit 12.6 here\n  it is Debian 10 on x86_64" in roles.told()


def persistence(box: GpuBox) -> dict[str, Any]:
    return {
        "enabled": box.exec(["systemctl", "is-enabled", "nvidia-persistenced"]).stdout.strip(),
        "active": box.exec(["systemctl", "is-active", "nvidia-persistenced"]).stdout.strip(),
    }


def test_persistence_is_on_at_once_where_the_module_is_loaded(roles: Roles) -> None:
    box = roles.box
    box.install_driver("580.95.05")
    assert roles.play("persistenced", "--check", persistenced_machine_root="/machine"), roles.site.output
    assert persistence(box) == {"enabled": "disabled", "active": "inactive"}
    assert roles.play("persistenced", persistenced_machine_root="/machine"), roles.site.output
    assert roles.done("Keep the GPU awake")["changed"] is True
    assert persistence(box) == {"enabled": "enabled", "active": "active"}
    assert roles.play("persistenced", persistenced_machine_root="/machine"), roles.site.output
    assert roles.site.changed() == []
    gone = {"persistenced_state": "absent", "persistenced_machine_root": "/machine"}
    assert roles.play("persistenced", **gone), roles.site.output
    assert persistence(box) == {"enabled": "disabled", "active": "inactive"}
    assert roles.play("persistenced", **gone), roles.site.output
    assert roles.site.changed() == []


def test_persistence_waits_for_the_reboot_after_an_upgrade(roles: Roles) -> None:
    """The daemon of the new release gets no answer of the old module."""
    box = roles.box
    box.install_driver("535.274.02")
    box.sh("DEBIAN_FRONTEND=noninteractive apt-get dist-upgrade -y -q")
    assert box.exec(["systemctl", "start", "nvidia-persistenced"]).status == 1
    box.sh("systemctl stop nvidia-persistenced; systemctl reset-failed nvidia-persistenced || true")
    assert roles.play("persistenced", persistenced_machine_root="/machine"), roles.site.output
    assert persistence(box) == {"enabled": "enabled", "active": "inactive"}
    box.reboot()
    assert persistence(box) == {"enabled": "enabled", "active": "active"}


def test_persistence_waits_for_the_module(roles: Roles) -> None:
    box = roles.box
    assert roles.play("persistenced", "--check", persistenced_machine_root="/machine"), roles.site.output
    assert not roles.play("persistenced", persistenced_machine_root="/machine")
    assert "nvidia-persistenced is not installed on this host" in roles.told()
    box.use_nvidia_repository()
    box.apt_install("nvidia-persistenced")
    unit = "/lib/systemd/system/nvidia-persistenced.service"
    box.sh(f"sed -i 's/^ExecStart=.*/& --user nvidia --no-persistence-mode --verbose/' {unit}")
    assert roles.play("persistenced", persistenced_machine_root="/machine"), roles.site.output
    assert persistence(box) == {"enabled": "enabled", "active": "inactive"}
    started = box.sh("systemctl cat nvidia-persistenced | grep ^ExecStart= | tail -1")
    assert started == "ExecStart=/usr/bin/nvidia-persistenced --user nvidia --verbose\n"
    assert roles.play("persistenced", persistenced_machine_root="/machine"), roles.site.output
    assert roles.site.changed() == []
    assert roles.play("persistenced", persistenced_state="absent"), roles.site.output
    assert box.exec(["test", "-e", "/etc/systemd/system/nvidia-persistenced.service.d"]).status == 1


def test_the_distributions_driver_stays_with_nvidias_repository_beside_it(roles: Roles) -> None:
    box = roles.box
    box.install_debian_driver()
    assert roles.play("cuda_toolkit", **mirror_of(box, "cuda_toolkit")), roles.site.output
    box.sh("apt-get update -q; DEBIAN_FRONTEND=noninteractive apt-get -y -q dist-upgrade")
    assert box.installed("libcuda1") == {"libcuda1": "535.261.03-1"}
    assert roles.play("cuda_toolkit", **mirror_of(box, "cuda_toolkit")), roles.site.output
    assert roles.site.changed() == []
    assert roles.done("Install the CUDA toolkit")["packages"] == [{"name": "cuda-toolkit-12-6", "version": "12.6.3-1"}]
