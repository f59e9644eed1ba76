"""Which checks a plan needs, with their arguments, and the files that answer them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from provision import assets
from provision.errors import Explanation, UsageError
from provision.model.plan import Plan, Stack

MEMORY_MIB = {"numpy": 512}
MEMORY_DEFAULT_MIB = 1024
"""What training the smoke test takes at its peak: 740 MiB for TensorFlow on a CPU (550 for the process, 190 for the
digits as float32), with room for the page cache."""
DISK_MIB = 64
"""For caches that frameworks write when they start; the environment itself is there already."""
MNIST_TIMEOUT_S = 1800
DATA = "{data}"
"""Stands for the folder on the target where the MNIST files are put."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    id: str
    """The script's name, with the framework it is asked about: "mnist:tensorflow"."""
    argv: tuple[str, ...]
    """The script's file name, then its arguments."""
    timeout_s: int = 600


def check_commands(plan: Plan, cpu_flags: Mapping[str, Sequence[str]], *, mnist: bool) -> tuple[Check, ...]:
    """The checks of a plan's environment, cheap ones first.

    ``cpu_flags``: by framework, what its wheel was compiled for. ``mnist``: whether the real files are brought along.
    """
    need = sorted({flag for stack in plan.stack for flag in cpu_flags.get(stack.framework, ())})
    memory = max((MEMORY_MIB.get(stack.framework, MEMORY_DEFAULT_MIB) for stack in plan.stack), default=0)
    checks = [Check(id="cpu_flags", argv=("cpu_flags.py", "--need", ",".join(need)))] if need else []
    checks.append(
        Check(id="memory_disk", argv=("memory_disk.py", "--memory-mib", str(memory), "--disk-mib", str(DISK_MIB)))
    )
    for stack in plan.stack:
        checks += _of_framework(stack)
    linked = [build.blas for build in plan.builds if build.blas is not None]
    checks.append(Check(id="blas", argv=("blas.py", *(("--expect", linked[0]) if linked else ()))))
    for stack in plan.stack:
        # without files of the user's: the box's cache, a mirror, or generated digits that are called so
        data = ("--data", DATA) if mnist else ("--download",)
        checks.append(_about(stack, "mnist", "--device", stack.device, *data, timeout_s=MNIST_TIMEOUT_S))
    return tuple(checks)


def _of_framework(stack: Stack) -> list[Check]:
    found = [
        _about(stack, "framework_import", "--version", stack.version),
        _about(stack, "isa_baseline"),
        _about(stack, "device_visible", "--device", stack.device),
    ]
    if stack.device == "cuda":
        found.append(_about(stack, "native_kernels", "--device", "cuda"))
    return found


def _about(stack: Stack, name: str, *arguments: str, timeout_s: int = 600) -> Check:
    argv = (f"{name}.py", "--framework", stack.framework, *arguments)
    return Check(id=f"{name}:{stack.framework}", argv=argv, timeout_s=timeout_s)


def check_files(checks: Sequence[Check]) -> dict[str, str]:
    """The scripts by file name; mnist.py's own modules come with it."""
    names = {check.argv[0] for check in checks}
    folder = assets.folder("checks")
    beside = {path.name for path in folder.glob("mnist_*.py")} if "mnist.py" in names else set()
    return {name: (folder / name).read_text(encoding="utf-8") for name in sorted(names | beside)}


def check_data(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """As playbooks/site.yml takes them."""
    return [{"id": check.id, "argv": list(check.argv), "timeout_s": check.timeout_s} for check in checks]


def mnist_files(folder: Path | None) -> tuple[Path, ...]:
    """The four files in ``folder``, unpacked or not; none where there is no folder.

    Raises UsageError where one is missing or its content is not MNIST's: on a host it would take the place of a good
    one. Files that did not change are not read twice.
    """
    if folder is None:
        return ()
    data = _mnist_data()
    return tuple(_mnist_file(data, folder, row) for row in data.FILES)


def _mnist_file(data: ModuleType, folder: Path, row: tuple[str, int, int, str]) -> Path:
    try:
        path: Path = data.path_of(folder, row[0])
    except data.BadData as error:
        raise UsageError(what=error.what, why=error.why, hint=error.hint) from None
    seen = path.stat()
    problem = _problem(path, row, (seen.st_ino, seen.st_size, seen.st_mtime_ns))
    if problem is not None:
        raise UsageError(what=problem.what, why=problem.why, hint=problem.hint)
    return path.resolve()


@lru_cache
def _problem(path: Path, row: tuple[str, int, int, str], _seen: tuple[int, ...]) -> Explanation | None:
    """What is wrong with a file, if anything. ``_seen`` is another one for a file that was changed."""
    data = _mnist_data()
    try:
        data.content(path, row)
    except data.BadData as error:
        return Explanation(what=error.what, why=error.why, hint=error.hint)
    return None


@lru_cache
def _mnist_data() -> ModuleType:
    """checks/mnist_data.py, which stands alone on a host: what MNIST is, is said there only."""
    name = "provision_checks_mnist_data"
    path = assets.folder("checks") / "mnist_data.py"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def needed_flags(plan: Plan) -> dict[str, tuple[str, ...]]:
    """By framework, the CPU flags its wheels were compiled for on the plan's machine, from the catalog."""
    from provision.catalog.load import catalog

    table = catalog()
    return {
        stack.framework: tuple(release.cpu_flags.get(plan.arch or "", ()))
        for stack in plan.stack
        if stack.origin == "wheel"
        for release in table.of(stack.framework)
        if stack.version in (release.version, *release.points)
    }
