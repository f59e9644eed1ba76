"""Images: the same plan, for a machine that is made up from a base image and the CPU that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.image import Base, Copied, Distribution, ImagePlan
from provision.model.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAsk:
    """What was asked of `image build`."""

    request: Request
    """Its ``cpu`` and ``name`` say nothing here: ``cpus`` does."""
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
    """The NVIDIA driver of the machines that will run it; None for the newest production branch."""
    fleet: tuple[Facts, ...] = ()
    """With the CPU "fleet": the hosts."""


def image_facts(base: Base, distribution: Distribution, cpu: str, request: Request, catalog: Catalog) -> Facts:
    """A machine of ``base`` with that CPU."""
    raise NotImplementedError


def image_plans(
    ask: ImageAsk, base: Base, catalog: Catalog, distributions: Sequence[Distribution]
) -> tuple[ImagePlan, ...]:
    """One for each of the asked CPUs. Raises UsageError or NoStackFits."""
    raise NotImplementedError


def environment_key(plan: ImagePlan) -> str:
    """Equal for those that share an environment."""
    raise NotImplementedError


def supported_base(facts: Facts, distributions: Sequence[Distribution]) -> Distribution:
    """The row of a base image. Raises NoStackFits or UsageError."""
    raise NotImplementedError
