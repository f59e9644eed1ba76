"""Why this stack, in plain words: one sentence a rule, each with where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Reason
from provision.model.request import Request
from provision.resolve.candidates import driver_needed, jit_capabilities, system_pythons
from provision.resolve.driver_problems import GSP_FROM
from provision.resolve.fabric import SERVICE, fabric_reasons, joined_by_nvswitch
from provision.resolve.next_boot import next_boot_reasons
from provision.resolve.overrides import completed
from provision.resolve.packages import fabric_name, table_for
from provision.resolve.pins import pins
from provision.resolve.releases import version
from provision.resolve.rules import BOX_RULES
from provision.resolve.solve import Judged, Solution, wanted_of
from provision.resolve.targets import left_out, name_all, served_by, targets
from provision.resolve.unusable import unusable_reasons

MINOR_COMPATIBILITY = "docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
FASTER_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile")
"""What a build for this CPU could use beyond the wheel's own baseline."""
BUILT_ON = ("x86_64", "aarch64")
ONEDNN_ON = ("avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")
"""CPUs on which TensorFlow 2.9 and newer switches oneDNN on by itself (tensorflow/core/util/port.cc)."""


STATES = {
    "absent": "no NVIDIA driver is installed",
    "nouveau": "nouveau has the GPU, and CUDA needs NVIDIA's driver",
    "not_loaded": "an NVIDIA driver is installed and not loaded",
    "mismatch": "the loaded NVIDIA driver does not match its libraries",
    "no_library": "the NVIDIA driver is loaded and its library is missing",
    "no_devices": "the NVIDIA driver is loaded and finds no device",
    "failed": "the NVIDIA driver failed",
    "unknown": "whether there is an NVIDIA driver is not known",
}


def reasons(solution: Solution, read: Facts, facts: Facts, request: Request, catalog: Catalog) -> tuple[Reason, ...]:
    """``facts`` is ``read`` with what it implies, and without the GPUs that nothing can use."""
    found = [
        *_device(solution, read, facts, request),
        *_driver(solution, facts, request),
        *_fabric(solution, facts, catalog),
        *next_boot_reasons(facts, catalog, kept=solution.driver.action == "none"),
        *_frameworks(solution, facts, request, catalog),
        *_python(solution, facts, request),
        *_together(solution, request),
        *_unknown(solution, read),
    ]
    return tuple(dict.fromkeys(found))


def _device(solution: Solution, read: Facts, facts: Facts, request: Request) -> Iterator[Reason]:
    on_gpu = any(each.candidate.build.device == "cuda" for each in solution.chosen)
    if on_gpu:
        yield Reason(rule="device", text=f"CUDA, because this host has {name_all(targets(facts, request))}")
        yield from unusable_reasons(completed(read), facts)
        unused = left_out(facts, request)
        if unused:
            yield Reason(
                rule="device.unused",
                text=f"{name_all(unused)} stays unused: --cuda-compute-capabilities asks for others",
            )
        for judged, row in zip(solution.chosen, solution.judged, strict=True):
            nearest = _nearest_cuda((row,))
            if judged.candidate.build.device == "cpu" and nearest is not None:
                why = f"{nearest.candidate}: {nearest.objections[0][1].what}"
                yield Reason(
                    rule="device.left_out", text=f"{judged.candidate.framework} runs on the CPU all the same: {why}"
                )
    elif request.device == "cpu":
        yield Reason(rule="device", text="the CPU, because --device cpu asks for it")
    elif not facts.gpus:
        yield Reason(rule="device", text="the CPU, because no NVIDIA GPU was found on this host")
    elif solution.gpus_left_out:
        yield Reason(rule="device.left_out", text=_left_out(solution, facts, request))


def _left_out(solution: Solution, facts: Facts, request: Request) -> str:
    nearest = _nearest_cuda(solution.judged)
    why = _why_not(nearest) if nearest else ""
    hint = f" ({nearest.objections[0][1].hint})" if nearest and nearest.objections[0][1].hint else ""
    return f"the CPU, though this host has {name_all(targets(facts, request))}, which nothing can use{why}{hint}"


def _why_not(nearest: Judged) -> str:
    rule, objection = nearest.objections[0]
    if rule in BOX_RULES:
        return f": {objection.what}; {objection.why}"
    return f": {nearest.candidate}: {objection.what}"


