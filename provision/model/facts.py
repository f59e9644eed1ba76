"""Facts: what a host is, typed. The JSON of ``provision detect`` is this, field by field. None means not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from provision.model.build import Compiler
from provision.model.nvidia import HostNvidia

SCHEMA = 1

DriverState = Literal[
    "working", "absent", "nouveau", "not_loaded", "mismatch", "no_library", "no_devices", "failed", "unknown"
]
Severity = Literal["info", "warning", "error"]
GpuSource = Literal["nvml", "nvidia-smi", "pci"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    arch: str | None
    vendor: str | None
    model_name: str | None
    family: int | None
    model: int | None
    stepping: int | None
    microarchitecture: str | None
    """archspec's name, or None where it would mislead (a masked flag in a virtual machine)."""
    level: str | None
    """x86-64-v1 … x86-64-v4, from flags alone; None off x86-64 or where no flags were read."""
    flags: tuple[str, ...]
    """Kernel names ("sse4_2", "avx512f"), sorted."""
    logical_cpus: int | None
    physical_cores: int | None
    hypervisor: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    total_mib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Os:
    id: str | None
    version_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    os: Os
    kernel: str | None
    glibc: str | None
    secure_boot: bool | None
    wsl: bool
    container: bool | None
    pythons: tuple[str, ...]
    """Full versions of the Python interpreters found on PATH, newest first ("3.11.2")."""
    compilers: tuple[Compiler, ...] = ()
    """GCC and Clang found on PATH, newest first within a family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    state: DriverState
    version: str | None
    cuda_api_version: str | None
    """The newest CUDA that the driver serves, as nvidia-smi prints it. Not the toolkit's version."""
    module: Literal["open", "proprietary"] | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mig:
    enabled: bool
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    name: str | None
    pci_address: str | None
    pci_id: str | None
    chip: str | None
    architecture: str | None
    compute_capability: str | None
    memory_mib: int | None
    mig: Mig | None
    source: GpuSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolkit:
    cuda: str | None
    cudnn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    id: str
    severity: Severity
    what: str
    why: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    schema: int = SCHEMA
    host: str
    cpu: Cpu
    memory: Memory
    system: System
    driver: Driver
    gpus: tuple[Gpu, ...]
    toolkit: Toolkit
    findings: tuple[Finding, ...]
    nvidia: HostNvidia | None = None
    """None where no NVIDIA GPU and nothing of NVIDIA's was looked for."""
