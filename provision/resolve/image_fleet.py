"""Images for the hosts of an inventory: one that all of them can run, or the fewest of which each host has its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from provision.errors import NoStackFits, UsageError
from provision.model.catalog import Catalog
from provision.model.facts import Facts, Gpu
from provision.model.image import Base, Distribution, ImagePlan
from provision.model.plan import Reason
from provision.model.request import Request
from provision.model.versions import ComputeCapability, Dotted
from provision.resolve.candidates import has_cuda
from provision.resolve.copts import fleet_flags
from provision.resolve.image import ImageAsk, image_plans, with_instead
from provision.resolve.image_cpu import ARCH, asked_for, image_flags, level_of, wheel_flags
from provision.resolve.image_tags import cpu_word, tags_of_words
from provision.resolve.releases import matching
from provision.resolve.solve import wanted_of
from provision.resolve.targets import capability, served_by

SHOWN = 6
"""Host names that a line lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPart:
    """One image of a sweep, and who takes it."""

    cpu: str
    """"x86-64-v3", or "fleet": the flags that all of ``hosts`` have."""
    flags: tuple[str, ...]
    """Sorted; every one of ``hosts`` has them all."""
    capabilities: tuple[str, ...]
    """Of the GPUs of all ``hosts``, or those that were asked for; empty for the CPU."""
    device: Literal["cpu", "cuda"]
    hosts: tuple[str, ...]
    why: str
    word: str = ""
    """What a tag calls it beside the others: "v3", "v2-avx"."""


def sweep(facts: Sequence[Facts], per_level: bool, request: Request, catalog: Catalog) -> tuple[SweepPart, ...]:
    """One part, or with ``per_level`` as few as serve every host with its own level and device; each host is in one.

    Raises UsageError naming the hosts that are no x86-64 machines, whose flags are not known, that stand in the
    inventory twice, or that have no GPU where --device cuda asks for one.
    """
    found = sorted(facts, key=lambda each: each.host)
    _check(found)
    on_gpu = {each.host: _has_gpu(each, request, catalog) for each in found}
    if not _may_use_gpus(request, catalog):
        on_gpu = dict.fromkeys(on_gpu, False)
    elif request.device == "cuda" and not all(on_gpu.values()):
        raise UsageError(
            what="--device cuda asks for a GPU on every host",
            why=f"none that a release has kernels for was found on "
            f"{_names([host for host, has in on_gpu.items() if not has])}",
            hint="leave --device out: --per-level gives the hosts without one an image of their own",
        )
    if not per_level:
        return (_one(found, on_gpu, request, catalog),)
    return _parts(found, on_gpu, request, catalog)


def fleet_plans(
    ask: ImageAsk,
    parts: Sequence[SweepPart],
    facts: Sequence[Facts],
    base: Base,
    catalog: Catalog,
    distributions: Sequence[Distribution],
) -> tuple[ImagePlan, ...]:
    """A plan for each part, in their order, each knowing the others; ``ask.cpus`` and ``ask.fleet`` say nothing here.

    Raises what ``image_plans`` raises.
    """
    tags: Sequence[str | None] = part_tags(ask.tag, parts) if ask.tag is not None else [None] * len(parts)
    by_name = {each.host: each for each in facts}
    plans: list[ImagePlan] = []
    for part, tag in zip(parts, tags, strict=True):
        hosts = tuple(by_name[host] for host in part.hosts)
        request = replace(ask.request, device=part.device, compute_capabilities=part.capabilities)
        asked = replace(ask, cpus=(part.cpu,), tag=tag, fleet=hosts, request=request)
        plans += _for_drivers(asked, part, base, catalog, distributions)
    return with_instead(plans)


