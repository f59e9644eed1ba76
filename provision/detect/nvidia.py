"""What a host says of NVIDIA's software: every reading of probe_nvidia.sh, in one value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from provision.detect import next_kernel, nvidia_module, nvidia_packages
from provision.detect.nvidia_health import gpu_health
from provision.detect.pci import nvswitches
from provision.detect.proc_driver import module_flavour, module_version
from provision.detect.system import is_wsl, kernel
from provision.detect.text import version
from provision.model.facts import Driver, Gpu
from provision.model.nvidia import HostNvidia, KernelModule
from provision.model.readings import Readings


def host_nvidia(readings: Readings, driver: Driver, gpus: tuple[Gpu, ...]) -> HostNvidia | None:
    """None where nothing of NVIDIA's was read."""
    environment = user_environment(readings)
    works = driver.state == "working" and not is_wsl(readings)  # there the driver is Windows' own
    loaded = module_version(readings) or (driver.version if works else None)
    module = nvidia_module.module_on_disk(readings)
    next_one = next_kernel.next_kernel(readings, kernel(readings))
    found = HostNvidia(
        loaded_version=loaded,
        loaded_flavour=module_flavour(readings),
        module=module,
        libraries=nvidia_module.libraries(readings),
        dkms=nvidia_packages.dkms(readings),
        packages=nvidia_packages.packages(readings),
        unfinished=nvidia_packages.unfinished(readings),
        holds=nvidia_packages.holds(readings),
        candidates=nvidia_packages.candidates(readings),
        components=nvidia_packages.components(readings),
        headers=_yes(readings.text("kernel_headers")),
        next_kernel=next_one,
        next_module_version=next_kernel.module_version(readings, next_one) if next_one else None,
        nouveau_blocked=nvidia_module.nouveau_blocked(readings),
        unattended_upgrades=nvidia_packages.unattended(readings),
        display=_words(readings.text("display")),
        persistenced=_persistenced(readings),
        reboot_required=_reboot(readings, loaded, module),
        mok_pending=nvidia_module.mok_pending(readings),
        key_enrolled=nvidia_module.key_enrolled(readings),
        other_installs=nvidia_module.other_installs(readings),
        disk_free_mib=nvidia_module.disk_free_mib(readings),
        container_toolkit=_container_toolkit(readings),
        docker=_docker(readings),
        environment=environment,
        device_files=None if readings.text("dev_nvidia") is None else _words(readings.text("dev_nvidia")),
        gpus=gpu_health(readings, tuple(gpu.pci_address for gpu in gpus if gpu.pci_address)),
        nvswitches=nvswitches(readings),
        record=nvidia_module.record(readings),
    )
    return None if found == HostNvidia(environment=environment) else found


def user_environment(readings: Readings) -> Mapping[str, str]:
    """Variables of the user's that bear on the GPU and on numerical libraries, by name."""
    lines = re.findall(r"^([A-Z][A-Z0-9_]{1,60})=(.{1,4000})$", readings.text("user_environment") or "", re.MULTILINE)
    return {name: value for name, value in sorted(lines) if value.isprintable()}


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in (text or "").split() if word.isprintable()))


def _yes(text: str | None) -> bool | None:
    """The first line, "yes" or "no"."""
    return {"yes": True, "no": False}.get((text or "").partition("\n")[0].strip())


def _reboot(readings: Readings, loaded: str | None, module: KernelModule | None) -> bool | None:
    """The system says so, or the module in the kernel is another one than the module on disk."""
    if loaded and module and module.version and loaded != module.version:
        return True
    return _yes(readings.text("reboot_required"))


_PERSISTENCED: tuple[Literal["active", "enabled", "inactive", "absent"], ...] = (
    "active", "enabled", "inactive", "absent",
)  # fmt: skip


def _persistenced(readings: Readings) -> Literal["active", "enabled", "inactive", "absent"] | None:
    word = (readings.text("nvidia_persistenced") or "").strip()
    return next((each for each in _PERSISTENCED if each == word), None)


def _docker(readings: Readings) -> Literal["absent", "plain", "nvidia", "snap"] | None:
    # "docker /usr/bin/docker", then "runtime nvidia"
    text = readings.text("docker_nvidia")
    if text is None:
        return None
    program = re.search(r"^docker (/\S{1,400})$", text, re.MULTILINE)
    if program is None:
        return "absent"
    if program[1].startswith("/snap/"):
        return "snap"
    return "nvidia" if re.search(r"^runtime nvidia$", text, re.MULTILINE) else "plain"


def _container_toolkit(readings: Readings) -> str | None:
    # "NVIDIA Container Toolkit CLI version 1.17.4"
    name = "nvidia_ctk_version"
    return version(readings.text(name)) if readings.text(f"{name}.status") is None else None
