"""The stages of a Dockerfile that make wheels from source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from provision.errors import UsageError
from provision.model.build import Build
from provision.model.image import AptCompiler, Base, Distribution, ImagePlan

Credentials = Literal["none", "context", "secret"]
"""How RUN gets them: not at all, from the context's build/credentials.json, or by `docker build --secret`."""

TEMPLATE = "wheels.Dockerfile.j2"
SECRET = "provision-build"  # noqa: S105 - its id
"""Id of the secret with the credentials of caches and indexes, as JSON; see dockerfiles/files/build_wheel.py."""
UV = "/opt/provision-build/uv"

HEADER_PACKAGES = {"Python.h": "python3-dev", "cblas.h": "libopenblas-dev", "lapacke.h": "liblapacke-dev"}
"""Which of Debian's and Ubuntu's packages has a header that a build needs."""
RUNTIME_PACKAGES = {"cblas.h": "libopenblas0", "lapacke.h": "liblapacke"}
"""Which package has the library of such a header: wheels that are made here link the distribution's, and carry none."""
RUNTIME_ALWAYS = ("libgomp1", "libstdc++6")
"""What C++ that this distribution's compilers made is linked with. Not every base has it."""
ALWAYS = ("binutils", "git", "python3", "python3-dev", "python3-venv")
"""Further packages of every build: the recipe itself runs on Python, and recipes call git."""
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9-]+)?(?:=[A-Za-z0-9.+:~-]+)?")
"""A name as Debian's policy has it (5.6.1), with an architecture or a version where somebody wants one."""

NOT_PINNED = (
    "Every package is pinned by its hash but the wheels that are made above: their bytes are known only when they are",
    "there. What they need is what the published release needs; `uv pip check` stops the build where that is not so.",
)
NOTHING_PINNED = (
    "No published release fits this Python and machine, so what the wheels made above need is not known before they",
    "are there: their packages are resolved when this is built, and none is pinned by its hash.",
)


def wheels_dockerfile(
    plan: ImagePlan,
    templates: Mapping[str, str],
    *,
    mounts: bool,
    packages: Sequence[str] = (),
    credentials: Credentials = "secret",
) -> str:
    """The stages `builder` and `wheels`; the last has /wheels/*.whl and /wheels/result.json alone.

    ``mounts``: whether RUN can have cache and secret mounts (BuildKit). ``packages``: further ones of the distribution.
    Raises UsageError for a package that cannot be one.
    """
    from jinja2 import Environment, StrictUndefined

    # no shell text and no markup: a Dockerfile; what is not ours in it is checked or quoted first
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701
    return environment.from_string(templates[TEMPLATE]).render(
        base=pinned(plan.base),
        system=system(plan.distribution),
        made=[_described(build) for build in plan.plan.builds],
        packages=builder_packages(plan, packages),
        sources=any(build.source.kind != "index" for build in plan.plan.builds),
        mounts=mounts,
        credentials=credentials,
        secret=SECRET,
        uv=UV,
    )


def pinned(base: Base) -> str:
    """What FROM names: the base as asked, by digest where a registry has it."""
    return f"{base.reference}@{base.digest}" if base.digest and "@" not in base.reference else base.reference


def system(distribution: Distribution) -> str:
    """Names the caches of stages on this distribution: "debian-12"."""
    return f"{distribution.id}-{distribution.version_id}"


def builder_packages(plan: ImagePlan, further: Sequence[str] = ()) -> tuple[str, ...]:
    """Everything that the stage `builder` installs, in order of names. Raises UsageError for a bad ``further`` one."""
    found = {*ALWAYS, *plan.distribution.builder_packages, *map(checked_package, further)}
    for build in plan.plan.builds:
        found.update(_compiler_packages(build, plan.distribution.compilers))
        found.update(tool.package for tool in build.needs.tools)
        found.update(HEADER_PACKAGES[header] for header in build.needs.headers if header in HEADER_PACKAGES)
    return tuple(sorted(found))


def runtime_packages(plan: ImagePlan) -> tuple[str, ...]:
    """What the image itself needs of the distribution for the wheels that are made for it; nothing without any."""
    headers = [header for build in plan.plan.builds for header in build.needs.headers]
    always = RUNTIME_ALWAYS if plan.plan.builds else ()
    return tuple(sorted({*always, *(RUNTIME_PACKAGES[header] for header in headers if header in RUNTIME_PACKAGES)}))


def checked_package(name: str) -> str:
    """The package's name. Raises UsageError for a text that apt would take for something else."""
    if not PACKAGE.fullmatch(name):
        raise UsageError(
            what=f"{name!r} is no package of a distribution",
            why="a name has small letters, digits, '+', '-' and '.', and may end with =VERSION",
            hint="give each one by itself: --builder-package libssl-dev --builder-package gawk",
        )
    return name


def _compiler_packages(build: Build, compilers: Sequence[AptCompiler]) -> Iterator[str]:
    if build.compiler is None:  # it brings its own
        return
    for each in compilers:
        if each.path == build.compiler.path:
            yield from each.packages


def _described(build: Build) -> str:
    """A line of comment; one line, whatever a path or a tag has in it."""
    compiler = f" with {build.compiler}" if build.compiler else ""
    options = " ".join(copt.option for copt in build.copts)
    source = without_credentials(str(build.source))
    text = f"{build.framework} {build.version} from {source}{compiler} for {build.cpu}: {options}".rstrip(": ")
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def without_credentials(address: str) -> str:
    """https://me:secret@host/tree.git becomes https://host/tree.git."""
    return re.sub(r"(?<=//)[^/@\s]*@", "", address)
