"""What carrying a plan out does, step by step, in an order that never changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from provision.model.facts import Facts
from provision.model.plan import Stack, Step
from provision.model.request import Request
from provision.resolve.candidates import system_pythons
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
CARRIED_OUT = frozenset({"python", "source_build", "environment", "verification", "comparison"})
"""Ids of the steps that a role carries out; `up` stops before any other."""
FAMILIES = {"rocky": "rhel", "almalinux": "rhel", "centos": "rhel", "fedora": "rhel", "linuxmint": "ubuntu"}


def steps(
    solution: Solution,
    stack: tuple[Stack, ...],
    build_lines: tuple[str, ...],
    comparison: str,
    facts: Facts,
    request: Request,
) -> tuple[Step, ...]:
    """``build_lines``: what the source builds are told; ``comparison``: what they are measured against, if anything."""
    found = (
        _driver(solution, facts),
        _toolkit("cuda_toolkit", "CUDA toolkit", solution, facts),
        _toolkit("cudnn", "cuDNN", solution, facts),
        _python(solution, facts),
        _source_build(stack, build_lines),
        _environment(stack, request),
        _verification(stack, request),
        _comparison(comparison, stack, request),
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