def _nearest_cuda(judged: tuple[tuple[Judged, ...], ...]) -> Judged | None:
    """The CUDA candidate that came nearest to fitting."""
    rejected = [each for row in judged for each in row if each.candidate.build.device == "cuda" and each.objections]
    return min(rejected, key=lambda each: (len(each.objections), each.candidate.source), default=None)


def _driver(solution: Solution, facts: Facts, request: Request) -> Iterator[Reason]:
    driver = solution.driver
    if all(each.candidate.build.device != "cuda" for each in solution.chosen):
        if request.driver != "keep":
            yield Reason(rule="driver", text=f"--driver {request.driver} changes nothing: the stack uses no GPU")
        return
    if driver.action == "none":
        version = driver.version or "of an unknown version"
        yield Reason(rule="driver.kept", text=f"NVIDIA driver {version} works and is kept: this stack runs on it")
        return
    module = _module(driver.module, facts, request)
    if driver.action == "upgrade":
        before = f"driver {facts.driver.version} works, but " + (
            f"--driver {request.driver} asks for another"
            if request.driver != "keep"
            else "no release in the catalog that fits otherwise runs on it"
        )
    else:
        detail = f" ({facts.driver.detail})" if facts.driver.detail else ""
        before = f"{STATES.get(facts.driver.state, facts.driver.state)}{detail}"
    why = "is the newest fit that drives every GPU here"
    if driver.kept:
        why = "is here already and drives every GPU here, so it is put right (--driver newest takes a newer one)"
    if driver.signed:
        why = (
            f"drives every GPU here; Secure Boot is on, and {facts.system.os.id} has signed modules of it, so that no "
            "key has to be enrolled at the console (--driver newest takes a newer one)"
        )
    yield Reason(
        rule="driver.chosen",
        text=f"{before}: branch {driver.branch} ({driver.version}) {why}, "
        f"with {module}. --device cpu does without a driver",
        source=driver.source,
    )
    if _lacks_headers(facts):
        yield Reason(
            rule="driver.headers",
            text=f"there is no nvidia module for the running kernel {facts.system.kernel}, and its headers are "
            "missing: a reboot does not help, installing them and building it does",
        )
    elif facts.driver.state in ("mismatch", "not_loaded", "failed"):
        yield Reason(
            rule="driver.reboot",
            text="a driver is installed already and may only need a reboot: try that first, then plan again",
        )


def _fabric(solution: Solution, facts: Facts, catalog: Catalog) -> Iterator[Reason]:
    driver = solution.driver
    if not joined_by_nvswitch(facts) or all(each.candidate.build.device != "cuda" for each in solution.chosen):
        return
    table = table_for("nvidia_driver", facts, catalog)
    name = fabric_name(table, facts, driver.branch, driver.module or "open") if table and driver.branch else SERVICE
    yield from fabric_reasons(facts, table.manager if table else "apt", name, kept=driver.action == "none")


def _lacks_headers(facts: Facts) -> bool:
    """Whether DKMS could not build the module of a driver that is here."""
    found = facts.nvidia
    if found is None or found.headers is not False or not found.dkms:
        return False
    kernels = {each.kernel for each in found.dkms} | {found.module.kernel if found.module else None}
    return facts.driver.state != "working" and facts.system.kernel not in kernels


def _module(module: str | None, facts: Facts, request: Request) -> str:
    if request.driver_module != "auto":
        return f"the {module} kernel module, because --driver-module asks for it"
    if module == "open":
        return "the open kernel modules, the default from branch 560 on and the only ones for Blackwell"
    if any(each.capability and each.capability < GSP_FROM for each in targets(facts, request)):
        return "the proprietary kernel module: GPUs before Turing have no GSP, which the open ones need"
    return "the proprietary kernel module, the default before branch 560"


def _frameworks(solution: Solution, facts: Facts, request: Request, catalog: Catalog) -> Iterator[Reason]:
    for judged, row in zip(solution.chosen, solution.judged, strict=True):
        yield from _release(judged, row)
        if judged.candidate.build.device == "cuda":
            yield from _kernels(judged, solution.driver.facts, request, catalog)
        yield from _origin(judged, row, facts, request)
        yield from _pinned(judged, solution.driver.facts, request, catalog)
        yield from _faults(judged, facts)
        if judged.candidate.release.version not in {
            point for known in catalog.of(judged.candidate.framework) for point in known.points
        }:
            yield Reason(
                rule="release.unlisted",
                text=f"{judged.candidate.framework} {judged.candidate.release.version} is not in the catalog; it is "
                "planned like its nearest neighbour because of --force",
            )


