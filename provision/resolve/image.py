"""Images: the same plan, for a machine that is made up from a base image and the CPU that was asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from provision.errors import NoStackFits, UsageError
from provision.model.catalog import Catalog
from provision.model.data import to_data
from provision.model.facts import Facts
from provision.model.image import Base, Copied, Distribution, ImagePlan
from provision.model.labels import OURS, labels_of
from provision.model.plan import Plan
from provision.model.request import Request
from provision.resolve.candidates import has_cuda
from provision.resolve.copts import LEVEL
from provision.resolve.image_cpu import asked_for, checked_cpus, image_flags, level_of
from provision.resolve.image_machine import image_facts, own_capabilities, supported_base
from provision.resolve.image_tags import tags_for
from provision.resolve.image_words import for_image, not_for_image
from provision.resolve.needed import needed_flags
from provision.resolve.plan import fingerprint, plan_for
from provision.resolve.solve import wanted_of

__all__ = ["ImageAsk", "environment_key", "image_facts", "image_plans", "supported_base", "with_instead"]

NAME = "image"
"""What an image's environment is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAsk:
    """What was asked of `image build`."""

    request: Request
    """Its ``cpu``, ``name`` and ``driver`` say nothing here."""
    cpus: tuple[str, ...] = ("generic",)
    tag: str | None = None
    """None with --output, where nothing is tagged."""
    base: str = ""
    """As asked: "debian:bookworm"."""
    minimal: bool = False
    copied: tuple[Copied, ...] = ()
    epoch: int | None = None
    """SOURCE_DATE_EPOCH; None for the base's own age."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The user's own."""
    driver_version: str | None = None
    """The NVIDIA driver of the hosts that will run it; None for the newest production branch."""
    fleet: tuple[Facts, ...] = ()
    """With the CPU "fleet": the hosts."""


def image_plans(
    ask: ImageAsk, base: Base, catalog: Catalog, distributions: Sequence[Distribution]
) -> tuple[ImagePlan, ...]:
    """One for each of the asked CPUs, in their order.

    Raises UsageError for a CPU, a tag, a label or a base that cannot be, NoStackFits with every objection where nothing
    fits one of the CPUs.
    """
    checked_cpus(ask.cpus, base.facts, ask.fleet)
    _check_labels(ask.labels)
    distribution = supported_base(base.facts, distributions)
    tags = tags_for(ask.tag, ask.cpus) if ask.tag is not None else ("",) * len(ask.cpus)
    asked, table = replace(ask, request=_request(ask)), without_toolkits(catalog)
    found = (_image_plan(asked, cpu, tag, base, distribution, table) for cpu, tag in zip(ask.cpus, tags, strict=True))
    return with_instead(tuple(found))


def with_instead(plans: Sequence[ImagePlan]) -> tuple[ImagePlan, ...]:
    """``plans`` that know which of the others a CPU may take that lacks one of their flags, most demanding first."""
    return tuple(replace(plan, instead=tuple(_instead(plan, plans))) for plan in plans)


