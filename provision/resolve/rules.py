"""The rules: each looks at one thing and returns None or an objection. All of them are asked about every candidate.

A rule that lacks a fact does not object: unknown is not no. What it could not check is said by ``unknowns``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from provision.model.catalog import Catalog, CompilerFlag
from provision.model.facts import Facts
from provision.model.plan import Objection
from provision.model.request import Request
from provision.model.versions import Dotted
from provision.resolve.branches import drives
from provision.resolve.candidates import Candidate, driver_needed, jit_capabilities, pythons, system_pythons
from provision.resolve.copts import oldest_that_takes
from provision.resolve.driver import installation_problem, update_hint
from provision.resolve.targets import Target, box, capability, kernel, kinds, name_all, served_by, targets
from provision.resolve.told import Told
from provision.resolve.too_old import too_old_gpus, too_old_problem
from provision.resolve.unusable import unusable_problem

Rule = Callable[[Candidate, Facts, Request, Catalog], "Objection | None"]

NEXT_CPU = "--framework pytorch, whose wheels run on any x86-64 CPU"


def linux(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    system = facts.system.os.id
    if system in ("macos", "darwin", "windows", "freebsd"):
        return Objection(
            what="not a Linux machine",
            why=f"the catalog's builds are for Linux, and this is {system}",
            hint="plan for a Linux machine, or for a container",
        )
    if system == "alpine" and not candidate.source:
        return Objection(
            what="no wheel for musl",
            why="the wheels are linked against glibc, and Alpine has musl in its place",
            hint="use a distribution with glibc, in a container if need be",
        )
    return None


def machine(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    arch, has = facts.cpu.arch, candidate.build.archs
    if arch is None or not has or arch in has:
        return None
    return Objection(
        what=f"no wheel for {arch}",
        why=f"this build exists for {', '.join(has)}; this machine is {arch}",
        hint="build it from source with --origin source" if candidate.release.recipe else "",
    )


def glibc(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    needed, found = candidate.build.glibc or candidate.release.glibc, facts.system.glibc
    if candidate.source or not needed or not found or Dotted(found) >= Dotted(needed):
        return None
    return Objection(
        what="the C library is too old",
        why=f"the wheel needs glibc {needed} or newer; this host has {found}",
        hint=f"upgrade to a distribution with glibc {needed}, or use a container",
    )


def cpu_flags(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    if candidate.source or facts.cpu.arch is None or not facts.cpu.flags:
        return None
    missing = [flag for flag in candidate.release.cpu_flags.get(facts.cpu.arch, ()) if flag not in facts.cpu.flags]
    if not missing:
        return None
    hint = NEXT_CPU if candidate.framework != "pytorch" else "build it from source with --origin source"
    if facts.cpu.hypervisor:
        hint = f"the virtual machine may hide them: give its CPU the host's model. Otherwise {hint}"
    return Objection(
        what=f"this CPU lacks {', '.join(missing)}",
        why=f"the wheel was compiled with {', '.join(missing)} and stops with an illegal instruction without; "
        f"this CPU is {facts.cpu.model_name or 'of an unknown model'}{_level(facts)}",
        hint=hint,
    )


def _level(facts: Facts) -> str:
    return f" ({facts.cpu.level})" if facts.cpu.level else ""


def python(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    if pythons(candidate, facts, request):
        return None
    has = ", ".join(candidate.pythons) or "none"
    if request.python is not None:
        wanted = f"Python {request.python} was asked for"
    else:
        here = ", ".join(system_pythons(facts)) or "none of its own"
        wanted = f"this host has {here}, and uv brings 3.8 and newer"
    return Objection(
        what="no wheel for that Python" if not candidate.source else "not for that Python",
        why=f"this release is for Python {has}; {wanted}",
        hint="ask for another Python with --python, or leave it out",
    )


def gpu_present(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    if candidate.build.device != "cuda" or any(target.gpu for target in targets(facts, request)):
        return None
    asked = ", ".join(request.compute_capabilities)
    if facts.gpus and asked:
        return Objection(
            what=f"no GPU of compute capability {asked} here",
            why=f"this host has {name_all(box(facts))}",
            hint="leave --cuda-compute-capabilities out, or plan for another machine with --compute-capability",
        )
    return Objection(
        what="no NVIDIA GPU here",
        why="a CUDA build needs one, and none was found on this host",
        hint="--device cpu; or plan for another machine with --compute-capability and --driver-version",
    )


def gpu_known(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    if candidate.build.device != "cuda" or request.force:
        return None
    unknown = tuple(each for each in targets(facts, request) if each.capability is None)
    if not unknown:
        return None
    return Objection(
        what="a GPU that the catalog does not know",
        why=f"{name_all(unknown)}: whether this build has kernels for it cannot be told",
        hint="say what it is with --compute-capability, or take the nearest known-good with --force",
    )


def gpu_too_old(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    return too_old_problem(facts, request, catalog) if candidate.build.device == "cuda" else None


def gpu_lost(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    return unusable_problem("lost", facts, request) if candidate.build.device == "cuda" else None


def mig(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    return unusable_problem("mig", facts, request) if candidate.build.device == "cuda" else None


def bound_elsewhere(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """A card that is kept for a virtual machine is no card of this host."""
    return unusable_problem("reserved", facts, request) if candidate.build.device == "cuda" else None


def kernels(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """Every GPU needs compiled code of its major and no newer minor, or PTX of no newer capability."""
    build = candidate.build
    if build.device != "cuda" or candidate.source:
        return None
    known = tuple(each for each in targets(facts, request) if each.capability is not None)
    if not build.kernels:
        return _kernels_unknown(candidate, request) if known else None
    without = tuple(
        each for each in known if each.capability and not served_by(build.kernels, each.capability, catalog)
    )
    if not without or set(without) <= set(too_old_gpus(facts, request, catalog)):
        return None  # what is too old for all is said by gpu_too_old
    return Objection(
        what=f"no kernels for {name_all(without)}",
        why=f"the build has {' '.join(build.kernels)}",
        hint=_leave_out(known, without, build.kernels),
    )


def _kernels_unknown(candidate: Candidate, request: Request) -> Objection | None:
    named = any(each.framework == candidate.framework and "==" in each.specifier for each in request.frameworks)
    if request.force or named:
        return None
    return Objection(
        what="its kernels are not known",
        why="nobody has read yet for which GPUs this build is compiled",
        hint=f"take it all the same with --force or --framework {candidate.framework}=={candidate.release.version}",
    )


def _leave_out(known: tuple[Target, ...], without: tuple[Target, ...], kernels: tuple[str, ...]) -> str:
    served = sorted({each.capability for each in known if each.capability} - {each.capability for each in without})
    if not served:
        oldest = min((entry.capability for entry in map(kernel, kernels) if entry), default=None)
        older = oldest is not None and all(each.capability and each.capability < oldest for each in without)
        which = "an older release may still have them" if older else "another release may have them"
        return f"{which}; otherwise build it from source, or use --device cpu"
    caps = ",".join(str(each) for each in served)
    return f"leave the other GPU unused with --cuda-compute-capabilities {caps}"


def source_kernels(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """A source build compiles what its CUDA's compiler can."""
    build = candidate.build
    if build.device != "cuda" or not candidate.source or build.cuda is None:
        return None
    row = next((row for row in catalog.cuda if build.cuda.split(".")[:2] == row.version.split(".")[:2]), None)
    if row is None:
        return None
    able = {capability(text) for text in row.capabilities}
    without = tuple(each for each in targets(facts, request) if each.capability and each.capability not in able)
    if not without or set(without) <= set(too_old_gpus(facts, request, catalog)):
        return None  # what is too old for all is said by gpu_too_old
    return Objection(
        what=f"CUDA {row.version} cannot compile for {name_all(without)}",
        why=f"its compiler takes {', '.join(row.capabilities)}",
        hint="--device cpu builds without CUDA",
    )


