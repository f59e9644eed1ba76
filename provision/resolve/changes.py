"""What would have to change on the host to allow a newer release than the one that was chosen."""

from __future__ import annotations

from collections.abc import Iterator

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Reason
from provision.model.request import Request
from provision.model.versions import Dotted
from provision.resolve import rules
from provision.resolve.candidates import driver_needed
from provision.resolve.driver import serving
from provision.resolve.solve import Judged, Solution


def changes(solution: Solution, request: Request, catalog: Catalog) -> tuple[Reason, ...]:
    """One line a framework: what would allow its newest release that this host could be made fit for."""
    found = []
    for judged, row in zip(solution.chosen, solution.judged, strict=True):
        for better in row[: row.index(judged)]:
            if better.candidate.release.version == judged.candidate.release.version or not better.objections:
                continue
            needs = list(_needs(better, solution.driver.facts, request, catalog))
            if len(needs) == len({rule for rule, _ in better.objections}):
                found.append(
                    Reason(
                        rule="change",
                        text=f"{' and '.join(needs)} would allow {better.candidate}{_how(better, request)}",
                        source=better.candidate.build.source[0] if better.candidate.build.source else "",
                    )
                )
                break
    return tuple(found)


def _needs(better: Judged, facts: Facts, request: Request, catalog: Catalog) -> Iterator[str]:
    """A phrase for every rule that something outside the catalog can satisfy; fewer than the objections otherwise."""
    for rule in {rule: None for rule, _ in better.objections}:
        candidate = better.candidate
        if rule in rules.DRIVER_RULES:
            needed = driver_needed(candidate, facts, request, catalog)
            if needed and _can_have(needed, facts, request, catalog):
                yield f"NVIDIA driver {needed} or newer"
        elif rule is rules.glibc:
            yield f"glibc {candidate.build.glibc or candidate.release.glibc} or newer"
        elif rule is rules.python and request.python is not None:
            yield f"another Python ({', '.join(candidate.pythons)})"


def _can_have(needed: str, facts: Facts, request: Request, catalog: Catalog) -> bool:
    """Whether some branch that drives every GPU here has a release that new."""
    seen = (row.newest_seen for row in serving(facts, request, catalog))
    return any(version and Dotted(version) >= Dotted(needed) for version in seen)


def _how(better: Judged, request: Request) -> str:
    driver = any(rule in rules.DRIVER_RULES for rule, _ in better.objections)
    return " (--driver newest)" if driver and request.driver == "keep" else ""
