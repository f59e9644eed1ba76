"""Workloads measured in environments, here or on hosts; the environments stay as they are."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from provision import assets
from provision.errors import Interrupted
from provision.model.bench import Bench, Blas, Figure, Measured, Result
from provision.model.host import Host
from provision.model.report import Failure, Progress
from provision.run.play_events import HostResult

TASK = "Measure the workload"
MATMUL = "matmul.py"
TIMEOUT_S = 1800
UNITS: Mapping[str, Literal["GFLOP/s", "GOP/s"]] = {
    "float64": "GFLOP/s", "float32": "GFLOP/s", "int64": "GOP/s", "int32": "GOP/s",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A generation of an environment; 0 is the current one."""

    name: str
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    side: Side
    against: Side | None = None
    rounds: int = 1
    sizes: tuple[int, ...] = ()
    """Rows of the square matrices; empty for the check's own choice."""


def matmul(
    hosts: Sequence[Host],
    wanted: Wanted,
    *,
    inventories: Sequence[Path] = (),
    lock_timeout_s: float = 600,
    on_event: Callable[[Progress], None],
    cancel: threading.Event,
    control_dir: str,
) -> tuple[Bench, ...]:
    """Matrix products on each host, in their order. A host's failure is in its result."""
    from provision.run.ansible import new_run_id, play
    from provision.run.carrying import controller
    from provision.run.progress import watched

    if not hosts:
        return ()
    run_id = new_run_id()
    variables = {
        "provision_bench": bench_variables(wanted),
        "provision_controller": controller(),
        "provision_lock_timeout_s": lock_timeout_s,
    }
    with watched(hosts, run_id, control_dir, on_event):
        played = play(
            assets.folder("playbooks") / "bench.yml",
            hosts,
            {host.name: variables for host in hosts},
            inventory_sources=tuple(str(path.resolve()) for path in inventories),
            on_event=on_event,
            cancel=cancel,
            control_dir=control_dir,
            run_id=run_id,
        )
    return tuple(benched(host.name, wanted, played.results[host.name]) for host in hosts)


def bench_variables(wanted: Wanted) -> dict[str, Any]:
    """What playbooks/bench.yml takes."""
    sides = [side for side in (wanted.side, wanted.against) if side is not None]
    sizes = ("--sizes", ",".join(map(str, wanted.sizes))) if wanted.sizes else ()
    return {
        "sides": [{"name": side.name, "generation": side.generation} for side in sides],
        "rounds": wanted.rounds,
        "scripts": {MATMUL: (assets.folder("checks") / MATMUL).read_text(encoding="utf-8")},
        "command": {
            "id": "matmul",
            "argv": [MATMUL, *sizes, "--timeout", str(TIMEOUT_S)],
            "timeout_s": TIMEOUT_S,
        },
    }


def benched(host: str, wanted: Wanted, result: HostResult) -> Bench:
    """One host's figures, or why there are none."""
    if result.status == "cancelled":
        return failed(host, Failure(what="interrupted", why="nothing was changed", exit_code=Interrupted.exit_code))
    sides = result.data.get(TASK, {}).get("sides")
    if result.failure is not None or not sides:
        return failed(host, result.failure or Failure(what=f"{host} gave no figures"))
    first, *others = sides
    other = others[0] if others else None
    return Bench(
        ok=True,
        host=host,
        environment=_measured(first),
        against=_measured(other) if other else None,
        workload="matmul",
        rounds=wanted.rounds,
        results=tuple(_results(first["answers"], other["answers"] if other else None)),
        integer_by_float=statistics.median(each["thousand"]["integer_by_float"] for each in first["answers"]),
        cpus=first["answers"][0].get("cpus"),
        load=first["answers"][0].get("load"),
    )


def failed(host: str, failure: Failure) -> Bench:
    return Bench(
        ok=False, host=host, environment=None, against=None, workload="matmul", rounds=0, results=(),
        integer_by_float=None, cpus=None, load=None, failures=(failure,),
    )  # fmt: skip


def _measured(side: Mapping[str, Any]) -> Measured:
    data = side["answers"][0]
    blas = Blas(**{name: data["blas"].get(name) for name in ("library", "path", "kernel", "threads")})
    return Measured(
        name=side["name"], generation=side["generation"], summary=side["summary"], version=data["version"], blas=blas
    )


def _results(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]] | None) -> Iterator[Result]:
    """One for each product, then the thousand small ones in their three ways."""
    mine = [_values(answer) for answer in ours]
    other = [_values(answer) for answer in theirs] if theirs is not None else None
    for name, (unit, _) in mine[0].items():
        values = [each[name][1] for each in mine]
        against = [each[name][1] for each in other] if other is not None else None
        ratios = None
        if against is not None:
            pairs = zip(values, against, strict=True)
            ratios = [b / a if unit == "ms" else a / b for a, b in pairs]
        yield Result(
            id=name,
            unit=unit,
            figure=_figure(values, 4),
            against=_figure(against, 4) if against is not None else None,
            ratio=_figure(ratios, 4) if ratios is not None else None,
        )


def _values(answer: Mapping[str, Any]) -> dict[str, tuple[Literal["GFLOP/s", "GOP/s", "ms"], float]]:
    found: dict[str, tuple[Literal["GFLOP/s", "GOP/s", "ms"], float]] = {}
    for row in answer["products"]:
        found[f"{row['dtype']} {row['size']}x{row['size']}"] = (UNITS[row["dtype"]], float(row["gops"]))
    for way in ("float", "integer", "converted"):
        found[f"thousand 100x100 {way}"] = ("ms", float(answer["thousand"][f"{way}_ms"]))
    return found


def _figure(values: Sequence[float], digits: int) -> Figure:
    middle, low, high = (
        float(f"{value:.{digits}g}") for value in (statistics.median(values), min(values), max(values))
    )
    return Figure(value=middle, lowest=low, highest=high)
