"""Which checks a plan needs, with their arguments, and the files that answer them."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from provision import assets
from provision.errors import Explanation, UsageError
from provision.model.build import Build
from provision.model.facts import Facts
from provision.model.plan import Plan
from provision.model.report import CheckOutcome

MEMORY_MIB = {"numpy": 512}
MEMORY_DEFAULT_MIB = 1024
"""What training the smoke test takes at its peak: 740 MiB for TensorFlow on a CPU (550 for the process, 190 for the
digits as float32), with room for the page cache."""
DISK_MIB = 64
"""For caches that frameworks write when they start; the environment itself is there already."""
MNIST_TIMEOUT_S = 1800
AUDIT_S = 1200
"""After which the audit reads no more: TensorFlow 2.21's 0.4 GB of code take 420 s of one core, and twice that where
callers have to be looked for."""
AUDIT_TIMEOUT_S = 1800
GPU_TIMEOUT_S = 1200
"""For 20 steps of training on the CPU of an old box, or for three formats and a copy on each of eight GPUs."""
GPU_FRAMEWORKS = ("tensorflow", "pytorch", "jax")
"""Those whose GPUs are measured; Keras computes with one of them, NumPy has none."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""What a plan hides cards with, by their numbers on the bus."""
DATA = "{data}"
"""Stands for the folder on the target where the MNIST files are put."""

if TYPE_CHECKING:
    from provision.catalog.gpu_rates import Card


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    id: str
    """The script's name, with the framework it is asked about: "mnist:tensorflow"."""
    argv: tuple[str, ...]
    """The script's file name, then its arguments."""
    timeout_s: int = 600
    needs: str = ""
    """The id of an earlier check: where that one fails, this one is not run, and says why."""


GATE = "cpu_flags"
"""What lacks an instruction that a framework was compiled for must not run it: it would die of SIGILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A framework as it is expected to be."""

    framework: str
    version: str
    """Empty for any."""
    device: str


def check_commands(
    plan: Plan,
    cpu_flags: Mapping[str, Sequence[str]],
    *,
    mnist: bool,
    quick_ops: bool = False,
    gpus: Sequence[str] | None = None,
    root: str = "",
) -> tuple[Check, ...]:
    """The checks of a plan's environment, cheap ones first.

    ``cpu_flags``: by framework, what its wheel was compiled for. ``mnist``: whether the real files are brought along.
    ``quick_ops``: the framework's own quick tests too, of what may have been slimmed too much. ``gpus``: as
    ``cuda_gpus`` gives them. ``root``: a folder that stands for / where the driver is looked at, on test hosts.
    """
    asked = [Asked(framework=stack.framework, version=stack.version, device=stack.device) for stack in plan.stack]
    return commands_for(asked, cpu_flags, builds=plan.builds, mnist=mnist, quick_ops=quick_ops, gpus=gpus, root=root)


def commands_for(
    asked: Sequence[Asked],
    cpu_flags: Mapping[str, Sequence[str]],
    *,
    builds: Sequence[Build] = (),
    mnist: bool,
    quick_ops: bool = False,
    train: bool = True,
    gpus: Sequence[str] | None = None,
    root: str = "",
) -> tuple[Check, ...]:
    """The checks of frameworks that nobody planned: those that were found in an image. ``train``: MNIST too.

    ``gpus``: names of the GPUs that frameworks will see, in the order of the bus; None where that is not known, which
    is one answer of MNIST for all of them, and every row of the table of cards to choose from.
    """
    need = sorted({flag for each in asked for flag in cpu_flags.get(each.framework, ())})
    memory = max((MEMORY_MIB.get(each.framework, MEMORY_DEFAULT_MIB) for each in asked), default=0)
    checks = [Check(id=GATE, argv=("cpu_flags.py", "--need", ",".join(need)))] if need else []
    gate = GATE if need else ""
    checks.append(
        Check(id="memory_disk", argv=("memory_disk.py", "--memory-mib", str(memory), "--disk-mib", str(DISK_MIB)))
    )
    on_gpu = [each for each in asked if each.device == "cuda"]
    if on_gpu:
        checks.append(Check(id="gpu_driver", argv=("gpu_driver.py", *(("--root", root) if root else ()))))
    for each in asked:
        checks += _of_framework(each, gate, quick_ops)
    checks += _of_gpus([each for each in on_gpu if each.framework in GPU_FRAMEWORKS], gate, gpus)
    linked = [build.blas for build in builds if build.blas is not None]
    checks.append(Check(id="blas", argv=("blas.py", *(("--expect", linked[0]) if linked else ())), needs=gate))
    checks += [_audit(build) for build in builds]
    for each in asked if train else ():
        # without files of the user's: the box's cache, a mirror, or generated digits that are called so
        data = ("--data", DATA) if mnist else ("--download",)
        checks += _training(each, gate, data, gpus)
    return tuple(checks)


def _of_framework(asked: Asked, gate: str, quick_ops: bool) -> list[Check]:
    version = ("--version", asked.version) if asked.version else ()
    found = [
        _about(asked, "framework_import", *version, needs=gate),
        _about(asked, "isa_baseline", needs=gate),
        _about(asked, "device_visible", "--device", asked.device, needs=gate),
    ]
    if asked.device == "cuda":
        found.append(_about(asked, "native_kernels", "--device", "cuda", needs=gate))
    if quick_ops:
        found.append(_about(asked, "quick_ops", "--device", asked.device, needs=gate))
    return found


