"""Boxes whose GPUs are joined by NVSwitches: nvidia-fabricmanager of the driver's own release, or a word about it."""

from __future__ import annotations

from typing import Any

import pytest
from worlds.hosts import host

from provision.catalog.load import catalog
from provision.errors import NoStackFits
from provision.model.facts import Facts
from provision.model.nvidia import DriverRecord, HostNvidia, Package, PackageCandidate
from provision.model.plan import Plan
from provision.resolve import plan_for
from provision.resolve.request import parse_request

HGX = ["H100"] * 8


def plan(facts: Facts, **asked: Any) -> Plan:
    request = parse_request(frameworks=("pytorch",), device="cuda", catalog=catalog(), **asked)
    return plan_for(facts, request, catalog())


def switches(packages: tuple[Package, ...] = (), candidates: tuple[PackageCandidate, ...] | None = None) -> HostNvidia:
    return HostNvidia(nvswitches=4, packages=packages, candidates=candidates)


def names(made: Plan) -> tuple[str, ...]:
    assert made.nvidia is not None
    assert made.nvidia.driver is not None
    return tuple(each.name for each in made.nvidia.driver.packages)


def text(made: Plan, rule: str) -> str | None:
    return next((reason.text for reason in made.reasons if reason.rule == rule), None)


@pytest.mark.parametrize(
    ("place", "asked", "expected"),
    [
        (
            {"os": "ubuntu"},
            {},
            (
                "linux-modules-nvidia-595-server-open-6.8.0-60-generic",
                "nvidia-driver-595-server-open",
                "nvidia-fabricmanager-595",
            ),
        ),
        (
            {"os": "ubuntu", "kernel": "6.11.0-custom"},
            {"driver": "580"},
            ("nvidia-dkms-580-server-open", "nvidia-driver-580-server-open", "nvidia-fabricmanager-580"),
        ),
        (
            {"os": "debian", "release": "13", "kernel": "6.12.48+deb13-amd64"},
            {"driver": "580"},
            ("nvidia-kernel-open-dkms", "nvidia-driver-cuda", "nvidia-persistenced", "nvidia-fabricmanager"),
        ),
        (
            {"os": "rocky"},
            {},
            (
                "kmod-nvidia-open-dkms",
                "nvidia-driver",
                "nvidia-driver-cuda",
                "nvidia-persistenced",
                "nvidia-fabricmanager",
            ),
        ),
    ],
    ids=["ubuntu", "ubuntu, no signed modules", "debian 13", "rocky 9"],
)
def test_it_comes_with_the_driver(place: dict[str, str], asked: dict[str, str], expected: tuple[str, ...]) -> None:
    made = plan(host(*HGX, nvidia=switches(), **place), **asked)  # type: ignore[arg-type]
    assert names(made) == expected
    assert made.nvidia is not None
    assert made.nvidia.fabricmanager
    versions = {each.version for each in made.nvidia.driver.packages if "linux" not in each.name}  # type: ignore[union-attr]
    assert len(versions) == 1
    assert text(made, "fabric") == (
        "4 NVSwitches are on the bus: nvidia-fabricmanager of the driver's own release is installed and enabled"
    )
    step = next(step for step in made.steps if step.id == "fabricmanager")
    assert step.available
    assert step.changes == ("service nvidia-fabricmanager is enabled, and started once the driver is loaded",)


def test_boxes_without_switches_keep_their_packages() -> None:
    made = plan(host(*["H100"] * 4, os="ubuntu"))
    assert names(made) == ("linux-modules-nvidia-595-open-6.8.0-60-generic", "nvidia-driver-595-open")
    assert made.nvidia is not None
    assert not made.nvidia.fabricmanager
    assert not [step.id for step in made.steps if step.id == "fabricmanager"]


def test_ubuntus_own_lists_without_it_leave_nvidias_repository() -> None:
    """The driver's packages are there, and the fabric manager of that branch is not."""
    lists = tuple(
        PackageCandidate(name=name, version=version, repository="archive")
        for name, version in (
            ("linux-modules-nvidia-580-server-open-6.8.0-60-generic", "6.8.0-60.63"),
            ("nvidia-driver-580-server-open", "580.126.09-0ubuntu0.24.04.1"),
        )
    )
    made = plan(host(*HGX, os="ubuntu", nvidia=switches(candidates=lists)), driver="580")
    assert names(made) == ("nvidia-open-580", "nvidia-fabricmanager-580")


def test_a_distribution_whose_package_nobody_knows_is_refused_with_the_line() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(host(*HGX, os="fedora", nvidia=switches()))
    error = caught.value
    assert error.what == "no package of nvidia-fabricmanager is known for fedora 43"
    assert "CUDA starts only with nvidia-fabricmanager of the driver's own release" in error.why
    assert "sudo dnf install 'nvidia-fabricmanager-595*' && sudo systemctl enable nvidia-fabricmanager" in error.hint


def test_beside_a_driver_that_is_kept_the_line_is_said() -> None:
    made = plan(host(*HGX, os="ubuntu", driver="580.95.05", nvidia=switches()))
    assert made.nvidia is None
    assert text(made, "fabric.missing") == (
        "4 NVSwitches are on the bus: CUDA starts only with nvidia-fabricmanager of the driver's own release, and none "
        "is known to be here. Where it is missing: sudo apt-get install 'nvidia-fabricmanager-580=580.95.05*' && sudo "
        "systemctl enable --now nvidia-fabricmanager"
    )


@pytest.mark.parametrize(
    ("version", "rule"), [("580.95.05-1", None), ("580.82.07-1", "fabric.mismatch"), ("1:580.95.05-1", None)]
)
def test_one_that_is_here_has_to_be_of_the_same_release(version: str, rule: str | None) -> None:
    here = switches(packages=(Package(name="nvidia-fabricmanager-580", version=version),))
    made = plan(host(*HGX, os="ubuntu", driver="580.95.05", nvidia=here))
    assert [each.rule for each in made.reasons if each.rule.startswith("fabric")] == ([rule] if rule else [])
    if rule:
        assert "nvidia-fabricmanager 580.82.07 does not serve driver 580.95.05" in (text(made, rule) or "")


def test_after_the_reboot_it_is_started_with_the_confirmation() -> None:
    record = DriverRecord(
        state="installed",
        branch="580",
        version="580.95.05",
        module="open",
        rebooted=True,
        packages=tuple(Package(name=name, version="580.95.05-1") for name in ("nvidia-open", "nvidia-fabricmanager")),
    )
    here = HostNvidia(nvswitches=4, packages=record.packages, record=record)
    made = plan(host(*HGX, driver="580.95.05", nvidia=here))
    assert [step.id for step in made.steps][:3] == ["nvidia_driver", "persistenced", "fabricmanager"]


def test_hgx_b200_whose_switches_are_not_on_the_bus() -> None:
    made = plan(host(*["B200"] * 8, driver="580.95.05"))
    assert "the GPUs of such a board are joined by NVSwitches" in (text(made, "fabric.missing") or "")
    assert "sudo apt-get install nvlsm && sudo systemctl restart nvidia-fabricmanager" in (
        text(made, "fabric.subnet") or ""
    )
    one = plan(host("B200", driver="580.95.05"))
    assert not [each for each in one.reasons if each.rule.startswith("fabric")]
