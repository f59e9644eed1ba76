"""What is to be installed of NVIDIA's on a host: exact packages and where each comes from. Part of a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from provision.model.nvidia import Flavour

Manager = Literal["apt", "dnf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A package repository of NVIDIA's (or a mirror of it), with the key that signs it."""

    id: str
    """ "cuda-debian12-x86_64": also the name of the files that configure it."""
    manager: Manager
    url: str
    """The address that holds Packages and Release, or repodata."""
    suite: str = "/"
    """apt: the flat repository's suite."""
    components: tuple[str, ...] = ()
    key_url: str
    fingerprint: str
    """Of the key, 40 hexadecimal digits: what is fetched is refused where it has another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupPackage:
    name: str
    repository: str
    """A Repository's id, or "distribution"."""
    version: str = ""
    """What its upstream version must begin with, "580."; empty for any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverSetup:
    action: Literal["install", "upgrade", "confirm"]
    """ "confirm": it is on disk since an earlier run, and is to be seen working after the reboot."""
    branch: str
    version: str | None
    """The release that the catalog knows as the branch's newest; the repository may have a newer one."""
    module: Flavour
    build: Literal["prebuilt", "dkms"]
    """Where the kernel module comes from: signed packages for the kernel, or compiled on the host."""
    packages: tuple[SetupPackage, ...]
    """Of the driver itself, without headers and tools."""
    headers: tuple[str, ...] = ()
    """Packages with the headers of the kernels and the tools that compile; empty where it is prebuilt."""
    next_kernel: str = ""
    """The release that the next boot takes, where it is another than the running one: it gets the module too."""
    components: tuple[str, ...] = ()
    """Parts of the distribution's archive that must be on: "contrib", "non-free", "restricted"."""
    stream: str = ""
    """dnf's module stream, "nvidia-driver:580-dkms"; empty where there is none."""
    lock: str = ""
    """dnf's versionlock pattern, "*nvidia*580*"; empty where packages are held by name."""
    gpus: int = 1
    """How many the driver is to show."""
    block_nouveau: bool = True
    secure_boot: bool | None = None
    """Whether the firmware asks for signed modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSetup:
    """A toolkit, cuDNN, or the container toolkit."""

    version: str
    """ "12.6" of CUDA, "9" of cuDNN."""
    packages: tuple[SetupPackage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaSetup:
    """None of a part: nothing to do about it."""

    manager: Manager
    distribution: str
    """ "ubuntu 24.04"."""
    repositories: tuple[Repository, ...] = ()
    driver: DriverSetup | None = None
    persistenced: bool = False
    fabricmanager: bool = False
    """NVSwitches join the GPUs, and CUDA starts only once nvidia-fabricmanager has set them up."""
    cuda_toolkit: PackageSetup | None = None
    cudnn: PackageSetup | None = None
    container_toolkit: PackageSetup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSet:
    """A row of a role's vars: packages that make one outcome, and where they are. Braces in names are filled."""

    id: str
    releases: tuple[str, ...]
    """Of the distribution: "24.04", "12", "9"."""
    archs: tuple[str, ...]
    repository: str
    """ "distribution", or the id of a RepositoryRow."""
    packages: tuple[str, ...]
    module: Flavour | None = None
    """None but for drivers."""
    branches: tuple[str, ...] = ()
    """Of the driver; empty for any from ``first_branch`` on."""
    first_branch: str = ""
    flavours: tuple[str, ...] = ()
    """Kernels that it exists for, by the last part of their release ("generic"); empty for any."""
    versions: tuple[str, ...] = ()
    """Of CUDA or cuDNN; empty for any."""
    build: Literal["prebuilt", "dkms"] = "dkms"
    headers: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    version: str = ""
    stream: str = ""
    lock: str = ""
    display: tuple[str, ...] = ()
    """Packages besides, where something shows pictures: the set's own compute and draw nothing."""
    fabric: tuple[str, ...] = ()
    """Packages besides, where NVSwitches join the GPUs; empty where none is known."""
    nvswitch: bool = False
    """For such hosts only."""
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRow:
    id: str
    releases: tuple[str, ...]
    archs: tuple[str, ...] = ()
    """Empty for all."""
    url: str
    suite: str = "/"
    components: tuple[str, ...] = ()
    key_url: str
    fingerprint: str
    source: tuple[str, ...]
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageTable:
    """What a role knows of one distribution."""

    manager: Manager
    sets: tuple[PackageSet, ...]
    """Best first."""
    repositories: tuple[RepositoryRow, ...] = ()
    secure_boot: tuple[str, ...] = ()
    """Of drivers: packages that enrol the key of a module that is compiled, where the firmware asks for one."""
