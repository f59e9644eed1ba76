"""The commands, in one table, and the program around them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from provision import __version__
from provision.cli import (
    bench_command,
    cache_command,
    console,
    detect_command,
    doctor_command,
    env_command,
    image_command,
    plan_command,
    up_command,
    verify_command,
)
from provision.cli.interrupt import ends_the_program

app = typer.Typer(
    name="provision",
    help="Turn a bare Linux box into a deep-learning box that has been proved to work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        console.answer(f"provision {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Turn a bare Linux box into a deep-learning box that has been proved to work."""


for module in (
    detect_command,
    plan_command,
    up_command,
    verify_command,
    image_command,
    bench_command,
    doctor_command,
    cache_command,
    env_command,
):
    module.register(app)


def run() -> None:
    """Run the command line and leave the process with its exit code."""
    ends_the_program()
    console.prepare_streams()
    sys.exit(console.guarded(lambda: app(prog_name="provision", standalone_mode=False)))
