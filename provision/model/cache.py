"""A shared build cache: what it is set up as, how full it is, and what was done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from provision.model.report import SCHEMA, Failure, StepOutcome

Engine = Literal["nginx", "bazel-remote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """As the host's /etc/provision-build-cache.json has it: no passwords."""

    engine: Engine
    address: str
    """What it listens on: "0.0.0.0" is all of IPv4, "[::]" all of IPv6."""
    port: int
    folder: str
    prefix: str = ""
    """What comes before /ac and /cas: "" or "/lab"."""
    size_gib: int
    writers: tuple[str, ...] = ()
    """Users who write and read."""
    readers: tuple[str, ...] = ()
    anonymous_read: bool = False
    certificate: str = ""
    """Path on the host. Empty: plain HTTP."""
    key: str = ""

    @property
    def tls(self) -> bool:
        return bool(self.certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUsage:
    used_mib: float
    bound_mib: float
    blobs: int
    counted_at: int
    """Seconds since 1970: nginx's cache is counted every few minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReport:
    """What `cache up` and `cache remove` leave behind."""

    schema: int = SCHEMA
    ok: bool
    host: str
    url: str
    """For the hosts that build."""
    changed: int
    steps: tuple[StepOutcome, ...] = ()
    cache: CacheSettings | None
    """None once it was removed."""
    generated_passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By user: said this once, and kept nowhere in plain text."""
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheStatus:
    """What `cache status` finds. None is not known: a host is not asked for passwords, a URL not for its settings."""

    schema: int = SCHEMA
    ok: bool
    host: str | None
    url: str
    cache: CacheSettings | None
    usage: CacheUsage | None
    answers_on_host: bool | None
    reachable: bool
    """From here."""
    problem: str = ""
    """Why it is not reachable from here."""
    user: str | None = None
    """Whom it was asked as, besides nobody."""
    may_read: bool | None = None
    may_write: bool | None = None
    """What that user may."""
    anonymous_read: bool | None = None
    anonymous_write: bool | None = None
    failures: tuple[Failure, ...] = ()
