"""Images for an inventory: which hosts take which, and that each can run what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds.hosts import AVX, V1, V2, V3, V4, host
from worlds.images import ask, base

from provision.catalog.images import distributions
from provision.catalog.load import catalog, chips
from provision.detect import host_facts
from provision.errors import ProvisionError, UsageError
from provision.model.facts import Facts
from provision.model.image import ImagePlan
from provision.model.request import Request
from provision.resolve.image_fleet import SweepPart, fleet_plans, part_tags, sweep
from provision.resolve.request import parse_request
from provision.run.dump import read_dump


def named(name: str, *cards: str, **more: Any) -> Facts:
    return replace(host(*cards, **more), host=name)


def request(*frameworks: str, **asked: Any) -> Request:
    return parse_request(frameworks=frameworks or ("tensorflow",), catalog=catalog(), **asked)


def parts(facts: Sequence[Facts], *frameworks: str, per_level: bool = False, **asked: Any) -> tuple[SweepPart, ...]:
    return sweep(facts, per_level, request(*frameworks, **asked), catalog())


def planned(facts: Sequence[Facts], *frameworks: str, per_level: bool = False, **asked: Any) -> tuple[ImagePlan, ...]:
    found = parts(facts, *frameworks, per_level=per_level)
    return fleet_plans(ask(*frameworks, **asked), found, facts, base(), catalog(), distributions())


def refused(facts: Sequence[Facts], **asked: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parts(facts, **asked)
    return caught.value


OLD, NEW = named("old", flags=AVX), named("new", flags=V4)
GPUS = (
    named("g1", "GeForce RTX 3090", driver="580.65.06", flags=V3),
    named("g2", "H100", driver="595.84", flags=V4),
)


# --- one for all --------------------------------------------------------------------------------------------------


def test_one_image_asks_for_what_all_hosts_have() -> None:
    (part,) = parts([NEW, OLD])
    assert (part.cpu, part.device, part.hosts) == ("fleet", "cpu", ("new", "old"))
    assert "avx" in part.flags
    assert "avx2" not in part.flags
    assert part.why == "the flags that all of 2 hosts have"
    (plan,) = planned([NEW, OLD])
    assert (plan.tag, plan.cpu, plan.flags, plan.level) == ("me/tf", "fleet", part.flags, "x86-64-v2")
    assert plan.plan.stack[0].origin == "wheel", "what the hosts have in common is enough for the wheel"


def test_with_a_gpu_on_every_host_it_is_for_all_of_them() -> None:
    (part,) = parts(GPUS, "pytorch")
    assert (part.device, part.capabilities) == ("cuda", ("8.6", "9.0"))
    (plan,) = planned(GPUS, "pytorch")
    assert plan.plan.stack[0].compute_capabilities == ("8.6", "9.0")
    assert any("planned as if it had 580.65.06" in each.text for each in plan.plan.reasons), "the oldest one of theirs"


def test_where_one_host_has_none_it_is_for_the_cpu_and_says_whom_to_thank() -> None:
    (part,) = parts([*GPUS, OLD], "pytorch")
    assert (part.device, part.capabilities) == ("cpu", ())
    assert part.why == (
        "the flags that all of 3 hosts have; for the CPU, because old has no NVIDIA GPU to use: "
        "--per-level gives the others an image with CUDA"
    )


def test_a_gpu_that_no_release_was_ever_compiled_for_is_none_to_use() -> None:
    (part,) = parts([*GPUS, named("museum", "GeForce GTX 460", flags=V2)], "pytorch")
    assert part.device == "cpu"
    assert "museum has no NVIDIA GPU to use" in part.why


def test_hosts_with_drivers_that_are_too_old_are_named_and_not_in_the_way() -> None:
    ancient = named("ancient", "GeForce RTX 3090", driver="455.45.01", flags=V3)
    (plan,) = planned([*GPUS, ancient], "pytorch")
    said = next(each.text for each in plan.plan.reasons if each.rule == "driver.hosts")
    assert said.startswith("to be run on ancient (455.45.01), it needs another driver there: ")


# --- one for each level -------------------------------------------------------------------------------------------


def test_each_level_and_device_has_its_own() -> None:
    facts = [NEW, OLD, *GPUS, named("new2", flags=V4), named("plain", flags=V2)]
    found = parts(facts, "pytorch", per_level=True)
    assert [(part.cpu, part.device, part.hosts) for part in found] == [
        ("x86-64-v2", "cpu", ("old", "plain")),
        ("x86-64-v3", "cuda", ("g1",)),
        ("x86-64-v4", "cpu", ("new", "new2")),
        ("x86-64-v4", "cuda", ("g2",)),
    ]
    assert part_tags("me/torch", found) == ("me/torch:v2", "me/torch:v3-cuda", "me/torch:v4", "me/torch:v4-cuda")
    assert part_tags("me/torch:{level}-x", found)[1] == "me/torch:v3-cuda-x"


def test_a_driver_that_was_named_is_for_the_images_with_cuda() -> None:
    plans = planned([*GPUS, OLD], "pytorch", per_level=True, driver_version="590.48.01")
    said = {each.tag: [text for text in (r.text for r in each.plan.reasons) if "590.48.01" in text] for each in plans}
    assert sorted(said) == ["me/tf:v2", "me/tf:v3-cuda", "me/tf:v4-cuda"]
    assert [tag for tag, texts in sorted(said.items()) if texts] == ["me/tf:v3-cuda", "me/tf:v4-cuda"]


def test_hosts_with_avx_alone_need_no_build_from_source() -> None:
    found = parts([NEW, OLD, named("plain", flags=V2)], per_level=True)
    assert [(part.cpu, part.hosts) for part in found] == [
        ("x86-64-v2", ("plain",)),
        ("fleet", ("old",)),
        ("x86-64-v4", ("new",)),
    ]
    assert part_tags("me/tf", found) == ("me/tf:v2", "me/tf:v2-avx", "me/tf:v4")
    plans = planned([NEW, OLD, named("plain", flags=V2)], per_level=True)
    assert [each.plan.stack[0].origin for each in plans] == ["source", "wheel", "wheel"]
    assert [tag for tag, _ in plans[2].instead] == ["me/tf:v2-avx", "me/tf:v2"]


def test_one_level_is_one_image_with_the_tag_as_it_is() -> None:
    plans = planned([NEW, named("new2", flags=V4)], "pytorch", per_level=True, tag="me/torch:1")
    assert [(each.tag, each.cpu) for each in plans] == [("me/torch:1", "x86-64-v4")]


# --- what cannot be -----------------------------------------------------------------------------------------------


def test_hosts_that_cannot_take_part_are_named() -> None:
    error = refused([NEW, named("blind", flags=()), named("mute", flags=())])
    assert error.what == "an image for a fleet needs the CPU flags of every host"
    assert error.why == "those of blind, mute are not known"
    error = refused([NEW, named("arm", arch="aarch64", flags=("asimd",))])
    assert error.why == "arm (aarch64) cannot run one"
    assert refused([]).what == "there is no host to build for"
    assert refused([NEW, NEW]).what == "a host is named twice"


@pytest.mark.parametrize("per_level", [False, True])
def test_cuda_that_was_asked_for_is_not_dropped_in_silence(per_level: bool) -> None:
    error = refused([*GPUS, OLD], device="cuda", per_level=per_level)
    assert error.what == "--device cuda asks for a GPU on every host"
    assert error.why == "none that a release has kernels for was found on old"


def test_capabilities_that_leave_a_host_without_a_gpu_are_refused() -> None:
    error = refused(GPUS, cuda_compute_capabilities="9.0")
    assert error.what == "--cuda-compute-capabilities leaves hosts without a GPU"
    assert error.why == "g1 has none of 9.0"
    (part,) = parts(GPUS, cuda_compute_capabilities="8.6,9.0+PTX")
    assert part.capabilities == ("8.6", "9.0+PTX")


def test_a_gpu_that_nobody_knows_is_asked_about() -> None:
    unknown = replace(GPUS[0], gpus=(replace(GPUS[0].gpus[0], compute_capability=None, chip=None),))
    error = refused([unknown, GPUS[1]])
    assert error.what == "an image with CUDA needs the compute capability of every GPU"
    assert error.why == "that of a GPU of g1 is not known"
    assert parts([unknown, GPUS[1]], device="cpu")[0].device == "cpu"


def test_a_framework_without_cuda_is_for_the_cpu_on_every_host() -> None:
    (part,) = parts(GPUS, "numpy")
    assert part.device == "cpu"
    assert "GPU" not in part.why


# --- what holds for every fleet -----------------------------------------------------------------------------------

ODD = (*V1, "avx", "fma")
"""A masked virtual machine: AVX and none of what every CPU with AVX has."""
boxes = st.builds(
    lambda cards, **more: host(*cards, **more),
    st.lists(st.sampled_from(["GeForce RTX 3090", "H100", "GeForce GTX 960", "GeForce GTX 460"]), max_size=2),
    flags=st.sampled_from([V1, V2, AVX, V3, V4, ODD]),
    driver=st.sampled_from([None, "535.183.01", "580.65.06"]),
)
fleets = st.lists(boxes, min_size=1, max_size=6).map(
    lambda found: [replace(each, host=f"h{number}") for number, each in enumerate(found)]
)
requests = st.builds(
    request,
    st.sampled_from(["tensorflow", "pytorch", "numpy"]),
    device=st.sampled_from(["auto", "cpu"]),
    origin=st.sampled_from(["auto", "source"]),
)


@settings(max_examples=150, deadline=None)
@given(facts=fleets, asked=requests, per_level=st.booleans())
def test_every_host_is_in_one_part_and_can_run_it(facts: list[Facts], asked: Request, per_level: bool) -> None:
    found = sweep(facts, per_level, asked, catalog())
    taken = [name for part in found for name in part.hosts]
    assert sorted(taken) == sorted(each.host for each in facts)
    assert len(found) == 1 or per_level
    by_name = {each.host: each for each in facts}
    for part in found:
        for name in part.hosts:
            each = by_name[name]
            assert set(part.flags) <= set(each.cpu.flags)
            assert part.device == "cpu" or each.gpus
        everyones = {gpu.compute_capability for name in part.hosts for gpu in by_name[name].gpus}
        assert set(part.capabilities) <= everyones
    assert len({(part.word, part.device) for part in found}) == len(found)


@settings(max_examples=60, deadline=None)
@given(facts=fleets, asked=requests, per_level=st.booleans())
def test_an_image_starts_on_every_host_that_takes_it(facts: list[Facts], asked: Request, per_level: bool) -> None:
    """What the planned image asks for is on each of its hosts; the order of the inventory does not matter."""
    found = sweep(facts, per_level, asked, catalog())
    assert found == sweep(facts[::-1], per_level, asked, catalog())
    for part in found:
        asking = replace(ask(), request=asked)
        try:
            (plan,) = fleet_plans(asking, [part], facts, base(), catalog(), distributions())
        except ProvisionError:
            continue  # some fleets have nothing in common that any release was built for
        for name in part.hosts:
            assert set(plan.flags) <= set(next(each for each in facts if each.host == name).cpu.flags)


# --- real machines ------------------------------------------------------------------------------------------------


def test_the_real_machines_that_lie_beside_the_checkout(shared: Path) -> None:
    found = [
        host_facts(read_dump(path), chips(), host=path.name) for path in (shared / "hosts").iterdir() if path.is_dir()
    ]
    facts = [each for each in found if each.cpu.arch == "x86_64" and each.cpu.flags and each.system.os.id != "macos"]
    assert len(facts) > 15
    (one,) = parts(facts, "pytorch")
    assert one.device == "cpu"
    plans = planned(facts, "pytorch", per_level=True)
    sets = parts(facts, "pytorch", per_level=True)
    assert sum(len(part.hosts) for part in sets) == len(facts)
    by_host = {name: plan for part, plan in zip(sets, plans, strict=True) for name in part.hosts}
    assert by_host["amd-zen5-9950x"].level == "x86-64-v4"
    assert by_host["intel-haswell-e5-2678v3-gtx1080ti"].device == "cuda"
    assert by_host["intel-nehalem-i7-950-gtx460"].device == "cpu"
    assert by_host["amd-k10-opteron6136"].flags == ()
