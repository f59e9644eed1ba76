"""Which set of packages brings a driver, a toolkit or cuDNN to a host: rows of the roles' tables, filled for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.nvidia import Flavour, PackageCandidate
from provision.model.setup import PackageSet, PackageTable, Repository, RepositoryRow, SetupPackage
from provision.model.versions import Dotted
from provision.resolve.fabric import SERVICE, with_fabric

MAJORS = frozenset({"debian", "rhel", "rocky", "almalinux", "centos", "ol", "fedora"})
"""Distributions whose tables go by the major release: "9" of Rocky 9.4."""
DEB_ARCHS = {"x86_64": "amd64", "aarch64": "arm64"}
REPOSITORY_ARCHS = {"aarch64": "sbsa"}
"""What NVIDIA's repositories call a machine, where that is another name: servers with Arm's architecture."""
DISTRIBUTION = "distribution"
NVIDIAS = "NVIDIA"
RPM_FUSION = "RPM Fusion"
RPM_FUSIONS = ("akmod-nvidia", "xorg-x11-drv-nvidia")
"""Names that only RPM Fusion's packages of the driver have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A host as the tables know hosts. Raises nothing: what is not known is empty."""

    distribution: str
    release: str
    arch: str
    kernel: str
    next_kernel: str = ""
    """Of the next boot, where that takes another."""

    @property
    def flavour(self) -> str:
        """ "generic" of 6.8.0-60-generic; "amd64" of 6.1.0-18-amd64."""
        return self.kernel.rpartition("-")[2] if "-" in self.kernel else ""

    @property
    def text(self) -> str:
        return f"{self.distribution} {self.release}".strip()

    def words(self, more: Mapping[str, str]) -> dict[str, str]:
        return {
            "{kernel}": self.kernel,
            "{flavour}": self.flavour,
            "{release}": self.release,
            "{release_digits}": self.release.replace(".", ""),
            "{arch}": REPOSITORY_ARCHS.get(self.arch, self.arch),
            "{deb_arch}": DEB_ARCHS.get(self.arch, self.arch),
            **more,
        }


def place_of(facts: Facts) -> Place:
    system = facts.system.os
    release = system.version_id or ""
    return Place(
        distribution=system.id or "",
        release=release.split(".")[0] if system.id in MAJORS else release,
        arch=facts.cpu.arch or "x86_64",
        kernel=facts.system.kernel or "",
        next_kernel=(facts.nvidia.next_kernel if facts.nvidia else None) or "",
    )


def filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def names_of(templates: Iterable[str], place: Place, more: Mapping[str, str]) -> tuple[str, ...]:
    """Names of packages; those of a kernel's for the next boot's as well, so that no reboot loses the driver."""
    words = place.words(more)
    later = {**words, "{kernel}": place.next_kernel} if place.next_kernel else words
    return tuple(dict.fromkeys(filled(each, one) for each in templates for one in (words, later)))


def table_for(role: str, facts: Facts, catalog: Catalog) -> PackageTable | None:
    """None where no table has this distribution."""
    place = place_of(facts)
    name = "wsl" if facts.system.wsl and role in ("cuda_toolkit", "cudnn") else place.distribution
    return catalog.packages(role, name)


def of_release(table: PackageTable, place: Place) -> tuple[PackageSet, ...]:
    return tuple(row for row in table.sets if place.release in row.releases and place.arch in row.archs)


def driver_sets(
    table: PackageTable, facts: Facts, branch: str, module: Flavour, *, prebuilt_only: bool = False
) -> tuple[PackageSet, ...]:
    """The sets that bring this branch and flavour here, best first; none where the package lists say otherwise.

    A host stays in the world that its packages come from, the distribution's or NVIDIA's: no set of the other is taken.
    """
    world = world_of(table, facts)
    return tuple(
        row
        for row in sets_of(table, facts, branch, module)
        if (not prebuilt_only or row.build == "prebuilt")
        and not lacking(row, facts, {"{branch}": branch})
        and world in (None, world_name(row))
    )


def sets_of(table: PackageTable, facts: Facts, branch: str, module: Flavour) -> tuple[PackageSet, ...]:
    """By the tables alone."""
    return with_fabric(_with_display(_of_branch(table, place_of(facts), branch, module), facts), facts)


def _with_display(rows: Iterator[PackageSet], facts: Facts) -> Iterator[PackageSet]:
    """A desktop that nouveau draws must not be left without anything that draws it."""
    shown = facts.nvidia is not None and bool(facts.nvidia.display)
    return (replace(row, packages=(*row.packages, *row.display)) if shown else row for row in rows)


def _of_branch(table: PackageTable, place: Place, branch: str, module: Flavour) -> Iterator[PackageSet]:
    return (
        row
        for row in of_release(table, place)
        if row.module == module
        and (branch in row.branches if row.branches else _from(row.first_branch, branch))
        and (not row.flavours or place.flavour in row.flavours)
    )


def lacks_fabric(table: PackageTable, facts: Facts, branch: str, module: Flavour) -> bool:
    """Whether sets bring the branch here, and none of them the fabric manager that this host needs."""
    found = any(not row.nvswitch for row in _of_branch(table, place_of(facts), branch, module))
    return found and not sets_of(table, facts, branch, module)


def fabric_name(table: PackageTable, facts: Facts, branch: str, module: Flavour) -> str:
    """Of the package in the repository that the driver here came from; the most common one where none is known."""
    world = world_of(table, facts)
    rows = [row for row in sets_of(table, facts, branch, module) if world in (None, world_name(row))]
    names = [filled(name, {"{branch}": branch}) for row in rows for name in row.fabric]
    return names[0] if names else SERVICE


