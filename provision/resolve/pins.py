"""Requirements that are added because a package's own metadata lets in what breaks, and how requirements collide."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from provision.model.catalog import Catalog, Pin
from provision.model.facts import Facts
from provision.model.request import Request
from provision.model.versions import numbers
from provision.resolve.candidates import Candidate
from provision.resolve.targets import capability, targets


def pins(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> tuple[Pin, ...]:
    """The catalog's rows that hold here."""
    return tuple(pin for pin in catalog.pins if _holds(pin, candidate, facts, request))


def _holds(pin: Pin, candidate: Candidate, facts: Facts, request: Request) -> bool:
    if pin.frameworks and candidate.framework not in pin.frameworks:
        return False
    if candidate.source and _parsed(pin.requirement)[0] == candidate.framework:
        return False  # the pin is about the wheel, and this is compiled for the CPU at hand
    if pin.cuda_major is not None and cuda_major(candidate) != pin.cuda_major:
        return False
    if pin.below_level is not None and not (facts.cpu.level and facts.cpu.level < pin.below_level):
        return False
    limit = capability(pin.below_compute_capability)
    if limit is not None:
        return any(target.capability and target.capability < limit for target in targets(facts, request))
    return True


def cuda_major(candidate: Candidate) -> int | None:
    cuda = candidate.build.cuda
    return int(cuda.split(".")[0]) if cuda and candidate.build.device == "cuda" else None


def requirements(candidate: Candidate, facts: Facts, request: Request, catalog: Catalog) -> tuple[str, ...]:
    """What the environment installs for the candidate: the build's lines, the release's pins, the catalog's."""
    build, rows = candidate.build, pins(candidate, facts, request, catalog)
    mkl = ("mkl",) if candidate.source and candidate.framework == "numpy" and request.blas == "mkl" else ()
    lines = (*build.requirements, *candidate.release.pins, *(pin.requirement for pin in rows), *mkl)
    return tuple(dict.fromkeys(lines))


def collision(lines: Iterable[str]) -> str | None:
    """A package for which no version satisfies all of ``lines``, as "numpy (<2 and >=2.1)"; None where there is none.

    Only what the lines themselves say: uv's lock is the judge of the rest.
    """
    by_name: dict[str, list[str]] = {}
    for line in lines:
        name, specifier = _parsed(line)
        if specifier:
            by_name.setdefault(name, []).append(specifier)
    for name, found in by_name.items():
        if len(set(found)) > 1 and not _possible(tuple(sorted(set(found)))):
            return f"{name} ({' and '.join(dict.fromkeys(found))})"
    return None


def keras_mismatch(chosen: Iterable[Candidate]) -> str | None:
    """Keras 2 is TensorFlow's own, of the same series; TensorFlow from 2.16 on, and other backends, take Keras 3.

    (PyPI METADATA of tensorflow 2.6 to 2.21: keras<2.16,>=2.15.0 up to 2.15, keras>=3 after.)
    """
    found = {each.framework: each.release.series for each in chosen}
    keras, backend = found.get("keras"), found.get("tensorflow")
    if keras is None:
        return None
    own = _series(keras) < (3,)
    if backend is None:
        return f"Keras {keras} trains on TensorFlow only" if own and len(found) > 1 else None
    if _series(backend) < (2, 16) and keras != backend:
        return f"TensorFlow {backend} brings Keras {backend}, not {keras}"
    if _series(backend) >= (2, 16) and own:
        return f"TensorFlow {backend} needs Keras 3, not {keras}"
    return None


def _series(text: str) -> tuple[int, ...]:
    return numbers(text)[:2]


@lru_cache(maxsize=1024)
def _parsed(line: str) -> tuple[str, str]:
    """(name, specifier); a line with a marker holds for some Pythons only and is left to uv."""
    found = Requirement(line)
    return found.name.lower().replace("_", "-"), "" if found.marker else str(found.specifier)


@lru_cache(maxsize=1024)
def _possible(found: tuple[str, ...]) -> bool:
    """Whether ranges overlap: if they do, then at a bound, just above one, or below all of them."""
    sets = [SpecifierSet(text) for text in found]
    bounds = [Version(clause.version.removesuffix(".*")) for each in sets for clause in each]
    points = [
        Version("0"),
        *bounds,
        *(Version(f"{bound.public}.0.0.1") for bound in bounds if not bound.is_postrelease),
    ]
    return any(all(each.contains(point, prereleases=True) for each in sets) for point in points)
