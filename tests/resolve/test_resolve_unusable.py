"""GPUs that nothing can use: left out with a word about each, and objected to where no other is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worlds.hosts import card, host

from provision.catalog.diagnostics import diagnostics
from provision.catalog.load import catalog, chips
from provision.detect import host_facts
from provision.errors import NoStackFits
from provision.model.facts import Facts, Mig
from provision.model.nvidia import GpuHealth, HostNvidia
from provision.model.plan import Plan
from provision.render.plan import plan_data, plan_text
from provision.resolve import plan_for
from provision.resolve.request import parse_request
from provision.run.dump import read_dump

HOSTS = Path(__file__).resolve().parents[1] / "hosts"
EMPTY = Mig(enabled=True, devices=0)


def plan(facts: Facts, **asked: Any) -> Plan:
    return plan_for(facts, parse_request(frameworks=("pytorch",), catalog=catalog(), **asked), catalog())


def text(made: Plan, rule: str) -> str:
    return next(reason.text for reason in made.reasons if reason.rule == rule)


def dumped(name: str) -> Facts:
    return host_facts(read_dump(HOSTS / name), chips(), host=name)


def health(*states: tuple[str | None, str | None]) -> HostNvidia:
    """Of the GPUs at 0000:01:00.0, 0000:02:00.0 …: the kernel driver that holds it, and what the driver says."""
    return HostNvidia(
        gpus=tuple(
            GpuHealth(pci_address=f"0000:{number:02x}:00.0", kernel_driver=holder, error=error)
            for number, (holder, error) in enumerate(states, 1)
        )
    )


def test_mig_on_one_of_two_cards_leaves_the_other() -> None:
    made = plan(host(driver="580.95.05", gpus=(card("H100", source="nvml", mig=EMPTY), card("H100", 2, "nvml"))))
    assert made.stack[0].device == "cuda"
    assert text(made, "device") == "CUDA, because this host has NVIDIA H100 (compute capability 9.0)"
    assert text(made, "gpu.mig") == (
        "NVIDIA H100 (compute capability 9.0) at 0000:01:00.0 is of no use: MIG is on and has no devices (with MIG on, "
        "CUDA sees only MIG devices, and none was made). It is left out; to have it: make some "
        "(`nvidia-smi mig -cgi … -C`) or switch MIG off (`nvidia-smi -mig 0`)"
    )


def test_mig_on_all_cards_is_objected_to() -> None:
    both = host(driver="580.95.05", gpus=tuple(card("H100", number, "nvml", EMPTY) for number in (1, 2)))
    with pytest.raises(NoStackFits) as caught:
        plan(both, device="cuda")
    assert caught.value.what == "2 × NVIDIA H100 (compute capability 9.0) is of no use: MIG is on and has no devices"
    made = plan(both)
    assert made.stack[0].device == "cpu"
    assert "2 × NVIDIA H100 (compute capability 9.0) is of no use: MIG is on" in text(made, "device.left_out")


def test_mig_with_slices_is_in_use() -> None:
    sliced = card("H100", 1, "nvml", Mig(enabled=True, devices=2))
    made = plan(host(driver="580.95.05", gpus=(sliced, card("H100", 2, "nvml"))))
    assert text(made, "device").endswith("2 × NVIDIA H100 (compute capability 9.0)")
    assert not any(reason.rule == "gpu.mig" for reason in made.reasons)


def test_the_cards_that_were_asked_for_by_capability_may_all_be_empty() -> None:
    facts = host(driver="580.95.05", gpus=(card("A100", source="nvml", mig=EMPTY), card("H100", 2, "nvml")))
    assert plan(facts).stack[0].compute_capabilities == ("9.0",)
    with pytest.raises(NoStackFits) as caught:
        plan(facts, device="cuda", cuda_compute_capabilities="8.0")
    assert "NVIDIA A100 (compute capability 8.0) is of no use" in caught.value.what


def test_a_card_for_a_guest_beside_one_for_this_host() -> None:
    """The old card drives the guest's display: it does not decide the driver either."""
    facts = host("GeForce GTX 1080 Ti", "GeForce RTX 5090", nvidia=health(("vfio-pci", None), (None, None)))
    made = plan(facts)
    assert made.stack[0].driver is not None
    assert (made.stack[0].driver.branch, made.stack[0].driver.module) == ("595", "open")
    assert made.nvidia is not None
    assert made.nvidia.driver is not None
    assert made.nvidia.driver.gpus == 1
    assert "GTX 1080 Ti (compute capability 6.1) at 0000:01:00.0 is reserved for a virtual machine" in text(
        made, "gpu.reserved"
    )