def _for_drivers(
    ask: ImageAsk, part: SweepPart, base: Base, catalog: Catalog, distributions: Sequence[Distribution]
) -> tuple[ImagePlan, ...]:
    """For the oldest driver that works on one of the hosts; where nothing runs on it, for the newest one, and with a
    reason that says which hosts have to get another."""
    if part.device == "cpu":
        return image_plans(replace(ask, driver_version=None), base, catalog, distributions)
    oldest = _oldest_driver(ask.fleet)
    if ask.driver_version is not None or oldest is None:
        return image_plans(ask, base, catalog, distributions)
    try:
        return image_plans(replace(ask, driver_version=oldest), base, catalog, distributions)
    except NoStackFits:
        return tuple(_with_upgrades(plan, ask.fleet) for plan in image_plans(ask, base, catalog, distributions))


def _with_upgrades(plan: ImagePlan, hosts: Sequence[Facts]) -> ImagePlan:
    needed = [each.driver.minimum for each in plan.plan.stack if each.driver is not None and each.driver.minimum]
    if not needed:
        return plan
    minimum = max(needed, key=Dotted)
    old = [
        f"{each.host} ({each.driver.version})"
        for each in hosts
        if _working(each) and Dotted(each.driver.version or "0") < Dotted(minimum)
    ]
    text = f"to be run on {_names(old)}, it needs another driver there: {minimum} or newer"
    reason = Reason(rule="driver.hosts", text=text)
    return replace(plan, plan=replace(plan.plan, reasons=(*plan.plan.reasons, reason))) if old else plan


def _working(facts: Facts) -> bool:
    return facts.driver.state == "working" and facts.driver.version is not None


def _oldest_driver(facts: Sequence[Facts]) -> str | None:
    return min((each.driver.version or "" for each in facts if _working(each)), key=Dotted, default=None)


def part_tags(tag: str, parts: Sequence[SweepPart]) -> tuple[str, ...]:
    """One tag for each part: "me/tf:v2", "me/tf:v3-cuda"."""
    both = len({part.device for part in parts}) > 1
    words = [f"{part.word}{'-cuda' if both and part.device == 'cuda' else ''}" for part in parts]
    return tags_of_words(tag, words, [f"the image for {_names(part.hosts)}" for part in parts])


def _check(facts: Sequence[Facts]) -> None:
    if not facts:
        raise UsageError(
            what="there is no host to build for", why="the inventory, or what --limit left of it, is empty"
        )
    if len({each.host for each in facts}) < len(facts):
        raise UsageError(what="a host is named twice", why="each takes one image", hint="leave one of them out")
    others = [f"{each.host} ({each.cpu.arch})" for each in facts if each.cpu.arch not in (None, ARCH)]
    if others:
        raise UsageError(
            what="images are built for x86-64, and some hosts are not",
            why=f"{_names(others)} cannot run one",
            hint="leave them out with --limit",
        )
    unknown = [each.host for each in facts if not each.cpu.flags]
    if unknown:
        raise UsageError(
            what="an image for a fleet needs the CPU flags of every host",
            why=f"those of {_names(unknown)} are not known",
            hint="leave them out with --limit, or name a level that they have: --cpu x86-64-v2",
        )


def _has_gpu(facts: Facts, request: Request, catalog: Catalog) -> bool:
    """Whether it has an NVIDIA GPU that some release could use; one that nobody knows counts as such."""
    return any(_usable(gpu, request, catalog) for gpu in facts.gpus)


def _usable(gpu: Gpu, request: Request, catalog: Catalog) -> bool:
    known = capability(gpu.compute_capability)
    if known is None or request.origin == "source":
        return True
    builds = [
        build
        for wanted in wanted_of(request)
        for release in matching(catalog, wanted, force=request.force)
        for build in release.builds
        if build.device == "cuda"
    ]
    return any(served_by(build.kernels, known, catalog) for build in builds)


def _may_use_gpus(request: Request, catalog: Catalog) -> bool:
    return request.device != "cpu" and any(has_cuda(wanted.framework, catalog) for wanted in wanted_of(request))


