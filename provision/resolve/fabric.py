"""NVSwitches between the GPUs (HGX, DGX): CUDA starts only once nvidia-fabricmanager, of the driver's own release, has
set them up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from provision.model.facts import Facts
from provision.model.plan import Objection, Reason
from provision.model.setup import Manager, PackageSet

SERVICE = "nvidia-fabricmanager"
NAMES = re.compile(r"nvidia-fabric-?manager(-\d+)?")
"""With its branch in NVIDIA's and Ubuntu's archives, with a hyphen more in rpms before 580."""
NOT_ON_THE_BUS = re.compile(r"\bB[123]00\b")
"""HGX boards whose NVSwitches the host does not see: B100, B200, B300, always eight to a board. Of GB200 the switches'
own trays run it. (docs.nvidia.com/datacenter/tesla/fabric-manager-user-guide)"""
BOARD = 8
INSTALL: dict[Manager, str] = {"apt": "apt-get install '{name}={version}*'", "dnf": "dnf install '{name}-{version}*'"}
SUBNET: dict[Manager, str] = {"apt": "apt-get install nvlsm", "dnf": "dnf install nvlsm infiniband-diags"}
"""The NVLink Subnet Manager. (NVIDIA/gpu-driver-container:rhel9/install.sh@038c8b5f46c24e323485d0dd823ce435c1f19c9b)"""


def joined_by_nvswitch(facts: Facts) -> bool:
    return bool(facts.nvidia and facts.nvidia.nvswitches) or hidden_switches(facts)


def hidden_switches(facts: Facts) -> bool:
    return sum(bool(NOT_ON_THE_BUS.search(gpu.name or "")) for gpu in facts.gpus) >= BOARD


def with_fabric(rows: Iterator[PackageSet], facts: Facts) -> tuple[PackageSet, ...]:
    """The sets that are for this host; where it has NVSwitches, those that know the fabric manager, and with it."""
    if joined_by_nvswitch(facts):
        return tuple(replace(row, packages=(*row.packages, *row.fabric)) for row in rows if row.fabric)
    return tuple(row for row in rows if not row.nvswitch)


def no_fabric(branch: str, place: str, manager: Manager) -> Objection:
    line = INSTALL[manager].format(name=SERVICE, version=branch)
    return Objection(
        what=f"no package of nvidia-fabricmanager is known for {place}",
        why=f"NVSwitches join the GPUs here, and CUDA starts only with {SERVICE} of the driver's own release",
        hint=f"install driver {branch} by hand, and with it: sudo {line} && sudo systemctl enable {SERVICE}; reboot "
        "and plan again: a driver that works is kept. --device cpu does without",
    )


def fabric_reasons(facts: Facts, manager: Manager, name: str, *, kept: bool) -> Iterator[Reason]:
    """``name``: of the package, here; ``kept``: the driver is, and so nothing is installed."""
    switches = facts.nvidia.nvswitches if facts.nvidia else 0
    seen = f"{switches} NVSwitches are on the bus" if switches else "the GPUs of such a board are joined by NVSwitches"
    version = facts.driver.version
    line = f"sudo {INSTALL[manager].format(name=name, version=version)} && sudo systemctl enable --now {SERVICE}"
    here = _installed(facts)
    if not kept:
        yield Reason(rule="fabric", text=f"{seen}: {SERVICE} of the driver's own release is installed and enabled")
    elif here is None:
        yield Reason(
            rule="fabric.missing",
            text=f"{seen}: CUDA starts only with {SERVICE} of the driver's own release, and none is known to be here. "
            f"Where it is missing: {line}",
        )
    elif here != version:
        yield Reason(
            rule="fabric.mismatch",
            text=f"{seen}, and {SERVICE} {here} does not serve driver {version}: they have to be of one release. To "
            f"mend it: {line}",
        )
    if hidden_switches(facts):
        yield Reason(
            rule="fabric.subnet",
            text=f"HGX B200 and newer need the NVLink Subnet Manager besides, which provision does not install: "
            f"sudo {SUBNET[manager]} && sudo systemctl restart {SERVICE}",
        )


def _installed(facts: Facts) -> str | None:
    """Its release, "580.95.05"; None where it is not here, or nobody looked."""
    packages = facts.nvidia.packages if facts.nvidia else ()
    found = (each.version for each in packages if NAMES.fullmatch(each.name))
    return next((version.rpartition(":")[2].partition("-")[0] for version in found), None)
