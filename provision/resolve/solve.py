"""The choice: the best candidate of every framework asked for, with one Python and one CUDA between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from provision.errors import Explanation, NoStackFits
from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Objection
from provision.model.request import Request, Wanted
from provision.resolve.candidates import Candidate, candidates, has_cuda, pythons, system_pythons
from provision.resolve.driver import DriverOption, driver_conflict, options
from provision.resolve.pins import collision, cuda_major, keras_mismatch, requirements
from provision.resolve.rules import BOX_RULES, Rule, failing
from provision.resolve.targets import box, name_all, targets

BACKENDS = ("tensorflow", "pytorch", "jax")
"""What Keras trains on; TensorFlow where none was asked for."""
SHOWN = 6
"""Kinds of rejection that an error shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A candidate with every objection to it, and what it would install."""

    candidate: Candidate
    objections: tuple[tuple[Rule, Objection], ...]
    pythons: tuple[str, ...]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    driver: DriverOption
    chosen: tuple[Judged, ...]
    python: str
    judged: tuple[tuple[Judged, ...], ...]
    """Per framework, best first."""
    gpus_left_out: bool = False
    """The box has GPUs and the solution does not use them, though nobody asked for the CPU."""


def wanted_of(request: Request) -> tuple[Wanted, ...]:
    """The frameworks asked for, and TensorFlow for a Keras that has nothing to train on."""
    names = {wanted.framework for wanted in request.frameworks}
    if "keras" in names and not names & set(BACKENDS):
        return (*request.frameworks, Wanted(framework="tensorflow"))
    return request.frameworks


def solve(facts: Facts, request: Request, catalog: Catalog) -> Solution:
    """Raises NoStackFits with every objection where nothing fits."""
    tries = Tries(options(facts, request, catalog), request, catalog)
    able = tuple(has_cuda(each.framework, catalog) for each in wanted_of(request))
    wants_gpu = request.device != "cpu" and any(able) and bool(facts.gpus or request.device == "cuda")
    if wants_gpu:
        found = _on_gpus(tries, able, _may_build(request))
        if found is not None:
            return found
        _refuse_cpu(tries, facts, request, catalog)
    option, judged = tries.first
    found = _best(option, judged, (_cpu_wheel,) * len(judged))
    if found is None and wants_gpu:  # something is built from source anyway, so for the GPU
        found = _on_gpus(tries, able, _on_cuda)
        if found is not None:
            return found
    found = found or _best(option, judged, (_on_cpu,) * len(judged))
    if found is None:
        raise _nothing_fits(judged, request)
    return replace(found, gpus_left_out=wants_gpu)


def _may_build(request: Request) -> Fits:
    """Whether a source build may be taken only to use the GPU: not where an older or a CPU wheel would do and
    nobody asked for this release."""
    pinned = {each.framework for each in request.frameworks if "==" in each.specifier}
    asked = request.device == "cuda" or request.origin == "source"
    return lambda each: asked or not each.candidate.source or each.candidate.framework in pinned


def _on_cuda(each: Judged) -> bool:
    return each.candidate.build.device == "cuda"


def _on_cpu(each: Judged) -> bool:
    return each.candidate.build.device == "cpu"


def _cpu_wheel(each: Judged) -> bool:
    return _on_cpu(each) and not each.candidate.source


Rows = tuple[tuple["Judged", ...], ...]
Fits = Callable[["Judged"], bool]


class Tries:
    """The ways the driver could be, each with every candidate judged under it; judged when first looked at."""

    def __init__(self, ways: tuple[DriverOption, ...], request: Request, catalog: Catalog) -> None:
        self._ways, self._request, self._catalog = ways, request, catalog
        self._judged: list[Rows] = []

    def __iter__(self) -> Iterator[tuple[DriverOption, Rows]]:
        for number, option in enumerate(self._ways):
            if number == len(self._judged):
                asked = wanted_of(self._request)
                self._judged.append(tuple(_judge(each, option.facts, self._request, self._catalog) for each in asked))
            yield option, self._judged[number]

    @property
    def first(self) -> tuple[DriverOption, Rows]:
        return next(iter(self))


def _on_gpus(tries: Tries, able: tuple[bool, ...], may_take: Fits) -> Solution | None:
    """Every framework that can on CUDA, with the first driver that allows it; else those that can."""

    def on_cuda(each: Judged) -> bool:
        return _on_cuda(each) and may_take(each)

    def supported(each: Judged) -> bool:
        return on_cuda(each) and each.candidate.build.bundles_cuda and not each.candidate.source

    # A working driver is kept as long as a supported release runs on it. One that needs a CUDA of years ago in the
    # system is none: for it nobody keeps an old driver, unless nothing else is left.
    for on_gpu in (supported, on_cuda):
        for option, judged in tries:
            found = _best(option, judged, tuple(on_gpu if can else _on_cpu for can in able))
            if found is not None:
                return found
    for option, judged in tries:
        fits = tuple(on_cuda if any(on_cuda(e) and not e.objections for e in each) else _on_cpu for each in judged)
        found = _best(option, judged, fits) if on_cuda in fits else None
        if found is not None:
            return found
    return None


def _refuse_cpu(tries: Tries, facts: Facts, request: Request, catalog: Catalog) -> None:
    """Raise where the CPU would be a silent fallback: it was not wanted, or the GPUs are usable one by one."""
    judged = tries.first[1]
    if request.device == "cuda":
        raise _nothing_fits(judged, request)
    for _, rows in tries:
        if any(not each.objections and not each.candidate.source and _on_cuda(each) for row in rows for each in row):
            raise _nothing_fits(rows, request)
    conflict = driver_conflict(facts, request)
    if conflict is not None:
        raise NoStackFits(what=conflict.what, why=conflict.why, hint=conflict.hint)
    single = sorted({each.capability for each in targets(facts, request) if each.capability})
    if len(single) < 2:
        return
    usable = [each for each in single if _alone(str(each), facts, request, catalog)]
    if usable and shared(_cuda_only(judged)):
        raise _nothing_fits(_cuda_only(judged), request)
    if usable:
        raise NoStackFits(
            what="the GPUs of this box cannot be used together",
            why=f"it has {name_all(box(facts))}, and no build and driver serve them all",
            hint=f"leave the others unused with --cuda-compute-capabilities {usable[-1]}, or use --device cpu",
            details=_details(judged),
        )


def _cuda_only(judged: Rows) -> Rows:
    return tuple(tuple(each for each in row if _on_cuda(each)) for row in judged)


def _alone(capability: str, facts: Facts, request: Request, catalog: Catalog) -> bool:
    origin = "wheel" if request.origin == "auto" else request.origin
    asked = replace(request, device="cuda", origin=origin, compute_capabilities=(capability,))
    try:
        solve(facts, asked, catalog)
    except NoStackFits:
        return False
    return True


def _judge(wanted: Wanted, facts: Facts, request: Request, catalog: Catalog) -> tuple[Judged, ...]:
    return tuple(
        Judged(
            candidate=each,
            objections=failing(each, facts, request, catalog),
            pythons=pythons(each, facts, request),
            lines=requirements(each, facts, request, catalog),
        )
        for each in candidates(wanted, facts, request, catalog)
    )


def _best(option: DriverOption, judged: tuple[tuple[Judged, ...], ...], fits: tuple[Fits, ...]) -> Solution | None:
    """The combination that is best for the first framework, then for the second …; of equal ones that with the
    preferred Python."""
    survivors = [
        [(rank, each) for rank, each in enumerate(row) if not each.objections and fit(each)]
        for row, fit in zip(judged, fits, strict=True)
    ]
    best: tuple[tuple[int, ...], int] | None = None
    found: Solution | None = None
    for place, python in enumerate(_pythons(option.facts, survivors)):
        usable = [[(rank, each) for rank, each in row if python in each.pythons] for row in survivors]
        combination = next(_combinations(usable, ()), None) if all(usable) else None
        if combination is None:
            continue
        key = (tuple(rank for rank, _ in combination), place)
        if best is None or key < best:
            best = key
            chosen = tuple(each for _, each in combination)
            found = Solution(driver=option, chosen=chosen, python=python, judged=judged)
    return found


Ranked = tuple[int, Judged]


def _pythons(facts: Facts, survivors: list[list[Ranked]]) -> tuple[str, ...]:
    """Every Python that some survivor has, best first: the system's, then the newest."""
    found = {text for row in survivors for _, each in row for text in each.pythons}
    here = [text for text in system_pythons(facts) if text in found]
    return (*here, *sorted(found - set(here), key=lambda text: int(text.split(".")[1]), reverse=True))


