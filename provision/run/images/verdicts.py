"""What was proved before: a verdict is kept by the content that it is about, and by the checks that were asked.

Rebuilding after a change in the user's own layer then needs no second training on MNIST.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.errors import UsageError
from provision.model.data import from_data, to_json
from provision.model.image import Verdict
from provision.model.report import CheckOutcome, Smoke
from provision.run.files import write_atomically
from provision.run.uv import cache_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A verdict with what led to it."""

    verdict: Verdict
    checks: tuple[CheckOutcome, ...]
    smoke: Smoke | None


def proof_key(layers: Sequence[str], config: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Equal where the same files run with the same settings and are asked the same.

    ``layers``: diff ids. ``config``: the image's, of which labels and names of a build are no part of what runs.
    ``asked``: JSON-able, the checks' texts, commands and data.
    """
    runs = {name: config.get(name) for name in ("Env", "Entrypoint", "User", "WorkingDir")}
    text = json.dumps([list(layers), runs, asked], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def kept(key: str, folder: Path | None = None) -> Proof | None:
    """The proof of an earlier run; None where there is none that can be read."""
    with suppress(OSError, ValueError, TypeError, KeyError, UsageError):
        path = _file(key, folder)
        return from_data(Proof, json.loads(path.read_text(encoding="utf-8")))
    return None


def keep(key: str, proof: Proof, folder: Path | None = None) -> None:
    """Only what passed is kept: a failure is looked at again. A cache that cannot be written costs time only."""
    if proof.verdict.status != "passed":
        return
    with suppress(OSError, UsageError):
        path = _file(key, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(proof))


def _file(key: str, folder: Path | None) -> Path:
    return (cache_folder("verdicts") if folder is None else folder) / f"{key}.json"
