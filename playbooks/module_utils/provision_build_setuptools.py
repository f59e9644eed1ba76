"""Engine "setuptools": a build command that is run in the tree, as PyTorch's is."""

from __future__ import annotations

from ansible.module_utils.provision_build_context import Context, EngineResult
from ansible.module_utils.provision_build_steps import Steps
from ansible.module_utils.provision_failure import Failure


def build(context: Context) -> EngineResult:
    """Run build.argv in the tree; the wheel is expected in {wheels}, or else in the tree's dist folder."""
    argv = context.fill_all(context.build["argv"])
    if not argv:
        raise Failure(
            "bad_input", f"the plan names no build command for {context.build['framework']}", "", "plan again"
        )
    dist = context.tree / "dist"
    for old in dist.glob("*.whl"):  # of an earlier try
        old.unlink()
    steps = Steps(context, "compiling")
    # for projects that look at nothing else: CMake's and PyTorch's own names for it
    jobs = {"MAX_JOBS": "{jobs}", "CMAKE_BUILD_PARALLEL_LEVEL": "{jobs}"}
    environment = context.filled_environment({**jobs, **context.build["environment"]})
    steps.run(argv, environment)
    folder = context.wheels if any(context.wheels.glob("*.whl")) else dist
    return EngineResult(folder=folder, actions=steps.done or None, compile_actions=steps.compiled, tool="setuptools")
