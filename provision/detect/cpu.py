"""The CPU: what its readings say, put together."""

from __future__ import annotations

import dataclasses

from provision.detect import cpuinfo, lscpu, sysctl
from provision.detect.cpuinfo import CpuReading
from provision.detect.levels import level
from provision.detect.microarchitecture import microarchitecture
from provision.detect.text import natural
from provision.model.facts import Cpu
from provision.model.readings import Readings

# Most trusted first: the kernel's own text, then a tool's view of it.
READERS = (
    (cpuinfo.READING, cpuinfo.read_cpuinfo),
    (lscpu.READING, lscpu.read_lscpu),
    (sysctl.READING, sysctl.read_sysctl),
)

# `uname -m` where it names an architecture otherwise than we do
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_ARCHS = ("x86_64", "aarch64", "ppc64le", "riscv64", "arm64", "amd64", "i686", "armv7l", "s390x", "ppc64")


def cpu_reading(readings: Readings) -> CpuReading | None:
    """All CPU readings in one, each field from the first that has it; None where no reading tells of a CPU."""
    found = [read for name, reader in READERS if (text := readings.text(name)) and (read := reader(text))]
    if not found:
        return None
    whole = found[0]
    for other in found[1:]:
        fields = dataclasses.fields(CpuReading)
        gaps = {field.name: getattr(other, field.name) for field in fields if getattr(whole, field.name) in (None, ())}
        whole = dataclasses.replace(whole, **gaps)
    return whole


def cpu_facts(readings: Readings) -> Cpu:
    read = cpu_reading(readings) or CpuReading()
    arch = _machine(readings) or read.arch
    read = dataclasses.replace(read, arch=arch)
    return Cpu(
        arch=arch,
        vendor=read.vendor,
        model_name=read.model_name,
        family=read.family,
        model=read.model,
        stepping=read.stepping,
        microarchitecture=microarchitecture(read),
        level=level(read.flags) if arch == "x86_64" else None,
        flags=read.flags,
        logical_cpus=read.logical_cpus or natural(readings.text("nproc")) or None,
        physical_cores=read.physical_cores or _topology_cores(readings),
        hypervisor=read.hypervisor,
    )


def _machine(readings: Readings) -> str | None:
    """`uname -a` ends "… x86_64 GNU/Linux", its machine once or thrice; `uname -m` decides over what cpuinfo hints."""
    words = (readings.text("uname_a") or "").split()
    machine = next((word for word in reversed(words) if word in _ARCHS), None)
    return _MACHINES.get(machine or "", machine)


def _topology_cores(readings: Readings) -> int | None:
    """Different (package, core) in lines "CPU PACKAGE CORE", from /sys/devices/system/cpu/cpu*/topology."""
    cores = set()
    for line in (readings.text("sys_cpu_topology") or "").splitlines():
        numbers = [natural(word) for word in line.split()]
        if len(numbers) == 3 and None not in numbers:
            cores.add((numbers[1], numbers[2]))
    return len(cores) or None
