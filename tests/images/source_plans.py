"""Image plans with source builds, as `image build --origin source` makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from worlds.hosts import V3, host

from provision.catalog.images import distributions
from provision.catalog.load import catalog
from provision.model.facts import Os
from provision.model.image import Base, ImagePlan
from provision.resolve.image import ImageAsk, image_plans
from provision.resolve.request import parse_request
from provision.run.sources import source_of

VERSION = "2.15.1"
BAZEL = "/usr/bin/bazel-4"
BAZEL_PACKAGES = ("bazel-bootstrap", "bazel-rules-java", "libeigen3-dev")
"""Debian's Bazel 4.2.3, with the rules and the Eigen that the small tree takes from the system."""


def debian(digest: str | None = None) -> Base:
    """Debian 12, as the probe finds it: no Python, no compiler."""
    facts = host(flags=V3, pythons=(), container=True)
    facts = replace(facts, system=replace(facts.system, os=Os(id="debian", version_id="12")))
    return Base(reference="debian:bookworm", digest=digest, id="sha256:" + "0" * 64, created=0, facts=facts)


def source_plan(framework: str, *, on: Base | None = None, tree: Path | None = None, **asked: Any) -> ImagePlan:
    """The only one, for x86-64-v2."""
    table, base = catalog(), on or debian()
    source = source_of(str(tree), framework.partition("=")[0]) if tree else None
    request = parse_request(
        frameworks=(framework,), origin="source", device="cpu", source=source, catalog=table, **asked
    )
    ask = ImageAsk(request=request, cpus=("x86-64-v2",), tag="lab/it:1", base=base.reference)
    (plan,) = image_plans(ask, base, table, distributions())
    return plan