def _from(first: str, branch: str) -> bool:
    return not first or Dotted(branch) >= Dotted(first)


def world_name(row: PackageSet) -> str:
    return DISTRIBUTION if row.repository == DISTRIBUTION else NVIDIAS


def world_of(table: PackageTable, facts: Facts) -> str | None:
    """Where the driver packages that are here came from: "distribution", "NVIDIA", or "RPM Fusion". None where there
    are none, or where that cannot be told. They must not be mixed: the same names mean other packages in them."""
    names = driver_packages(facts)
    if table.manager == "dnf":
        return RPM_FUSION if any(name.startswith(RPM_FUSIONS) for name in names) else None
    if not any(
        name == "nvidia-driver" or name.startswith(("nvidia-driver-", "cuda-drivers", "nvidia-open")) for name in names
    ):
        return None
    ours = any(name == "nvidia-driver-cuda" or name.startswith(("cuda-drivers", "nvidia-open")) for name in names)
    return NVIDIAS if ours or _shown_as_nvidias(facts) else DISTRIBUTION


def driver_packages(facts: Facts) -> tuple[str, ...]:
    """Installed packages by which it shows where the driver came from, sorted."""
    packages = facts.nvidia.packages if facts.nvidia else ()
    marks = re.compile(r"nvidia-(driver|kernel|dkms|smi|tesla|utils)|nvidia-open(-\d+)?$|cuda-drivers|libcuda1")
    return tuple(sorted(each.name for each in packages if marks.match(each.name) or each.name.startswith(RPM_FUSIONS)))


def installed_version(facts: Facts) -> str | None:
    """The newest of the driver's packages, "580.95.05"; None where there are none, or where they are not of one branch.
    An upgrade that was cut off leaves two releases of one."""
    names = set(driver_packages(facts))
    packages = facts.nvidia.packages if facts.nvidia else ()
    found = {each.version.rpartition(":")[2].partition("-")[0] for each in packages if each.name in names}
    versions = {version for version in found if re.fullmatch(r"\d{3,4}(\.\d+){1,2}", version)}
    one_branch = len({version.split(".")[0] for version in versions}) == 1
    return max(versions, key=Dotted) if one_branch else None


def _shown_as_nvidias(facts: Facts) -> bool:
    """Whether the installed nvidia-driver is the very version that the lists have of NVIDIA's repository."""
    found = facts.nvidia
    if found is None or not found.candidates:
        return False
    here = {(each.name, each.version) for each in found.packages if each.name.startswith("nvidia-driver")}
    return any((each.name, each.version) in here and _from_nvidia(each) for each in found.candidates)


def _from_nvidia(candidate: PackageCandidate) -> bool:
    return "/cuda/repos/" in candidate.repository or candidate.repository.startswith("cuda-")


def lacking(row: PackageSet, facts: Facts, more: Mapping[str, str]) -> tuple[str, ...]:
    """Its packages that are not here and have no candidate of the right version in the distribution's lists.

    None where nobody asked, where the part of the archive that has them is not switched on yet, or where they come from
    a repository that is not configured yet.
    """
    found = facts.nvidia
    if found is None or found.candidates is None or row.repository != DISTRIBUTION:
        return ()
    if found.components is not None and not set(row.components) <= set(found.components):
        return ()
    place = place_of(facts)
    words = place.words(more)
    here = (PackageCandidate(name=one.name, version=one.version, repository="") for one in found.packages or ())
    known = (*found.candidates, *here)
    names = names_of(row.packages, place, more)
    return tuple(name for name in names if not _has(known, name, _version(row, name, words)))


def _has(known: Iterable[PackageCandidate], name: str, version: str) -> bool:
    """Debian's "1:535.261" is 535.261 upstream."""
    return any(
        each.name == name and each.version.rpartition(":")[2].startswith(version) and not _from_nvidia(each)
        for each in known
    )


def _version(row: PackageSet, name: str, words: Mapping[str, str]) -> str:
    """What its version begins with. Packages of a kernel's modules are numbered as the kernel is."""
    return "" if name.startswith("linux-") else filled(row.version, words)


def packages_of(row: PackageSet, facts: Facts, more: Mapping[str, str]) -> tuple[SetupPackage, ...]:
    place = place_of(facts)
    words = place.words(more)
    source = row.repository if row.repository == DISTRIBUTION else repository_id(row.repository, facts)
    names = names_of(row.packages, place, more)
    return tuple(SetupPackage(name=name, repository=source, version=_version(row, name, words)) for name in names)


def repository_id(name: str, facts: Facts) -> str:
    """ "cuda-debian12-x86_64"."""
    place = place_of(facts)
    if name != "cuda":
        return name
    return f"cuda-{'wsl-ubuntu' if facts.system.wsl else place.text.replace(' ', '')}-{place.arch}"


def repository_of(row: PackageSet, table: PackageTable, facts: Facts) -> Repository | None:
    """What has to be configured for it; None for the distribution's own."""
    if row.repository == DISTRIBUTION:
        return None
    place = place_of(facts)
    found = next((each for each in table.repositories if _serves(each, row, place)), None)
    if found is None:
        return None
    words = place.words({})
    return Repository(
        id=repository_id(row.repository, facts),
        manager=table.manager,
        url=filled(found.url, words),
        suite=found.suite,
        components=found.components,
        key_url=filled(found.key_url, words),
        fingerprint=found.fingerprint,
    )


def _serves(repository: RepositoryRow, row: PackageSet, place: Place) -> bool:
    return (
        repository.id == row.repository
        and place.release in repository.releases
        and (not repository.archs or place.arch in repository.archs)
    )
