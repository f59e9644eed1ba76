"""Real machines: what the facts tables say must come out, written by hand from them.

The dumps name no Python, so uv brings the newest that a release has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from provision.catalog.load import catalog, chips
from provision.detect import host_facts
from provision.errors import NoStackFits
from provision.model.facts import Facts
from provision.model.plan import Plan
from provision.resolve import plan_for
from provision.resolve.request import parse_request
from provision.run.dump import read_dump

CUDNN = "nvidia-cudnn-cu12<=9.10.2.21"


@dataclass(frozen=True, kw_only=True)
class Expected:
    host: str
    framework: str
    version: str
    build: str
    origin: str = "wheel"
    device: str = "cuda"
    index: str | None = None
    driver: tuple[str, str | None, str | None] | None = None
    """action, branch, module"""
    pins: tuple[str, ...] = ()
    cudnn: str | None = None
    packages: tuple[str, ...] = ()
    """Of the driver."""
    later: tuple[str, ...] = ()
    """Steps that have to be done by hand: no table of packages knows the distribution, or the dump does not name it."""


OLD_GPU = {"build": "cu126", "index": "cu126", "cudnn": "9.10.2.21"}

EXPECTED = (
    # Maxwell: the last wheels with sm_50, the last driver branch, the last cuDNN
    Expected(
        host="intel-haswell-i5-4570-gtx960-nouveau",
        framework="tensorflow",
        version="2.16.2",
        build="and-cuda",
        driver=("install", "580", "proprietary"),
        pins=("numpy<2", CUDNN),
        later=("nvidia_driver",),
    ),
    Expected(
        host="intel-haswell-i5-4570-gtx960-nouveau",
        framework="pytorch",
        version="2.14.1",
        driver=("install", "580", "proprietary"),
        later=("nvidia_driver",),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    Expected(
        host="gpu-gtx960-390",
        framework="pytorch",
        version="2.14.1",
        driver=("upgrade", "580", "proprietary"),
        later=("nvidia_driver",),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    Expected(
        host="gpu-gtx960-390",
        framework="jax",
        version="0.12.0.1",
        build="cuda12",
        driver=("upgrade", "580", "proprietary"),
        pins=(CUDNN,),
        cudnn=None,
        later=("nvidia_driver",),
    ),
    # two RTX 4090 and a GT 1030: every card is served
    Expected(
        host="amd-zen3-5955wx-2x-rtx4090-gt1030",
        framework="pytorch",
        version="2.14.1",
        driver=("none", "535", "proprietary"),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    Expected(
        host="amd-zen3-5955wx-2x-rtx4090-gt1030",
        framework="tensorflow",
        version="2.21.0",
        build="and-cuda",
        driver=("none", "535", "proprietary"),
        pins=(CUDNN,),
    ),
    # Blackwell: TensorFlow has PTX only; 570 is under the floor of CUDA 13
    Expected(
        host="gpu-rtx5090-570",
        framework="tensorflow",
        version="2.21.0",
        build="and-cuda",
        driver=("none", "570", None),
    ),
    Expected(
        host="gpu-rtx5090-570",
        framework="pytorch",
        version="2.11.0",
        build="cu128",
        index="cu128",
        driver=("none", "570", None),
    ),
    Expected(
        host="gpu-8x-b200-570",
        framework="pytorch",
        version="2.11.0",
        build="cu128",
        index="cu128",
        driver=("none", "570", None),
    ),
    Expected(
        host="gpu-h100-590",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        cudnn="9.26.0.51",
        driver=("none", "590", None),
    ),
    # Kepler: driver 470 at most, CUDA 11.8 at most
    Expected(
        host="gpu-4x-tesla-k80-367",
        framework="tensorflow",
        version="2.14.1",
        build="and-cuda",
        driver=("upgrade", "470", "proprietary"),
        pins=("numpy<2",),
        later=("nvidia_driver",),
    ),
    Expected(
        host="gpu-4x-tesla-k80-367",
        framework="pytorch",
        version="2.7.1",
        build="cu118",
        index="cu118",
        driver=("upgrade", "470", "proprietary"),
        later=("nvidia_driver",),
    ),
    # a working driver is kept where a release runs on it
    Expected(
        host="gpu-rtx3090-525",
        framework="pytorch",
        version="2.14.1",
        driver=("none", "525", None),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    Expected(
        host="intel-broadwell-e5-2620v4-4x-rtx2080ti",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        driver=("upgrade", "595", "open"),
        later=("nvidia_driver",),
    ),
    Expected(
        host="intel-broadwell-e5-2620v4-4x-rtx2080ti",
        framework="tensorflow",
        version="2.21.0",
        build="and-cuda",
        driver=("upgrade", "595", "open"),
        later=("nvidia_driver",),
    ),
    Expected(
        host="intel-cascadelake-w2265-rtxa5000-nouveau",
        framework="tensorflow",
        version="2.21.0",
        build="and-cuda",
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-6.8.0-48-generic", "nvidia-driver-595-open"),
    ),
    # boards: aarch64 follows from the chip
    Expected(
        host="gpu-gb10-580",
        framework="pytorch",
        version="2.15.0",
        build="cu130",
        index="cu130",
        driver=("none", "580", None),
    ),
    Expected(host="gpu-gb10-580", framework="tensorflow", version="2.21.0", build="cpu", device="cpu"),
    Expected(host="gpu-jetson-orin-nano-540", framework="tensorflow", version="2.21.0", build="cpu", device="cpu"),
    # only lspci is known of it
    Expected(
        host="amd-fam15h-gtx960-lspci",
        framework="pytorch",
        version="2.14.1",
        driver=("install", "580", "proprietary"),
        later=("nvidia_driver",),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    # Turing with drivers of CUDA 11: the last CUDA 11 wheels run on them
    Expected(
        host="amd-zen2-ryzen4600h-gtx1650ti",
        framework="pytorch",
        version="2.7.1",
        build="cu118",
        index="cu118",
        driver=("none", "510", "proprietary"),
    ),
    Expected(
        host="intel-cascadelake-4214-8x-quadro-rtx5000",
        framework="pytorch",
        version="2.7.1",
        build="cu118",
        index="cu118",
        driver=("none", "460", "proprietary"),
    ),
    Expected(
        host="intel-cascadelake-4214-8x-quadro-rtx5000",
        framework="tensorflow",
        version="2.14.1",
        build="and-cuda",
        driver=("none", "460", "proprietary"),
        pins=("numpy<2",),
    ),
    # 580 and newer serve CUDA 13, 555 and 560 do not
    Expected(
        host="amd-zen3-5950x-rtx3090",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        cudnn="9.26.0.51",
        driver=("none", "580", "proprietary"),
    ),
    Expected(
        host="amd-zen4-7950x-rtx6000ada-rtx4060ti",
        framework="pytorch",
        version="2.14.1",
        driver=("none", "560", "proprietary"),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    Expected(
        host="gpu-a100x4-gls",
        framework="pytorch",
        version="2.14.1",
        driver=("none", "555", None),
        **OLD_GPU,  # type: ignore[arg-type]
    ),
    Expected(
        host="gpu-h100-mig-590",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        cudnn="9.26.0.51",
        driver=("none", "590", None),
    ),
    Expected(
        host="gpu-rtx2080super-610",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        driver=("none", "610", None),
    ),
    Expected(
        host="gpu-rtx3080-595",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        driver=("none", "595", None),
    ),
    # an A100: PyTorch has its kernels compiled, TensorFlow only as PTX, which needs the driver of its CUDA
    Expected(
        host="gpu-a100-mig-510",
        framework="pytorch",
        version="2.7.1",
        build="cu118",
        index="cu118",
        driver=("none", "510", None),
    ),
    Expected(
        host="gpu-a100-mig-510",
        framework="tensorflow",
        version="2.21.0",
        build="and-cuda",
        driver=("upgrade", "595", "open"),
        later=("nvidia_driver",),
    ),
    # Pascal on a driver before CUDA 11
    Expected(
        host="intel-haswell-e5-2678v3-gtx1080ti",
        framework="tensorflow",
        version="2.21.0",
        build="and-cuda",
        driver=("upgrade", "580", "proprietary"),
        pins=(CUDNN,),
        later=("nvidia_driver",),
    ),
    # Fermi: nothing has kernels for it
    Expected(
        host="intel-ivybridge-t430-nvs5400m",
        framework="pytorch",
        version="2.15.0",
        build="cpu",
        index="cpu",
        device="cpu",
    ),
    # CPUs: AVX is enough for TensorFlow, nothing is needed for PyTorch
    Expected(
        host="amd-steamroller-athlon-x4-860k", framework="tensorflow", version="2.21.0", build="cpu", device="cpu"
    ),
    Expected(
        host="intel-nehalem-i7-950-gtx460",
        framework="tensorflow",
        version="2.21.0",
        build="source",
        origin="source",
        device="cpu",
    ),
    Expected(
        host="intel-nehalem-i7-950-gtx460",
        framework="pytorch",
        version="2.15.0",
        build="cpu",
        index="cpu",
        device="cpu",
    ),
    Expected(
        host="intel-silvermont-j1900",
        framework="tensorflow",
        version="2.21.0",
        build="source",
        origin="source",
        device="cpu",
    ),
    Expected(
        host="amd-k10-opteron6136",
        framework="pytorch",
        version="2.15.0",
        build="cpu",
        index="cpu",
        device="cpu",
        pins=("numpy<2.4",),
    ),
    Expected(
        host="kvm-masked-guest-rtx2080ti-mismatch",
        framework="pytorch",
        version="2.15.0",
        build="cu132",
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-5.15.0-46-generic", "nvidia-driver-595-open"),
        pins=("numpy<2.4",),
    ),
    Expected(
        host="kvm-masked-guest-rtx2080ti-mismatch",
        framework="tensorflow",
        version="2.21.0",
        build="source",
        origin="source",
        driver=("install", "595", "open"),
        packages=("linux-modules-nvidia-595-open-5.15.0-46-generic", "nvidia-driver-595-open"),
        pins=("numpy<2.4",),
    ),
)


def facts_of(folder: Path) -> Facts:
    return host_facts(read_dump(folder), chips(), host=folder.name)


def plan(folder: Path, framework: str) -> Plan:
    request = parse_request(frameworks=(framework,), catalog=catalog())
    return plan_for(facts_of(folder), request, catalog())


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda each: f"{each.host}-{each.framework}")
def test_what_a_real_machine_gets(shared: Path, expected: Expected) -> None:
    made = plan(shared / "hosts" / expected.host, expected.framework)
    stack = made.stack[0]
    assert (stack.version, stack.build, stack.origin, stack.device, stack.index) == (
        expected.version,
        expected.build,
        expected.origin,
        expected.device,
        expected.index,
    )
    assert (stack.driver and (stack.driver.action, stack.driver.branch, stack.driver.module)) == expected.driver
    pins = tuple(line for line in stack.requirements[1:] if line != "numpy")
    assert pins == expected.pins
    assert expected.cudnn in (None, stack.cudnn)
    assert tuple(step.id for step in made.steps if not step.available) == expected.later
    driver = made.nvidia.driver if made.nvidia else None
    assert (tuple(each.name for each in driver.packages) if driver else ()) == expected.packages


def test_every_machine_with_a_gpu_is_here(shared: Path) -> None:
    folders = [folder for folder in (shared / "hosts").iterdir() if folder.is_dir()]
    assert {folder.name for folder in folders if facts_of(folder).gpus} <= {each.host for each in EXPECTED}


@pytest.mark.parametrize(
    ("host", "card"),
    [
        ("intel-nehalem-i7-950-gtx460", "GeForce GTX 460"),
        ("intel-ivybridge-t430-nvs5400m", "NVIDIA NVS 5400M"),
    ],
)
def test_the_newest_branch_that_drove_a_gpu_is_named(shared: Path, host: str, card: str) -> None:
    request = parse_request(frameworks=("pytorch",), device="cuda", catalog=catalog())
    with pytest.raises(NoStackFits) as caught:
        plan_for(facts_of(shared / "hosts" / host), request, catalog())
    assert caught.value.what == f"{card} (compute capability 2.1) is too old for every framework in the catalog"
    assert "390 was the newest driver branch that drove it" in caught.value.why
    assert caught.value.hint == "take another card, or use --device cpu"


def test_no_machine_without_a_gpu_pays_for_nvidias_tables(shared: Path) -> None:
    def unread(role: str, distribution: str) -> None:
        raise AssertionError(f"the table of {role} for {distribution} was read")

    facts = facts_of(shared / "hosts" / "intel-gracemont-n100-nogpu")
    bare = replace(catalog(), packages=unread)
    assert plan_for(facts, parse_request(frameworks=("pytorch",), catalog=bare), bare).nvidia is None


def test_the_driver_that_would_allow_more_is_named(shared: Path) -> None:
    made = plan(shared / "hosts" / "gpu-rtx3090-525", "pytorch")
    change = [reason.text for reason in made.reasons if reason.rule == "change"]
    assert change == ["NVIDIA driver 580.65.06 or newer would allow pytorch 2.15.0 cu132 (--driver newest)"]


def test_a_mac_is_told_so(shared: Path) -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(shared / "hosts" / "apple-m1-macos", "tensorflow")
    assert caught.value.what == "not a Linux machine"


MACS = {"apple-m1-macos", "intel-ivybridge-macos"}
NO_WHEELS = {*MACS, "ibm-power9", "riscv-u74"}
NO_AVX = {
    "amd-k10-opteron6136",
    "intel-nehalem-i7-950-gtx460",
    "intel-silvermont-j1900",
    "intel-westmere-i5-m560",
    "kvm-masked-guest-rtx2080ti-mismatch",
}


@pytest.mark.parametrize(
    ("framework", "nothing"),
    [
        ("tensorflow", MACS),  # the rest can build it
        ("pytorch", MACS),
        ("jax", NO_WHEELS | NO_AVX),
        ("keras", NO_WHEELS),
        ("numpy", MACS),
    ],
)
def test_every_machine_gets_a_plan_or_a_reason(shared: Path, framework: str, nothing: set[str]) -> None:
    refused = set()
    for folder in (path for path in (shared / "hosts").iterdir() if path.is_dir()):
        try:
            assert plan(folder, framework).fingerprint
        except NoStackFits as error:
            assert error.details or (error.why and error.hint)
            refused.add(folder.name)
    assert refused == nothing
