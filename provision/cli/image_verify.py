"""``provision image verify``: does an image do what it should, whoever made it?"""

from __future__ import annotations

from typing import Annotated

import typer

from provision.cli.options import Data, Json

HELP = """
Run the checks and the MNIST smoke test in a container of an image, ours or not.

The container has no network, cannot write to the image, runs as an ordinary user, and is gone afterwards. The image's
Python and its frameworks are found by themselves. With --gpus everything must run on the GPU: falling back to the CPU
is a failure. Leaves with 0 where it is proved, 6 where a check failed, 4 where no engine answers, 5 where the image is
not there or does not start.

Examples:

  provision image verify me/tf:v3 --data mnist/

  provision image verify tensorflow/tensorflow:2.21.0-gpu --gpus

  DOCKER_HOST=ssh://me@box provision image verify me/torch --json
"""
Tag = Annotated[str, typer.Argument(metavar="TAG", help="The image, as `docker images` names it.", show_default=False)]
Gpus = Annotated[bool, typer.Option("--gpus", help="Hand all GPUs over, and fail where they are not used.")]


def register(commands: typer.Typer) -> None:
    commands.command("verify", short_help="Run the checks and MNIST in a container of an image.", help=HELP)(verify)


def verify(tag: Tag, gpus: Gpus = False, data: Data = None, as_json: Json = False) -> None:
    from provision.cli.carry_out import leave_with
    from provision.cli.display import progress_display
    from provision.cli.interrupt import cancellable
    from provision.render.report import image_report_text
    from provision.run.checks import mnist_files
    from provision.run.images import cleanup
    from provision.run.images.building import new_run
    from provision.run.images.engine import connect
    from provision.run.images.verify import verify_image

    mnist, run_id = mnist_files(data), new_run()
    with cancellable() as cancel, connect() as engine, progress_display([tag]) as display:
        try:
            report = verify_image(
                engine, tag, mnist=mnist, gpus=gpus, on_event=display.event, cancel=cancel, run_id=run_id
            )
        finally:
            cleanup.tidy(engine, run_id)
    leave_with((report,), image_report_text(report), as_json)
