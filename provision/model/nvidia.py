"""What a host says about NVIDIA's software beyond whether the driver works. None, everywhere, means not known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Flavour = Literal["open", "proprietary"]
RecordState = Literal["changing", "installed", "confirmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelModule:
    """The nvidia module on disk for the running kernel (`modinfo nvidia`)."""

    version: str | None
    flavour: Flavour | None
    """By its licence: "Dual MIT/GPL" is open, "NVIDIA" proprietary."""
    signer: str | None
    """Who signed it; None where nobody did, or nobody looked."""
    kernel: str | None
    """The release it was built for, from its vermagic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DkmsModule:
    """A line of `dkms status`."""

    name: str
    version: str
    kernel: str | None
    """None where it was added and built for no kernel."""
    state: str
    """ "installed", "built", "added", "broken"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageCandidate:
    """What the package manager would install, as its lists are now."""

    name: str
    version: str
    repository: str
    """Where it comes from, in the manager's own words: an archive's address and suite, a repository id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherInstall:
    """A driver that did not come by packages of the distribution or of NVIDIA."""

    kind: Literal["runfile", "lambda"]
    evidence: str
    """ "/usr/bin/nvidia-uninstall"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuHealth:
    """One NVIDIA GPU as the bus and the driver show it."""

    pci_address: str | None
    kernel_driver: str | None
    """Bound to it: "nvidia", "nouveau", "vfio-pci"."""
    error: str | None = None
    """What the driver says instead of answering: "GPU is lost"."""
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    """The card's own maximum, not the slot's."""
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    throttle: tuple[str, ...] = ()
    """Active reasons that cost speed, in NVML's words: "hw_thermal_slowdown", "sw_power_cap"; idle is none."""
    persistence: bool | None = None
    temperature_c: int | None = None
    clock_sm_mhz: int | None = None
    clock_sm_max_mhz: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverRecord:
    """What provision did to the driver here: /var/lib/provision/nvidia.json, written by role nvidia_driver."""

    state: RecordState
    """ "changing": a run was cut off in it. "installed": seen to be right on disk, and not yet loaded and checked."""
    branch: str
    version: str | None
    module: Flavour
    packages: tuple[Package, ...]
    rebooted: bool | None
    """Whether the host was started anew since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNvidia:
    """Everything that installing, confirming and diagnosing look at."""

    loaded_version: str | None = None
    """Of the module in the kernel."""
    loaded_flavour: Flavour | None = None
    module: KernelModule | None = None
    libraries: tuple[str, ...] = ()
    """Versions of libnvidia-ml.so and libcuda.so on disk, newest first; more than one is a mix."""
    dkms: tuple[DkmsModule, ...] = ()
    packages: tuple[Package, ...] = ()
    """Installed packages of the driver, CUDA, cuDNN and the container toolkit."""
    unfinished: tuple[Package, ...] = ()
    """Those that the manager has begun with and not finished: unpacked, half-configured, half-installed."""
    holds: tuple[str, ...] = ()
    """Packages held (apt-mark) or locked (versionlock patterns)."""
    candidates: tuple[PackageCandidate, ...] | None = None
    """Of those packages; None where the manager has no lists or was not asked."""
    components: tuple[str, ...] | None = None
    """Of the archives that apt's lists were fetched from: "main", "contrib", "restricted"."""
    headers: bool | None = None
    """Whether headers of the running kernel are installed."""
    next_kernel: str | None = None
    """The release that the next boot takes, where it is another than the running one, and that can be told."""
    next_module_version: str | None = None
    """Of the module on disk for that kernel."""
    nouveau_blocked: bool | None = None
    """Whether modprobe's configuration or the kernel command line keeps nouveau out."""
    unattended_upgrades: bool | None = None
    display: tuple[str, ...] = ()
    """What shows pictures here: "Xorg", "gdm", "gnome-shell"."""
    persistenced: Literal["active", "enabled", "inactive", "absent"] | None = None
    reboot_required: bool | None = None
    mok_pending: bool | None = None
    """A key waits to be enrolled at the console."""
    key_enrolled: bool | None = None
    """Whether the key that DKMS signs with is one the firmware trusts."""
    other_installs: tuple[OtherInstall, ...] = ()
    disk_free_mib: Mapping[str, int] = field(default_factory=dict)
    """By mount point asked about: "/", "/boot", "/var"."""
    container_toolkit: str | None = None
    """Version of nvidia-ctk."""
    docker: Literal["absent", "plain", "nvidia", "snap"] | None = None
    """ "nvidia": its configuration has the nvidia runtime."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Pinned variables of the user's: LD_LIBRARY_PATH, CUDA_VISIBLE_DEVICES, OPENBLAS_CORETYPE …"""
    device_files: tuple[str, ...] | None = None
    """Of /dev: "nvidia0", "nvidiactl", "nvidia-uvm"."""
    gpus: tuple[GpuHealth, ...] = ()
    """In the order of the bus."""
    nvswitches: int = 0
    """NVSwitches on the bus. Those of HGX B200 and newer are not on it."""
    record: DriverRecord | None = None
