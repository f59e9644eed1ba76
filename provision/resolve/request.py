"""From what was typed to a checked request: all of it is looked at before any host is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, cast, get_args
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier

from provision.errors import UsageError
from provision.model.build import Source
from provision.model.catalog import Catalog
from provision.model.request import Origin, Request, Wanted
from provision.model.versions import ComputeCapability
from provision.resolve.candidates import has_recipe
from provision.resolve.copts import known_target
from provision.resolve.releases import exact_version, listed, local_build, matching, nearest, specifiers
from provision.resolve.request_build import with_build_options

DEVICES = ("auto", "cpu", "cuda")
ORIGINS = get_args(Origin)
DRIVERS = ("keep", "newest", "prod", "lts")
ALIASES = {"tf": "tensorflow", "torch": "pytorch"}
"""Used where the catalog names no others."""
DEFAULT_FRAMEWORK = "tensorflow"
MODULES = ("auto", "open", "proprietary")


def parse_request(
    *,
    frameworks: Sequence[str] = (),
    device: str = "auto",
    origin: str = "auto",
    cpu: str = "native",
    cuda_compute_capabilities: str | Sequence[str] | None = None,
    python: str | None = None,
    name: str = "default",
    driver: str = "keep",
    driver_module: str = "auto",
    container_toolkit: bool = False,
    force: bool = False,
    indexes: Sequence[str] = (),
    find_links: Sequence[str] = (),
    requirements: Sequence[str] = (),
    source: Source | None = None,
    compiler: str | None = None,
    keep: str | None = None,
    blas: str | None = None,
    accept_mkl_license: bool = False,
    cpu_flags: Sequence[str] = (),
    catalog: Catalog,
) -> Request:
    """The request, checked. Raises UsageError for what cannot be understood or contradicts itself."""
    request = Request(
        frameworks=_frameworks(frameworks or (DEFAULT_FRAMEWORK,), catalog, force),
        device=cast("Any", _one_of("device", device, DEVICES)),
        origin=cast("Any", _one_of("origin", origin, ORIGINS)),
        cpu=_cpu(cpu, catalog),
        compute_capabilities=_capabilities(cuda_compute_capabilities),
        python=_python(python),
        name=_name(name),
        driver=_driver(driver),
        driver_module=cast("Any", _one_of("driver-module", driver_module, MODULES)),
        container_toolkit=container_toolkit,
        force=force,
        indexes=tuple(_address("--index", text) for text in indexes),
        find_links=tuple(_address("--find-links", text) for text in find_links),
        requirements=tuple(_requirement(text) for text in requirements),
    )
    request = with_build_options(
        request,
        source=source,
        compiler=compiler,
        keep=keep,
        blas=blas,
        accept_mkl_license=accept_mkl_license,
        cpu_flags=tuple(sorted(set(cpu_flags))),
        catalog=catalog,
    )
    for check in CONTRADICTIONS:
        check(request)
    _cuda_without_builds(request, catalog)
    _source_without_recipes(request, catalog)
    return request


# --- each option by itself ---------------------------------------------------------------------------------------


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise UsageError(
            what=f"{value!r} is not a value of --{option}",
            why=f"it takes {_or(choices)}",
            hint=_did_you_mean(value, choices),
        )
    return value


def _frameworks(texts: Sequence[str], catalog: Catalog, force: bool) -> tuple[Wanted, ...]:
    found: dict[str, Wanted] = {}
    for text in texts:
        wanted = _wanted(text, catalog, force)
        before = found.setdefault(wanted.framework, wanted)
        if before != wanted:
            raise UsageError(
                what=f"{wanted.framework} was asked for twice, differently",
                why=f"--framework {before} and --framework {wanted} cannot share one environment",
                hint="ask for one of them, or use two environments with --name",
            )
    return tuple(found.values())


def _wanted(text: str, catalog: Catalog, force: bool) -> Wanted:
    match = re.fullmatch(r"\s*([A-Za-z][A-Za-z0-9_.-]*)\s*(.*?)\s*", text, re.DOTALL)
    if match is None:
        raise UsageError(
            what=f"{text!r} names no framework",
            why="a framework is a name, with a version if you like",
            hint="--framework tensorflow==2.21",
        )
    name = re.sub(r"[_.]+", "-", match[1].lower())
    aliases = dict(catalog.aliases) or ALIASES
    framework = aliases.get(name, name)
    if framework not in catalog.frameworks:
        raise UsageError(
            what=f"unknown framework {match[1]!r}",
            why=f"the catalog has {_or(sorted(catalog.frameworks), 'and')}",
            hint=_did_you_mean(name, (*catalog.frameworks, *aliases)),
        )
    return Wanted(framework=framework, specifier=_specifier(framework, match[2], catalog, force))


def _specifier(framework: str, text: str, catalog: Catalog, force: bool) -> str:
    text = re.sub(r"\s+", "", text)
    try:
        specifiers(text)
    except InvalidSpecifier:
        bare = re.sub(r"^[=@ ]+", "", text)
        raise UsageError(
            what=f"{text!r} is not a version specifier",
            why="specifiers are those of Python packages, such as ==2.21, >=2.18,<2.20 or ~=2.20.0",
            hint=f"--framework {framework}=={bare}" if re.fullmatch(r"\d+(\.\d+)*", bare) else "",
        ) from None
    exact = exact_version(text)
    if exact is not None and not listed(catalog, framework, exact):
        if not force:
            raise _unknown_version(framework, exact, catalog)
    elif not matching(catalog, Wanted(framework=framework, specifier=text)):
        rows = catalog.of(framework)
        raise UsageError(
            what=f"the catalog has no {framework} {text}",
            why=f"it has {_or([row.series for row in rows], 'and')}",
            hint=f"the newest is {framework}=={rows[0].version}" if rows else "",
        )
    _local(framework, text, catalog)
    return text


def _local(framework: str, text: str, catalog: Catalog) -> None:
    build = local_build(text)
    names = {each.name for row in matching(catalog, Wanted(framework=framework, specifier=text)) for each in row.builds}
    if build is not None and names and build not in names:
        raise UsageError(
            what=f"{framework} {text.lstrip('=')} has no build {build!r}",
            why=f"that release has {_or(sorted(names), 'and')}",
            hint=_did_you_mean(build, sorted(names)),
        )


def _unknown_version(framework: str, exact: str, catalog: Catalog) -> UsageError:
    near = nearest(catalog, framework, exact)
    rows = catalog.of(framework)
    return UsageError(
        what=f"the catalog has no {framework} {exact}",
        why=f"it has {rows[-1].series} to {rows[0].series}; of {near.series} it has {_or(near.points, 'and')}",
        hint=f"did you mean {framework} {near.series}? "
        f"--force plans {exact} like {near.version}, the nearest that is known to be good",
    )


def _cpu(text: str, catalog: Catalog) -> str:
    problem = known_target(text, catalog)
    if problem is not None:
        raise problem
    return text


def _capabilities(given: str | Sequence[str] | None) -> tuple[str, ...]:
    texts: Iterable[str] = (given,) if isinstance(given, str) else given or ()
    found = []
    for part in (part.strip() for text in texts for part in re.split(r"[,;]", text)):
        try:
            ptx = part.upper().endswith("+PTX") or part.startswith("compute_")
            found.append(str(ComputeCapability.parse(re.sub(r"(?i)\+PTX$", "", part))) + ("+PTX" if ptx else ""))
        except ValueError:
            raise UsageError(
                what=f"{part!r} is not a compute capability",
                why="one is written as 8.6, sm_86, compute_86 or 8.6+PTX; several are separated by commas",
                hint="--cuda-compute-capabilities 8.6,sm_89,9.0+PTX",
            ) from None
    return tuple(dict.fromkeys(found))


def _python(text: str | None) -> str | None:
    if text is None:
        return None
    match = re.fullmatch(r"(?:python)?(3\.[0-9]{1,2})(\.[0-9]+)?", text.strip())
    if match is None:
        raise UsageError(
            what=f"{text!r} is not a Python version",
            why="an environment's Python is given by its minor, as in 3.12",
            hint="--python 3.12",
        )
    return match[1]


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", text):
        raise UsageError(
            what=f"{text!r} cannot be an environment's name",
            why="it becomes a folder, so it is 1 to 64 letters, digits, dots, dashes or underscores, "
            "and begins with no dot or dash",
            hint="--name default",
        )
    return text


def _driver(text: str) -> str:
    if text not in DRIVERS and not re.fullmatch(r"[0-9]{3,4}(\.[0-9]+){0,3}", text):
        raise UsageError(
            what=f"{text!r} is not a value of --driver",
            why=f"it takes {_or(DRIVERS)}, a branch such as 580, or a version such as 580.95.05",
            hint=_did_you_mean(text, DRIVERS),
        )
    return text


def _address(option: str, text: str) -> str:
    """As given. Credentials are refused: this ends up in saved plans and on command lines."""
    if not text.strip() or not text.isprintable():
        raise UsageError(what=f"{option} needs an address or a folder", why=f"it got {text!r}")
    try:
        parts = urlsplit(text)
        secret = parts.password or (parts.username and parts.scheme in ("http", "https"))
    except ValueError as error:
        raise UsageError(what=f"{option} {text!r} is not an address", why=str(error)) from None
    if secret:
        raise UsageError(
            what=f"{option} with a user name or password in it",
            why="plans are saved and shown, so a password must not be part of one",
            hint="put the credentials of that host into ~/.netrc, which uv reads",
        )
    return text


def _requirement(text: str) -> str:
    try:
        return str(Requirement(text))
    except InvalidRequirement as error:
        raise UsageError(
            what=f"{text!r} is not a package requirement",
            why=str(error).splitlines()[0],
            hint='--with "pandas>=2"; a file of requirements is not taken',
        ) from None


# --- options against each other ----------------------------------------------------------------------------------


def _capabilities_without_gpu(request: Request) -> None:
    if request.device == "cpu" and request.compute_capabilities:
        raise UsageError(
            what="--device cpu and --cuda-compute-capabilities contradict each other",
            why="compute capabilities say for which GPUs there must be kernels, and a CPU stack has none",
            hint="leave one of them out",
        )


def _driver_without_gpu(request: Request) -> None:
    asked = f"--driver {request.driver}" if request.driver != "keep" else ""
    asked = asked or (f"--driver-module {request.driver_module}" if request.driver_module != "auto" else "")
    asked = asked or ("--container-toolkit" if request.container_toolkit else "")
    if request.device == "cpu" and asked:
        raise UsageError(
            what=f"--device cpu and {asked} contradict each other",
            why="a CPU stack neither needs nor changes the NVIDIA driver",
            hint="leave one of them out",
        )


def _target_without_build(request: Request) -> None:
    if request.origin == "wheel" and request.cpu not in ("native", "generic"):
        raise UsageError(
            what=f"--origin wheel and --cpu {request.cpu} contradict each other",
            why="a wheel is compiled already; a CPU target says what a source build compiles for",
            hint=f"--origin source --cpu {request.cpu}, or leave --cpu out",
        )


def _cuda_without_builds(request: Request, catalog: Catalog) -> None:
    names = {wanted.framework for wanted in request.frameworks}
    devices = {build.device for row in catalog.releases if row.framework in names for build in row.builds}
    if request.device == "cuda" and "keras" not in names and "cuda" not in devices:
        raise UsageError(
            what="--device cuda asks for what does not exist",
            why=f"the catalog has no CUDA build of {_or(sorted(names), 'and')}",
            hint="leave --device out",
        )


def _source_without_recipes(request: Request, catalog: Catalog) -> None:
    names = sorted({wanted.framework for wanted in request.frameworks})
    builds = request.origin == "source" or request.cpu not in ("native", "generic")
    if builds and "keras" not in names and not any(has_recipe(name, catalog) for name in names):
        asked = "--origin source" if request.origin == "source" else f"--cpu {request.cpu}"
        raise UsageError(
            what=f"{asked} asks for what does not exist",
            why=f"the catalog has no recipe for building {_or(names, 'and')} from source",
            hint="leave it out: the wheels run on any CPU that they fit",
        )


CONTRADICTIONS = (_capabilities_without_gpu, _driver_without_gpu, _target_without_build)


def _or(words: Sequence[str], last: str = "or") -> str:
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def _did_you_mean(word: str, choices: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else ""