def test_a_lost_gpu_of_which_only_its_silence_is_known() -> None:
    made = plan(dumped("made-nvml-2xrtx4090-lost-535"))
    said = text(made, "gpu.lost")
    assert said.startswith('a GPU does not answer (the driver says: "GPU is lost"). It is left out; to have it: ')
    remedy = next(row.remedy for row in diagnostics() if row.id == "gpu-lost")
    assert said.endswith(remedy)
    assert "- a GPU does not answer" in plan_text(made)
    assert {"rule": "gpu.lost", "text": said, "source": ""} in plan_data(made)["reasons"]


def test_a_gpu_that_the_driver_no_longer_lists() -> None:
    made = plan(dumped("made-debian11-broadwell-p4-gtx1060-lost-470"))
    assert text(made, "device") == "CUDA, because this host has Tesla P4 (compute capability 6.1)"
    assert text(made, "gpu.lost").startswith(
        "NVIDIA GeForce GTX 1060 6GB (compute capability 6.1) at 0000:82:00.0 does not answer (it is on the bus and "
        "bound to NVIDIA's driver, which does not list it)"
    )


def test_a_lost_gpu_does_not_decide_what_the_others_get() -> None:
    facts = host(
        driver="580.95.05",
        gpus=(card("GeForce RTX 4090", 1, "nvml"), card("GeForce GTX 960", 2, "nvml")),
        nvidia=health(("nvidia", None), ("nvidia", "GPU is lost")),
    )
    assert plan(facts).stack[0].build == "cu132"
    assert plan(replace(facts, nvidia=None)).stack[0].build == "cu126"


def test_the_only_gpu_is_lost() -> None:
    facts = host("GeForce RTX 4090", driver="580.95.05", nvidia=health(("nvidia", "GPU is lost")))
    with pytest.raises(NoStackFits) as caught:
        plan(facts, device="cuda")
    assert caught.value.what == "NVIDIA GeForce RTX 4090 (compute capability 8.9) does not answer"
    assert caught.value.why == 'the driver says: "GPU is lost"'
    assert caught.value.hint.startswith("switch the box off and on")


def test_a_driver_that_was_asked_for_no_list_loses_nothing() -> None:
    """Only the bus was read: that no GPU is the driver's says nothing about any of them."""
    facts = host("GeForce RTX 4090", "GeForce GTX 960", nvidia=health(("nvidia", None), ("nvidia", None)))
    loaded = replace(facts, driver=replace(facts.driver, state="working", version="580.95.05"))
    assert not any(reason.rule.startswith("gpu.lost") for reason in plan(loaded).reasons)


def test_a_card_that_the_driver_does_not_take_is_not_lost() -> None:
    """A GT 1030 under 595: too old for the branch, and bound to nothing."""
    facts = host(
        driver="595.84",
        gpus=(card("GeForce RTX 4090", 1, "nvml"), card("GeForce GT 1030", 2, "pci")),
        nvidia=health(("nvidia", None), (None, None)),
    )
    with pytest.raises(NoStackFits) as caught:
        plan(facts, device="cuda")
    assert any("driver 595.84 does not drive NVIDIA GeForce GT 1030" in each.what for each in caught.value.details)
