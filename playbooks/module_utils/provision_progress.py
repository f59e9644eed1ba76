"""What a run is doing right now, as JSON lines in a file that the controller follows from beside."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EVERY_S = 0.3
STALE_S = 24 * 3600


def line(
    step: str,
    text: str,
    done_mib: float | None,
    total_mib: float | None,
    at: float,
    build: Mapping[str, Any] | None = None,
) -> str:
    """One line of the progress file. ``at`` is seconds since 1970; ``build`` as in Progress.say."""
    fields: dict[str, Any] = {
        "step": step,
        "text": text,
        "done_mib": None if done_mib is None else round(done_mib, 1),
        "total_mib": None if total_mib is None else round(total_mib, 1),
        "at": round(at, 2),
    }
    if build is not None:
        fields["build"] = dict(build)
    return json.dumps(fields, ensure_ascii=False) + "\n"


class Progress:
    """Appends to ``runs/RUN_ID.progress``, seldom enough to be followed; never the reason that a run fails."""

    def __init__(self, runs: Path, run_id: str, step: str) -> None:
        safe = re.sub(r"[^A-Za-z0-9_-]", "_", run_id)
        self.path = runs / f"{safe}.progress" if safe else None
        self.step = step
        self._last = ("", 0.0)  # what was said ("" for how far a build is), and when

    def __enter__(self) -> Progress:
        if self.path is not None:
            with contextlib.suppress(OSError):
                self._remove_stale(self.path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def say(
        self,
        text: str,
        done_mib: float | None = None,
        total_mib: float | None = None,
        build: Mapping[str, Any] | None = None,
    ) -> None:
        """A new text at once, the same text with other numbers at most every 0.3 s.

        ``build`` is how far a build is: "done", "total" (actions), "cached", "running", "elapsed_s", "remaining_s"
        (null: not known), "guess" (no earlier build of this tree says how long it takes). Its text changes with every
        action, so those lines, too, come at most every 0.3 s.
        """
        now, key = time.time(), "" if build is not None else text
        if self.path is None or (key == self._last[0] and now - self._last[1] < EVERY_S):
            return
        self._last = (key, now)
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(line(self.step, text, done_mib, total_mib, now, build))

    @staticmethod
    def _remove_stale(runs: Path) -> None:
        for path in runs.glob("*.progress"):
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()
