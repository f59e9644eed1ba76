"""A driver that works now, and is gone after a reboot into a kernel that an upgrade has brought since."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.plan import Reason
from provision.model.setup import PackageTable
from provision.resolve.packages import filled, of_release, place_of, table_for

INSTALL = {"apt": "apt-get install", "dnf": "dnf install"}


def next_boot_reasons(facts: Facts, catalog: Catalog, *, kept: bool) -> Iterator[Reason]:
    """``kept``: no driver is installed by this plan, which would make that kernel ready as well."""
    found = facts.nvidia
    if not kept or found is None or found.next_kernel is None or found.next_module_version is not None:
        return
    lines = _lines(table_for("nvidia_driver", facts, catalog), facts)
    yield Reason(
        rule="driver.next_kernel",
        text=f"{found.next_kernel} boots next and has no NVIDIA module: after a reboot there is no driver. Before it: "
        + lines,
    )


def _lines(table: PackageTable | None, facts: Facts) -> str:
    """To type: the signed modules that the running kernel has, for that one; else its headers, and a build."""
    place = place_of(facts)
    build = f"sudo dkms autoinstall -k {place.next_kernel}"
    if table is None:
        return f"install its headers, and {build}"
    packages = (each.name for each in (facts.nvidia.packages if facts.nvidia else ()))
    signed = [name for name in packages if re.match("linux-modules-nvidia-", name) and name.endswith(place.kernel)]
    if signed:
        names = [name.removesuffix(place.kernel) + place.next_kernel for name in signed]
        return f"sudo {INSTALL[table.manager]} {' '.join(sorted(names))}"
    headers = (each for row in of_release(table, place) for each in row.headers if "{kernel}" in each)
    name = filled(next(headers, "linux-headers-{kernel}"), {"{kernel}": place.next_kernel})
    return f"sudo {INSTALL[table.manager]} {name} && {build}"
