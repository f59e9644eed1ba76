"""What `up`, `apply` and `verify` leave behind: outcomes, checks, the smoke test and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutcome:
    id: str
    title: str
    status: Literal["ok", "changed", "failed", "skipped"]
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """One check script's answer: exit 0 is pass, 1 fail, 2 (cannot tell) skip."""

    id: str
    status: Literal["pass", "fail", "skip"]
    what: str
    why: str = ""
    hint: str = ""
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    framework: str
    device: str
    dataset: Literal["mnist", "synthetic"]
    samples: int
    train_s: float
    samples_per_s: float
    accuracy: float
    peak_fraction: float | None
    speed_up: float | None = None
    """How many times as fast as this box's CPU its GPU trains; None on a CPU, or where it was not measured."""
    speed_up_expected: float | None = None
    """What a home-built box of 2017 exceeded (the second of the documents that the product grew from)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    name: str
    generation: int | None
    path: str
    activate: str
    """The one line that activates it."""
    previous: int | None = None
    """The generation that this run's switch put aside. None where it was the first, or nothing was switched."""
    switched: bool = False
    """Whether this run changed which generation is current."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    what: str
    why: str = ""
    hint: str = ""
    exit_code: int = 5
    kind: str = ""
    """For programs, where it is known: "refused", "host_key_changed" (run/ssh_failures.py), "disk_full" …"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOutcome:
    """One wheel that was built, or found built."""

    framework: str
    version: str
    wheel: str
    """Its path on that host."""
    sha256: str
    built: bool
    """False where an earlier run had built it."""
    seconds: float
    actions: int | None = None
    """Actions that the build took, those from a cache included; None for engines that do not count them."""
    cache_hits: int | None = None
    compile_actions: int | None = None
    """Compilations of C or C++ that were run here, and not taken from a cache."""
    jobs: int | None = None
    remote_cache: str = ""
    """"used", "read only", or why not ("down: connection refused"); empty where none was asked for."""
    compiler: str = ""
    silo: str = ""
    """What keys the caches: compiler, C library and options."""
    log: str = ""
    """The log's path on that host."""
    notes: tuple[str, ...] = ()
    """What its reader should know: a cache that was left out, a Bazel whose version is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What a tree's own configure wrote, read back and found to be what was asked for."""

    framework: str
    file: str
    """Its path on that host."""
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One smoke workload on the build and on the stock wheel, in turn; samples/s."""

    build: float
    wheel: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    framework: str
    pairs: tuple[Pair, ...]
    ratio: float | None
    """Median over the pairs of build / wheel; None where the workload failed on one side before the first pair."""
    lowest: float | None
    highest: float | None
    kept: Literal["build", "wheel"]
    why: str
    """"the build is faster: 3.2 times (3.1 to 3.3)"."""
    decided_by: Literal["figures", "request", "failure"]
    """"request": --keep said which; "failure": the workload failed on the other one."""
    build_generation: int
    wheel_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOutcome:
    """What was done to the NVIDIA driver, or found."""

    version: str | None
    branch: str
    module: Literal["open", "proprietary"]
    state: Literal["installed", "confirmed", "kept", "removed"]
    """ "installed": on disk, and a reboot is asked for. "confirmed": loaded, checked, every GPU seen. "kept": a step
    failed, and what was there before is there again."""
    reboot_needed: bool
    reboot_why: tuple[str, ...] = ()
    console: tuple[str, ...] = ()
    """What to type, or to choose, at the box's own console; empty where nothing is to be done there."""
    held: tuple[str, ...] = ()
    """Packages that upgrades leave alone from now on."""
    undo: tuple[str, ...] = ()
    """Commands that take it back, in order."""
    notes: tuple[str, ...] = ()
    """What was seen before and is no obstacle: a desktop that runs, a virtual machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    schema: int = SCHEMA
    ok: bool
    host: str
    environment: Environment | None
    changed: int
    steps: tuple[StepOutcome, ...]
    checks: tuple[CheckOutcome, ...]
    smoke: Smoke | None
    """The first framework's smoke test; every one is among ``checks`` as mnist:FRAMEWORK."""
    failures: tuple[Failure, ...]
    builds: tuple[BuildOutcome, ...] = ()
    until: Literal["", "preflight", "configure", "build"] = ""
    """How far a source build was to go; empty for the whole way."""
    configured: tuple[Configured, ...] = ()
    """With --until configure."""
    comparisons: tuple[Comparison, ...] = ()
    driver: DriverOutcome | None = None
    """None where the run did nothing about the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """How far a build is. Bazel finds work as it goes, so ``total`` grows: it is never a promise."""

    done: int
    total: int | None
    cached: int
    running: int
    elapsed_s: float
    remaining_s: float | None
    guess: bool
    """Whether ``remaining_s`` is only a guess: no earlier build of this tree was seen here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Something that a host does right now; the live display and the plain lines are made from these."""

    host: str
    kind: Literal["step", "progress", "changed", "done", "failed", "note"]
    step: str
    """Step or task title."""
    text: str = ""
    done_mib: float | None = None
    total_mib: float | None = None
    build: BuildProgress | None = None
