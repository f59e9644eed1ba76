"""A stack, and the plan that makes it: data that can be shown, saved, compared and carried out later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from provision.model.build import Build
from provision.model.request import Request
from provision.model.setup import NvidiaSetup

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StackDriver:
    minimum: str | None
    branch: str | None
    module: Literal["open", "proprietary"] | None
    action: Literal["none", "install", "upgrade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    framework: str
    version: str
    origin: Literal["wheel", "source"]
    python: str
    """"3.12": the interpreter's minor; the point release is the box's own or uv's newest."""
    device: Literal["cpu", "cuda"]
    build: str
    """The catalog's name of the build: "cpu", "cu126"."""
    index: str | None
    """Short name of the package index ("cu126", "cpu"), None for PyPI."""
    index_url: str | None
    requirements: tuple[str, ...]
    """PEP 508 lines, pins included."""
    cuda: str | None
    cudnn: str | None
    driver: StackDriver | None
    compute_capabilities: tuple[str, ...]
    copts: tuple[str, ...]
    bazel: str | None
    compiler: str | None
    environment: Mapping[str, str]
    """Environment variables that `activate` sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    rule: str
    text: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    what: str
    why: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    candidate: str
    """"tensorflow 2.21.0 and-cuda"."""
    objections: tuple[Objection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    id: str
    """"nvidia_driver", "source_build", "python", "environment", "verify" …: the role that carries it out."""
    title: str
    needs_root: bool
    changes: tuple[str, ...]
    """What it touches, one line each: shown before anything is done."""
    available: bool = True
    """False where no role carries it out yet: `up` stops before changing anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    schema: int = SCHEMA
    host: str
    request: Request
    stack: tuple[Stack, ...]
    reasons: tuple[Reason, ...]
    rejected: tuple[Rejection, ...]
    steps: tuple[Step, ...]
    arch: str | None = None
    """The target's machine ("x86_64"): uv locks for it."""
    glibc: str | None = None
    fingerprint: str = ""
    """SHA-256 over what decides the environment's content: the same one means nothing to change."""
    lock: str | None = field(default=None)
    """lock.txt: exact versions with hashes; None until it has been resolved."""
    builds: tuple[Build, ...] = ()
    """What is built from source, in the order of ``stack``."""
    stock: Plan | None = None
    """The plan of the same releases from wheels, where they fit this host: what a build is measured against."""
    nvidia: NvidiaSetup | None = None
    """What of NVIDIA's is installed or confirmed first; None where nothing is."""
