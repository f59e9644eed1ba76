"""Which driver: kept, installed or upgraded, its branch and its module."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from worlds.hosts import host
from worlds.tables import CATALOG

from provision.errors import NoStackFits, UsageError
from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.nvidia import HostNvidia, Package, PackageCandidate
from provision.model.plan import Plan, StackDriver, Step
from provision.resolve import plan_for, with_overrides
from provision.resolve.request import parse_request


def plan(facts: Facts, *frameworks: str, catalog: Catalog = CATALOG, **asked: Any) -> Plan:
    return plan_for(facts, parse_request(frameworks=frameworks, catalog=catalog, **asked), catalog)


def driver(made: Plan) -> tuple[str, str | None, str | None]:
    found = made.stack[0].driver
    assert found is not None
    return found.action, found.branch, found.module


def step(made: Plan, name: str) -> Step | None:
    return next((each for each in made.steps if each.id == name), None)


def text(made: Plan, rule: str) -> str:
    return next(reason.text for reason in made.reasons if reason.rule == rule)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        (["GeForce GTX 960"], ("install", "580", "proprietary")),
        (["GeForce GTX 1080 Ti"], ("install", "580", "proprietary")),
        (["GeForce RTX 4090", "GeForce GT 1030"], ("install", "580", "proprietary")),
        (["GeForce RTX 2080 Ti"], ("install", "595", "open")),
        (["GeForce RTX 5090"], ("install", "595", "open")),
        (["GeForce RTX 5090", "GeForce RTX 3090"], ("install", "595", "open")),
    ],
)
def test_the_newest_branch_that_drives_every_gpu(cards: list[str], expected: tuple[str, str, str]) -> None:
    made = plan(host(*cards), "pytorch>=2.14")
    assert driver(made) == expected
    found = step(made, "nvidia_driver")
    assert found is not None
    assert found.needs_root
    assert found.available


def test_kepler_has_470_at_most() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(host("Tesla K80"), "torch", device="cuda")
    assert any("this host runs driver 470.256.02" in each.why for each in caught.value.details)


def test_a_working_driver_is_kept_and_the_newer_release_named() -> None:
    made = plan(host("GeForce RTX 3090", driver="525.147.05"), "pytorch")
    assert (made.stack[0].version, made.stack[0].build) == ("2.14.1", "cu126")
    assert made.stack[0].driver == StackDriver(minimum="525.60.13", branch="525", module=None, action="none")
    assert step(made, "nvidia_driver") is None
    assert text(made, "driver.kept") == "NVIDIA driver 525.147.05 works and is kept: this stack runs on it"
    assert text(made, "change") == (
        "NVIDIA driver 580.65.06 or newer would allow pytorch 2.15.0 cu132 (--driver newest)"
    )


def test_a_working_driver_goes_only_where_nothing_runs_on_it() -> None:
    made = plan(host("GeForce GTX 1080 Ti", driver="430.40"), "pytorch")
    assert driver(made) == ("upgrade", "580", "proprietary")
    assert "driver 430.40 works, but no release in the catalog that fits otherwise runs on it" in text(
        made, "driver.chosen"
    )


def test_nobody_keeps_an_old_driver_for_a_release_that_needs_an_old_cuda_in_the_system() -> None:
    facts = host("GeForce GTX 1080 Ti", driver="430.40")
    assert driver(plan(facts, "tensorflow")) == ("upgrade", "580", "proprietary")
    asked = plan(facts, "tensorflow==2.3")
    assert driver(asked) == ("none", "430", None)
    assert asked.stack[0].version == "2.3.4"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("newest", ("upgrade", "595", "open")),
        ("prod", ("upgrade", "595", "open")),
        ("lts", ("upgrade", "580", "open")),
        ("570", ("upgrade", "570", "open")),
        ("610.43.02", ("upgrade", "610", "open")),
        ("535.288.01", ("upgrade", "535", "proprietary")),
    ],
)
def test_a_driver_that_was_asked_for(asked: str, expected: tuple[str, str, str]) -> None:
    made = plan(host("GeForce RTX 3090", driver="525.147.05"), "pytorch", driver=asked)
    assert driver(made) == expected


def test_the_asked_driver_decides_the_release() -> None:
    made = plan(host("GeForce RTX 3090", driver="525.147.05"), "pytorch", driver="newest")
    assert (made.stack[0].version, made.stack[0].build) == ("2.15.0", "cu132")
    assert "driver 525.147.05 works, but --driver newest asks for another" in text(made, "driver.chosen")


@pytest.mark.parametrize("asked", ["newest", "prod", "595", "595.84"])
def test_what_is_there_already_is_not_done_again(asked: str) -> None:
    made = plan(host("GeForce RTX 3090", driver="595.84"), "pytorch", driver=asked)
    assert driver(made) == ("none", "595", None)


def test_newest_does_not_go_back() -> None:
    assert driver(plan(host("GeForce RTX 3090", driver="610.43.02"), "pytorch", driver="newest"))[0] == "none"


def test_a_branch_that_drives_not_every_gpu() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(host("GeForce GTX 960", driver="580.178.04"), "pytorch", driver="595")
    assert caught.value.what == "no driver branch 595 drives every GPU here"
    assert "NVIDIA GeForce GTX 960 (compute capability 5.2): 390 to 580" in caught.value.why


def test_a_branch_that_nobody_knows() -> None:
    with pytest.raises(UsageError) as caught:
        plan(host("GeForce GTX 960"), "pytorch", driver="612")
    assert caught.value.what == "unknown driver branch 612"
    assert "595, 610" in caught.value.why


def test_pascal_beside_an_rtx_50_has_no_driver() -> None:
    facts = host("GeForce RTX 5090", "GeForce GT 1030")
    with pytest.raises(NoStackFits) as caught:
        plan(facts)  # "auto" must not fall back to the CPU in silence
    assert caught.value.what == "no driver drives both generations of GPU in this box"
    assert caught.value.why == (
        "NVIDIA GeForce RTX 5090 (compute capability 12.0) runs with the open kernel modules only, and they refuse "
        "NVIDIA GeForce GT 1030 (compute capability 6.1)"
    )
    assert "--cuda-compute-capabilities 12.0" in caught.value.hint
    assert caught.value.exit_code == 3
    alone = plan(facts, "pytorch", cuda_compute_capabilities="12.0")
    assert driver(alone) == ("install", "595", "open")
    assert plan(facts, device="cpu").stack[0].device == "cpu"


def test_fermi_beside_ada_has_no_branch() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(host("GeForce RTX 4090", "GeForce GTX 460"))
    assert caught.value.what == (
        "NVIDIA GeForce GTX 460 (compute capability 2.1) is too old for every framework in the catalog"
    )
    assert caught.value.hint == (
        "leave it unused with --cuda-compute-capabilities 8.9, take another card, or use --device cpu"
    )


@pytest.mark.parametrize("where", [{"wsl": True}, {"container": True}])
def test_where_no_driver_may_be_touched(where: dict[str, bool]) -> None:
    facts = host("GeForce RTX 3090", **where)
    auto = plan(facts)
    assert auto.stack[0].device == "cpu"
    assert "the CPU, though this host has NVIDIA GeForce RTX 3090" in text(auto, "device.left_out")
    with pytest.raises(NoStackFits):
        plan(facts, device="cuda")
    with pytest.raises(NoStackFits) as caught:
        plan(facts, driver="newest")
    assert caught.value.what == "--driver newest cannot be done here"
    working = plan(host("GeForce RTX 3090", driver="560.35.03", **where))
    assert working.stack[0].device == "cuda"


def test_wsl_says_where_the_driver_belongs() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(host("GeForce RTX 3090", wsl=True), device="cuda")
    assert caught.value.what == "no working NVIDIA driver in WSL2"
    assert "in WSL2 the driver is that of Windows" in caught.value.why
    assert "on Windows" in caught.value.hint


def test_the_driver_of_a_board_is_never_installed() -> None:
    made = plan(host("GB10", arch="aarch64", flags=(), driver="580.95.05"), "pytorch")
    assert (made.stack[0].build, made.stack[0].device) == ("cu132", "cuda")
    bare = host("GB10", arch="aarch64", flags=())
    with pytest.raises(NoStackFits) as caught:
        plan(bare, "pytorch", device="cuda")
    assert "DGX OS" in caught.value.hint


def test_a_broken_driver_may_only_need_a_reboot() -> None:
    facts = host("GeForce RTX 2080 Ti", state="mismatch", driver="515.65.01")
    made = plan(facts)
    assert driver(made)[0] == "install"
    assert "try that first" in text(made, "driver.reboot")


def test_a_loaded_driver_that_was_not_asked_is_taken_to_work() -> None:
    made = plan(host("GeForce RTX 3090", state="unknown", driver="580.173.02"))
    assert driver(made)[:2] == ("none", "580")
    assert "whether the loaded driver 580.173.02 works" in text(made, "unknown")


def test_the_install_step_says_what_it_touches() -> None:
    made = plan(host("GeForce GTX 960", state="nouveau", os="debian", secure_boot=True), "pytorch")
    found = step(made, "nvidia_driver")
    assert found is not None
    assert found.title == "Install NVIDIA driver 580.178.04 (proprietary module)"
    assert found.changes == (
        "packages from NVIDIA's repository cuda-debian12-x86_64: nvidia-kernel-dkms, nvidia-driver-cuda, "
        "nvidia-persistenced (580.*)",
        "to compile it: linux-headers-6.1.0-18-amd64, dkms, gcc, make, mokutil",
        "kernel module: proprietary, compiled by DKMS for the running kernel 6.1.0-18-amd64",
        "/etc/modprobe.d and the initramfs: nouveau is kept from loading, once the module is built",
        "driver and kernel packages are held against upgrades, and so kernel security updates wait; the report has the "
        "line that undoes it, `sudo apt-mark unhold …`",
        "Secure Boot: at the box's own console, on the next boot, choose Enroll MOK and type the password of "
        "`mokutil --import`; nobody can do that over SSH",
        "a reboot is asked for where one is needed, never done unasked",
    )
    assert "--device cpu does without a driver" in text(made, "driver.chosen")


@pytest.mark.parametrize("display", [(), ("Xorg", "gnome-shell")])
def test_a_desktop_gets_what_draws_it(display: tuple[str, ...]) -> None:
    made = plan(host("GeForce RTX 3090", state="nouveau", os="debian", nvidia=HostNvidia(display=display)), "pytorch")
    assert made.nvidia is not None
    assert made.nvidia.driver is not None
    assert ("nvidia-driver" in [each.name for each in made.nvidia.driver.packages]) is bool(display)
    found = step(made, "nvidia_driver")
    assert found is not None
    told = "Xorg, gnome-shell shows pictures here: left running, drawn by this driver after a reboot"
    assert (told in found.changes) is bool(display)


def test_the_kernel_that_boots_next_gets_the_module_too() -> None:
    found = step(
        plan(host("GeForce GTX 960", nvidia=HostNvidia(next_kernel="6.1.0-31-amd64")), "pytorch"), "nvidia_driver"
    )
    assert found is not None
    assert "to compile it: linux-headers-6.1.0-18-amd64, linux-headers-6.1.0-31-amd64, dkms, gcc, make" in found.changes
    assert (
        "kernel module: proprietary, compiled by DKMS for the running kernel 6.1.0-18-amd64 and for 6.1.0-31-amd64, "
        "which boots next"
    ) in found.changes


LATER = "6.8.0-62-generic"


@pytest.mark.parametrize(
    ("os", "packages", "line"),
    [
        ("ubuntu", ("linux-modules-nvidia-580-open-6.8.0-60-generic", "nvidia-driver-580-open"),
         f"sudo apt-get install linux-modules-nvidia-580-open-{LATER}"),
        ("ubuntu", ("nvidia-driver-580-open", "nvidia-dkms-580-open"),
         f"sudo apt-get install linux-headers-{LATER} && sudo dkms autoinstall -k {LATER}"),
        ("rocky", (), f"sudo dnf install kernel-devel-{LATER} && sudo dkms autoinstall -k {LATER}"),
        ("arch", (), f"install its headers, and sudo dkms autoinstall -k {LATER}"),
    ],
)  # fmt: skip
def test_a_driver_that_works_and_is_gone_after_a_reboot(os: str, packages: tuple[str, ...], line: str) -> None:
    found = HostNvidia(packages=tuple(Package(name=name, version="580") for name in packages), next_kernel=LATER)
    facts = host("GeForce RTX 3090", driver="580.126.09", os=os, kernel="6.8.0-60-generic", nvidia=found)
    said = text(plan(facts, "pytorch"), "driver.next_kernel")
    assert said == f"{LATER} boots next and has no NVIDIA module: after a reboot there is no driver. Before it: {line}"
    built = replace(found, next_module_version="580.126.09")
    assert not any(each.rule == "driver.next_kernel" for each in plan(replace(facts, nvidia=built), "pytorch").reasons)


def test_signed_modules_are_taken_where_both_kernels_have_them() -> None:
    running, later = "6.8.0-60-generic", "6.8.0-62-generic"

    def packages(*kernels: str) -> list[str]:
        names = ["nvidia-driver-580-open", *(f"linux-modules-nvidia-580-open-{kernel}" for kernel in kernels)]
        found = tuple(PackageCandidate(name=name, version="580.126.09-0ubuntu1", repository="noble") for name in names)
        more = tuple(
            PackageCandidate(name=name, version="580.126.09-1", repository="noble")
            for name in ("nvidia-dkms-580-open",)
        )
        nvidia = HostNvidia(candidates=(*found, *more), components=("main", "restricted"), next_kernel=later)
        made = plan(host("GeForce RTX 3090", os="ubuntu", kernel=running, nvidia=nvidia), "pytorch", driver="580")
        assert made.nvidia is not None
        assert made.nvidia.driver is not None
        assert made.nvidia.driver.next_kernel == later
        return [each.name for each in made.nvidia.driver.packages]

    assert f"linux-modules-nvidia-580-open-{later}" in packages(running, later)
    assert not any(name.startswith("linux-modules") for name in packages(running))


def test_planning_for_another_machine() -> None:
    facts = with_overrides(host(), driver_version="570.124.06", compute_capability="12.0")
    made = plan(facts, "tensorflow")
    assert driver(made)[:2] == ("none", "570")
    assert made.stack[0].compute_capabilities == ("12.0",)


def test_overrides_that_are_none() -> None:
    facts = host("GeForce GTX 960")
    assert with_overrides(facts, driver_version=None, compute_capability=None) == facts
    with pytest.raises(UsageError) as caught:
        with_overrides(facts, driver_version="new", compute_capability=None)
    assert caught.value.what == "'new' is not an NVIDIA driver version"
    with pytest.raises(UsageError) as caught:
        with_overrides(facts, driver_version=None, compute_capability="9")
    assert caught.value.what == "'9' is not a compute capability"


def test_a_capability_override_forgets_the_card_it_replaces() -> None:
    facts = with_overrides(host("GeForce GTX 960"), driver_version="595.84", compute_capability="8.9")
    assert plan(facts, "pytorch").stack[0].build == "cu132"


def test_no_branch_supported_any_more() -> None:
    bare = replace(CATALOG, branches=tuple(replace(row, supported=False) for row in CATALOG.branches))
    with pytest.raises(NoStackFits) as caught:
        plan(host("GeForce GTX 960"), "pytorch", device="cuda", catalog=bare)
    assert caught.value.what == "no driver drives every GPU here"


@pytest.mark.parametrize(
    ("card", "asked", "said"),
    [
        ("GeForce GTX 1080 Ti", {}, "with the proprietary kernel module: GPUs before Turing have no GSP"),
        ("GeForce RTX 3090", {}, "with the open kernel modules, the default from branch 560 on"),
        ("GeForce RTX 3090", {"driver": "535"}, "with the proprietary kernel module, the default before branch 560"),
        (
            "GeForce RTX 3090",
            {"driver_module": "proprietary"},
            "with the proprietary kernel module, because --driver-module asks for it",
        ),
    ],
)
def test_why_this_module(card: str, asked: dict[str, Any], said: str) -> None:
    assert said in text(plan(host(card), "pytorch", **asked), "driver.chosen")