def driver_works(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    if candidate.build.device != "cuda" or facts.driver.state == "working" or not targets(facts, request):
        return None
    return installation_problem(facts, request, catalog) or Objection(
        what="no working NVIDIA driver",
        why=f"the driver is {facts.driver.state}: {facts.driver.detail}",
        hint="--driver newest installs one",
    )


def driver_floor(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """Enough under minor-version compatibility where the kernels are compiled; PTX needs the CUDA release's own."""
    found = facts.driver.version
    if candidate.build.device != "cuda" or facts.driver.state != "working" or found is None:
        return None
    needed = driver_needed(candidate, facts, request, catalog)
    if needed is None or Dotted(found) >= Dotted(needed):
        return None
    if too_old_gpus(facts, request, catalog) == targets(facts, request):
        return None  # no driver would help
    jit = jit_capabilities(candidate, facts, request, catalog)
    for_what = f"CUDA {candidate.build.cuda}"
    if jit:
        for_what += f", whose PTX it must compile for compute capability {', '.join(map(str, jit))}"
    return Objection(
        what=f"needs NVIDIA driver {needed} or newer",
        why=f"it is built for {for_what}; this host runs driver {found}",
        hint=update_hint(needed, facts, request, catalog),
    )


def driver_drives(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """A driver that is too new for a card installs cleanly and ignores the card."""
    found = facts.driver.version
    if candidate.build.device != "cuda" or facts.driver.state != "working" or found is None:
        return None
    without = tuple(each for each in kinds(targets(facts, request)) if not drives(found, each, catalog))
    if not without:
        return None
    return Objection(
        what=f"driver {found} does not drive {name_all(without)}",
        why="its branch is too new or too old for that chip",
        hint="--driver newest takes the newest branch that drives every GPU here",
    )


def cpu_target(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """Flags that were asked for by name must be here. A level or a microarchitecture that this CPU is not is built all
    the same, for another machine."""
    if not candidate.source or not facts.cpu.flags:
        return None
    told = Told(candidate=candidate, facts=facts, request=request, catalog=catalog)
    if not told.target.listed and request.cpu != "fleet":
        return None
    known = {row.flag: row for row in catalog.compiler_flags if row.arch == facts.cpu.arch}
    wanted = {flag for flag in told.target.flags or () if flag in known}
    missing = sorted(wanted - set(facts.cpu.flags))
    if not missing:
        return None
    rest = ",".join(flag for flag in request.cpu.split(",") if _flag(flag, known) not in missing)
    return Objection(
        what=f"this CPU lacks {', '.join(missing)}",
        why=f"--cpu {request.cpu} asks for it, and the build would stop with an illegal instruction here",
        hint=f"--cpu {rest if rest and told.target.listed else 'native'}; or name the machine that it is for "
        "(--cpu zen4), and it is built and not run here",
    )


def _flag(word: str, known: Mapping[str, CompilerFlag]) -> str:
    """The flag that a word of ``--cpu`` means: "avx2", "-mavx2"."""
    return next((flag for flag, row in known.items() if word.strip() in (flag, row.option)), word.strip())


def compiler(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    if not candidate.source:
        return None
    return Told(candidate=candidate, facts=facts, request=request, catalog=catalog).choice.objection


def compiler_flags(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> Objection | None:
    """An option that was asked for by name is not left out because the compiler is too old for it."""
    if not candidate.source:
        return None
    told = Told(candidate=candidate, facts=facts, request=request, catalog=catalog)
    if not told.target.listed or told.choice.objection is not None or not told.left_out:
        return None
    words = [f"{row.option} ({oldest_that_takes(told.compiler_text, row)})" for row in told.left_out]
    flags = ", ".join(row.flag for row in told.left_out)
    return Objection(
        what=f"{told.compiler_text} is too old for {flags}",
        why=f"it does not take {', '.join(words)}",
        hint=f"drop {flags} from --cpu, or name a newer compiler with --compiler",
    )


RULES: tuple[Rule, ...] = (
    linux,
    machine,
    glibc,
    cpu_flags,
    python,
    gpu_present,
    gpu_known,
    gpu_too_old,
    gpu_lost,
    mig,
    bound_elsewhere,
    kernels,
    source_kernels,
    driver_works,
    driver_floor,
    driver_drives,
    cpu_target,
    compiler,
    compiler_flags,
)
BOX_RULES: tuple[Rule, ...] = (linux, gpu_present, gpu_known, gpu_too_old, gpu_lost, mig, bound_elsewhere, driver_works)
"""Rules that look at the box: what they say of one candidate they mostly say of all."""
DRIVER_RULES: tuple[Rule, ...] = (driver_works, driver_floor)
"""Rules that another driver would satisfy."""


def failing(
    candidate: Candidate, facts: Facts, request: Request, catalog: Catalog
) -> tuple[tuple[Rule, Objection], ...]:
    """Every rule that objects, with its objection; one that two rules have is the first one's."""
    found: dict[Objection, Rule] = {}
    for rule in RULES:
        objection = rule(candidate, facts, request, catalog)
        if objection is not None:
            found.setdefault(objection, rule)
    return tuple((rule, objection) for objection, rule in found.items())
