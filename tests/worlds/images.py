"""Base images made up by hand, and image plans for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from provision.catalog.images import distributions
from provision.catalog.load import catalog
from provision.errors import ProvisionError
from provision.model.facts import Os
from provision.model.image import Base, ImagePlan
from provision.model.plan import Plan
from provision.resolve.image import ImageAsk, image_plans
from provision.resolve.request import parse_request
from worlds.hosts import V4, host

BORN = 1_764_000_000
"""24 November 2025."""


def base(id: str = "debian", version_id: str | None = "12", reference: str = "debian:bookworm", **more: Any) -> Base:
    """A base image on an engine whose host has AVX-512, which must not matter."""
    facts = host(**{"flags": V4, "pythons": (), **more})
    system = replace(facts.system, os=Os(id=id, version_id=version_id))
    return Base(
        reference=reference,
        digest="sha256:" + "d" * 64,
        id="sha256:" + "1" * 64,
        created=BORN,
        facts=replace(facts, host=reference, system=system),
    )


def ask(*frameworks: str, cpus: tuple[str, ...] = ("generic",), tag: str | None = "me/tf", **asked: Any) -> ImageAsk:
    """``asked``: options of a request, or fields of ImageAsk."""
    own = {name: asked.pop(name) for name in tuple(asked) if name in ImageAsk.__slots__}
    request = parse_request(frameworks=frameworks, catalog=catalog(), **asked)
    return ImageAsk(request=request, cpus=cpus, tag=tag, base="debian:bookworm", **own)


def plans(*frameworks: str, on: Base | None = None, **asked: Any) -> tuple[ImagePlan, ...]:
    return image_plans(ask(*frameworks, **asked), on or base(), catalog(), distributions())


def plan(*frameworks: str, **asked: Any) -> ImagePlan:
    (only,) = plans(*frameworks, **asked)
    return only


def reason(made: Plan, rule: str) -> str:
    """The text of the first reason of ``rule``; "" where there is none."""
    return next((each.text for each in made.reasons if each.rule == rule), "")


def refused(*frameworks: str, **asked: Any) -> ProvisionError:
    with pytest.raises(ProvisionError) as caught:
        plans(*frameworks, **asked)
    return caught.value
