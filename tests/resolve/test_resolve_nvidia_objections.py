"""What is said before the first change where no driver can, or may, be put on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worlds.hosts import host

from provision.catalog.load import catalog, chips
from provision.detect import host_facts
from provision.errors import NoStackFits, UsageError
from provision.model.facts import Facts
from provision.model.nvidia import GpuHealth, HostNvidia, OtherInstall, Package, PackageCandidate
from provision.model.plan import Plan
from provision.resolve import plan_for
from provision.resolve.request import parse_request
from provision.run.dump import read_dump

HOSTS = Path(__file__).resolve().parents[1] / "hosts"


def plan(facts: Facts, **asked: Any) -> Plan:
    request = parse_request(frameworks=("pytorch",), device="cuda", catalog=catalog(), **asked)
    return plan_for(facts, request, catalog())


def refusal(facts: Facts, **asked: Any) -> str:
    """All that the user reads of it."""
    with pytest.raises(NoStackFits) as caught:
        plan(facts, **asked)
    error = caught.value
    parts = [error.what, error.why, error.hint]
    return "\n".join([*parts, *(text for each in error.details for text in (each.what, each.why, each.hint))])


def test_the_open_module_on_a_card_before_turing() -> None:
    said = refusal(host("GeForce GTX 1080 Ti"), driver_module="open")
    assert "the open kernel module does not drive NVIDIA GeForce GTX 1080 Ti (compute capability 6.1)" in said
    assert "they load, and refuse the GPU" in said
    assert "--driver-module proprietary" in said


def test_the_proprietary_module_on_blackwell() -> None:
    said = refusal(host("GeForce RTX 5090"), driver_module="proprietary")
    assert "the proprietary kernel module does not drive NVIDIA GeForce RTX 5090" in said
    assert "Blackwell and newer run with the open kernel modules only" in said


def test_the_proprietary_module_can_be_asked_for_where_it_runs() -> None:
    made = plan(host("GeForce RTX 3090"), driver_module="proprietary")
    assert made.nvidia is not None
    assert made.nvidia.driver is not None
    assert made.nvidia.driver.module == "proprietary"


def test_a_driver_that_is_too_new_for_the_kernel() -> None:
    said = refusal(host("GeForce RTX 5090", kernel="3.10.0-1160.el7.x86_64"))
    assert "driver branch 595 is too new for this kernel" in said
    assert "it needs Linux 4.15 or newer; 3.10.0-1160.el7.x86_64 is running" in said
    assert "upgrade the kernel or the distribution" in said


@pytest.mark.parametrize(
    "name",
    ["made-ubuntu2404-zen5-rtx3090-held-mismatch-580", "made-ubuntu2404-alderlake-rtx4070-secureboot-notenrolled-580"],
)
def test_packages_that_are_here_need_no_candidate(name: str) -> None:
    """Their module's package is installed and in no list: that is no reason to change the branch and its repository."""
    made = plan(host_facts(read_dump(HOSTS / name), chips(), host=name))
    assert made.nvidia is not None
    assert made.nvidia.driver is not None
    assert (made.nvidia.driver.branch, made.nvidia.driver.module) == ("580", "open")
    assert {package.repository for package in made.nvidia.driver.packages} == {"distribution"}
    assert any("may only need a reboot" in reason.text for reason in made.reasons)


def test_missing_headers_are_no_reason_for_another_branch() -> None:
    name = "made-rocky9-sapphirerapids-h100-noheaders-580"
    made = plan(host_facts(read_dump(HOSTS / name), chips(), host=name))
    assert made.nvidia is not None
    assert made.nvidia.driver is not None
    assert (made.nvidia.driver.branch, made.nvidia.driver.stream) == ("580", "nvidia-driver:580-open")
    assert "kernel-devel-5.14.0-570.12.1.el9_6.x86_64" in made.nvidia.driver.headers
    assert made.steps[0].title == "Install NVIDIA driver 580.95.05 (open module)"
    said = {reason.rule: reason.text for reason in made.reasons}
    assert (
        "branch 580 (580.95.05) is here already and drives every GPU here, so it is put right" in said["driver.chosen"]
    )
    assert said["driver.headers"] == (
        "there is no nvidia module for the running kernel 5.14.0-570.12.1.el9_6.x86_64, and its headers are missing: "
        "a reboot does not help, installing them and building it does"
    )
    assert "driver.reboot" not in said


