"""Which of the target's compilers builds a release."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from provision.model.build import Compiler
from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Objection
from provision.model.recipes import CompilerLimit, SourceRecipe
from provision.model.request import Request
from provision.model.versions import Dotted, numbers

Family = Literal["gcc", "clang"]
NAMES = {"gcc": "GCC", "clang": "Clang"}
USUAL = {"gcc": "/usr/bin/gcc", "clang": "/usr/bin/clang"}
"""Where a compiler lies that nobody has looked for yet; the preflight then says whether it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A compiler, or why there is none. ``compiler`` None without an objection: the build brings its own."""

    compiler: Compiler | None
    reason: str = ""
    objection: Objection | None = None
    assumed: bool = False
    """Nobody has looked which compilers the host has."""


def choose(recipe: SourceRecipe, device: str, facts: Facts, request: Request, catalog: Catalog) -> Choice:
    """The compiler for ``recipe`` on the target, as asked or as the release's row would have it."""
    limits = limits_of(recipe, device, catalog)
    if request.compiler is None and recipe.hermetic_compiler:
        text = f"the release downloads its own compiler ({recipe.compiler}); --compiler takes one of this host instead"
        return Choice(compiler=None, reason=text)
    if not facts.system.compilers:
        return _assumed(recipe, request)
    asked = [each for each in facts.system.compilers if request.compiler is None or is_asked(each, request.compiler)]
    fitting = [each for each in asked if not _misfit(each, limits)]
    if not asked and request.compiler is not None and request.compiler.startswith("/"):
        return _unlisted(request.compiler)
    if not fitting:
        return Choice(compiler=None, objection=_none_fits(asked, limits, recipe, facts, request))
    best = min(fitting, key=lambda each: _distance(each, recipe))
    if request.compiler is not None:
        return Choice(compiler=best, reason=f"{best} ({best.path}), because --compiler {request.compiler} asks for it")
    others = [str(each) for each in facts.system.compilers if each != best]
    beside = f"; also here: {', '.join(others)}" if others else ""
    near = f", the nearest here to {recipe.compiler}, which the release was built with" if recipe.compiler else ""
    return Choice(compiler=best, reason=f"{best} ({best.path}){near}{beside}")


def is_asked(compiler: Compiler, text: str) -> bool:
    """Whether ``text`` ("gcc", "clang-16", "gcc-12.2", "/usr/bin/gcc-12") names ``compiler``."""
    if text.startswith("/"):
        return text == compiler.path
    family, _, version = text.partition("-")
    wanted = numbers(version) if version else ()
    return family == compiler.family and (not wanted or numbers(compiler.version)[: len(wanted)] == wanted)


def limits_of(recipe: SourceRecipe, device: str, catalog: Catalog) -> tuple[CompilerLimit, ...]:
    """Those of the release, and for CUDA the newest GCC that nvcc takes as its host compiler."""
    row = next((row for row in catalog.cuda if recipe.cuda and row.version == _two(recipe.cuda)), None)
    if device != "cuda" or row is None or not row.gcc_max or recipe.hermetic_compiler:
        return recipe.limits
    below = str(int(row.gcc_max) + 1)
    why = f"CUDA {row.version} takes GCC up to {row.gcc_max} as its host compiler"
    return (*recipe.limits, CompilerLimit(family="gcc", oldest=None, below=below, why=why))


def wanted_text(limits: tuple[CompilerLimit, ...], families: tuple[str, ...] = ("gcc", "clang")) -> str:
    """ "GCC 9.3.1 or newer and older than 13, or Clang older than 17"."""
    return ", or ".join(_bounds(family, limits) for family in families)


def _bounds(family: str, limits: tuple[CompilerLimit, ...]) -> str:
    rows = [limit for limit in limits if limit.family == family]
    oldest = max((row.oldest for row in rows if row.oldest), key=Dotted, default=None)
    below = min((row.below for row in rows if row.below), key=Dotted, default=None)
    parts = [f"{oldest} or newer" if oldest else "", f"older than {below}" if below else ""]
    return f"{NAMES[family]} {' and '.join(part for part in parts if part) or 'of any version'}"


