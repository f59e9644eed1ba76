"""From an image plan to Dockerfiles: templates filled in, everything that a user typed as data.

The same text, less ``RUN --mount``, means the same to the classic builder and to BuildKit: no heredoc, no
``COPY --chmod``, no ``# syntax=``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from provision.errors import UsageError
from provision.model.image import ImagePlan
from provision.model.labels import VERDICT, frameworks_of

ENVIRONMENT = "environment.Dockerfile.j2"
FINAL = "final.Dockerfile.j2"

VENV = "/opt/provision/venv"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where nothing is left of the base, and so nothing of its PATH either."""
CUDA = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
"""What the NVIDIA runtime reads: which devices, and which of the driver's libraries it brings in."""


def environment_dockerfile(
    plan: ImagePlan,
    templates: Mapping[str, str],
    *,
    mounts: bool,
    wheels: tuple[str, ...] = (),  # noqa: ARG001
) -> str:
    """Up to the stage ``environment``. ``wheels`` are the names of wheel files in the context's environment/wheels; the
    text is the same whichever there are, since the whole folder is read.

    ``mounts``: the builder has ``RUN --mount``. Raises UsageError for a value that a Dockerfile cannot hold.
    """
    return _environment(plan, templates, mounts=mounts, built=())


def _environment(plan: ImagePlan, templates: Mapping[str, str], *, mounts: bool, built: tuple[str, ...]) -> str:
    from provision.render.dockerfile_wheels import runtime_packages

    packages = (*plan.distribution.runtime_packages, *runtime_packages(plan))
    if brings_python(plan):
        packages = tuple(each for each in packages if not each.startswith("python3"))
    return _filled(
        templates,
        ENVIRONMENT,
        summary=f"{', '.join(frameworks_of(plan.plan.stack))} ({plan.device})",
        base=pinned(plan),
        runtime_packages=packages,
        build_packages=plan.distribution.build_packages,
        epoch=plan.epoch,
        mounts=mounts,
        minimal=plan.minimal,
        built=built,
        path=_quoted(f"{VENV}/bin:{PATH}") if plan.minimal else f'"{VENV}/bin:$PATH"',
        environment=[(name, _quoted(value)) for name, value in variables(plan).items()],
    )


def final_dockerfile(plan: ImagePlan, templates: Mapping[str, str], *, start: str, verdict: str | None) -> str:
    """On the image ``start``: what differs between tags that share an environment, and the user's own files."""
    return _final(plan, templates, start=start, verdict=verdict, whole=False)


def _final(plan: ImagePlan, templates: Mapping[str, str], *, start: str, verdict: str | None, whole: bool) -> str:
    labels = {**plan.labels, **({VERDICT: verdict} if verdict else {})}
    return _filled(
        templates,
        FINAL,
        start=start,
        whole=whole,
        labels=[(_quoted(name), _quoted(value)) for name, value in sorted(labels.items())],
        copied=[
            # a folder's content goes into the target; a file becomes the target, or goes into one that ends with "/"
            (_argument(f"copied/{number}{'/' if copied.target.endswith('/') else ''}"), _argument(copied.target))
            for number, copied in enumerate(plan.copied)
        ],
    )


def whole_dockerfile(
    plan: ImagePlan, templates: Mapping[str, str], *, mounts: bool, packages: Sequence[str] = ()
) -> str:
    """All stages in one: what `--output` writes, to be built by hand. ``packages``: see ``wheels_dockerfile``."""
    # it takes what it shares with the other stages from here
    from provision.render.dockerfile_wheels import NOT_PINNED, NOTHING_PINNED, wheels_dockerfile

    text = ""
    built: tuple[str, ...] = ()
    if plan.plan.builds:
        built = NOT_PINNED if plan.plan.lock else NOTHING_PINNED
        text = wheels_dockerfile(plan, templates, mounts=mounts, packages=packages).rstrip() + "\n\n"
    text += _environment(plan, templates, mounts=mounts, built=built)
    return text + "\n" + _final(plan, templates, start="environment", verdict=None, whole=True)


def pinned(plan: ImagePlan) -> str:
    """The base as FROM names it: by digest where it has one, its tag kept for people."""
    reference = plan.base.reference
    return reference if plan.base.digest is None or "@" in reference else f"{reference}@{plan.base.digest}"


def brings_python(plan: ImagePlan) -> bool:
    """Whether uv brings the interpreter, because it is not the distribution's own."""
    return plan.plan.stack[0].python != plan.distribution.python


def variables(plan: ImagePlan) -> dict[str, str]:
    """Environment variables of the image, beside PATH."""
    found = {name: value for stack in plan.plan.stack for name, value in stack.environment.items()}
    return dict(sorted({**found, **(CUDA if plan.device == "cuda" else {})}.items()))


def _filled(templates: Mapping[str, str], name: str, **values: object) -> str:
    from jinja2 import DictLoader, Environment, StrictUndefined

    # a Dockerfile is no HTML: what is escaped, and how, is decided where values are made
    engine = Environment(  # noqa: S701
        loader=DictLoader(dict(templates)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return engine.get_template(name).render(**values)


def _quoted(text: str) -> str:
    """A word of LABEL or ENV: in double quotes a Dockerfile knows three special characters, ``\\``, ``"`` and ``$``."""
    _refuse_lines(text)
    return '"' + re.sub(r'([\\"$])', r"\\\1", text) + '"'


def _argument(text: str) -> str:
    """A string of the JSON form of COPY, whose words are taken apart like unquoted ones once more."""
    _refuse_lines(text)
    return json.dumps(re.sub(r"([\\\"'$])", r"\\\1", text), ensure_ascii=False)


def _refuse_lines(text: str) -> None:
    if re.search(r"[\r\n\x00]", text):
        raise UsageError(
            what="a Dockerfile cannot hold this value",
            why=f"it has a line break or a zero byte in it: {text[:60]!r}",
            hint="put it into a file, and copy that into the image",
        )
