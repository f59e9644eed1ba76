"""Measured workloads as tables. JSON is ``model.data.to_json`` of the same values."""

from __future__ import annotations

from collections.abc import Sequence

from provision.model.bench import Bench, Figure, Measured, Result
from provision.render.comparison import times

LABELS = {
    "thousand 100x100 float": "1000 of 100×100, float",
    "thousand 100x100 integer": "1000 of 100×100, integer",
    "thousand 100x100 converted": "1000 of 100×100, integer to float",
}


def bench_text(benches: Sequence[Bench]) -> str:
    """One table where nothing is measured against anything else, hosts side by side; otherwise one for each host."""
    good = [bench for bench in benches if bench.ok]
    blocks = [_against(bench) for bench in good if bench.against is not None]
    alone = [bench for bench in good if bench.against is None]
    if alone:
        blocks.append(_side_by_side(alone))
    blocks += [_failures(bench) for bench in benches if not bench.ok]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _side_by_side(benches: Sequence[Bench]) -> list[str]:
    lines = [f"{bench.host}: {_where(bench.environment)}" for bench in benches]
    header = ["matrix products", *(bench.host for bench in benches), ""]
    rows = [
        [_label(result), *(_value(bench.results[index].figure, result) for bench in benches), result.unit]
        for index, result in enumerate(benches[0].results)
    ]
    return [*lines, "", *_table([header, *rows]), "", *(line for bench in benches for line in _remarks(bench))]


def _against(bench: Bench) -> list[str]:
    ours, theirs = (_short(each) for each in (bench.environment, bench.against))
    header = ["matrix products", ours, theirs, "", "times as fast"]
    rows = [
        [_label(each), _value(each.figure, each), _value(each.against, each), each.unit, _ratio(each.ratio)]
        for each in bench.results
    ]
    rounds = f"median of {bench.rounds} rounds in turn" if bench.rounds > 1 else "one round"
    return [
        f"{bench.host}: {_where(bench.environment)}",
        f"{' ' * len(bench.host)}  against {_where(bench.against)}; {rounds}",
        "",
        *_table([header, *rows]),
        "",
        *_remarks(bench),
    ]


def _where(side: Measured | None) -> str:
    """ "default, generation 4: NumPy 2.4.6, OpenBLAS (SkylakeX, 4 threads), /…/libopenblas.so.0"."""
    if side is None:
        return ""
    blas = side.blas
    threads = f"{blas.threads} thread{'' if blas.threads == 1 else 's'}" if blas.threads else ""
    more = ", ".join(part for part in (blas.kernel, threads) if part)
    library = (blas.library or "no BLAS that is known") + (f" ({more})" if more else "")
    path = f", {blas.path}" if blas.path else ""
    return f"{side.name}, generation {side.generation}: NumPy {side.version}, {library}{path}"


def _short(side: Measured | None) -> str:
    return f"{side.name} {side.generation}" if side is not None else ""


def _label(result: Result) -> str:
    return LABELS.get(result.id, result.id.replace("x", "×"))


def _value(figure: Figure | None, result: Result) -> str:
    if figure is None:
        return ""
    return f"{figure.value:,.0f}" if result.unit == "ms" or figure.value >= 100 else f"{figure.value:.1f}"


def _ratio(ratio: Figure | None) -> str:
    if ratio is None:
        return ""
    if ratio.lowest == ratio.highest:
        return times(ratio.value)
    return f"{times(ratio.value)} ({times(ratio.lowest)} to {times(ratio.highest)})"


def _remarks(bench: Bench) -> list[str]:
    lines = [
        f"{bench.host}: integers take {bench.integer_by_float or 0:.1f} times as long as floats (no BLAS has integers)"
    ]
    if bench.load is not None and bench.cpus is not None and bench.load > bench.cpus / 2:
        busy = f"{bench.load:.1f} processes wanted its {bench.cpus} CPUs"
        lines.append(f"{bench.host}: the machine was busy ({busy}): measure again when it is idle")
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, figures to the right, what follows them to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    last = len(widths) - 1
    figures = [column for column in range(1, len(widths)) if any(row[column][:1].isdigit() for row in rows[1:])]
    lines = []
    for row in rows:
        cells = [
            f"{cell:>{widths[column]}}" if column in figures and column != last else f"{cell:<{widths[column]}}"
            for column, cell in enumerate(row)
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _failures(bench: Bench) -> list[str]:
    lines = []
    for failure in bench.failures:
        host = "" if bench.host in failure.what else f"{bench.host}: "
        lines.append(f"error: {host}{failure.what}")
        lines += ["  " + line for line in failure.why.splitlines()]
        lines += [f"  hint: {failure.hint}"] if failure.hint else []
    return lines