def _misfit(compiler: Compiler, limits: tuple[CompilerLimit, ...]) -> CompilerLimit | None:
    for limit in limits:
        if limit.family != compiler.family or not compiler.version:
            continue
        if limit.oldest and Dotted(compiler.version) < Dotted(limit.oldest):
            return limit
        if limit.below and Dotted(compiler.version) >= Dotted(limit.below):
            return limit
    return None


def _distance(compiler: Compiler, recipe: SourceRecipe) -> tuple[object, ...]:
    """Smaller is nearer to what the release was built with; the path decides between equals."""
    family, version = known(recipe.compiler)
    here = Dotted(compiler.version)
    if compiler.family != family or version is None:
        return (compiler.family != family, 0, _newest_first(here), compiler.path)
    return (False, abs(here.major - Dotted(version).major), _newest_first(here), compiler.path)


def _newest_first(version: Dotted) -> tuple[int, ...]:
    return tuple(-part for part in version.key)


def known(text: str | None) -> tuple[Family, str | None]:
    """ "Ubuntu Clang 18.1.8" is ("clang", "18.1.8"); GCC where no compiler is named."""
    match = re.search(r"(?i)(clang|gcc)\D{0,3}(\d+(?:\.\d+)*)?", text or "")
    if match is None:
        return "gcc", None
    return ("clang" if match[1].lower() == "clang" else "gcc"), match[2]


def _assumed(recipe: SourceRecipe, request: Request) -> Choice:
    asked = request.compiler or known(recipe.compiler)[0]
    if request.compiler is None and recipe.engine != "bazel":
        asked = "gcc"
    compiler = _unlisted(asked).compiler
    text = (
        f"which compilers this host has is not known (none was found on PATH, or nobody looked): planned for "
        f"{compiler and compiler.path}, {wanted_text(recipe.limits)}; the preflight looks before anything is built"
    )
    return Choice(compiler=compiler, reason=text, assumed=True)


def _unlisted(text: str) -> Choice:
    """A compiler whose version nobody asked it yet."""
    family: Family = "clang" if "clang" in text.rsplit("/", 1)[-1] else "gcc"
    path = text if text.startswith("/") else f"{USUAL[family]}{text[len(family) :]}"
    compiler = Compiler(family=family, version="", path=path)
    return Choice(compiler=compiler, reason=f"{path}, because --compiler {text} asks for it", assumed=True)


def _none_fits(
    asked: list[Compiler], limits: tuple[CompilerLimit, ...], recipe: SourceRecipe, facts: Facts, request: Request
) -> Objection:
    if request.compiler is not None and not asked:
        here = ", ".join(f"{each} ({each.path})" for each in facts.system.compilers)
        return Objection(
            what=f"--compiler {request.compiler} is not on this host",
            why=f"it has {here}",
            hint=apt_hint(_family(request.compiler), request.compiler.partition("-")[2] or None),
        )
    broken = {each: misfit for each in asked if (misfit := _misfit(each, limits))}
    found = "; ".join(f"{each} ({each.path}) does not fit: {misfit.why}" for each, misfit in broken.items())
    family, version = known(recipe.compiler)
    return Objection(
        what="no compiler here builds it",
        why=f"wanted: {wanted_text(limits)}; found: {found}",
        hint=apt_hint(family, _packaged(family, version, limits)),
    )


def _packaged(family: str, version: str | None, limits: tuple[CompilerLimit, ...]) -> str | None:
    """The newest major that the limits allow, else the release's own."""
    below = min((row.below for row in limits if row.family == family and row.below), key=Dotted, default=None)
    return str(Dotted(below).major - 1) if below else version


def apt_hint(family: str, version: str | None) -> str:
    """How Debian and Ubuntu bring it."""
    suffix = f"-{Dotted(version).major}" if version else ""
    packages = f"gcc{suffix} g++{suffix}" if family == "gcc" else f"clang{suffix}"
    return f"apt install {packages}; or name another with --compiler"


def _family(text: str) -> Family:
    return "clang" if "clang" in text else "gcc"


def _two(text: str) -> str:
    return ".".join(text.split(".")[:2])
