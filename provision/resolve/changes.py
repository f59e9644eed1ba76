"""What would have to change on the host to allow a newer release than the one that was chosen."""

from __future__ import annotations

from collections.abc import Iterator

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Reason
from provision.model.request import Request
from provision.resolve import rules
from provision.resolve.candidates import driver_needed
from provision.resolve.driver import installation_problem, reachable
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
                how = _how(better, solution.driver.facts, request, catalog)
                text = f"{' and '.join(needs)} would allow {better.candidate}{how}"
                source = better.candidate.build.source
                found.append(Reason(rule="change", text=text, source=source[0] if source else ""))
                break
    return tuple(found)


def _needs(better: Judged, facts: Facts, request: Request, catalog: Catalog) -> Iterator[str]:
    """A phrase for every rule that something outside the catalog can satisfy; fewer than the objections otherwise."""
    for rule in {rule: None for rule, _ in better.objections}:
        candidate = better.candidate
        if rule in rules.DRIVER_RULES:
            needed = driver_needed(candidate, facts, request, catalog)
            if needed and reachable(needed, facts, request, catalog):
                yield f"NVIDIA driver {needed} or newer"
        elif rule is rules.glibc:
            yield f"glibc {candidate.build.glibc or candidate.release.glibc} or newer"
        elif rule is rules.python and request.python is not None:
            yield f"another Python ({', '.join(candidate.pythons)})"


def _how(better: Judged, facts: Facts, request: Request, catalog: Catalog) -> str:
    driver = any(rule in rules.DRIVER_RULES for rule, _ in better.objections)
    ours = driver and request.driver == "keep" and installation_problem(facts, request, catalog) is None
    return " (--driver newest)" if ours else ""
