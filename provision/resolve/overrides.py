"""Planning for another machine: the facts with a driver or a GPU that is not there yet."""

from __future__ import annotations

from dataclasses import replace

from provision.errors import UsageError
from provision.model.facts import Driver, Facts, Gpu
from provision.model.versions import ComputeCapability, Dotted
from provision.resolve.targets import box, integrated


def with_overrides(facts: Facts, *, driver_version: str | None, compute_capability: str | None) -> Facts:
    """``facts`` as if this driver worked there, and as if its GPUs (or one GPU, where it has none) had this capability.

    Raises UsageError for text that is no driver version or no compute capability.
    """
    if compute_capability is not None:
        facts = replace(facts, gpus=_gpus(facts.gpus, _capability(compute_capability)))
    if driver_version is not None:
        facts = replace(facts, driver=with_driver(facts.driver, _driver(driver_version)))
    return facts


def with_driver(driver: Driver, version: str) -> Driver:
    """``driver`` as it will be once ``version`` is installed and working."""
    return replace(driver, state="working", version=version, cuda_api_version=None, detail=f"as if {version} worked")


def completed(facts: Facts) -> Facts:
    """``facts`` with what the rest of them imply: a driver that is loaded and was not asked is taken to work, and a
    GPU that is part of a board's processor means an Arm machine. A version that is none counts as not known."""
    facts = replace(
        facts,
        driver=replace(facts.driver, version=_version(facts.driver.version)),
        system=replace(facts.system, glibc=_version(facts.system.glibc)),
    )
    if facts.driver.state == "unknown" and facts.driver.version is not None:
        facts = replace(facts, driver=replace(facts.driver, state="working"))
    if facts.cpu.arch is None and any(integrated(target) for target in box(facts)):
        facts = replace(facts, cpu=replace(facts.cpu, arch="aarch64"))
    return facts


def _version(text: str | None) -> str | None:
    return text if text is not None and text[:1].isdecimal() and text[:1].isascii() else None


def _gpus(gpus: tuple[Gpu, ...], capability: str) -> tuple[Gpu, ...]:
    """The chip and its name no longer say anything, so they go: rules must not contradict the override by them."""
    blank = Gpu(
        name=None,
        pci_address=None,
        pci_id=None,
        chip=None,
        architecture=None,
        compute_capability=capability,
        memory_mib=None,
        mig=None,
        source="pci",
    )
    return tuple(replace(blank, pci_address=gpu.pci_address) for gpu in gpus) or (blank,)


def _capability(text: str) -> str:
    try:
        return str(ComputeCapability.parse(text))
    except ValueError:
        raise UsageError(
            what=f"{text!r} is not a compute capability",
            why="one is written as 8.6, 86 or sm_86",
            hint="`nvidia-smi --query-gpu=compute_cap --format=csv` prints that of a GPU",
        ) from None


def _driver(text: str) -> str:
    try:
        major = Dotted(text).major
    except ValueError:
        major = 0
    if not 100 <= major <= 9999 or not text.replace(".", "").isdecimal():
        raise UsageError(
            what=f"{text!r} is not an NVIDIA driver version",
            why="one is written as 580.95.05",
            hint="`cat /proc/driver/nvidia/version` prints the one that is loaded",
        )
    return text
