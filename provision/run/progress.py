"""The side channel of a long step: what a target's modules write down while they work, as it grows.

Ansible tells nothing until a module has ended. If the channel breaks, only progress is lost.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.model.host import Host
from provision.model.report import BuildProgress, Progress

if TYPE_CHECKING:
    from provision.run.command import Running

POLL_S = 0.3
SCRIPT = r"""
base=$XDG_DATA_HOME
case "$base" in /*) ;; *) base=$HOME/.local/share ;; esac
file=$base/provision/run/$1.progress
last=
while :; do
    # of modules that run as root: they write nothing into a user's home
    [ ! -e "/run/provision/$1.progress" ] || file=/run/provision/$1.progress
    line=$(tail -n 1 "$file" 2>/dev/null)
    [ "$line" = "$last" ] || printf '%s\n' "$line"
    last=$line
    sleep 0.3
done
"""


@contextmanager
def watched(
    hosts: Sequence[Host], run_id: str, control_dir: str, on_event: Callable[[Progress], None]
) -> Iterator[None]:
    """Pass on what the run's modules write, from all hosts, while the block runs."""
    ended = threading.Event()
    threads = [
        threading.Thread(target=_watch, args=(host, run_id, control_dir, on_event, ended), daemon=True)
        for host in hosts
        if host.connection in ("local", "ssh")
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(timeout=1)


def _watch(
    host: Host, run_id: str, control_dir: str, on_event: Callable[[Progress], None], ended: threading.Event
) -> None:
    with suppress(Exception):
        if host.connection == "local":
            _watch_file(host, local_file(run_id), on_event, ended)
        else:
            _watch_stream(host, run_id, control_dir, on_event, ended)


def local_file(run_id: str) -> Path:
    """Where modules on this machine write."""
    base = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(base) if base.startswith("/") else Path.home() / ".local/share"
    return folder / "provision" / "run" / f"{run_id}.progress"


def _watch_file(host: Host, file: Path, on_event: Callable[[Progress], None], ended: threading.Event) -> None:
    last = ""
    while not ended.wait(POLL_S):
        lines: list[str] = []
        with suppress(OSError):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        if lines and lines[-1] != last:
            last = lines[-1]
            _pass_on(host, last, on_event)


def _watch_stream(
    host: Host, run_id: str, control_dir: str, on_event: Callable[[Progress], None], ended: threading.Event
) -> None:
    from provision.run.ssh import start_script

    with start_script(host, SCRIPT, run_id, control_dir=control_dir) as running:
        threading.Thread(target=_end_with, args=(running, ended), daemon=True).start()
        for line in running.stdout:
            if ended.is_set():
                break
            if line.strip():
                _pass_on(host, line, on_event)


def _end_with(running: Running, ended: threading.Event) -> None:
    ended.wait()
    running.kill()


def _pass_on(host: Host, line: str, on_event: Callable[[Progress], None]) -> None:
    found = parsed(host.name, line)
    if found is not None:
        on_event(found)


def parsed(host: str, line: str) -> Progress | None:
    """One line of a progress file: {"step", "text", "done_mib", "total_mib", "build"}. None for a line cut off in the
    middle."""
    try:
        data = json.loads(line)
        return Progress(
            host=host,
            kind="progress",
            step=TITLES.get(str(data.get("step")), str(data.get("step", ""))),
            text=str(data.get("text") or ""),
            done_mib=_number(data.get("done_mib")),
            total_mib=_number(data.get("total_mib")),
            build=_build(data.get("build")),
        )
    except (ValueError, AttributeError):
        return None


def _build(data: Any) -> BuildProgress | None:
    """{"done", "total", "cached", "running", "elapsed_s", "remaining_s", "guess"}; None where it is anything else."""
    if not isinstance(data, dict):
        return None
    done, elapsed = _number(data.get("done")), _number(data.get("elapsed_s"))
    if done is None or elapsed is None:
        return None
    total = _number(data.get("total"))
    return BuildProgress(
        done=int(done),
        total=None if total is None else int(total),
        cached=int(_number(data.get("cached")) or 0),
        running=int(_number(data.get("running")) or 0),
        elapsed_s=elapsed,
        remaining_s=_number(data.get("remaining_s")),
        guess=data.get("guess") is not False,
    )


TITLES = {
    "environment": "Make the generation",
    "verification": "Run the checks",
    "uv": "Bring the uv program",
    "source_build": "Build the wheel",
    "comparison": "Compare the build with the stock wheel",
    "bench": "Measure the workload",
}
"""Modules name their role; the display knows tasks by their titles (playbooks/site.yml)."""


def _number(value: Any) -> float | None:
    """Nothing for what is no number, or none that can be shown: JSON as Python writes it has NaN and Infinity."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None
