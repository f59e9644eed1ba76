"""What is made here before a host is touched: locks and uv binaries, for all plans at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from provision.errors import ProvisionError
from provision.model.host import Host
from provision.model.plan import Plan
from provision.model.report import Progress, StepOutcome
from provision.run.built import BuiltWheel
from provision.run.lock import locked, questions, target_environment, wheels_to_ship
from provision.run.uv import Uv, ready, uv_for

TITLE = "Resolve versions"
WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A host's plan, and the wheels that were built for it there."""

    host: str
    plan: Plan
    built: tuple[BuiltWheel, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A plan with its lock, and what its hosts are sent."""

    plan: Plan
    uv: Uv
    step: StepOutcome
    built: tuple[BuiltWheel, ...] = ()

    def variables(self, host: Host) -> dict[str, Any]:
        local = host.connection == "local"
        return {
            "provision_uv_binary": str(self.uv.path),
            "provision_uv_sha256": self.uv.sha256,
            "provision_uv_version": self.uv.version,
            "provision_wheels": [str(path) for path in wheels_to_ship(self.plan)],
            "provision_built_folders": list(dict.fromkeys(wheel.folder for wheel in self.built)),
            "provision_uv_environment": target_environment(self.plan, os.environ, local=local),
        }


def prepare(
    asks: Sequence[Ask], *, on_event: Callable[[Progress], None], cancel: threading.Event
) -> list[Prepared | ProvisionError]:
    """Each host's plan prepared, or why it is not, in their order.

    Equal questions are asked once, different ones at once.
    """
    ready()
    keys = [_key(ask) for ask in asks]
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        pool.submit(_import_ansible)
        locks: dict[object, Future[tuple[Plan, float]]] = {}
        binaries: dict[str | None, Future[Uv]] = {}
        for ask, key in zip(asks, keys, strict=True):
            on_event(Progress(host=ask.host, kind="step", step=TITLE))
            if key not in locks:
                locks[key] = pool.submit(_timed, ask, cancel)
            if ask.plan.arch not in binaries:
                binaries[ask.plan.arch] = pool.submit(uv_for, ask.plan.arch, cancel=cancel)
        outcomes = []
        for ask, key in zip(asks, keys, strict=True):
            outcome = _outcome(ask, locks[key], binaries[ask.plan.arch])
            failed = isinstance(outcome, ProvisionError)
            text = outcome.what if isinstance(outcome, ProvisionError) else ""
            on_event(Progress(host=ask.host, kind="failed" if failed else "done", step=TITLE, text=text))
            outcomes.append(outcome)
    return outcomes


def _outcome(ask: Ask, lock: Future[tuple[Plan, float]], binary: Future[Uv]) -> Prepared | ProvisionError:
    try:
        resolved, seconds = lock.result()
        uv = binary.result()
    except ProvisionError as error:
        return error
    step = StepOutcome(id="lock", title=TITLE, status="ok", seconds=round(seconds, 3))
    return Prepared(plan=replace(ask.plan, lock=resolved.lock), uv=uv, step=step, built=ask.built)


def _timed(ask: Ask, cancel: threading.Event) -> tuple[Plan, float]:
    begun = time.monotonic()
    return locked(ask.plan, cancel=cancel, built=ask.built), time.monotonic() - begun


def _key(ask: Ask) -> object:
    """Equal for plans that have the same lock."""
    try:
        return ask.plan.lock or (tuple(questions(ask.plan, os.environ, built=ask.built)), ask.built)
    except ProvisionError:
        return ask.host  # it fails again when it is asked, and then as that host's own failure


def _import_ansible() -> None:
    """While versions are resolved: 0.1 s that nobody waits for."""
    from provision.run.ansible import load

    load()
