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
    """Packages with the headers of the running kernel and the tools that compile; empty where it is prebuilt."""
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
    cuda_toolkit: PackageSetup | None = None
    cudnn: PackageSetup | None = None
    container_toolkit: PackageSetup | None = None
