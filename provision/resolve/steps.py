"""What carrying a plan out does, step by step, in an order that never changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provision.model.facts import Facts
from provision.model.plan import Stack, Step
from provision.model.request import Request
from provision.resolve.candidates import Candidate, system_pythons
from provision.resolve.solve import Solution

ENVIRONMENTS = "~/.local/share/provision/envs"
"""$XDG_DATA_HOME decides on the host; this is where it usually points."""

DRIVER_PACKAGES = {
    ("ubuntu", "proprietary"): "nvidia-driver-{branch}-server",
    ("ubuntu", "open"): "nvidia-driver-{branch}-server-open",
    ("debian", "proprietary"): "cuda-drivers-{branch} with nvidia-driver-pinning-{branch}, NVIDIA's repository",
    ("debian", "open"): "nvidia-driver-cuda nvidia-kernel-open-dkms of branch {branch}, NVIDIA's repository",
    ("rhel", "proprietary"): "kmod-nvidia-latest-dkms nvidia-driver nvidia-driver-cuda of branch {branch}",
    ("rhel", "open"): "nvidia-open of branch {branch}, NVIDIA's repository",
}
"""By distribution and module (facts/install_nvidia.md, section 2)."""
CARRIED_OUT = frozenset({"python", "environment", "verification"})
"""Ids of the steps that a role carries out; `up` stops before any other."""
FAMILIES = {"rocky": "rhel", "almalinux": "rhel", "centos": "rhel", "fedora": "rhel", "linuxmint": "ubuntu"}


def steps(solution: Solution, stack: tuple[Stack, ...], facts: Facts, request: Request) -> tuple[Step, ...]:
    found = (
        _driver(solution, facts),
        _toolkit("cuda_toolkit", "CUDA toolkit", solution, facts),
        _toolkit("cudnn", "cuDNN", solution, facts),
        _python(solution, facts),
        _source_build(solution, stack),
        _environment(stack, request),
        _verification(stack, request),
    )
    return with_availability(step for step in found if step is not None)


def with_availability(found: Iterable[Step]) -> tuple[Step, ...]:
    """The same steps, each available where CARRIED_OUT has its id, whatever it said before."""
    return tuple(replace(step, available=step.id in CARRIED_OUT) for step in found)


def _driver(solution: Solution, facts: Facts) -> Step | None:
    driver = solution.driver
    if driver.action == "none" or all(each.candidate.build.device != "cuda" for each in solution.chosen):
        return None
    system = facts.system.os.id or ""
    key = (FAMILIES.get(system, system), driver.module or "")
    packages = DRIVER_PACKAGES.get(key, "the distribution's packages of branch {branch}")
    changes = [f"packages: {packages.format(branch=driver.branch)}, kernel headers; held against upgrades"]
    changes.append(
        f"kernel module: {driver.module}, built or taken for the running kernel {facts.system.kernel or ''}".rstrip()
    )
    if facts.driver.state == "nouveau":
        changes.append("/etc/modprobe.d: nouveau is kept from loading")
    if facts.system.secure_boot:
        changes.append("Secure Boot: the module's key is enrolled at the console on the next boot")
    changes.append("a reboot is asked for, never done")
    verb = "Upgrade" if driver.action == "upgrade" else "Install"
    return Step(
        id="nvidia_driver",
        title=f"{verb} NVIDIA driver {driver.version} ({driver.module} module)",
        needs_root=True,
        changes=tuple(changes),
    )


def _toolkit(step: str, name: str, solution: Solution, facts: Facts) -> Step | None:
    """CUDA and cuDNN for builds that do not bring them; what is there already is left alone."""
    found = []
    for each in solution.chosen:
        build = each.candidate.build
        if build.device != "cuda" or build.bundles_cuda:
            continue
        needed, here = (
            (build.cuda, facts.toolkit.cuda) if step == "cuda_toolkit" else (build.cudnn, facts.toolkit.cudnn)
        )
        parts = 2 if step == "cuda_toolkit" else 1
        if needed and (here is None or here.split(".")[:parts] != needed.split(".")[:parts]):
            found.append((each.candidate, needed))
    if not found:
        return None
    candidate, needed = found[0]
    place = (
        f"/usr/local/cuda-{needed}"
        if step == "cuda_toolkit"
        else f"libcudnn{needed.split('.')[0]}, for CUDA {candidate.build.cuda}"
    )
    return Step(
        id=step,
        title=f"Install {name} {needed}, which the {candidate.framework} wheel does not bring"
        if not candidate.source
        else f"Install {name} {needed}, which the source build needs",
        needs_root=True,
        changes=(place,),
    )


def _python(solution: Solution, facts: Facts) -> Step | None:
    if solution.python in system_pythons(facts):
        return None
    return Step(
        id="python",
        title=f"Python {solution.python}, brought by uv",
        needs_root=False,
        changes=("uv's folder of Pythons in the home folder; the system's own Python stays as it is",),
    )


def _source_build(solution: Solution, stack: tuple[Stack, ...]) -> Step | None:
    built = [(each.candidate, made) for each, made in zip(solution.chosen, stack, strict=True) if each.candidate.source]
    if not built:
        return None
    names = ", ".join(f"{made.framework} {made.version}" for _, made in built)
    return Step(
        id="source_build",
        title=f"Build {names} from source",
        needs_root=False,
        changes=tuple(line for candidate, made in built for line in build_lines(candidate, made)),
    )


def build_lines(candidate: Candidate, made: Stack) -> tuple[str, ...]:
    """Everything the build is told, one thing a line."""
    recipe = candidate.release.recipe
    values = dict(recipe.values) if recipe else {}
    command = values.get("gpu_command" if made.device == "cuda" else "cpu_command")
    caps = ",".join(made.compute_capabilities)
    bare = _capability_words(made.compute_capabilities)
    python = str(values.get("python_selector", ""))
    lines = [
        f"source: tag {values['tag']}" if values.get("tag") else "",
        f"Bazel {made.bazel}" if made.bazel else "",
        f"compiler: {made.compiler}" if made.compiler else "",
        f"command: {command}" if command else "",
        f"options: {' '.join(f'--copt={option}' for option in made.copts)}" if made.copts else "",
        _python_line(python, made.python),
    ]
    if made.device == "cuda":
        lines.append(f"CUDA {made.cuda}, cuDNN {made.cudnn or 'of that CUDA'}, for compute capability {caps}")
        if "HERMETIC_CUDA_VERSION" in str(values.get("cuda_source", "")):
            lines.append(f"--repo_env=HERMETIC_CUDA_COMPUTE_CAPABILITIES={','.join(bare)}")
        elif made.framework == "tensorflow":
            lines.append(
                f"TF_CUDA_COMPUTE_CAPABILITIES={caps} TF_CUDA_VERSION={made.cuda} TF_CUDNN_VERSION={made.cudnn}"
            )
        else:
            lines.append(f"TORCH_CUDA_ARCH_LIST={';'.join(made.compute_capabilities)} USE_CUDA=1")
    elif made.framework == "pytorch":
        lines.append(f"USE_CUDA=0 CFLAGS={' '.join(made.copts)!r}")
    lines.append(f"wheel: {values['wheel_output']}" if values.get("wheel_output") else "")
    return tuple(line for line in lines if line)


def _capability_words(capabilities: tuple[str, ...]) -> list[str]:
    """TensorFlow's words: sm_86 is compiled code, compute_90 PTX with it."""
    words = []
    for text in capabilities:
        kind = "compute" if text.endswith("+PTX") else "sm"
        words.append(f"{kind}_{text.removesuffix('+PTX').replace('.', '')}")
    return words


def _python_line(selector: str, python: str) -> str:
    for name in ("HERMETIC_PYTHON_VERSION", "TF_PYTHON_VERSION"):
        if f"{name}=" in selector:
            return f"--repo_env={name}={python}"
    return f"Python {python}" if selector else ""


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
