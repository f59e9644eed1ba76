"""Where the wheel of a `bazel build` lies: what a packing step writes, or the target's own output."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_bazel_failures as failures
from ansible.module_utils.provision_build_context import BuildFailure, Context
from ansible.module_utils.provision_failure import Failure

KEPT_LINES = 400


def take_wheel(context: Context, environment: Mapping[str, str], outputs: Sequence[str]) -> Path:
    """The folder with the wheel. ``environment`` is the packing step's, ``outputs`` the target's.

    Raises BuildFailure where packing fails, and Failure (kind "wheel") where there is no wheel.
    """
    call = context.build["bazel"]
    folder = context.tree / context.fill(call.get("wheel_folder") or "{wheels}")
    if call.get("wheel_argv"):
        context.say("packing the wheel")
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        argv = context.fill_all(call["wheel_argv"])
        status = context.run(argv, on_line=lambda _, line: lines.append(line), environment=environment)
        if status != 0:
            said = "\n".join(lines)
            raise BuildFailure(
                f"packing the wheel of {context.build['framework']} {context.build['version']} failed",
                failures.error_line(said) or f"status {status}", "the log has all of it",
                label="the wheel step", command=" ".join(argv), log=context.log, log_tail=said,
            )  # fmt: skip
        return folder
    wheels = _wheels_in(Path(path) for path in outputs) or _wheels_in([folder])
    if not wheels:
        raise Failure(
            "wheel", f"the target {call['target']} has made no wheel", f"its outputs: {', '.join(outputs) or 'none'}",
            "give the target that packs the wheel of this release",
        )  # fmt: skip
    for wheel in wheels:
        # Bazel's own is read-only, and the next build needs it
        shutil.copyfile(wheel, context.wheels / wheel.name)
    return context.wheels


def _wheels_in(paths: Any) -> list[Path]:
    found = []
    for path in paths:
        found += sorted(path.glob("*.whl")) if path.is_dir() else [path] if path.suffix == ".whl" else []
    return found