def test_an_upgrade_that_was_cut_off_is_no_reason_for_another_branch_either() -> None:
    names = (("nvidia-driver", "580.95.05-1.el9"), ("nvidia-driver-cuda", "3:580.178.04-1.el9"))
    half = HostNvidia(packages=tuple(Package(name=name, version=version) for name, version in names))
    made = plan(host("H100", os="rocky", state="mismatch", nvidia=half))
    assert made.steps[0].title == "Install NVIDIA driver 580.178.04 (open module)"


def test_a_broken_driver_of_a_branch_without_support_is_replaced() -> None:
    old = HostNvidia(packages=(Package(name="nvidia-driver-cuda", version="570.124.06-1"),))
    made = plan(host("GeForce RTX 3090", state="mismatch", nvidia=old))
    assert made.stack[0].driver is not None
    assert made.stack[0].driver.branch == "595"


def test_a_branch_that_is_here_and_does_not_drive_the_card_is_replaced() -> None:
    """Packages of 595 install cleanly, and ignore a Pascal."""
    wrong = HostNvidia(packages=(Package(name="nvidia-driver-cuda", version="595.84-1"),))
    made = plan(host("GeForce GTX 1080 Ti", state="no_devices", nvidia=wrong))
    assert made.stack[0].driver is not None
    assert (made.stack[0].driver.branch, made.stack[0].driver.module) == ("580", "proprietary")


def test_with_secure_boot_signed_modules_come_before_what_is_here_unsigned() -> None:
    lists = HostNvidia(
        candidates=(
            PackageCandidate(
                name="linux-modules-nvidia-595-open-6.8.0-60-generic", version="6.8.0-60.63", repository=""
            ),
            PackageCandidate(name="nvidia-driver-595-open", version="595.84-0ubuntu0.24.04.1", repository=""),
            PackageCandidate(name="nvidia-dkms-580-open", version="580.126.09-0ubuntu0.24.04.1", repository=""),
        ),
        packages=(Package(name="nvidia-driver-580-open", version="580.126.09-0ubuntu0.24.04.1"),),
    )
    on = plan(host("GeForce RTX 5090", os="ubuntu", state="not_loaded", nvidia=lists, secure_boot=True))
    off = plan(host("GeForce RTX 5090", os="ubuntu", state="not_loaded", nvidia=lists))
    assert on.nvidia is not None
    assert off.nvidia is not None
    assert (on.nvidia.driver.branch, on.nvidia.driver.build) == ("595", "prebuilt")  # type: ignore[union-attr]
    assert (off.nvidia.driver.branch, off.nvidia.driver.build) == ("580", "dkms")  # type: ignore[union-attr]


def test_a_card_that_a_virtual_machine_has() -> None:
    held = HostNvidia(gpus=(GpuHealth(pci_address="0000:01:00.0", kernel_driver="vfio-pci"),))
    said = refusal(host("GeForce RTX 3090", nvidia=held))
    assert "NVIDIA GeForce RTX 3090 (compute capability 8.6) is reserved for a virtual machine" in said
    assert "vfio-pci" in said


def test_a_run_file_is_taken_away_first() -> None:
    runfile = HostNvidia(other_installs=(OtherInstall(kind="runfile", evidence="/usr/bin/nvidia-uninstall"),))
    said = refusal(host("GeForce RTX 3090", nvidia=runfile))
    assert "a driver was installed by NVIDIA's .run file" in said
    assert "sudo nvidia-uninstall" in said


def test_lambda_stack_is_left_to_its_own_tools() -> None:
    theirs = HostNvidia(other_installs=(OtherInstall(kind="lambda", evidence="package lambda-stack-cuda"),))
    assert "the driver here belongs to Lambda Stack" in refusal(host("GeForce RTX 3090", nvidia=theirs))


