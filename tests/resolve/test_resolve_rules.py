"""Each rule by itself: when it objects, what it says, and that it keeps quiet about what is not known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from worlds.hosts import AVX, V2, V3, card, host
from worlds.tables import CATALOG

from provision.model.facts import Facts, Mig
from provision.model.plan import Objection
from provision.model.request import Request, Wanted
from provision.resolve import rules
from provision.resolve.candidates import Candidate, candidates, pythons
from provision.resolve.rules import Rule


def candidate(name: str, facts: Facts, **asked: Any) -> Candidate:
    """The candidate called ``name``, "tensorflow 2.21.0 and-cuda", whether it fits or not."""
    wanted = Wanted(framework=name.split()[0])
    request = Request(frameworks=(wanted,), **asked)
    return next(each for each in candidates(wanted, facts, request, CATALOG) if str(each) == name)


def objection(rule: Rule, name: str, facts: Facts, **asked: Any) -> Objection | None:
    wanted = Wanted(framework=name.split()[0])
    request = Request(frameworks=(wanted,), **asked)
    return rule(candidate(name, facts, **asked), facts, request, CATALOG)


TF = "tensorflow 2.21.0 cpu"
TF_CUDA = "tensorflow 2.21.0 and-cuda"
TF_SOURCE = "tensorflow 2.21.0 from source (cpu)"
TF_SOURCE_CUDA = "tensorflow 2.21.0 from source (cuda)"
CU126 = "pytorch 2.14.1 cu126"
CU132 = "pytorch 2.15.0 cu132"


def said(rule: Rule, name: str, facts: Facts, **asked: Any) -> str:
    found = objection(rule, name, facts, **asked)
    assert found is not None
    return f"{found.what} | {found.why} | {found.hint}"


def test_linux_only() -> None:
    assert said(rules.linux, TF, host(os="macos")) == (
        "not a Linux machine | the catalog's builds are for Linux, and this is macos | "
        "plan for a Linux machine, or for a container"
    )
    assert "linked against glibc, and Alpine has musl" in said(rules.linux, TF, host(os="alpine", glibc=None))
    assert objection(rules.linux, TF, host()) is None


def test_a_wheel_for_the_machine() -> None:
    facts = host(arch="ppc64le", flags=())
    assert said(rules.machine, TF, facts) == (
        "no wheel for ppc64le | this build exists for x86_64; this machine is ppc64le | "
        "build it from source with --origin source"
    )
    assert objection(rules.machine, TF, host(arch=None)) is None


def test_glibc() -> None:
    assert said(rules.glibc, TF, host(glibc="2.17")) == (
        "the C library is too old | the wheel needs glibc 2.27 or newer; this host has 2.17 | "
        "upgrade to a distribution with glibc 2.27, or use a container"
    )
    assert objection(rules.glibc, TF, host(glibc="2.27")) is None
    assert objection(rules.glibc, TF, host(glibc=None)) is None
    assert objection(rules.glibc, TF_SOURCE, host(glibc="2.17")) is None


def test_cpu_flags() -> None:
    assert said(rules.cpu_flags, TF, host(flags=V2)) == (
        "this CPU lacks avx | the wheel was compiled with avx and stops with an illegal instruction without; "
        "this CPU is A CPU (x86-64-v2) | --framework pytorch, whose wheels run on any x86-64 CPU"
    )
    assert "the virtual machine may hide them" in said(rules.cpu_flags, TF, host(flags=V2, hypervisor=True))
    assert objection(rules.cpu_flags, TF, host(flags=AVX)) is None
    assert objection(rules.cpu_flags, TF, host(flags=())) is None  # not read is not lacking
    assert objection(rules.cpu_flags, CU126, host("GeForce GTX 960", flags=V2)) is None
    assert objection(rules.cpu_flags, TF_SOURCE, host(flags=V2)) is None


def test_python() -> None:
    facts = host(pythons=("3.6.9",))
    assert objection(rules.python, TF, facts) is None  # uv brings one
    assert said(rules.python, TF, facts, python="3.9") == (
        "no wheel for that Python | this release is for Python 3.10, 3.11, 3.12, 3.13; Python 3.9 was asked for | "
        "ask for another Python with --python, or leave it out"
    )
    assert objection(rules.python, "tensorflow 2.3.4 cpu", host()) is None  # 3.8, the oldest that uv brings


def test_a_python_that_uv_does_not_bring() -> None:
    found = candidate("tensorflow 2.3.4 cpu", host())
    old = replace(found, release=replace(found.release, pythons=("3.6", "3.7")))
    said_ = rules.python(old, host(), Request(), CATALOG)
    assert said_ is not None
    assert said_.why == "this release is for Python 3.6, 3.7; this host has 3.11, and uv brings 3.8 and newer"
    assert rules.python(old, host(pythons=("3.7.3",)), Request(), CATALOG) is None


def test_a_build_may_have_fewer_pythons_than_its_release() -> None:
    found = candidate(TF, host())
    few = replace(found, build=replace(found.build, pythons=("3.10",)))
    objected = rules.python(few, host(), Request(python="3.11"), CATALOG)
    assert objected is not None
    assert objected.why == "this release is for Python 3.10; Python 3.11 was asked for"
    assert pythons(few, host(), Request()) == ("3.10",)


def test_a_gpu_must_be_there() -> None:
    assert said(rules.gpu_present, TF_CUDA, host(), device="cuda") == (
        "no NVIDIA GPU here | a CUDA build needs one, and none was found on this host | "
        "--device cpu; or plan for another machine with --compute-capability and --driver-version"
    )
    facts = host("GeForce GTX 960", driver="535.1")
    assert "no GPU of compute capability 8.9 here" in said(
        rules.gpu_present, TF_CUDA, facts, device="cuda", compute_capabilities=("8.9",)
    )
    assert objection(rules.gpu_present, TF_CUDA, facts) is None
    assert objection(rules.gpu_present, TF, host()) is None


def test_a_gpu_that_nobody_knows() -> None:
    stranger = replace(card("GeForce RTX 5090"), name=None, chip=None, compute_capability=None, pci_id="10de:9999")
    facts = host(gpus=(stranger,), driver="700.10")
    assert said(rules.gpu_known, TF_CUDA, facts) == (
        "a GPU that the catalog does not know | 10de:9999 (compute capability not known): whether this build has "
        "kernels for it cannot be told | say what it is with --compute-capability, or take the nearest known-good "
        "with --force"
    )
    assert objection(rules.gpu_known, TF_CUDA, facts, force=True) is None


def test_mig_without_devices() -> None:
    off = host(gpus=(card("H100", mig=Mig(enabled=True, devices=0)),), driver="590.48.01")
    on = host(gpus=(card("H100", mig=Mig(enabled=True, devices=4)),), driver="590.48.01")
    assert "MIG is on and has no devices" in said(rules.mig, TF_CUDA, off)
    assert "nvidia-smi mig -cgi" in said(rules.mig, TF_CUDA, off)
    assert objection(rules.mig, TF_CUDA, on) is None


def test_kernels_for_every_gpu() -> None:
    facts = host("GeForce RTX 4090", "GeForce GT 1030", driver="580.95.05")
    assert said(rules.kernels, CU132, facts) == (
        "no kernels for NVIDIA GeForce GT 1030 (compute capability 6.1) | "
        "the build has sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 | "
        "leave the other GPU unused with --cuda-compute-capabilities 8.9"
    )
    assert objection(rules.kernels, CU126, facts) is None
    assert objection(rules.kernels, CU132, facts, compute_capabilities=("8.9",)) is None


def test_kernels_that_nobody_read() -> None:
    facts = host("GeForce RTX 3090", driver="580.95.05")
    name = "jax 0.12.0 cuda12"
    assert said(rules.kernels, name, facts) == (
        "its kernels are not known | nobody has read yet for which GPUs this build is compiled | "
        "take it all the same with --force or --framework jax==0.12.0"
    )
    assert objection(rules.kernels, name, facts, force=True) is None
    asked = Request(frameworks=(Wanted(framework="jax", specifier="==0.12.0"),))
    assert rules.kernels(candidate(name, facts), facts, asked, CATALOG) is None


def test_a_compiler_too_new_for_the_gpu() -> None:
    facts = host("Tesla K80", driver="470.256.02")
    assert "CUDA 12.5 cannot compile for NVIDIA Tesla K80 (compute capability 3.7)" in said(
        rules.source_kernels, TF_SOURCE_CUDA, facts
    )
    assert objection(rules.source_kernels, TF_SOURCE_CUDA, host("GeForce GTX 960", driver="535.1")) is None


@pytest.mark.parametrize(
    ("where", "what", "hint"),
    [
        ({"wsl": True}, "no working NVIDIA driver in WSL2", "on Windows"),
        ({"container": True}, "no working NVIDIA driver in this container", "--gpus all"),
        ({}, "no working NVIDIA driver", "--driver newest installs one"),
    ],
)
def test_no_driver(where: dict[str, bool], what: str, hint: str) -> None:
    found = objection(rules.driver_works, TF_CUDA, host("GeForce RTX 3090", **where))
    assert found is not None
    assert (found.what, hint in found.hint) == (what, True)


def test_the_driver_of_a_board_is_its_own() -> None:
    facts = host("Orin", arch="aarch64", flags=())
    found = rules.driver_works(candidate(CU126, host("GeForce RTX 3090")), facts, Request(), CATALOG)
    assert found is not None
    assert found.what == "the driver of this board comes with its own system"


def test_driver_floor_under_minor_version_compatibility() -> None:
    old, enough = (host("GeForce RTX 3090", driver=version) for version in ("525.60.12", "525.60.13"))
    assert said(rules.driver_floor, CU126, old) == (
        "needs NVIDIA driver 525.60.13 or newer | it is built for CUDA 12.6; this host runs driver 525.60.12 | "
        "--driver newest takes a driver from 525.60.13 on"
    )
    assert objection(rules.driver_floor, CU126, enough) is None


@pytest.mark.parametrize(
    ("facts", "hint"),
    [
        (host("GeForce RTX 3090", driver="470.256.02"), "--driver newest takes a driver from 525.60.13 on"),
        (
            host("Tesla K80", driver="470.256.02"),
            "no driver that new drives every GPU here; "
            "driver branches: NVIDIA Tesla K80 (compute capability 3.7): 390 to 470",
        ),
        (
            host("GeForce RTX 3090", driver="470.1", wsl=True),
            "update the NVIDIA driver on Windows to 525.60.13 or newer",
        ),
        (
            host("GeForce RTX 3090", driver="470.1", container=True),
            "update the NVIDIA driver of the container's host to 525.60.13 or newer",
        ),
        (
            host("Orin", driver="470.1"),
            "update the board's own system (JetPack, DGX OS) to one with driver 525.60.13 or newer",
        ),
    ],
)
def test_who_can_bring_a_newer_driver(facts: Facts, hint: str) -> None:
    found = objection(rules.driver_floor, CU126, facts)
    assert found is not None
    assert found.hint == hint


def test_ptx_needs_the_driver_of_its_cuda_release() -> None:
    facts = host("GeForce RTX 5090", driver="550.90.07")
    assert said(rules.driver_floor, TF_CUDA, facts) == (
        "needs NVIDIA driver 555.42.02 or newer | it is built for CUDA 12.5.1, whose PTX it must compile for compute "
        "capability 12.0; this host runs driver 550.90.07 | --driver newest takes a driver from 555.42.02 on"
    )
    assert objection(rules.driver_floor, TF_CUDA, host("GeForce RTX 5090", driver="555.42.02")) is None
    assert objection(rules.driver_floor, TF_CUDA, host("GeForce RTX 3090", driver="550.90.07")) is None


def test_a_driver_of_an_unknown_version_is_taken_to_fit() -> None:
    assert objection(rules.driver_floor, TF_CUDA, host("GeForce RTX 3090", state="working")) is None


def test_a_driver_too_new_for_the_card() -> None:
    facts = host("GeForce GTX 960", driver="595.84")
    assert "driver 595.84 does not drive NVIDIA GeForce GTX 960" in said(rules.driver_drives, CU126, facts)
    assert objection(rules.driver_drives, CU126, host("GeForce GTX 960", driver="580.178.04")) is None


def test_a_driver_too_old_for_a_card_that_it_does_not_report() -> None:
    facts = host(gpus=(card("GeForce RTX 5090", source="pci"),), driver="535.288.01")
    assert objection(rules.driver_drives, TF_CUDA, facts) is not None
    reported = host(gpus=(card("GeForce RTX 5090", source="nvml"),), driver="535.288.01")
    assert objection(rules.driver_drives, TF_CUDA, reported) is None


def test_the_hint_knows_old_cards_from_new_ones() -> None:
    old, new = host("Tesla K80", driver="470.256.02"), host("GeForce RTX 5090", driver="595.84")
    assert said(rules.kernels, CU126, old).endswith(
        "an older release may still have them; otherwise build it from source, or use --device cpu"
    )
    assert "| another release may have them;" in said(rules.kernels, CU126, new)


def test_flags_that_this_cpu_lacks_are_refused_by_name() -> None:
    name = "tensorflow 2.21.0 from source (cpu)"
    assert said(rules.cpu_target, name, host(flags=V3), cpu="avx2,avx512f,-mavx512vnni") == (
        "this CPU lacks avx512_vnni, avx512f | --cpu avx2,avx512f,-mavx512vnni asks for it, and the build would stop "
        "with an illegal instruction here | --cpu avx2; or name the machine that it is for (--cpu zen4), and it is "
        "built and not run here"
    )
    assert objection(rules.cpu_target, name, host(flags=V3), cpu="avx2,fma") is None
    assert objection(rules.cpu_target, name, host(flags=()), cpu="avx512f") is None


@pytest.mark.parametrize("cpu", ["native", "generic", "x86-64-v3", "x86-64-v4", "haswell", "zen4"])
def test_a_level_or_a_name_is_built_for_another_machine(cpu: str) -> None:
    assert objection(rules.cpu_target, "tensorflow 2.21.0 from source (cpu)", host(flags=V2), cpu=cpu) is None


def test_all_objections_are_collected() -> None:
    facts = host("GeForce GTX 960", flags=V2, glibc="2.17", driver="470.256.02")
    found = rules.failing(candidate(TF_CUDA, facts, python="3.9"), facts, Request(python="3.9"), CATALOG)
    assert [rule.__name__ for rule, _ in found] == ["glibc", "cpu_flags", "python", "kernels", "driver_floor"]