def _instead(plan: ImagePlan, plans: Sequence[ImagePlan]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Those for the same device come before the others."""
    for each in sorted(plans, key=lambda other: (other.device != plan.device, -len(other.flags), other.tag)):
        if each.tag and each.tag != plan.tag and not set(plan.flags) <= set(each.flags):
            yield each.tag, each.flags


def environment_key(plan: ImagePlan) -> str:
    """SHA-256, equal for those that share an environment: whatever CPU they ask for, and whatever is copied in last."""
    content = {
        "plan": plan.plan.fingerprint,
        "stack": to_data([replace(each, driver=None) for each in plan.plan.stack]),
        "lock": plan.plan.lock,
        "minimal": plan.minimal,
        "base": [plan.base.reference, plan.base.digest, plan.base.id],
        "distribution": [plan.distribution.id, plan.distribution.version_id],
        "epoch": plan.epoch,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_labels(labels: Mapping[str, str]) -> None:
    ours = sorted(name for name in labels if name.startswith(OURS))
    if ours:
        raise UsageError(
            what=f"the label {ours[0]} cannot be set",
            why=f"names that begin with {OURS} say what provision put into the image",
            hint="--label org.opencontainers.image.source=… and any other name may be",
        )


def _request(ask: ImageAsk) -> Request:
    """What was asked, less what is a host's business: its driver, and the name of an environment beside others."""
    request = replace(ask.request, driver="keep", name=NAME)
    if request.device == "cpu" and ask.driver_version is not None:
        raise UsageError(
            what="--device cpu and --driver-version contradict each other",
            why="a CPU stack needs no NVIDIA driver",
            hint="leave one of them out",
        )
    return request


def _with_device(request: Request, driver_version: str | None, catalog: Catalog) -> Request:
    """ "auto" is the CPU, since there is no GPU to be found, unless something asks for one."""
    wants_gpu = request.device == "cuda" or (
        request.device == "auto" and bool(request.compute_capabilities or driver_version)
    )
    able = any(has_cuda(wanted.framework, catalog) for wanted in wanted_of(request))
    return replace(request, device="cuda" if wants_gpu and able else "cpu")


def _image_plan(
    ask: ImageAsk, cpu: str, tag: str, base: Base, distribution: Distribution, catalog: Catalog
) -> ImagePlan:
    flags = image_flags(cpu, ask.request, catalog, ask.fleet)
    try:
        plan, facts = _planned(ask, cpu, flags, base, distribution, catalog)
        if cpu == "generic" and not asked_for(_compiled_in(plan, catalog), catalog):
            # what the flags were for was not taken, so that nothing has to ask for them
            plan, facts = _planned(
                ask, cpu, image_flags("x86-64-v1", ask.request, catalog), base, distribution, catalog
            )
    except NoStackFits as error:
        raise not_for_image(error, cpu=cpu, base=base) from None
    driver = facts.driver.version
    plan = for_image(plan, cpu=cpu, tag=tag, base=base, distribution=distribution, request=ask.request, driver=driver)
    asked = asked_for({*facts.cpu.flags, *_compiled_in(plan, catalog)}, catalog)
    made = ImagePlan(
        tag=tag,
        cpu=cpu,
        level=cpu if LEVEL.fullmatch(cpu) else level_of(asked, catalog),
        flags=asked,
        plan=replace(plan, fingerprint=fingerprint(plan)),
        base=base,
        distribution=distribution,
        minimal=ask.minimal,
        copied=ask.copied,
        epoch=ask.epoch if ask.epoch is not None else base.created,
    )
    return replace(made, labels=labels_of(made, ask.labels))


def _compiled_in(plan: Plan, catalog: Catalog) -> set[str]:
    return {flag for flags in needed_flags(plan, catalog).values() for flag in flags}


def _planned(
    ask: ImageAsk, cpu: str, flags: frozenset[str], base: Base, distribution: Distribution, catalog: Catalog
) -> tuple[Plan, Facts]:
    """The resolver's own plan, and the machine that it is for."""
    request = _for_resolver(_with_device(ask.request, ask.driver_version, catalog), cpu, flags)
    version = ask.driver_version

    def machine(asked: Request) -> Facts:
        return image_facts(base, distribution, cpu, asked, catalog, driver_version=version, flags=flags)

    facts = machine(request)
    plan = plan_for(facts, request, catalog)
    _refuse_toolkits(plan)
    if request.device != "cuda" or request.compute_capabilities:
        return plan, facts
    if plan.builds:
        raise UsageError(
            what="a CUDA build from source needs --cuda-compute-capabilities",
            why="it is compiled for some GPUs, and an image has none to look at",
            hint="--cuda-compute-capabilities 8.6,9.0 for those of the hosts that will run it",
        )
    wider = own_capabilities(plan, facts.driver.version or "", catalog)
    if not wider:
        return plan, facts
    facts = machine(replace(request, compute_capabilities=wider))
    return plan_for(facts, request, catalog), facts


def without_toolkits(catalog: Catalog) -> Catalog:
    """``catalog`` less the CUDA wheels that need a toolkit of the system: an image holds what its packages bring."""
    releases = tuple(
        replace(row, builds=tuple(build for build in row.builds if build.device == "cpu" or build.bundles_cuda))
        for row in catalog.releases
    )
    return replace(catalog, releases=releases)


def _refuse_toolkits(plan: Plan) -> None:
    """A build from source may need one too, and says so by its steps."""
    needed = [step.title for step in plan.steps if step.id in ("cuda_toolkit", "cudnn")]
    if needed:
        raise NoStackFits(
            what="this build from source needs a CUDA toolkit, which no base of an image has",
            why=f"on a host the plan would {needed[0][:1].lower()}{needed[0][1:]}",
            hint="take its wheel (--origin wheel), or a release that brings its own CUDA into the build",
        )


def _for_resolver(request: Request, cpu: str, flags: frozenset[str]) -> Request:
    """A CPU is what the made-up machine has, and what a build from source that is asked for compiles for. A wheel that
    runs on it is taken, as on a host of that kind."""
    if request.origin == "source" or cpu == "generic":
        return replace(request, cpu=cpu, cpu_flags=tuple(sorted(flags)) if cpu == "fleet" else ())
    return replace(request, cpu="native", cpu_flags=())
