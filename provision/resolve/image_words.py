"""What a plan says, for an image: the resolver speaks of a host and its CPU, and an image is neither.

Sentences that only a host makes true are left out or worded anew, by their rule; in the others the words for the host
are exchanged. What the plan installs is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from provision.errors import Explanation, NoStackFits
from provision.model.build import Build
from provision.model.image import Base, Distribution
from provision.model.plan import Objection, Plan, Reason, Step
from provision.model.request import Request
from provision.resolve.image_cpu import cpu_words

UNSAID = ("driver.kept", "comparison", "copts.elsewhere", "unknown")
"""Rules of reasons that are about a host: its driver, what can be measured on it, what nobody read on it."""
STEPS = ("image_build", "image_verify", "image_tag")
NO_GPU = "the CPU: a GPU is used only where --device cuda or --cuda-compute-capabilities asks for it"


def for_image(
    plan: Plan, *, cpu: str, tag: str, base: Base, distribution: Distribution, request: Request, driver: str | None
) -> Plan:
    """``plan`` of a made-up machine as one of an image. ``request`` is the one that was asked, ``driver`` the one that
    the machine was given."""
    words = _Words(cpu=cpu, base=base)
    reasons = (_reason(each, plan, words, distribution, request, driver) for each in plan.reasons)
    return replace(
        plan,
        host=tag or base.reference,
        request=replace(plan.request, cpu=cpu, device=request.device),
        reasons=tuple(each for each in reasons if each is not None),
        rejected=tuple(
            replace(each, objections=tuple(words.objection(objection) for objection in each.objections))
            for each in plan.rejected
        ),
        steps=tuple(_steps(plan, tag, base, words)),
        builds=tuple(words.build(each) for each in plan.builds),
        stock=None,
    )


def not_for_image(error: NoStackFits, *, cpu: str, base: Base) -> NoStackFits:
    """The refusal in the words of an image."""
    words = _Words(cpu=cpu, base=base)
    return replace(
        error,
        what=words.text(error.what),
        why=words.text(error.why),
        hint=words.text(error.hint),
        details=tuple(
            Explanation(what=words.text(each.what), why=words.text(each.why), hint=words.text(each.hint))
            for each in error.details
        ),
    )


class _Words:
    """The words that are exchanged."""

    def __init__(self, *, cpu: str, base: Base) -> None:
        named, self.cpu = cpu_words(cpu), cpu
        self._exchanges = (
            (re.compile(r"; this CPU is .*$", re.DOTALL), f"; --cpu {cpu} asks for less"),
            (re.compile(r"fits this host"), f"fits {named} on {base.reference}"),
            (re.compile(r"(?:the virtual machine may hide them: .*?\. Otherwise )"), ""),
            (re.compile(r"this CPU lacks"), f"{named} {'may lack' if cpu == 'generic' else 'lacks'}"),
            (re.compile(r"this CPU"), named),
            (re.compile(r"runs here\b"), f"runs on {named}"),
            (re.compile(r"(?:every )?GPU here"), "every GPU"),
            (re.compile(r"this host runs driver"), "the hosts are said to have driver"),
            (re.compile(r"this (?:host|machine|box)"), "the base"),
            (re.compile(r" \(--driver newest\)"), " (--driver-version)"),
            (re.compile(r"--driver newest (?:takes|installs) .*$"), "--driver-version names another"),
            (re.compile(r"use a distribution with glibc, in a container if need be"), "--base names another"),
            (re.compile(r"upgrade to a distribution with (glibc \S+), or use a container"), r"--base one with \1"),
            (
                re.compile(r"update the NVIDIA driver of the container's host to (\S+) or newer"),
                r"--driver-version \1 or newer, where the hosts have it",
            ),
        )

    def text(self, text: str) -> str:
        for pattern, words in self._exchanges:
            text = pattern.sub(words, text)
        return text

    def objection(self, objection: Objection) -> Objection:
        return Objection(what=self.text(objection.what), why=self.text(objection.why), hint=self.text(objection.hint))

    def build(self, build: Build) -> Build:
        copts = tuple(replace(copt, reason=self.text(copt.reason)) for copt in build.copts)
        return replace(build, cpu=self.cpu, copts=copts)


def _reason(
    reason: Reason, plan: Plan, words: _Words, distribution: Distribution, request: Request, driver: str | None
) -> Reason | None:
    """None where it is left out."""
    if reason.rule in UNSAID:
        return None
    on_gpu = [each for each in plan.stack if each.device == "cuda"]
    if reason.rule == "device" and on_gpu:
        return replace(reason, text=_cuda(plan, request))
    if reason.rule == "device" and request.device == "auto":
        return replace(reason, text=NO_GPU)
    if reason.rule == "driver.floor":
        needed = next((each.driver.minimum for each in on_gpu if each.driver), None)
        seen = f"; planned as if it had {driver}" if driver else ""
        return replace(reason, text=f"a host that runs it needs NVIDIA driver {needed} or newer{seen}")
    if reason.rule == "python":
        return replace(reason, text=_python(plan, distribution, request))
    return replace(reason, text=words.text(reason.text))


def _cuda(plan: Plan, request: Request) -> str:
    found = ", ".join(dict.fromkeys(text for each in plan.stack for text in each.compute_capabilities))
    if request.compute_capabilities:
        return f"CUDA for compute capability {found}, which --cuda-compute-capabilities asks for"
    return f"CUDA for compute capability {found}: those that its wheels have compiled code for and the driver drives"


def _python(plan: Plan, distribution: Distribution, request: Request) -> str:
    python, system = plan.stack[0].python, f"{distribution.id} {distribution.version_id}"
    if request.python is not None:
        return f"Python {python}, because --python asks for it"
    if python == distribution.python:
        return f"Python {python}, which {system} has"
    other = f"{system} has {distribution.python}, and the best release that fits is for another"
    return f"Python {python}, brought by uv: {other}"


def _steps(plan: Plan, tag: str, base: Base, words: _Words) -> Iterator[Step]:
    what = ", ".join(f"{each.framework} {each.version}" for each in plan.stack)
    trained = ", ".join(dict.fromkeys(each.framework for each in plan.stack))
    build, verify, tagged = STEPS
    compiled = tuple(words.text(line) for step in plan.steps if step.id == "source_build" for line in step.changes)
    indexes = dict.fromkeys(each.index_url or "PyPI" for each in plan.stack if each.origin == "wheel")
    packages = ", ".join([*plan.request.indexes, *indexes] or ["the build"])
    yield Step(
        id=build,
        title=f"Build an environment with {what} on {base.reference}",
        needs_root=False,
        changes=(*compiled, f"packages from {packages}, by hash; a temporary tag, removed at the end"),
    )
    yield Step(
        id=verify,
        title=f"Verify: the checks, and MNIST trained with {trained}, in a container without network",
        needs_root=False,
        changes=("nothing gets its tag before all of it passed",),
    )
    yield Step(
        id=tagged,
        title=f"Tag it {tag}" if tag else "Make the image",
        needs_root=False,
        changes=("the CPU that it asks for, its labels, and the files that are copied into it",),
    )
