"""What a request says about source builds: the source, the compiler, the BLAS, and which generation is kept."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast, get_args

from provision.errors import UsageError
from provision.model.build import Keep, Source
from provision.model.catalog import Catalog
from provision.model.request import Request, Wanted
from provision.model.versions import unfinished
from provision.resolve.candidates import has_recipe
from provision.resolve.releases import exact_version, listed, matching, nearest, specifiers

KEEPS = get_args(Keep)
BLAS = ("openblas", "mkl")
COMPILER = re.compile(r"(gcc|clang)(-\d+(\.\d+)*)?|/\S+")
SURE = ("native", "generic")
"""Values of ``--cpu`` that do not ask for a build by themselves."""


def with_build_options(
    request: Request,
    *,
    source: Source | None,
    compiler: str | None,
    keep: str | None,
    blas: str | None,
    accept_mkl_license: bool,
    cpu_flags: tuple[str, ...],
    catalog: Catalog,
) -> Request:
    """``request`` with what was asked of its source builds. Raises UsageError for what contradicts itself."""
    if source is not None:
        request = _from_source(request, source, catalog)
    _needs_a_build(request, source, compiler, keep, blas)
    _known_compiler(compiler)
    _known_blas(request, blas, accept_mkl_license)
    if keep is not None and keep not in KEEPS:
        raise UsageError(
            what=f"{keep!r} is not a value of --keep",
            why=f"it takes {', '.join(KEEPS[:-1])} or {KEEPS[-1]}",
            hint="--keep faster measures both and keeps the faster one",
        )
    if request.cpu == "fleet" and request.origin == "wheel":
        raise _wheel("--cpu fleet")
    return replace(
        request,
        source=source,
        compiler=compiler,
        keep=cast("Any", keep or "faster"),
        blas=blas,
        accept_mkl_license=accept_mkl_license,
        cpu_flags=cpu_flags,
    )


def _needs_a_build(
    request: Request, source: Source | None, compiler: str | None, keep: str | None, blas: str | None
) -> None:
    """Options of a source build say nothing about a wheel."""
    given = {"--source": source, "--compiler": compiler, "--keep": keep, "--blas": blas}
    option = next((name for name, value in given.items() if value is not None), None)
    if option is not None and request.origin == "wheel":
        raise _wheel(option)


def _wheel(option: str) -> UsageError:
    return UsageError(
        what=f"--origin wheel and {option} contradict each other",
        why=f"{option} is about a source build, and a wheel is compiled already",
        hint="--origin source, or leave one of them out",
    )


def _known_compiler(text: str | None) -> None:
    if text is not None and not COMPILER.fullmatch(text):
        raise UsageError(
            what=f"{text!r} is not a value of --compiler",
            why="it takes gcc, clang, one of their versions (gcc-12, clang-16) or an absolute path",
            hint="`provision detect` lists the compilers of a host",
        )


def _known_blas(request: Request, blas: str | None, accepted: bool) -> None:
    if blas is None:
        return
    if blas not in BLAS:
        raise UsageError(
            what=f"{blas!r} is not a value of --blas",
            why=f"it takes {' or '.join(BLAS)}",
            hint="--blas openblas is the distribution's OpenBLAS",
        )
    names = {wanted.framework for wanted in request.frameworks}
    if "numpy" not in names or (request.origin != "source" and request.cpu in SURE):
        raise UsageError(
            what="--blas is for NumPy from source",
            why="a wheel has its BLAS inside, and the other frameworks bring their own",
            hint=f"--framework numpy --origin source --blas {blas}",
        )
    if blas == "mkl" and not accepted:
        raise UsageError(
            what="--blas mkl needs the licence of MKL accepted",
            why="MKL's wheels are under the Intel Simplified Software License, which is not a free one",
            hint="read https://www.intel.com/content/www/us/en/developer/articles/license/onemkl-license-faq.html, "
            "then add --accept-mkl-license; --blas openblas needs none",
        )


# --- a source of one's own ---------------------------------------------------------------------------------------


def _from_source(request: Request, source: Source, catalog: Catalog) -> Request:
    """The request for that framework from source, at the version that the source says it is."""
    if request.origin == "wheel":
        raise _wheel("--source")
    able = [wanted for wanted in request.frameworks if _from_tree(wanted.framework, catalog)]
    if len(able) != 1:
        names = " and ".join(wanted.framework for wanted in able or request.frameworks)
        raise UsageError(
            what="--source is where one framework comes from",
            why=f"{names} were asked for"
            if able
            else f"the catalog has no recipe that builds {names} from a tree or a repository",
            hint="ask for one framework that is built from source: --framework tensorflow --source DIR",
        )
    pinned = _pinned(able[0], source, catalog, force=request.force)
    frameworks = tuple(pinned if wanted == able[0] else wanted for wanted in request.frameworks)
    return replace(request, frameworks=frameworks, origin="source")


def _from_tree(framework: str, catalog: Catalog) -> bool:
    recipes = [release.recipe for release in catalog.of(framework) if release.recipe is not None]
    return has_recipe(framework, catalog) and any(recipe.engine != "uv" for recipe in recipes)


def _pinned(wanted: Wanted, source: Source, catalog: Catalog, *, force: bool) -> Wanted:
    version = _version(source)
    if version is None:
        if exact_version(wanted.specifier) is None:
            raise UsageError(
                what=f"which {wanted.framework} {source} is cannot be told",
                why="it was not looked into, and its name is no version",
                hint=f"say it: --framework {wanted.framework}=={catalog.of(wanted.framework)[0].version}",
            )
        return wanted
    exact = Wanted(framework=wanted.framework, specifier=f"=={version}")
    if _says_more(wanted, source):
        return wanted
    if wanted.specifier and not _agree(wanted.specifier, version):
        raise UsageError(
            what=f"{source} is {wanted.framework} {source.version or version}",
            why=f"--framework {wanted} asks for another release",
            hint=f"--framework {wanted.framework}=={version}, or the tree of the release that was asked for",
        )
    if not listed(catalog, wanted.framework, version) and not force:
        near = nearest(catalog, wanted.framework, version)
        raise UsageError(
            what=f"{source} is {wanted.framework} {source.version or version}, which the catalog does not have",
            why=f"it has {catalog.of(wanted.framework)[-1].series} to {catalog.of(wanted.framework)[0].series}; "
            f"of {near.series} it has {', '.join(near.points)}",
            hint=f"--force builds it like {near.version}, the nearest that is known to be good",
        )
    return exact if force or matching(catalog, exact) else wanted


def _says_more(wanted: Wanted, source: Source) -> bool:
    """Whether the release was asked for by all of its parts, and the tree says no more than its series."""
    series, asked = unfinished(source.version or ""), exact_version(wanted.specifier)
    named = source.ref is not None and _version(source) != _version(replace(source, ref=None))
    return series is not None and asked is not None and asked.startswith(f"{series}.") and not named


def _version(source: Source) -> str | None:
    """ "2.15.1" of "2.15.1", "2.21.0-rc1" and of the tag "v2.15.1", which says more than an alpha's version."""
    said = (source.ref if unfinished(source.version or "") else None, source.version, source.ref)
    match = next((found for text in said if (found := re.match(r"v?(\d+\.\d+(?:\.\d+)?)", text or ""))), None)
    return match[1] if match else None


def _agree(specifier: str, version: str) -> bool:
    return specifiers(specifier).contains(version, prereleases=True)
