"""The catalog's rows, typed.

``provision.catalog.load`` makes them from the TOML tables; the resolver reads only these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from provision.model.chips import Chips
from provision.model.recipes import BuildTable, Device, SourceRecipe
from provision.model.setup import PackageTable

Confidence = Literal["binary", "documented", "script", "inferred", "unconfirmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelBuild:
    """One way to install one release from wheels. Together with a Python it is a candidate."""

    name: str
    """"cpu", or the CUDA build's name: "cu126", "cuda12", "and-cuda", "gpu"."""
    device: Device
    requirements: tuple[str, ...]
    """PEP 508 lines with {version} filled in, such as "tensorflow[and-cuda]==2.21.0" or "torch==2.14.1+cu126"."""
    index: str | None
    """Address of the package index that holds it, None for PyPI."""
    archs: tuple[str, ...]
    """Machines it exists for: "x86_64", "aarch64"."""
    cuda: str | None = None
    cudnn: str | None = None
    bundles_cuda: bool = False
    """CUDA and cuDNN come with the requirements (wheels); otherwise the box must have them."""
    kernels: tuple[str, ...] = ()
    """"sm_80" is SASS, "compute_90" is PTX."""
    driver_minimum: str | None = None
    confidence: Confidence = "documented"
    pythons: tuple[str, ...] = ()
    """Interpreters of this build where they are fewer than the release's; empty means the same."""
    glibc: str | None = None
    """Floor of this build's wheels where it differs from the release's."""
    broken_points: tuple[str, ...] = ()
    """Point releases of which this build cannot be installed, though they exist; ``notes`` says why."""
    source: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePin:
    """A requirement that every build of a release needs beyond the package's own metadata."""

    requirement: str
    why: str
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseFault:
    """What goes wrong with a release's wheels on some CPUs, though they load and train there."""

    without: tuple[str, ...]
    """CPU flags by the kernel's names: it happens on an x86-64 CPU that lacks one of them."""
    text: str
    """ "converting to float16 ends the process (SIGILL)"."""
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    framework: str
    version: str
    """The point release that is installed for this row: the newest one."""
    series: str
    """The minor, "2.21": what a user may also ask for."""
    points: tuple[str, ...]
    """Every point release known, oldest first; ``version`` is the last."""
    pythons: tuple[str, ...]
    """Interpreters with wheels, "3.10"."""
    cpu_flags: Mapping[str, tuple[str, ...]]
    """By machine: kernel flag names that the wheels were compiled for and cannot run without."""
    glibc: str | None
    builds: tuple[WheelBuild, ...]
    pins: tuple[str, ...]
    """Requirements that the catalog adds because the package's own metadata lets in what breaks."""
    onednn: str = ""
    """What the wheel already does at run time about newer instructions."""
    recipe: SourceRecipe | None = None
    pin_reasons: tuple[ReleasePin, ...] = ()
    """Why each of ``pins`` is there."""
    faults: tuple[ReleaseFault, ...] = ()
    backends: Mapping[str, str] = field(default_factory=dict)
    """For Keras: the frameworks that can carry it, each with the versions that go with it (PEP 440)."""
    source: tuple[str, ...] = ()
    notes: str = ""

    def at(self, point: str) -> Release:
        """The same release at another of its ``points``: builds that are broken there are left out."""
        ours, theirs = f"=={self.version}", f"=={point}"
        builds = tuple(
            replace(build, requirements=tuple(line.replace(ours, theirs) for line in build.requirements))
            for build in self.builds
            if point not in build.broken_points
        )
        return replace(self, version=point, builds=builds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A requirement added when ``when`` holds, with the reason in plain words."""

    id: str
    requirement: str
    frameworks: tuple[str, ...]
    """Frameworks it applies to; empty for all."""
    below_level: str | None = None
    """Applies to x86-64 CPUs below this level ("x86-64-v2")."""
    below_compute_capability: str | None = None
    """Applies where some GPU is older than this ("7.5")."""
    cuda_major: int | None = None
    why: str = ""
    source: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaRelease:
    version: str
    driver_minimum: str | None
    """Full-feature driver: what PTX JIT needs."""
    driver_minor_compat: str | None
    """Floor under minor-version compatibility; None before CUDA 11."""
    gcc_max: str | None
    """Newest GCC major that nvcc takes as host compiler."""
    capabilities: tuple[str, ...]
    """Compute capabilities that its compiler accepts, "5.0"."""
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CudnnRelease:
    version: str
    cuda: tuple[str, ...]
    compute_capability_min: str | None
    soname: str | None
    source: tuple[str, ...]
    last: str | None = None
    """The row stands for ``version`` to this one."""
    pip: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
    """SASS in its libraries, where their headers were read."""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverBranch:
    branch: str
    status: str
    supported: bool
    """Still gets fixes on the catalog's date, or is the newest one that serves old cards (legacy rows say so)."""
    kind: Literal["production", "lts", "new-feature", "legacy", "eol", "unconfirmed"]
    oldest_architecture: str
    newest_architecture: str | None
    newest_seen: str | None
    cuda_api_version: str | None
    source: tuple[str, ...]
    eol: str = ""
    """Month of its end of life, "June 2028"; empty where no page says."""
    open_modules: str = ""
    """What the branch does about the open kernel modules, in the table's words."""
    min_kernel: str = ""
    max_kernel: str = ""
    """The newest Linux that its modules compile for, "6.11"; empty where none is known."""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerFlag:
    """A CPU flag and the compiler option that uses it."""

    arch: str
    flag: str
    option: str
    level: str | None
    gcc: str | None
    """Oldest GCC shown to take the option."""
    clang: str | None
    source: tuple[str, ...]
    implies: tuple[str, ...] = ()
    """Options that this one turns on as well."""
    with_flags: tuple[str, ...] = ()
    """Further CPU flags that must be there too before the option may be used."""
    usable: bool = True
    """False where the flag belongs to a level but its option is no use, or must not be used, in a build."""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuLevel:
    """An x86-64 level: flags (kernel names) that it adds to the level before it, and the option that asks for it."""

    name: str
    adds: tuple[str, ...]
    option: str
    gcc: str
    clang: str
    fallback: tuple[str, ...]
    """Single options for a compiler older than ``gcc`` or ``clang``."""
    fallback_gcc: str | None
    fallback_clang: str | None
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarchRange:
    """What one compiler calls a microarchitecture, from ``first`` to ``last`` of its versions (None: no bound)."""

    first: str | None
    last: str | None
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Microarchitecture:
    name: str
    """archspec's name, or the compiler's where archspec has none."""
    vendor: str
    parents: tuple[str, ...]
    gcc: tuple[MarchRange, ...]
    clang: tuple[MarchRange, ...]
    source: tuple[str, ...]
    in_archspec: bool = True
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedOption:
    """A compiler option that recipes on the web still carry and that some compiler refuses."""

    option: str
    compilers: str
    use_instead: str
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFormats:
    """Number formats that GPUs of these compute capabilities compute in at useful speed."""

    compute_capabilities: tuple[str, ...]
    tensor_cores: str
    dtypes: tuple[str, ...]
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuArchitecture:
    """The toolkits and driver branches that serve these compute capabilities; None where they go on."""

    name: str
    compute_capabilities: tuple[str, ...]
    first_toolkit: str
    last_toolkit: str | None
    last_driver_branch: str | None
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModules:
    """Which GPUs need, and which refuse, the open kernel modules."""

    default_from: str
    """First driver branch where they are the default on Turing and newer."""
    required_for: tuple[str, ...]
    proprietary_needed_for: tuple[str, ...]
    refusal_message: str
    """What the kernel log says on a GPU that they refuse."""
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRules:
    """Where compiled kernels run, beyond "same major, equal or higher minor"."""

    only_themselves: tuple[str, ...]
    """Capabilities (Jetson) that run only SASS built for exactly them."""
    same_chip: tuple[tuple[str, ...], ...]
    """Two names of one chip: ("10.1", "11.0")."""
    source: tuple[str, ...]
    notes: str = ""


def _no_packages(_role: str, _distribution: str) -> PackageTable | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    releases: tuple[Release, ...]
    pins: tuple[Pin, ...]
    cuda: tuple[CudaRelease, ...]
    cudnn: tuple[CudnnRelease, ...]
    branches: tuple[DriverBranch, ...]
    architectures: tuple[str, ...]
    """GPU architectures, oldest first: the order in which a driver's oldest and newest are compared."""
    chips: Chips
    compiler_flags: tuple[CompilerFlag, ...]
    levels: tuple[CpuLevel, ...] = ()
    rejected_options: tuple[RejectedOption, ...] = ()
    formats: tuple[GpuFormats, ...] = ()
    gpu_architectures: tuple[GpuArchitecture, ...] = ()
    kernel_rules: KernelRules | None = None
    open_modules: OpenModules | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of the frameworks: "tf" is "tensorflow"."""
    builds: Mapping[str, BuildTable] = field(default_factory=dict)
    """By framework: what its source builds are told."""
    packages: Callable[[str, str], PackageTable | None] = _no_packages
    """(role, distribution) -> what it knows of it; read when it is asked for."""

    def of(self, framework: str) -> tuple[Release, ...]:
        """Releases of one framework, newest first."""
        return tuple(release for release in self.releases if release.framework == framework)

    @property
    def frameworks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(release.framework for release in self.releases))
