"""Machines written by hand from the facts, with what their plan must say: branch, module flavour, packages and where
they come from, wheel index, cuDNN pin, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from worlds.hosts import card, host

from provision.catalog.load import catalog
from provision.errors import NoStackFits
from provision.model.facts import Facts, Mig
from provision.model.nvidia import DriverRecord, GpuHealth, HostNvidia, OtherInstall, Package, PackageCandidate
from provision.model.plan import Plan
from provision.resolve import plan_for
from provision.resolve.request import parse_request

PIN = "nvidia-cudnn-cu12<=9.10.2.21"
DEBIAN = "cuda-debian12-x86_64"


@dataclass(frozen=True, kw_only=True)
class Machine:
    id: str
    facts: Facts
    framework: str = "pytorch"
    asked: dict[str, Any] = field(default_factory=dict)
    driver: tuple[str, str | None, str | None] | None = None
    """action, branch, module flavour"""
    packages: tuple[str, ...] = ()
    repository: str = ""
    headers: bool = False
    lock: str = ""
    index: str | None = None
    cudnn: str | None = None
    pins: tuple[str, ...] = ()
    objection: str = ""
    """Words that the refusal must have; then there is no plan."""


def candidates(*names: str, version: str) -> tuple[PackageCandidate, ...]:
    return tuple(PackageCandidate(name=name, version=version, repository="archive") for name in names)


def archive(branch: str, kernel: str, module: str = "") -> HostNvidia:
    """Ubuntu's lists with one branch, its modules signed for that kernel. Their packages have the kernel's number."""
    modules = candidates(f"linux-modules-nvidia-{branch}{module}-{kernel}", version=f"{kernel.rpartition('-')[0]}.63")
    driver = candidates(f"nvidia-driver-{branch}{module}", version=f"{branch}.126.09-0ubuntu0.24.04.1")
    return HostNvidia(candidates=modules + driver, components=("main", "restricted", "universe"))


OLD = {"index": "cu126", "cudnn": "9.10.2.21"}
NEW = {"index": None, "cudnn": "9.26.0.51"}

MACHINES = (
    Machine(
        id="ubuntu 24.04, RTX 5090, Secure Boot, lists with 580: signed modules before a newer branch",
        facts=host(
            "GeForce RTX 5090", os="ubuntu", secure_boot=True, nvidia=archive("580", "6.8.0-60-generic", "-open")
        ),
        driver=("install", "580", "open"),
        packages=("linux-modules-nvidia-580-open-6.8.0-60-generic", "nvidia-driver-580-open"),
        repository="distribution",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 24.04, RTX 5090, the same lists, no Secure Boot: the newest branch, of NVIDIA's repository",
        facts=host("GeForce RTX 5090", os="ubuntu", nvidia=archive("580", "6.8.0-60-generic", "-open")),
        driver=("install", "595", "open"),
        packages=("nvidia-open",),
        repository="cuda-ubuntu24.04-x86_64",
        headers=True,
        lock="595.*",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 22.04 with a newer kernel, GTX 1080 Ti: modules of the kernel that runs, not of the release's first",
        facts=host(
            "GeForce GTX 1080 Ti",
            os="ubuntu",
            release="22.04",
            kernel="6.8.0-60-generic",
            nvidia=archive("580", "6.8.0-60-generic"),
        ),
        driver=("install", "580", "proprietary"),
        packages=("linux-modules-nvidia-580-6.8.0-60-generic", "nvidia-driver-580"),
        repository="distribution",
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 24.04 whose lists lack 580: NVIDIA's repository",
        facts=host("GeForce GTX 1080 Ti", os="ubuntu", nvidia=HostNvidia(candidates=candidates("vim", version="9"))),
        driver=("install", "580", "proprietary"),
        packages=("cuda-drivers-580",),
        repository="cuda-ubuntu24.04-x86_64",
        headers=True,
        lock="580.*",
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="debian 12, GTX 960 under nouveau",
        facts=host("GeForce GTX 960", state="nouveau"),
        driver=("install", "580", "proprietary"),
        packages=("nvidia-kernel-dkms", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository=DEBIAN,
        headers=True,
        lock="580.*",
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="debian 12, GTX 960, JAX: cuDNN pinned below 9.11",
        facts=host("GeForce GTX 960"),
        framework="jax",
        driver=("install", "580", "proprietary"),
        packages=("nvidia-kernel-dkms", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository=DEBIAN,
        headers=True,
        lock="580.*",
        pins=(PIN,),
    ),
    Machine(
        id="debian 13, RTX 4090",
        facts=host("GeForce RTX 4090", release="13", kernel="6.12.48+deb13-amd64"),
        driver=("install", "595", "open"),
        packages=("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository="cuda-debian13-x86_64",
        headers=True,
        lock="595.*",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="rocky 9, H100: a module stream",
        facts=host("H100", os="rocky"),
        driver=("install", "595", "open"),
        packages=("kmod-nvidia-open-dkms", "nvidia-driver", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository="cuda-rocky9-x86_64",
        headers=True,
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="rocky 10, GTX 1080 Ti: a version lock",
        facts=host("GeForce GTX 1080 Ti", os="rocky", release="10.0", kernel="6.12.0-55.el10.x86_64"),
        driver=("install", "580", "proprietary"),
        packages=("kmod-nvidia-latest-dkms", "nvidia-driver", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository="cuda-rocky10-x86_64",
        headers=True,
        lock="*nvidia*580*",
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="fedora 43, RTX 3090",
        facts=host("GeForce RTX 3090", os="fedora"),
        driver=("install", "595", "open"),
        packages=("kmod-nvidia-open-dkms", "nvidia-driver", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository="cuda-fedora43-x86_64",
        headers=True,
        lock="*nvidia*595*",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 26.04, B200: the archive's own, there is no repository of NVIDIA's yet",
        facts=host("B200", os="ubuntu", release="26.04", kernel="7.0.0-14-generic"),
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-7.0.0-14-generic", "nvidia-driver-595-open"),
        repository="distribution",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="debian 12, K80: Kepler's last branch, in Debian's own packages",
        facts=host("Tesla K80"),
        driver=("install", "470", "proprietary"),
        packages=(
            "nvidia-tesla-470-kernel-dkms",
            "nvidia-tesla-470-driver",
            "libnvidia-tesla-470-cuda1",
            "nvidia-tesla-470-smi",
        ),
        repository="distribution",
        headers=True,
        index="cu118",
    ),
    Machine(
        id="a kernel of a cloud: its own signed modules",
        facts=host("GeForce GTX 1080 Ti", os="ubuntu", kernel="6.8.0-1021-aws"),
        driver=("install", "580", "proprietary"),
        packages=("linux-modules-nvidia-580-6.8.0-1021-aws", "nvidia-driver-580"),
        repository="distribution",
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="a kernel that nobody signs modules for: compiled, from the archive",
        facts=host("GeForce GTX 1080 Ti", os="ubuntu", kernel="6.11.0-custom"),
        driver=("install", "580", "proprietary"),
        packages=("nvidia-dkms-580", "nvidia-driver-580"),
        repository="distribution",
        headers=True,
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 24.04, HGX H100: the fabric manager, and the server's packages that it asks for",
        facts=host(*["H100"] * 8, os="ubuntu", nvidia=HostNvidia(nvswitches=4)),
        driver=("install", "595", "open"),
        packages=(
            "linux-modules-nvidia-595-server-open-6.8.0-60-generic",
            "nvidia-driver-595-server-open",
            "nvidia-fabricmanager-595",
        ),
        repository="distribution",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="rocky 9, HGX A100: the fabric manager of NVIDIA's repository",
        facts=host(*["A100"] * 8, os="rocky", nvidia=HostNvidia(nvswitches=6)),
        driver=("install", "595", "open"),
        packages=(
            "kmod-nvidia-open-dkms",
            "nvidia-driver",
            "nvidia-driver-cuda",
            "nvidia-persistenced",
            "nvidia-fabricmanager",
        ),
        repository="cuda-rocky9-x86_64",
        headers=True,
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="a working 535 is kept",
        facts=host("GeForce RTX 3090", driver="535.247.01", module="open"),
        driver=("none", "535", "open"),
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="installed by an earlier run, and works after the reboot: confirmed",
        facts=host(
            "GeForce GTX 960",
            driver="580.178.04",
            nvidia=HostNvidia(
                record=DriverRecord(
                    state="installed",
                    branch="580",
                    version="580.178.04",
                    module="proprietary",
                    rebooted=True,
                    packages=(Package(name="nvidia-driver-cuda", version="580.178.04-1"),),
                )
            ),
        ),
        driver=("none", "580", None),
        packages=("nvidia-driver-cuda",),
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="mismatch after an unattended upgrade",
        facts=host("GeForce RTX 2080 Ti", os="ubuntu", state="mismatch"),
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-6.8.0-60-generic", "nvidia-driver-595-open"),
        repository="distribution",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="RTX 5090 and GTX 1080 Ti in one box",
        facts=host("GeForce RTX 5090", "GeForce GTX 1080 Ti"),
        objection="no driver drives both generations of GPU in this box",
    ),
    Machine(
        id="Fermi: the newest branch that did is named",
        facts=host("GeForce GTX 460"),
        objection="390 was the newest driver branch that drove it",
    ),
    Machine(
        id="MIG on without a slice",
        facts=host(driver="580.95.05", gpus=(card("H100", source="nvml", mig=Mig(enabled=True, devices=0)),)),
        objection="MIG is on and has no devices",
    ),
    Machine(
        id="a card that a virtual machine has",
        facts=host(
            "GeForce RTX 3090",
            nvidia=HostNvidia(gpus=(GpuHealth(pci_address="0000:01:00.0", kernel_driver="vfio-pci"),)),
        ),
        objection="is reserved for a virtual machine",
    ),
    Machine(
        id="a .run file was here first",
        facts=host(
            "GeForce RTX 3090",
            nvidia=HostNvidia(other_installs=(OtherInstall(kind="runfile", evidence="/usr/bin/nvidia-uninstall"),)),
        ),
        objection="NVIDIA's .run file",
    ),
    Machine(
        id="rhel 9, A100 with MIG on and without a slice",
        facts=host(
            driver="580.95.05", os="rhel", gpus=(card("A100", source="nvml", mig=Mig(enabled=True, devices=0)),)
        ),
        objection="MIG is on and has no devices",
    ),
    Machine(
        id="debian 12, two H100, MIG on without a slice on one: the other is planned for",
        facts=host(
            driver="580.95.05",
            gpus=(card("H100", source="nvml", mig=Mig(enabled=True, devices=0)), card("H100", 2, source="nvml")),
        ),
        driver=("none", "580", None),
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 24.04, RTX 5090 beside a GTX 1080 Ti that a virtual machine has: the 5090's driver",
        facts=host(
            "GeForce RTX 5090",
            "GeForce GTX 1080 Ti",
            os="ubuntu",
            nvidia=HostNvidia(gpus=(GpuHealth(pci_address="0000:02:00.0", kernel_driver="vfio-pci"),)),
        ),
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-6.8.0-60-generic", "nvidia-driver-595-open"),
        repository="distribution",
        **NEW,  # type: ignore[arg-type]
    ),
    Machine(
        id="GTX 680 on Linux 6.8: nothing has kernels for Kepler's first chips",
        facts=host("GeForce GTX 680", os="ubuntu"),
        objection="NVIDIA GeForce GTX 680 (compute capability 3.0)",
    ),
    Machine(
        id="K80 on a kernel from backports: Kepler's last branch does not compile there",
        facts=host("Tesla K80", kernel="6.12.9+bpo-amd64"),
        objection="driver branch 470 does not build for this kernel",
    ),
    Machine(
        id="a kernel that is too old for every branch with support",
        facts=host("GeForce RTX 3090", os="rocky", release="9.0", kernel="3.10.0-1160.el7.x86_64"),
        objection="driver branch 595 is too new for this kernel",
    ),
    Machine(
        id="Linux 4.4 is too old as well",
        facts=host("GeForce GTX 1080 Ti", os="ubuntu", release="22.04", kernel="4.4.0-210-generic"),
        objection="it needs Linux 4.15 or newer; 4.4.0-210-generic is running",
    ),
    Machine(
        id="debian 12 with its own 535 broken: NVIDIA's 580 is not put over it",
        facts=host(
            "GeForce GTX 960",
            state="mismatch",
            nvidia=HostNvidia(packages=(Package(name="nvidia-driver", version="535.261.03-1"),)),
        ),
        objection="driver branch 580 would come from another repository than the driver packages that are here",
    ),
    Machine(
        id="fedora with RPM Fusion's driver",
        facts=host(
            "GeForce RTX 3090",
            os="fedora",
            state="not_loaded",
            nvidia=HostNvidia(packages=(Package(name="akmod-nvidia", version="580.95.05-1.fc43"),)),
        ),
        objection="akmod-nvidia: RPM Fusion's",
    ),
    Machine(id="WSL2", facts=host("GeForce RTX 4090", wsl=True, os="ubuntu"), objection="in WSL2"),
    Machine(id="a container", facts=host("GeForce RTX 4090", container=True), objection="in this container"),
    Machine(
        id="GH200 on an Arm server with pages of 64 KiB: the open module, signed for that kernel",
        facts=host("H100", arch="aarch64", flags=(), os="ubuntu", kernel="6.8.0-1025-nvidia-64k"),
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-6.8.0-1025-nvidia-64k", "nvidia-driver-595-open"),
        repository="distribution",
        index="cu130",
    ),
    Machine(
        id="GH200 on Debian: NVIDIA's repository for Arm servers",
        facts=host("H100", arch="aarch64", flags=(), kernel="6.1.0-18-arm64"),
        driver=("install", "595", "open"),
        packages=("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository="cuda-debian12-aarch64",
        headers=True,
        lock="595.*",
        index="cu130",
    ),
    Machine(
        id="rocky 10, V100: Volta's last branch, a version lock",
        facts=host("Tesla V100", os="rocky", release="10.0", kernel="6.12.0-55.el10.x86_64"),
        driver=("install", "580", "proprietary"),
        packages=("kmod-nvidia-latest-dkms", "nvidia-driver", "nvidia-driver-cuda", "nvidia-persistenced"),
        repository="cuda-rocky10-x86_64",
        headers=True,
        lock="*nvidia*580*",
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="debian 12 with its own 535, whose parts are not switched on: the lists say nothing about them",
        facts=host(
            "GeForce GTX 960",
            nvidia=HostNvidia(candidates=candidates("vim", version="9"), components=("main",)),
        ),
        asked={"driver": "535"},
        driver=("install", "535", "proprietary"),
        packages=("nvidia-kernel-dkms", "nvidia-driver", "libcuda1", "nvidia-smi", "nvidia-persistenced"),
        repository="distribution",
        headers=True,
        **OLD,  # type: ignore[arg-type]
    ),
    Machine(
        id="ubuntu 24.04 with NVIDIA's repository: a candidate of the archive's name is NVIDIA's",
        facts=host(
            "GeForce RTX 3090",
            os="ubuntu",
            nvidia=HostNvidia(
                candidates=tuple(
                    PackageCandidate(
                        name=name,
                        version="595.84-0ubuntu1",
                        repository="https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64",
                    )
                    for name in ("nvidia-driver-595-open", "nvidia-dkms-595-open")
                ),
            ),
        ),
        driver=("install", "595", "open"),
        packages=("nvidia-open",),
        repository="cuda-ubuntu24.04-x86_64",
        headers=True,
        lock="595.*",
        **NEW,  # type: ignore[arg-type]
    ),
)


def plan(machine: Machine) -> Plan:
    asked = {"device": "cuda", **machine.asked}
    request = parse_request(frameworks=(machine.framework,), catalog=catalog(), **asked)
    return plan_for(machine.facts, request, catalog())


@pytest.mark.parametrize("machine", [each for each in MACHINES if not each.objection], ids=lambda each: each.id)
def test_what_the_plan_says(machine: Machine) -> None:
    made = plan(machine)
    stack = made.stack[0]
    assert (stack.driver and (stack.driver.action, stack.driver.branch, stack.driver.module)) == machine.driver
    assert stack.index == machine.index
    assert machine.cudnn in (None, stack.cudnn)
    assert tuple(line for line in stack.requirements[1:] if line.startswith("nvidia-cudnn")) == machine.pins
    driver = made.nvidia.driver if made.nvidia else None
    assert (
        tuple(each.name for each in driver.packages if driver) == machine.packages if driver else not machine.packages
    )
    if driver is not None and driver.action != "confirm":
        assert {each.repository for each in driver.packages} == {machine.repository}
        assert bool(driver.headers) == machine.headers
        assert driver.lock == machine.lock
        assert (machine.repository == "distribution") == (made.nvidia.repositories == ())  # type: ignore[union-attr]
    assert all(step.available for step in made.steps)


@pytest.mark.parametrize("machine", [each for each in MACHINES if each.objection], ids=lambda each: each.id)
def test_what_is_refused_before_anything_is_changed(machine: Machine) -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(machine)
    error = caught.value
    said = "\n".join([error.what, error.why, *(f"{each.what}\n{each.why}" for each in error.details)])
    assert machine.objection in said
    assert error.hint


def test_rocky_takes_a_module_stream_and_a_confirmed_driver_nothing() -> None:
    rocky = plan(next(each for each in MACHINES if each.id.startswith("rocky 9")))
    assert rocky.nvidia is not None
    assert rocky.nvidia.driver is not None
    assert (rocky.nvidia.manager, rocky.nvidia.driver.stream) == ("dnf", "nvidia-driver:595-open")
    assert any(
        "kernel security updates wait" in line and line.endswith("`sudo dnf versionlock delete …`")
        for line in rocky.steps[0].changes
    )
    record = DriverRecord(
        state="confirmed", branch="580", version="580.178.04", module="proprietary", rebooted=True, packages=()
    )
    done = host("GeForce GTX 960", driver="580.178.04", nvidia=HostNvidia(record=record))
    assert plan(Machine(id="done", facts=done)).nvidia is None


def test_the_steps_of_a_resumed_run_begin_with_the_confirmation() -> None:
    machine = next(each for each in MACHINES if "confirmed" in each.id)
    made = plan(machine)
    assert [step.id for step in made.steps][:2] == ["nvidia_driver", "persistenced"]
    assert made.steps[0].title == "Confirm NVIDIA driver 580.178.04 after the reboot"
    assert made.nvidia is not None
    assert made.nvidia.persistenced


def test_a_jetson_has_its_toolkit_from_its_own_system() -> None:
    """NVIDIA's repository for Arm servers has a toolkit that does not run there."""
    board = host("Orin", os="ubuntu", release="22.04", arch="aarch64", flags=(), driver="540.4.0")
    made = plan(Machine(id="orin", facts=board, asked={"origin": "source"}))
    step = next(step for step in made.steps if step.id == "cuda_toolkit")
    assert not step.available
    assert "by hand" in step.changes[0]
    assert made.nvidia is None