def test_no_candidate_in_lists_that_are_known() -> None:
    """Ubuntu 26.04 has no repository of NVIDIA's: without a candidate of its own nothing is left."""
    empty = HostNvidia(candidates=(PackageCandidate(name="vim", version="9", repository="archive"),))
    facts = host("GeForce GTX 960", os="ubuntu", nvidia=empty, release="26.04", kernel="7.0.0-14-generic")
    said = refusal(facts)
    assert "no candidate for linux-modules-nvidia-580-7.0.0-14-generic, nvidia-driver-580, nvidia-dkms-580" in said
    assert "nothing was changed" in said
    assert "sudo apt-get update" in said


def test_a_branch_that_no_repository_of_the_release_has() -> None:
    said = refusal(host("GeForce RTX 5090", os="ubuntu", release="26.04"), driver="610")
    assert "--driver 610: no packages of driver branch 610 (open module) for ubuntu 26.04" in said
    assert "ubuntu has 535, 570, 580, 590, 595" in said


def test_branches_are_named_with_the_repository_that_has_them() -> None:
    """Ubuntu's archive has no 560: NVIDIA's repository does."""
    said = refusal(host("GeForce RTX 3090", os="ubuntu"), driver="520")
    assert "--driver 520: no packages of driver branch 520 (proprietary module) for ubuntu 24.04" in said
    assert "ubuntu has 470, 535, 570, 580, 590, 595; NVIDIA's repository has 535, 545, 550" in said
    assert said.splitlines()[1].endswith("575, 580, 590 and newer")


def test_with_secure_boot_signed_modules_come_before_a_newer_branch() -> None:
    lists = HostNvidia(
        candidates=(
            PackageCandidate(
                name="linux-modules-nvidia-580-open-6.8.0-60-generic", version="6.8.0-60.63", repository=""
            ),
            PackageCandidate(name="nvidia-driver-580-open", version="580.126.09-0ubuntu0.24.04.1", repository=""),
        )
    )
    off = plan(host("GeForce RTX 5090", os="ubuntu", nvidia=lists))
    on = plan(host("GeForce RTX 5090", os="ubuntu", nvidia=lists, secure_boot=True))
    assert off.nvidia is not None
    assert on.nvidia is not None
    assert (off.nvidia.driver.branch, off.nvidia.driver.build) == ("595", "dkms")  # type: ignore[union-attr]
    assert (on.nvidia.driver.branch, on.nvidia.driver.build) == ("580", "prebuilt")  # type: ignore[union-attr]
    reason = next(each.text for each in on.reasons if each.rule == "driver.chosen")
    assert "Secure Boot is on, and ubuntu has signed modules of it" in reason


def test_packages_of_two_sources_are_not_mixed() -> None:
    names = ("libcuda1", "nvidia-driver", "nvidia-kernel-dkms", "vim-nvidia")
    own = HostNvidia(packages=tuple(Package(name=name, version="535.261.03-1") for name in names))
    said = refusal(host("GeForce GTX 960", state="mismatch", nvidia=own))
    assert "driver branch 580 would come from another repository than the driver packages that are here" in said
    assert "libcuda1, nvidia-driver, nvidia-kernel-dkms: the distribution's; packages of both together break" in said
    assert "--driver 535 stays with them" in said
    assert "sudo apt-get purge libcuda1 nvidia-driver nvidia-kernel-dkms" in said
    stays = plan(host("GeForce GTX 960", state="mismatch", nvidia=own), driver="535")
    assert stays.nvidia is not None
    assert {each.repository for each in stays.nvidia.driver.packages} == {"distribution"}  # type: ignore[union-attr]


def test_a_kernel_that_is_too_new_for_an_old_branch() -> None:
    said = refusal(host("Tesla K80", kernel="6.12.9+bpo-amd64"))
    assert "driver branch 470 does not build for this kernel" in said
    assert "6.12.9+bpo-amd64 is running, and Linux 6.11 is the newest that its module compiles for" in said
    assert "boot an older kernel" in said