def _release(judged: Judged, row: tuple[Judged, ...]) -> Iterator[Reason]:
    candidate = judged.candidate
    same = [each for each in row if each.candidate.build.device == candidate.build.device]
    newer = [each for each in same if version(each.candidate.release.version) > version(candidate.release.version)]
    versions = list(dict.fromkeys(each.candidate.release.version for each in newer if each.objections))
    text = f"{candidate} is the newest that fits"
    if versions:
        objection = next(each.objections[0][1] for each in newer if each.objections)
        text += f"; newer ones ({', '.join(versions[:3])}{' …' if versions[3:] else ''}) do not: {objection.what}"
    rivals = [
        each
        for each in same
        if each.candidate.release == candidate.release and not each.objections and not each.candidate.source
    ]
    if len(rivals) > 1:
        others = ", ".join(each.candidate.build.name for each in rivals if each != judged)
        text += (
            f". Of its builds ({candidate.build.name}, {others}) compiled kernels come before PTX, "
            "what was read out of a wheel before what a page says, then the newest CUDA"
        )
    yield Reason(rule="release", text=text, source=_first(candidate.release.source))


def _kernels(judged: Judged, facts: Facts, request: Request, catalog: Catalog) -> Iterator[Reason]:
    candidate, build = judged.candidate, judged.candidate.build
    found = [each for each in targets(facts, request) if each.capability]
    if build.kernels:
        served = {
            str(each.capability): served_by(build.kernels, each.capability, catalog)
            for each in found
            if each.capability
        }
        parts = [f"{kernel.text} for {capability}" for capability, kernel in served.items() if kernel]
        yield Reason(
            rule="gpu.kernels",
            text=f"{candidate} has kernels for every GPU: {', '.join(parts)} (by {build.confidence})",
            source=_first(build.source),
        )
    elif not candidate.source:
        yield Reason(
            rule="unknown.kernels",
            text=f"for which GPUs {candidate} is compiled is not known; verification will tell",
            source=_first(build.source),
        )
    jit = jit_capabilities(candidate, facts, request, catalog)
    if jit:
        yield Reason(
            rule="gpu.ptx",
            text=f"for compute capability {', '.join(map(str, jit))} there is PTX only: the driver compiles it at "
            "first use, which can take many minutes once, and keeps it in ~/.nv/ComputeCache",
            source=MINOR_COMPATIBILITY,
        )
    needed = driver_needed(candidate, facts, request, catalog)
    if needed:
        yield Reason(
            rule="driver.floor",
            text=f"CUDA {build.cuda} needs driver {needed} or newer; {facts.driver.version or 'the one here'} is"
            + ("" if facts.driver.version else " of an unknown version"),
            source=MINOR_COMPATIBILITY,
        )
    if build.bundles_cuda and not candidate.source:
        yield Reason(
            rule="cuda.bundled",
            text=f"{candidate.framework} brings CUDA {build.cuda} and cuDNN as packages: no toolkit is installed, and "
            "LD_LIBRARY_PATH must stay unset, because it would put other libraries before them",
        )


def _origin(judged: Judged, row: tuple[Judged, ...], facts: Facts, request: Request) -> Iterator[Reason]:
    candidate = judged.candidate
    if candidate.source:
        device = candidate.build.device
        wheels = [each for each in row if not each.candidate.source and each.candidate.build.device == device]
        if request.origin == "source":
            why = "--origin source asks for it"
        elif not wheels:
            why = f"--cpu {request.cpu} asks for a build for exactly that CPU"
        elif not wheels[0].objections:
            why = "its wheels cannot share an environment with the other frameworks"
        else:
            why = f"no wheel runs here: {'; '.join(objection.what for _, objection in wheels[0].objections)}"
        yield Reason(rule="origin", text=f"{candidate.framework} is built from source, because {why}")
    elif candidate.release.recipe is not None:
        yield Reason(rule="origin", text=_why_wheel(judged, facts), source=_first(candidate.release.source))


def _why_wheel(judged: Judged, facts: Facts) -> str:
    release = judged.candidate.release
    start = f"the {release.framework} wheel and no source build"
    flags = [flag for flag in FASTER_FLAGS if flag in facts.cpu.flags]
    if not flags:
        return f"{start}: the wheel runs on this CPU, and no newer instructions are known to be there"
    return (
        f"{start}: {_dispatch(judged, facts)}. A source build for this CPU ({', '.join(flags)}) is worth it "
        "only where a measurement says so"
    )