def _one(facts: Sequence[Facts], on_gpu: Mapping[str, bool], request: Request, catalog: Catalog) -> SweepPart:
    """What all hosts have: the intersection of their flags, the union of their capabilities."""
    cuda = all(on_gpu.values())
    without = [host for host, has in on_gpu.items() if not has]
    why = f"the flags that all of {len(facts)} hosts have"
    if len(facts) == 1:
        why = f"the flags of {facts[0].host}"
    if not cuda and any(on_gpu.values()):
        why += (
            f"; for the CPU, because {_names(without)} {'has' if len(without) == 1 else 'have'} no NVIDIA GPU to use: "
            "--per-level gives the others an image with CUDA"
        )
    return _part("fleet", "fleet", facts, cuda, request, catalog, why)


def _parts(
    facts: Sequence[Facts], on_gpu: Mapping[str, bool], request: Request, catalog: Catalog
) -> tuple[SweepPart, ...]:
    """Hosts of one level and one device share an image. So do those that have what the wheels need and their level
    lacks (AVX without AVX2), which would else have to wait for a build from source."""
    needs = asked_for(wheel_flags(request, catalog), catalog)
    groups: dict[tuple[str, bool, bool], list[Facts]] = {}
    for each in facts:
        level = level_of(each.cpu.flags, catalog)
        beyond = not set(needs) <= image_flags(level, request, catalog) and set(needs) <= set(each.cpu.flags)
        groups.setdefault((level, beyond, on_gpu[each.host]), []).append(each)
    found = []
    for (level, beyond, cuda), hosts in sorted(groups.items()):
        why = f"{level}{' with ' + ', '.join(needs) if beyond else ''}, {'with' if cuda else 'without'} a GPU to use"
        word = "-".join((cpu_word(level), *(needs if beyond else ())))
        found.append(_part("fleet" if beyond else level, word, hosts, cuda, request, catalog, why))
    return tuple(found)


def _part(
    cpu: str, word: str, facts: Sequence[Facts], cuda: bool, request: Request, catalog: Catalog, why: str
) -> SweepPart:
    flags = fleet_flags(facts, catalog).flags if cpu == "fleet" else image_flags(cpu, request, catalog)
    return SweepPart(
        cpu=cpu,
        flags=asked_for(flags, catalog),
        capabilities=_capabilities(facts, request, catalog) if cuda else (),
        device="cuda" if cuda else "cpu",
        hosts=tuple(each.host for each in facts),
        why=why,
        word=word,
    )


def _capabilities(facts: Sequence[Facts], request: Request, catalog: Catalog) -> tuple[str, ...]:
    """Of every GPU. Raises UsageError for one whose capability nobody knows, and for those that were asked for and
    leave a host without any."""
    by_host = {
        each.host: [capability(gpu.compute_capability) for gpu in each.gpus if _usable(gpu, request, catalog)]
        for each in facts
    }
    if request.compute_capabilities:
        asked = {capability(text.removesuffix("+PTX")) for text in request.compute_capabilities}
        unserved = [host for host, found in by_host.items() if not asked & set(found)]
        if unserved:
            raise UsageError(
                what="--cuda-compute-capabilities leaves hosts without a GPU",
                why=f"{_names(unserved)} {'has' if len(unserved) == 1 else 'have'} none of "
                f"{', '.join(request.compute_capabilities)}",
                hint="add theirs, or leave the option out: then it is those of all hosts",
            )
        return request.compute_capabilities
    unknown = [host for host, found in by_host.items() if None in found]
    if unknown:
        raise UsageError(
            what="an image with CUDA needs the compute capability of every GPU",
            why=f"that of a GPU of {_names(unknown)} is not known",
            hint="--cuda-compute-capabilities says for which the image is; --device cpu does without",
        )
    known: set[ComputeCapability] = {each for found in by_host.values() for each in found if each is not None}
    return tuple(str(each) for each in sorted(known))


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