def _of_gpus(asked: Sequence[Asked], gate: str, gpus: Sequence[str] | None) -> list[Check]:
    """Rates by each framework; what holds the GPUs back once, under the first one's load."""
    from provision.catalog.gpu_rates import cards, cards_of

    rows = (cards() if gpus is None else cards_of(gpus)) if asked else ()
    told = [part for card in rows for part in ("--card", _card(card))]
    found = [_about(each, "gpu_compute", *told, timeout_s=GPU_TIMEOUT_S, needs=gate) for each in asked]
    if asked:
        argv = ("gpu_state.py", "--framework", asked[0].framework)
        found.append(Check(id="gpu_state", argv=argv, needs=gate))
    return found


def _card(card: Card) -> str:
    """A row of the table as gpu_compute.py takes it."""
    figures = {name: getattr(card, name) for name in ("memory_gb_s", "fp32_tflops", "tf32_tflops", "bf16_tflops")}
    known = {name: value for name, value in figures.items() if value is not None}
    return json.dumps({"match": card.match, "name": card.name, **known})


def _training(asked: Asked, gate: str, data: Sequence[str], gpus: Sequence[str] | None) -> list[Check]:
    """MNIST, on every GPU where there are several, and how much faster than the CPU the first one is."""

    def mnist(*which: str) -> Check:
        arguments = ("--device", asked.device, *which, *data)
        return _about(asked, "mnist", *arguments, timeout_s=MNIST_TIMEOUT_S, needs=gate)

    if asked.device != "cuda":
        return [mnist()]
    if gpus is None:
        found = [mnist("--gpu", "all")]
    elif len(gpus) < 2:
        found = [mnist()]
    else:
        found = [mnist("--gpu", str(number)) for number in range(len(gpus))]
        # the first keeps the name that the smoke test goes by
        found[1:] = [replace(check, id=f"{check.id}:gpu{number}") for number, check in enumerate(found[1:], 1)]
    if asked.framework in GPU_FRAMEWORKS:
        found.append(_about(asked, "speed_up", timeout_s=GPU_TIMEOUT_S, needs=gate))
    return found


def cuda_gpus(facts: Facts | None, plan: Plan | None = None) -> tuple[str, ...] | None:
    """The GPUs that a framework will see on a host, by name and in the order of the bus; None where nobody looked.

    Cards that are lost, kept for virtual machines or empty of MIG devices are left out, and those that the plan hides
    from CUDA. With MIG on, a program sees one slice, whatever there is.
    """
    if facts is None:
        return None
    from provision.resolve.unusable import usable_gpus

    found = sorted(usable_gpus(facts), key=lambda gpu: gpu.pci_address or "")
    for shown in {stack.environment[VISIBLE] for stack in (plan.stack if plan else ()) if VISIBLE in stack.environment}:
        found = [gpu for number, gpu in enumerate(found) if str(number) in shown.split(",")]
    names = tuple(gpu.name or "" for gpu in found)
    return names[:1] if any(gpu.mig is not None and gpu.mig.enabled for gpu in found) else names


def _about(asked: Asked, name: str, *arguments: str, timeout_s: int = 600, needs: str = "") -> Check:
    argv = (f"{name}.py", "--framework", asked.framework, *arguments)
    return Check(id=f"{name}:{asked.framework}", argv=argv, timeout_s=timeout_s, needs=needs)


def _audit(build: Build) -> Check:
    """It reads the binary and does not run it, so it needs no gate."""
    flags = ("--expect", ",".join(build.expect), "--allow", ",".join(build.allow), "--seconds", str(AUDIT_S))
    argv = ("isa_audit.py", "--framework", build.framework, *flags)
    return Check(id=f"isa_audit:{build.framework}", argv=argv, timeout_s=AUDIT_TIMEOUT_S)


PARTS = {
    "gpu_compute.py": "gpu_work.py",
    "gpu_driver.py": "gpu_nvml.py",
    "gpu_state.py": "gpu_[nvw]*.py",
    "isa_audit.py": "isa_[!b]*.py",
    "mnist.py": "mnist_*.py",
    "quick_ops.py": "quick_ops_*.py",
    "speed_up.py": "mnist_*.py",
}
"""Scripts with modules of their own beside them."""


def check_files(checks: Sequence[Check]) -> dict[str, str]:
    """The scripts by file name; a script's own modules come with it."""
    names = {check.argv[0] for check in checks}
    folder = assets.folder("checks")
    beside = {path.name for name in names if name in PARTS for path in folder.glob(PARTS[name])}
    return {name: (folder / name).read_text(encoding="utf-8") for name in sorted(names | beside)}


def named(check: CheckOutcome) -> CheckOutcome:
    """With cause and remedy of the table of known failures, where it failed and its framework said something known."""
    if check.status != "fail":
        return check
    from provision.catalog.diagnostics import diagnostics
    from provision.detect.doctor import explained

    return explained(check, diagnostics())


def check_data(checks: Sequence[Check]) -> list[dict[str, Any]]:
    """As playbooks/site.yml takes them."""
    return [
        {"id": check.id, "argv": list(check.argv), "timeout_s": check.timeout_s, "needs": check.needs}
        for check in checks
    ]


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


def needed_flags(plan: Plan) -> Mapping[str, tuple[str, ...]]:
    """By framework, the CPU flags its code was compiled for: a wheel's from the catalog, a build's from the plan."""
    from provision.catalog.load import catalog
    from provision.resolve import needed

    return needed.needed_flags(plan, catalog())