def _dispatch(judged: Judged, facts: Facts) -> str:
    """What the wheel does at run time about instructions newer than its baseline."""
    release = judged.candidate.release
    if release.framework == "pytorch":
        return "it picks its AVX2 and AVX-512 kernels at run time"
    if release.framework == "numpy":
        return "it picks kernels for newer instructions at run time, and so does the OpenBLAS in it"
    if release.framework != "tensorflow":
        return "it compiles its kernels at run time, for the CPU that it finds"
    if _series(release.series) < (2, 5):
        return "it is compiled for AVX and has no oneDNN, so newer instructions lie idle"
    if _series(release.series) < (2, 9):
        return "oneDNN in it uses AVX2 and AVX-512 at run time once TF_ENABLE_ONEDNN_OPTS=1 is set"
    on = [flag for flag in ONEDNN_ON if flag in facts.cpu.flags]
    if on or facts.cpu.arch != "x86_64":
        by = f" ({', '.join(on)})" if on else ""
        return f"it already uses newer instructions at run time through oneDNN, which is on by default on this CPU{by}"
    return (
        "it can use AVX2 and AVX-512 at run time through oneDNN, which is off by default on this CPU: "
        "TF_ENABLE_ONEDNN_OPTS=1 turns it on"
    )


def _series(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _faults(judged: Judged, facts: Facts) -> Iterator[Reason]:
    """What the wheel cannot do on this CPU, though it runs here."""
    release = judged.candidate.release
    if judged.candidate.source or facts.cpu.arch != "x86_64" or not facts.cpu.flags:
        return
    for each in release.faults:
        lacking = [flag for flag in each.without if flag not in facts.cpu.flags]
        if lacking:
            yield Reason(
                rule="wheel.fault",
                text=f"this CPU lacks {', '.join(lacking)}: with the wheel of {release.framework} {release.version} "
                f"{each.text}. --origin source builds one without them",
                source=_first(each.source),
            )


def _pinned(judged: Judged, facts: Facts, request: Request, catalog: Catalog) -> Iterator[Reason]:
    for each in judged.candidate.release.pin_reasons:
        yield Reason(rule="pin", text=f"{each.requirement}: {each.why}", source=_first(each.source))
    for pin in pins(judged.candidate, facts, request, catalog):
        yield Reason(rule=f"pin.{pin.id}", text=f"{pin.requirement}: {pin.why}", source=_first(pin.source))


def _python(solution: Solution, facts: Facts, request: Request) -> Iterator[Reason]:
    here = system_pythons(facts)
    if request.python is not None:
        text = f"Python {solution.python}, because --python asks for it"
    elif solution.python in here:
        text = f"Python {solution.python}, the newest on this host that fits"
    else:
        other = f"this host has {', '.join(here)}, and the best release that fits is for another"
        text = f"Python {solution.python}, brought by uv: {other if here else 'none was found on this host'}"
    yield Reason(rule="python", text=text)


def _together(solution: Solution, request: Request) -> Iterator[Reason]:
    if len(wanted_of(request)) > len(request.frameworks):
        yield Reason(
            rule="keras.backend", text="TensorFlow is taken as well, because Keras needs something to train on"
        )
    if len(solution.chosen) > 1:
        yield Reason(
            rule="together",
            text="all of them share one environment: one Python, one major of CUDA, no requirements that collide",
        )


def _unknown(solution: Solution, facts: Facts) -> Iterator[Reason]:
    missing = []
    if any(each.candidate.source for each in solution.chosen) and facts.cpu.arch not in (None, *BUILT_ON):
        yield Reason(
            rule="unknown.machine",
            text=f"no source here says that it builds on {facts.cpu.arch}: the build may need patches",
        )
    if facts.driver.state == "unknown" and facts.driver.version and solution.driver.action == "none":
        missing.append(f"whether the loaded driver {facts.driver.version} works")
    if facts.cpu.arch is None:
        missing.append("the machine's architecture")
    if not facts.cpu.flags and any(each.candidate.release.cpu_flags for each in solution.chosen):
        missing.append("the CPU's flags")
    if facts.system.glibc is None:
        missing.append("glibc")
    on_gpu = any(each.candidate.build.device == "cuda" for each in solution.chosen)
    if on_gpu and solution.driver.version is None:
        missing.append("the driver's version")
    if missing:
        yield Reason(
            rule="unknown",
            text=f"not known of this host: {', '.join(missing)}. What depends on it is taken to fit: verify tells",
        )


def _first(source: tuple[str, ...]) -> str:
    return source[0] if source else ""
