"""Does an image do what it should? The checks and MNIST in a container of it, whoever made it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from provision.model.plan import Plan
from provision.model.report import Progress, Report

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

OnEvent = Callable[[Progress], None]


def verify_image(
    engine: Engine,
    tag: str,
    *,
    mnist: tuple[Path, ...] = (),
    gpus: bool = False,
    plan: Plan | None = None,
    flags: Sequence[str] = (),
    on_event: OnEvent,
    cancel: threading.Event,
    run_id: str,
    quick_ops: bool = True,
) -> Report:
    """Filled in the next commit of this part."""
    raise NotImplementedError
