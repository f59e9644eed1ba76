"""What carrying a plan out does, step by step, in an order that never changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provision.model.facts import Facts
from provision.model.plan import Stack, Step
from provision.model.request import Request
from provision.model.setup import NvidiaSetup
from provision.resolve.candidates import system_pythons
from provision.resolve.solve import Solution
from provision.resolve.steps_nvidia import nvidia_steps

ENVIRONMENTS = "~/.local/share/provision/envs"
"""$XDG_DATA_HOME decides on the host; this is where it usually points."""

CARRIED_OUT = frozenset(
    {
        "nvidia_driver", "persistenced", "fabricmanager", "cuda_toolkit", "cudnn", "nvidia_container_toolkit", "python",
        "source_build", "environment", "verification", "comparison",
    }
)  # fmt: skip
"""Ids of the steps that a role carries out; `up` stops before any other."""


def steps(
    solution: Solution,
    stack: tuple[Stack, ...],
    build_lines: tuple[str, ...],
    comparison: str,
    setup: NvidiaSetup | None,
    facts: Facts,
    request: Request,
) -> tuple[Step, ...]:
    """``build_lines``: what the source builds are told; ``comparison``: what they are measured against, if anything."""
    found = (
        *nvidia_steps(solution, setup, facts),
        _python(solution, facts),
        _source_build(stack, build_lines),
        _environment(stack, request),
        _verification(stack, request),
        _comparison(comparison, stack, request),
    )
    return with_availability((step for step in found if step is not None), setup)


def with_availability(found: Iterable[Step], setup: NvidiaSetup | None) -> tuple[Step, ...]:
    """The same steps, each available where CARRIED_OUT has its id and what it needs is known, whatever it said before.

    ``setup``: packages for NVIDIA's steps; without them there is nothing that the roles could install.
    """
    parts = setup_parts(setup)
    return tuple(replace(step, available=step.id in CARRIED_OUT and parts.get(step.id, True)) for step in found)


def setup_parts(setup: NvidiaSetup | None) -> dict[str, bool]:
    """By step: whether the setup has it."""
    return {
        "nvidia_driver": setup is not None and setup.driver is not None,
        "persistenced": setup is not None and setup.persistenced,
        "fabricmanager": setup is not None and setup.fabricmanager,
        "cuda_toolkit": setup is not None and setup.cuda_toolkit is not None,
        "cudnn": setup is not None and setup.cudnn is not None,
        "nvidia_container_toolkit": setup is not None and setup.container_toolkit is not None,
    }


def _python(solution: Solution, facts: Facts) -> Step | None:
    if solution.python in system_pythons(facts):
        return None
    return Step(
        id="python",
        title=f"Python {solution.python}, brought by uv",
        needs_root=False,
        changes=("uv's folder of Pythons in the home folder; the system's own Python stays as it is",),
    )


def _source_build(stack: tuple[Stack, ...], lines: tuple[str, ...]) -> Step | None:
    built = [f"{made.framework} {made.version}" for made in stack if made.origin == "source"]
    if not built:
        return None
    return Step(
        id="source_build",
        title=f"Build {', '.join(built)} from source",
        needs_root=False,
        changes=lines,
    )


def _environment(stack: tuple[Stack, ...], request: Request) -> Step:
    what = ", ".join(f"{made.framework} {made.version}" for made in stack)
    indexes = dict.fromkeys(made.index_url or "PyPI" for made in stack if made.origin == "wheel")
    return Step(
        id="environment",
        title=f"Environment {request.name}: {what}",
        needs_root=False,
        changes=(
            f"{ENVIRONMENTS}/{request.name}: a new generation beside those that are there",
            f"packages from {', '.join([*request.indexes, *indexes] or ['the build'])}, by hash, and uv's cache",
        ),
    )


def _verification(stack: tuple[Stack, ...], request: Request) -> Step:
    trained = ", ".join(dict.fromkeys(made.framework for made in stack))
    return Step(
        id="verification",
        title=f"Verify: the checks, and MNIST trained with {trained}",
        needs_root=False,
        changes=(f"{ENVIRONMENTS}/{request.name}/current points at the new generation once all of it passed",),
    )


def _comparison(against: str, stack: tuple[Stack, ...], request: Request) -> Step | None:
    if not against:
        return None
    built = ", ".join(f"{made.framework} {made.version}" for made in stack if made.origin == "source")
    return Step(
        id="comparison",
        title=f"Compare the build of {built} with the stock wheel, several pairs in turn",
        needs_root=False,
        changes=(
            f"against {against}, in a generation of its own",
            f"{ENVIRONMENTS}/{request.name}/current points at the faster one (--keep faster)",
        ),
    )
