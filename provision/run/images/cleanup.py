"""What a run leaves for a while, how it is found again, and taking it away.

Containers carry a label with the run's id. Images do not: a label would stay in all that is built from them, and make
each run's layers new. Their temporary tags name the run.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from provision.model.labels import RUN, SCHEMA

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

TEMPORARY = "provision-build"
"""Repository of images that are gone when a run ends: "provision-build:9f3a01bc-0"."""
ON_ENVIRONMENT = TEMPORARY.count("-") + 2
"""Dashes in a temporary tag that stands on an environment's: "provision-build:9f3a01bc-0-1"."""
FAILED = "provision-failed"
"""Of those that failed their checks, kept to be looked into."""


def dangling_of(engine: Engine, run_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(ids of the containers, temporary tags of the images) that a run left."""
    return engine.containers_with(RUN, run_id), tuple(
        tag for tag in engine.tags_in(TEMPORARY) if _of_run(tag.rpartition(":")[2], run_id)
    )


def tidy(engine: Engine, run_id: str) -> None:
    """Remove the containers of a run with their volumes, and its temporary tags. What is gone already is fine, and an
    engine that does not answer any more is left alone."""
    with suppress(Exception):
        containers, tags = dangling_of(engine, run_id)
        for container in containers:
            engine.remove_container(container)
        # longest first: those on an environment before the environment. Their parents go with them, down to it
        for tag in sorted(tags, key=len, reverse=True):
            # a tag is taken away and its layers stay as long as another one has them; the parents of an environment
            # stay for the classic builder, whose cache they are
            engine.remove_image(tag, noprune=tag.count("-") < ON_ENVIRONMENT)


def forget(engine: Engine, tag: str) -> None:
    """Take a temporary tag away, where it is there; other tags are not ours to take."""
    with suppress(Exception):
        if tag.rpartition(":")[0] == TEMPORARY:
            engine.remove_image(tag, noprune=True)


def remove_nameless(engine: Engine, image_id: str) -> None:
    """Remove an image of ours that lost its tag to a newer one. Its layers stay where another image has them."""
    with suppress(Exception):
        found = engine.find(image_id)
        if found is None or found.get("RepoTags"):
            return
        if SCHEMA in ((found.get("Config") or {}).get("Labels") or {}):
            engine.remove_image(image_id, noprune=True)


def _of_run(name: str, run_id: str) -> bool:
    return name == run_id or name.startswith(f"{run_id}-")
