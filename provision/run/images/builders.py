"""What a builder is asked, and which of the three there are is taken: docker buildx, BuildKit through the API, or the
classic builder.

All three understand the same Dockerfile but for ``RUN --mount``, which the classic one does not have, and tell the same
events: Progress with text "[environment 4/7] RUN uv pip sync …".
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from provision.errors import StepFailed, UsageError
from provision.model.image import BuilderName
from provision.model.report import Progress

if TYPE_CHECKING:
    from provision.run.images.context import ContextFile
    from provision.run.images.engine import Engine

OnEvent = Callable[[Progress], None]

WANTED = ("auto", "buildx", "buildkit", "classic")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildAsk:
    """One build."""

    dockerfile: str
    context: tuple[ContextFile, ...]
    tag: str
    target: str | None = None
    """The stage to stop at; None for the last."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """They stay in every image that is built from this one: that one is temporary, say by its tag."""
    build_args: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    cache_from: tuple[str, ...] = ()
    """Images whose layers may stand for steps: "registry/me/tf:cache". With buildx whatever its --cache-from takes."""
    cache_to: tuple[str, ...] = ()
    """"inline": the image says what made its layers, and serves as ``cache_from`` once it was pushed; or an image's
    reference, which it is pushed to for that. With buildx whatever its --cache-to takes."""
    run_id: str
    host: str
    """Shown in Progress."""
    title: str
    """Of the step, likewise."""
    heard: Callable[[str], None] | None = None
    """Is told each whole line that a step writes, as it is; events leave most of them out."""


class Builder(Protocol):
    """Builds images in an engine."""

    @property
    def name(self) -> BuilderName: ...

    @property
    def mounts(self) -> bool:
        """Whether its Dockerfile may say RUN --mount=type=cache and the like."""

    @property
    def note(self) -> str:
        """Why it was taken where it was not the first choice; empty else."""

    def build(self, ask: BuildAsk, *, on_event: OnEvent, cancel: threading.Event) -> str:
        """The id of the image, which then has ``ask.tag``.

        Raises StepFailed with the failed step's own last lines and its known cause, Interrupted within about a second
        of ``cancel``; neither leaves a container or a tag.
        """


def choose(engine: Engine, wanted: str = "auto") -> Builder:
    """The builder of that name, or the best that works: buildx, buildkit, classic.

    Raises UsageError for a name that is none, StepFailed where the one that was asked for does not work here.
    """
    from provision.run.images import buildkit, buildx, classic

    if wanted not in WANTED:
        raise UsageError(
            what=f"there is no builder {wanted!r}",
            why=f"known: {', '.join(WANTED)}",
            hint="--builder auto takes the best",
        )
    reasons = []
    if wanted in ("auto", "buildx"):
        missing = buildx.missing(engine)
        if missing is None:
            return buildx.Buildx(engine)
        reasons.append(missing)
    if wanted in ("auto", "buildkit"):
        missing = buildkit.missing(engine)
        if missing is None:
            return buildkit.BuildKit(engine)
        reasons.append(missing)
    if wanted in ("auto", "classic"):
        return classic.Classic(engine, f"built by the classic builder: {reasons[-1]}" if reasons else "")
    raise StepFailed(
        what=f"the builder {wanted} does not work here",
        why=reasons[0],
        hint={
            "buildx": "install it (Debian 13, Ubuntu: apt install docker-buildx; Docker's packages: "
            "docker-buildx-plugin), or take another: --builder auto",
            "buildkit": "take another: --builder auto, or a newer engine",
        }[wanted],
    )
