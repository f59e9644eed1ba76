"""``provision bench``: the measured workloads."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from provision.cli.options import Hosts, Inventory, Json, Limit, LockTimeout, Name, hosts_from
from provision.errors import UsageError

if TYPE_CHECKING:
    from provision.cli.planning import Looked
    from provision.errors import ProvisionError
    from provision.model.bench import Bench
    from provision.run.bench import Wanted

ROUNDS = 3
"""Against another environment; alone it is one."""

commands = typer.Typer(
    help="Measure workloads in an environment. Changes nothing.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MATMUL_EXAMPLES = """
Examples:

  provision bench matmul

  provision bench matmul me@box --generation 4 --against-generation 3

  provision bench matmul --name built --against stock --json
"""


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="bench")


@commands.callback()
def bench() -> None:
    """Measure workloads in an environment. Changes nothing."""


@commands.command(
    "matmul",
    short_help="Products of matrices: floats, integers, and the BLAS behind them.",
    help="Products of matrices in float64, float32, int64 and int32 with an environment's NumPy, in 10^9 operations a "
    "second, and the BLAS that it uses. With --against or --against-generation in turn with another one.\n"
    + MATMUL_EXAMPLES,
)
def matmul(
    hosts: Hosts = None,
    inventory: Inventory = None,
    limit: Limit = None,
    name: Name = "default",
    generation: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Its generation. [default: the current one]")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="ENV", help="Measure in turn with this environment.")] = None,
    against_generation: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Measure in turn with this generation.")
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"[default: 1, or {ROUNDS} in turn with another]")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option(metavar="N,…", help="Rows of the matrices. [default: 100,500,1000]")
    ] = None,
    lock_timeout: LockTimeout = 600,
    as_json: Json = False,
) -> None:
    from provision.run.bench import Side, Wanted

    side = Side(name=name, generation=generation or 0)
    named = against is not None or against_generation is not None
    other = Side(name=against or name, generation=against_generation or 0) if named else None
    if side == other:
        raise UsageError(
            what="an environment cannot be measured against itself",
            why=f"both are environment {name}, " + (f"generation {generation}" if generation else "as it is now"),
            hint="name another one with --against, or another generation with --against-generation",
        )
    wanted = Wanted(side=side, against=other, rounds=rounds or (ROUNDS if other else 1), sizes=_sizes(sizes))
    _run(hosts, inventory, limit, wanted, lock_timeout, as_json)


def _sizes(text: str | None) -> tuple[int, ...]:
    if text is not None and not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text):
        raise UsageError(
            what=f"--sizes {text} is no list of sizes",
            why="wanted numbers from 1 to 9999 with commas between them",
            hint="--sizes 100,500,1000",
        )
    return tuple(int(size) for size in text.split(",")) if text is not None else ()


def _run(
    hosts: Hosts, inventory: Inventory, limit: Limit, wanted: Wanted, lock_timeout_s: float, as_json: bool
) -> None:
    from provision.cli import console
    from provision.cli.display import progress_display
    from provision.cli.interrupt import cancellable
    from provision.cli.planning import look
    from provision.render.bench import bench_text
    from provision.run.bench import matmul as measure
    from provision.run.ssh import ControlDir

    chosen = hosts_from(hosts, inventory, limit)
    with cancellable() as cancel, ControlDir() as control_dir:
        looked = look(chosen, control_dir, cancel)
        missing = {each.host.name: problem for each in looked if (problem := _missing(each, wanted)) is not None}
        there = [each.host for each in looked if each.host.name not in missing]
        if len(looked) == 1 and missing and not as_json:
            raise missing[looked[0].host.name]
        with progress_display(host.name for host in there) as display:
            benches = measure(
                there, wanted, inventories=tuple(inventory or ()), lock_timeout_s=lock_timeout_s,
                on_event=display.event, cancel=cancel, control_dir=control_dir,
            )  # fmt: skip
    by_host = {bench.host: bench for bench in benches}
    every = [by_host.get(each.host.name) or _absent(each, missing[each.host.name]) for each in looked]
    if as_json:
        console.answer_json(console.one_or_many(every))
    else:
        console.answer(bench_text(every))
    code = next((bench.failures[0].exit_code for bench in every if not bench.ok), 0)
    if code:
        raise typer.Exit(code)


def _missing(looked: Looked, wanted: Wanted) -> ProvisionError | None:
    """Why nothing can be measured on a host."""
    from provision.cli.verify_command import nothing_there

    if looked.failure is not None:
        return looked.failure
    for side in (wanted.side, wanted.against):
        if side is not None:
            state = looked.environment(side.name)
            if state is None or (state.current is None and not side.generation):
                return nothing_there(looked, side.name)
    return None


def _absent(looked: Looked, error: ProvisionError) -> Bench:
    from provision.model.report import Failure
    from provision.run.bench import failed

    return failed(
        looked.host.name,
        Failure(what=error.what, why=error.why, hint=error.hint, exit_code=error.exit_code),
    )
