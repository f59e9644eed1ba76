"""Container images: what one is made from, what it is to be, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from provision.model.facts import Facts
from provision.model.plan import Plan, Stack
from provision.model.report import CheckOutcome, Failure, Smoke, StepOutcome

SCHEMA = 1

BuilderName = Literal["buildx", "buildkit", "classic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AptCompiler:
    """A compiler that the distribution packages."""

    family: Literal["gcc", "clang"]
    version: str
    """"12.2.0"."""
    path: str
    """"/usr/bin/gcc-12"."""
    packages: tuple[str, ...]
    """("gcc-12", "g++-12")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What an image can be based on: a row of catalog/images.toml."""

    id: str
    """os-release's ID, "debian"."""
    version_id: str
    codename: str
    python: str
    """The distribution's own Python, "3.11"; what an image runs on unless another one is asked for."""
    runtime_packages: tuple[str, ...]
    """In the last stage: the interpreter, the init."""
    build_packages: tuple[str, ...]
    """In the stage that makes the environment only: what strips and copies."""
    builder_packages: tuple[str, ...]
    """In the stage that builds from source: besides a compiler and what the recipe's tools need."""
    compilers: tuple[AptCompiler, ...]
    source: tuple[str, ...]
    confidence: Literal["binary", "documented", "unconfirmed"] = "documented"
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlimRule:
    """What may go from an environment, and is known to: a row of catalog/images.toml."""

    frameworks: tuple[str, ...]
    """Empty for all."""
    remove: tuple[str, ...] = ()
    """Globs below site-packages, "tensorflow/include"."""
    strip: tuple[str, ...] = ()
    """Globs of ELF files whose symbols go."""
    shorten: tuple[str, ...] = ()
    """Globs of shared libraries in which names of C++ that no other file knows become short ones."""
    minimal: bool = False
    """Only with --minimal."""
    why: str
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A base image, looked at: the probe ran in a container of it."""

    reference: str
    """As asked: "debian:bookworm"."""
    digest: str | None
    """"sha256:…" of its manifest in a registry; None for one that only the engine has."""
    id: str
    """The image's own id in the engine, "sha256:…"."""
    created: int
    """Seconds since 1970: what SOURCE_DATE_EPOCH is where nobody sets it."""
    facts: Facts
    """Its distribution, glibc and Pythons; the CPU in it is the engine host's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A file or folder of the user's, for the image's last layer."""

    source: str
    """On this machine."""
    target: str
    """In the image, absolute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """One tag: a plan for a machine that is not there yet, on a base."""

    tag: str
    """"me/tf:v3"; empty with --output, where no tag was given."""
    cpu: str
    """As asked: "generic", "x86-64-v3", "zen4", "avx2,fma", "fleet"."""
    level: str | None
    """"x86-64-v3" where ``cpu`` is a level, or the highest level whose flags are all among ``flags``."""
    flags: tuple[str, ...]
    """CPU flags, by the kernel's names, that the image refuses to start without; sorted."""
    plan: Plan
    base: Base
    distribution: Distribution
    minimal: bool = False
    copied: tuple[Copied, ...] = ()
    instead: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(tag, flags) of the images of the same call, most demanding first: what a lesser CPU is told to take."""
    epoch: int = 0
    """SOURCE_DATE_EPOCH: no file in the image is newer."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """All but the verdict, which comes after the smoke test."""

    @property
    def device(self) -> str:
        return "cuda" if any(each.device == "cuda" for each in self.plan.stack) else "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an image's label io.provision.verdict says: the proof travels with it."""

    status: Literal["passed", "failed", "not run"]
    why: str = ""
    """Of a failed one or one that was not run."""
    checks: tuple[str, ...] = ()
    """Ids of the checks that passed."""
    accuracy: float | None = None
    dataset: str | None = None
    device: str | None = None
    """Where the smoke test ran: "cpu"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutcome:
    """What became of one tag."""

    tag: str
    id: str | None
    """None where it was not built."""
    cpu: str
    level: str | None
    flags: tuple[str, ...]
    stack: tuple[Stack, ...]
    base: str
    base_digest: str | None
    minimal: bool
    size_bytes: int | None
    """Unpacked, all layers."""
    layers: tuple[str, ...]
    """diff ids, lowest first: equal for equal contents."""
    verdict: Verdict
    checks: tuple[CheckOutcome, ...] = ()
    smoke: Smoke | None = None
    pushed: str | None = None
    """"registry/me/tf@sha256:…"."""
    sbom: str | None = None
    """Path of the bill of materials."""
    hosts: tuple[str, ...] = ()
    """With an inventory: the hosts that take this tag."""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReport:
    """What `provision image build` leaves behind."""

    schema: int = SCHEMA
    ok: bool
    builder: BuilderName | None
    """None where nothing was built (--output, --dry-run)."""
    engine: str
    """"Docker Engine 20.10.24 at unix:///…"; empty where none was asked."""
    images: tuple[ImageOutcome, ...]
    steps: tuple[StepOutcome, ...]
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """A line of `provision image list`."""

    tag: str
    id: str
    frameworks: tuple[str, ...]
    """"tensorflow 2.21.0"."""
    device: str
    cpu: str
    level: str | None
    minimal: bool
    size_bytes: int
    created: str
    """ISO 8601, when this engine got it built; its age is from this."""
    verdict: Verdict