def _combinations(rows: list[list[Ranked]], chosen: tuple[Ranked, ...]) -> Iterator[tuple[Ranked, ...]]:
    """Combinations without a clash, best first."""
    if not rows:
        yield chosen
        return
    for item in rows[0]:
        if clash((*(each for _, each in chosen), item[1])) is None:
            yield from _combinations(rows[1:], (*chosen, item))


def clash(judged: tuple[Judged, ...]) -> str | None:
    """Why these cannot share an environment: two CUDA majors write their cuDNN to one folder, and requirements may
    leave no version of a package."""
    majors = {cuda_major(each.candidate) for each in judged if each.candidate.build.bundles_cuda} - {None}
    if len(majors) > 1:
        return f"they bring CUDA {' and CUDA '.join(map(str, sorted(filter(None, majors))))}"
    if len(judged) < 2:
        return None
    return keras_mismatch(each.candidate for each in judged) or collision(
        line for each in judged for line in each.lines
    )


def _nothing_fits(judged: tuple[tuple[Judged, ...], ...], request: Request) -> NoStackFits:
    names = " and ".join(map(str, wanted_of(request)))
    empty = [str(wanted) for wanted, row in zip(wanted_of(request), judged, strict=True) if not row]
    if empty:
        return NoStackFits(
            what=f"nothing in the catalog is a {_words(request)}{empty[0]}",
            why="no release of it has such a build",
            hint="leave --origin or --device out",
        )
    common = shared(judged)
    if common:
        first, *others = (Explanation(what=each.what, why=each.why, hint=each.hint) for each in common)
        details = (*others, *_details(judged, common))
        return NoStackFits(what=first.what, why=first.why, hint=first.hint, details=details)
    alone = all(any(not each.objections for each in row) for row in judged)
    if alone and len(judged) > 1:
        firsts = tuple(next(each for each in row if not each.objections) for row in judged)
        why = clash(firsts) or "no Python has wheels of them all"
        return NoStackFits(
            what=f"no environment holds {names} together",
            why=f"each of them fits this host, but not with the others: {why}",
            hint="use two environments: `--framework A --name a`, then `--framework B --name b`; or --device cpu",
            details=_details(judged),
        )
    return NoStackFits(
        what=f"no {_words(request)}{names} in the catalog fits this host",
        why=_why(judged),
        hint=_hint(judged),
        details=_details(judged),
    )


