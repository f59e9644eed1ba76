"""Facts, request and catalog to a plan."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from provision.model.build import Build, Needs
from provision.model.catalog import Catalog
from provision.model.data import to_data
from provision.model.facts import Facts
from provision.model.plan import Plan, Rejection, Stack, StackDriver
from provision.model.request import Request
from provision.resolve.build import builds, told_of
from provision.resolve.build_lines import build_lines
from provision.resolve.build_reasons import build_reasons, compared
from provision.resolve.candidates import Candidate, driver_needed, jit_capabilities
from provision.resolve.changes import changes
from provision.resolve.nvidia import nvidia_setup
from provision.resolve.overrides import completed
from provision.resolve.reasons import reasons
from provision.resolve.solve import Judged, Solution, solve
from provision.resolve.steps import steps
from provision.resolve.stock import stock_plan
from provision.resolve.targets import box, left_out, targets
from provision.resolve.unusable import without_unusable

BACKEND_NAMES = {"tensorflow": "tensorflow", "pytorch": "torch", "jax": "jax"}
"""What KERAS_BACKEND calls them."""
JIT_CACHE_BYTES = 4 * 1024**3
"""Room for the kernels that the driver compiles from PTX; they would be compiled again and again in the default."""


def plan_for(facts: Facts, request: Request, catalog: Catalog) -> Plan:
    """The plan for one host. Raises NoStackFits with every objection where nothing fits."""
    read, facts = facts, without_unusable(completed(facts), request)
    solution = solve(facts, request, catalog)
    environment = _environment(solution, request, catalog)
    told = told_of(solution, request, catalog)
    built = builds(told)
    stack = _devices(tuple(_stack(each, solution, environment, built, request, catalog) for each in solution.chosen))
    stock = stock_plan(solution, built, read, request, catalog, plan_for)
    setup = nvidia_setup(solution, facts, request, catalog)
    plan = Plan(
        host=facts.host,
        request=request,
        stack=stack,
        reasons=(
            *reasons(solution, read, facts, request, catalog),
            *build_reasons(told, stock, request),
            *changes(solution, request, catalog),
        ),
        rejected=tuple(
            Rejection(candidate=str(each.candidate), objections=tuple(objection for _, objection in each.objections))
            for row in solution.judged
            for each in row
            if each.objections
        ),
        steps=steps(solution, stack, build_lines(told, built), compared(stock, request), setup, facts, request),
        arch=facts.cpu.arch,
        glibc=facts.system.glibc,
        builds=built,
        stock=stock,
        nvidia=setup,
    )
    return replace(plan, fingerprint=fingerprint(plan))


def fingerprint(plan: Plan) -> str:
    """SHA-256 over what decides the environment's content: not over reasons, host or steps."""
    request = plan.request
    content: dict[str, Any] = {
        "name": request.name,
        "indexes": request.indexes,
        "find_links": request.find_links,
        "requirements": request.requirements,
        "stack": [
            {
                "requirements": each.requirements,
                "python": each.python,
                "index_url": each.index_url,
                "environment": dict(sorted(each.environment.items())),
                "source": [each.copts, each.compute_capabilities, each.compiler] if each.origin == "source" else None,
            }
            for each in plan.stack
        ],
    }
    if plan.builds:
        content["builds"] = [_identity(each) for each in plan.builds]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _identity(build: Build) -> str:
    """What makes it another wheel: not where the source or the compiler lies, not what the box must have, and not the
    words of a reason."""
    content = to_data(replace(build, needs=NO_NEEDS))
    content["copts"] = [copt.option for copt in build.copts]
    if build.source.sha256 is not None:
        content["source"] = {"sha256": build.source.sha256}
    text = json.dumps(content, sort_keys=True)
    return text.replace(build.compiler.path, "{compiler}") if build.compiler else text


NO_NEEDS = Needs(memory_mib_per_job=0, disk_mib=0, tmp_mib=0)


def _stack(
    judged: Judged,
    solution: Solution,
    environment: dict[str, str],
    built: tuple[Build, ...],
    request: Request,
    catalog: Catalog,
) -> Stack:
    candidate, facts = judged.candidate, solution.driver.facts
    build, recipe = candidate.build, candidate.release.recipe
    made = next((each for each in built if each.framework == candidate.framework and candidate.source), None)
    own = recipe.compiler if recipe and recipe.hermetic_compiler else None
    return Stack(
        framework=candidate.framework,
        version=candidate.release.version,
        origin="source" if candidate.source else "wheel",
        python=solution.python,
        device=build.device,
        build=build.name,
        index=build.name if build.index else None,
        index_url=build.index,
        requirements=judged.lines,
        cuda=build.cuda if build.device == "cuda" else None,
        cudnn=_cudnn(judged) if build.device == "cuda" else None,
        driver=_driver(candidate, solution, request, catalog),
        compute_capabilities=_capabilities(candidate, facts, request),
        copts=tuple(each.option for each in made.copts) if made else (),
        bazel=made.bazel.version if made and made.bazel else None,
        compiler=(str(made.compiler) if made.compiler else own) if made else None,
        environment=environment,
    )


def _cudnn(judged: Judged) -> str | None:
    """A pinned version says more than the build's own "9.3"."""
    for line in judged.lines:
        name, _, version = line.partition("==")
        if name.startswith("nvidia-cudnn-") and version:
            return version
    return judged.candidate.build.cudnn


def _driver(candidate: Candidate, solution: Solution, request: Request, catalog: Catalog) -> StackDriver | None:
    if candidate.build.device != "cuda":
        return None
    driver = solution.driver
    return StackDriver(
        minimum=driver_needed(candidate, driver.facts, request, catalog),
        branch=driver.branch,
        module=driver.module,
        action=driver.action,
    )


def _capabilities(candidate: Candidate, facts: Facts, request: Request) -> tuple[str, ...]:
    if candidate.build.device != "cuda":
        return ()
    if candidate.source and request.compute_capabilities:
        return request.compute_capabilities
    return tuple(str(each) for each in sorted({each.capability for each in targets(facts, request) if each.capability}))


def _environment(solution: Solution, request: Request, catalog: Catalog) -> dict[str, str]:
    """Variables that `activate` sets, for the whole environment."""
    facts, chosen = solution.driver.facts, [each.candidate for each in solution.chosen]
    found: dict[str, str] = {}
    names = [each.framework for each in chosen]
    if "keras" in names:
        found["KERAS_BACKEND"] = next(BACKEND_NAMES[name] for name in names if name in BACKEND_NAMES)
    if any(jit_capabilities(each, facts, request, catalog) for each in chosen):
        found["CUDA_CACHE_MAXSIZE"] = str(JIT_CACHE_BYTES)
    if any(each.build.device == "cuda" for each in chosen) and left_out(facts, request):
        found |= _visible(facts, request)
    return found


def _visible(facts: Facts, request: Request) -> dict[str, str]:
    """The GPUs to be used, by their place on the bus: CUDA's own order is by speed."""
    ordered = sorted(box(facts), key=lambda each: (each.gpu and each.gpu.pci_address) or "")
    used = targets(facts, request)
    places = [str(number) for number, each in enumerate(ordered) if each in used]
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(places)}


def _devices(stack: tuple[Stack, ...]) -> tuple[Stack, ...]:
    """Keras runs where its backend does."""
    backend = next((each for each in stack if each.framework in BACKEND_NAMES), None)
    if backend is None:
        return stack
    return tuple(
        replace(each, device=backend.device, driver=backend.driver, compute_capabilities=backend.compute_capabilities)
        if each.framework == "keras"
        else each
        for each in stack
    )
