"""Where compiled kernels run."""

from __future__ import annotations

import pytest
from worlds.hosts import card, host
from worlds.tables import CATALOG

from provision.model.request import Request
from provision.model.versions import ComputeCapability
from provision.resolve.targets import left_out, name_all, served_by, targets


@pytest.mark.parametrize(
    ("kernels", "device", "by"),
    [
        ("sm_50", "5.2", "sm_50"),  # same major, lower minor: a GTX 960 runs 5.0 code
        ("sm_52", "5.0", None),
        ("sm_50", "6.1", None),
        ("sm_60 sm_61", "6.1", "sm_61"),  # the nearest
        ("sm_80", "8.9", "sm_80"),
        ("sm_50", "5.3", None),  # Jetson chips run only what was built for them
        ("sm_53", "5.3", "sm_53"),
        ("sm_60", "6.2", None),
        ("sm_70", "7.2", None),
        ("sm_80", "8.7", None),
        ("sm_87", "8.9", None),
        ("sm_72", "7.5", None),
        ("sm_101", "11.0", "sm_101"),  # one chip, two names
        ("sm_110", "10.1", "sm_110"),
        ("sm_101", "10.3", None),
        ("sm_100", "10.3", "sm_100"),
        ("sm_120", "12.1", "sm_120"),
        ("compute_90", "12.0", "compute_90"),
        ("compute_90", "8.9", None),
        ("compute_70", "8.7", "compute_70"),
        ("sm_90 compute_90", "9.0", "sm_90"),  # compiled code before PTX
        ("sm_90a", "9.0", "sm_90a"),
        ("sm_100a", "10.3", None),
        ("sm_100f", "10.3", "sm_100f"),
        ("compute_100f", "12.0", None),
        ("nonsense", "9.0", None),
        ("", "9.0", None),
    ],
)
def test_kernels_reach_a_gpu(kernels: str, device: str, by: str | None) -> None:
    found = served_by(tuple(kernels.split()), ComputeCapability.parse(device), CATALOG)
    assert (found and found.text) == by


def test_every_gpu_of_the_box_is_a_target() -> None:
    facts = host("GeForce RTX 4090", "GeForce RTX 4090", "GeForce GT 1030")
    assert name_all(targets(facts, Request())) == (
        "2 × NVIDIA GeForce RTX 4090 (compute capability 8.9) and NVIDIA GeForce GT 1030 (compute capability 6.1)"
    )


def test_asked_capabilities_leave_the_other_cards_out() -> None:
    facts = host("GeForce RTX 4090", "GeForce GT 1030")
    request = Request(compute_capabilities=("8.9",))
    assert [target.gpu for target in targets(facts, request)] == [card("GeForce RTX 4090", 1)]
    assert [target.gpu for target in left_out(facts, request)] == [card("GeForce GT 1030", 2)]


def test_an_asked_capability_that_no_card_has() -> None:
    found = targets(host("GeForce RTX 4090"), Request(compute_capabilities=("9.0+PTX",)))
    assert [(str(target.capability), target.ptx, target.gpu) for target in found] == [("9.0", True, None)]
