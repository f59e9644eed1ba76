"""The microarchitecture's name: archspec's, where the CPU's own numbers bear it out, and None where it would mislead.

archspec is used for its table alone (names, features, parts): its own detection reads the machine that it runs on.
"""

from __future__ import annotations

import re
from typing import Any

from provision.detect.cpu_models import ARM_PARTS, x86_names
from provision.detect.cpuinfo import CpuReading

# archspec adds this one itself wherever ssse3 is; the kernel's name for SSE3 is "pni"
_ALIASES = frozenset({"sse3"})

# Part of every CPU with AVX, yet missing from archspec's older entries: says nothing against a name
_EVERYWHERE = frozenset({"xsave", "xsaveopt", "xsavec"})


def microarchitecture(cpu: CpuReading) -> str | None:
    namer = {"x86_64": _x86, "aarch64": _arm, "ppc64le": _power, "riscv64": _riscv}.get(cpu.arch or "")
    return namer(cpu) if namer is not None else None


def _targets() -> Any:
    from archspec.cpu import TARGETS  # 15 ms: only where there is a CPU to name

    return TARGETS


def _x86(cpu: CpuReading) -> str | None:
    """The deepest name whose features are all there, among those that family and model allow."""
    if not cpu.flags:
        return None
    targets, flags = _targets(), frozenset(cpu.flags)
    if cpu.family is not None and cpu.model is not None:
        allowed = x86_names(cpu.vendor, cpu.family, cpu.model)
        return _deepest([targets[name] for name in allowed if name in targets], flags)
    ours = [target for target in targets.values() if target.vendor == cpu.vendor and _is_under(target, "x86_64")]
    name = _deepest(ours, flags)
    known = frozenset().union(*(target.features for target in ours)) - _EVERYWHERE
    # Without family and model, a flag that the name does not have tells that it is another, unlisted CPU
    return name if name is not None and not (flags & known) - targets[name].features else None


def _is_under(target: Any, family: str) -> bool:
    return any(ancestor.name == family for ancestor in target.ancestors)


def _deepest(targets: list[Any], flags: frozenset[str]) -> str | None:
    fitting = [target for target in targets if target.features - _ALIASES <= flags]
    best = max(fitting, key=lambda target: (len(target.ancestors), len(target.features)), default=None)
    return None if best is None else str(best.name)


def _arm(cpu: CpuReading) -> str | None:
    """By part number, or by the name that lscpu and macOS give the core. Two kinds of core need one common name."""
    names = {_arm_part(cpu.vendor, part) for part in cpu.parts} or {_arm_name(cpu)}
    name = names.pop() if len(names) == 1 else None
    if name is None:
        return None
    # sysctl lists a part of the features only, and names the chip itself
    if cpu.vendor == "Apple" and not cpu.parts:
        return name
    return name if _targets()[name].features <= frozenset(cpu.flags) else None


def _arm_part(vendor: str | None, part: str) -> str | None:
    if (vendor or "", part) in ARM_PARTS:
        return ARM_PARTS[vendor or "", part]
    found = (
        target.name
        for target in _targets().values()
        if target.cpu_part == part and target.vendor.lower() == (vendor or "").lower()
    )
    return next(found, None)


def _arm_name(cpu: CpuReading) -> str | None:
    """ "Neoverse-V2" is neoverse_v2, "Apple M1 Pro" is m1; a chip that the table does not hold is nothing."""
    name = (cpu.uarch or "").lower()
    apple = re.match(r"apple (m\d{1,2})\b", name)
    name = apple[1] if apple else name.replace("-", "_")
    targets = _targets()
    return name if name in targets and _is_under(targets[name], "aarch64") else None


def _power(cpu: CpuReading) -> str | None:
    """POWER9 is "power9" in either byte order: archspec's "power9le" repeats what ``arch`` says."""
    match = re.match(r"POWER(\d{1,2})", cpu.uarch or "")
    name = f"power{match[1]}" if match else ""
    return name if name in _targets() else None


def _riscv(cpu: CpuReading) -> str | None:
    """ "sifive,u74-mc" is u74mc."""
    name = re.sub(r"[^a-z0-9]", "", (cpu.uarch or "").rpartition(",")[2].lower())
    targets = _targets()
    return name if name in targets and _is_under(targets[name], "riscv64") else None