def test_a_kernel_that_boots_next_and_is_too_new() -> None:
    said = refusal(host("Tesla K80", nvidia=HostNvidia(next_kernel="6.12.9+bpo-amd64")))
    assert "driver branch 470 does not build for the kernel that the next boot takes" in said
    assert "6.1.0-18-amd64 is running, 6.12.9+bpo-amd64 boots next, and Linux 6.11 is the newest" in said
    assert "have 6.1.0-18-amd64 booted from now on" in said


def test_a_box_stays_in_the_world_that_its_packages_come_from() -> None:
    theirs = HostNvidia(packages=(Package(name="nvidia-driver-cuda", version="570.124.06-1"),))
    ours = HostNvidia(packages=(Package(name="nvidia-driver-580", version="580.126.09-0ubuntu0.24.04.1"),))
    upgraded = plan(host("GeForce RTX 3090", state="mismatch", nvidia=theirs))
    assert upgraded.nvidia is not None
    assert {each.repository for each in upgraded.nvidia.driver.packages} == {"cuda-debian12-x86_64"}  # type: ignore[union-attr]
    kept = plan(host("GeForce RTX 3090", state="mismatch", os="ubuntu", nvidia=ours), driver="580")
    assert kept.nvidia is not None
    assert {each.repository for each in kept.nvidia.driver.packages} == {"distribution"}  # type: ignore[union-attr]


@pytest.mark.parametrize("asked", [{"driver_module": "open"}, {"container_toolkit": True}])
def test_a_cpu_stack_has_no_driver_to_choose(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_request(frameworks=("pytorch",), device="cpu", catalog=catalog(), **asked)
    assert "contradict each other" in caught.value.what


def test_a_driver_of_old_cards_is_not_taken_for_one_that_a_newer_serves() -> None:
    """Without 580 for a Pascal there is still 470, which nobody mends any more: it has to be asked for by name."""
    facts = host("GeForce GTX 1080 Ti", os="ubuntu", release="22.04", kernel="4.4.0-210-generic")
    assert "driver branch 580 is too new for this kernel" in refusal(facts)
    made = plan(facts, driver="470")
    assert made.nvidia is not None
    assert made.nvidia.driver.branch == "470"  # type: ignore[union-attr]


def test_the_newest_branch_that_drives_a_card_is_named() -> None:
    assert refusal(host("GeForce GTX 460", kernel="6.12.9+bpo-amd64")).splitlines() == [
        "NVIDIA GeForce GTX 460 (compute capability 2.1) is too old for every framework in the catalog",
        "none has kernels for compute capability 2.1, and 390 was the newest driver branch that drove it",
        "take another card, or use --device cpu",
    ]


def test_a_driver_of_a_card_that_is_too_old_is_not_installed_by_its_kind() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(host("GeForce GTX 460"), driver="newest")
    assert caught.value.what == "--driver newest cannot be done here"
    assert caught.value.hint == "take another card, or use --device cpu"


def test_what_stands_against_every_candidate_is_said_once_and_first() -> None:
    facts = host("GeForce RTX 5090", "GeForce GTX 1080 Ti")
    said = refusal(facts).splitlines()
    assert said[0] == "no driver drives both generations of GPU in this box"
    assert said[1].endswith("and they refuse NVIDIA GeForce GTX 1080 Ti (compute capability 6.1)")
    assert said[2].startswith("leave the others unused with --cuda-compute-capabilities 12.0, take one generation out")
    assert len(said) == 3


def test_what_stands_in_the_way_besides_is_said_below_it() -> None:
    """Who boots a newer kernel should not learn only then that the C library is too old."""
    old = host("GeForce RTX 5090", kernel="3.10.0-1160.el7.x86_64", glibc="2.12")
    said = refusal(old, origin="wheel").splitlines()
    assert said[0] == "driver branch 595 is too new for this kernel"
    assert any(line.endswith("the C library is too old") for line in said[3:])
    assert sum("too new for this kernel" in line for line in said) == 1