def shared(judged: Rows) -> tuple[Objection, ...]:
    """What the box itself has against every candidate of some framework: it is said once, before all else."""
    found = []
    for row in judged:
        boxs = [[objection for rule, objection in each.objections if rule in BOX_RULES] for each in row]
        found += [each for each in boxs[0] if all(each in others for others in boxs)] if boxs else []
    return tuple(dict.fromkeys(found))


def _words(request: Request) -> str:
    device = "" if request.device == "auto" else f"{request.device.upper()} "
    return f"{device}{request.origin + ' of ' if request.origin != 'auto' else ''}"


def _why(judged: tuple[tuple[Judged, ...], ...]) -> str:
    count = sum(len(row) for row in judged)
    return (
        f"all {count} candidates were rejected; the nearest are below"
        if count > 1
        else "its one candidate was rejected"
    )


def _hint(judged: tuple[tuple[Judged, ...], ...]) -> str:
    """The hint of the objection that stands against most of them."""
    hints: dict[str, int] = {}
    for each in (each for row in judged for each in row):
        for _, objection in each.objections:
            if objection.hint:
                hints[objection.hint] = hints.get(objection.hint, 0) + 1
    return max(hints, key=lambda hint: hints[hint], default="")


def _details(judged: Rows, said: tuple[Objection, ...] = ()) -> tuple[Explanation, ...]:
    """Every objection to the candidates that are nearest to fitting, fewest objections first. Candidates with the
    same objections are told of once, under the best of them; ``said`` is not said again, and where it alone keeps
    some candidate from fitting, nothing more is."""
    left = [
        (tuple(objection for _, objection in each.objections if objection not in said), rank, each)
        for row in judged
        for rank, each in enumerate(row)
        if each.objections
    ]
    groups: dict[tuple[str, ...], tuple[tuple[Objection, ...], list[Judged]]] = {}
    for objections, _, each in sorted(left, key=lambda item: (len(item[0]), item[1])):
        groups.setdefault(tuple(each.what for each in objections), (objections, []))[1].append(each)
    if () in groups:
        return ()
    return tuple(
        Explanation(what=f"{_group_name(group)}: {objection.what}", why=objection.why, hint=objection.hint)
        for objections, group in list(groups.values())[:SHOWN]
        for objection in objections
    )


def _group_name(group: list[Judged]) -> str:
    return f"{group[0].candidate}{f' and {len(group) - 1} more' if len(group) > 1 else ''}"
