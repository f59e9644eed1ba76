"""What of NVIDIA's is to be installed or confirmed on a host for a solution, as data for the roles."""

from __future__ import annotations

from provision.model.catalog import Catalog
from provision.model.facts import Facts
from provision.model.nvidia import DriverRecord, Flavour
from provision.model.request import Request
from provision.model.setup import (
    DriverSetup,
    Manager,
    NvidiaSetup,
    PackageSet,
    PackageSetup,
    PackageTable,
    Repository,
    SetupPackage,
)
from provision.resolve.fabric import NAMES
from provision.resolve.packages import (
    driver_sets,
    filled,
    names_of,
    of_release,
    packages_of,
    place_of,
    repository_of,
    table_for,
)
from provision.resolve.solve import Solution
from provision.resolve.targets import ONLY_THEMSELVES, capability, targets

ROLES = ("cuda_toolkit", "cudnn")


def nvidia_setup(solution: Solution, facts: Facts, request: Request, catalog: Catalog) -> NvidiaSetup | None:
    """None where nothing of NVIDIA's is to be done, or where no table knows the distribution (the steps say so)."""
    parts = _Parts(facts, request, catalog)
    uses_gpu = any(each.candidate.build.device == "cuda" for each in solution.chosen)
    driver = parts.driver(solution) if uses_gpu else None
    toolkit = parts.package("cuda_toolkit", missing_version("cuda_toolkit", solution, facts))
    cudnn = parts.package("cudnn", missing_version("cudnn", solution, facts), cuda=_cuda(solution))
    container = parts.package("nvidia_container_toolkit", _container_toolkit(facts, request))
    if driver is None and toolkit is None and cudnn is None and container is None:
        return None
    return NvidiaSetup(
        manager=parts.manager,
        distribution=place_of(facts).text,
        repositories=tuple({each.id: each for each in parts.repositories}.values()),
        driver=driver,
        persistenced=driver is not None,
        fabricmanager=driver is not None and any(NAMES.fullmatch(each.name) for each in driver.packages),
        cuda_toolkit=toolkit,
        cudnn=cudnn,
        container_toolkit=container,
    )


def pending(facts: Facts) -> DriverRecord | None:
    """The record of a driver that an earlier run installed, which works now and has not been confirmed yet."""
    record = facts.nvidia.record if facts.nvidia else None
    if record is None or record.state != "installed" or facts.driver.state != "working":
        return None
    return record


class _Parts:
    """Sets found so far, and the repositories that they need."""

    def __init__(self, facts: Facts, request: Request, catalog: Catalog) -> None:
        self._facts, self._request, self._catalog = facts, request, catalog
        self.repositories: list[Repository] = []
        self.manager: Manager = "apt"

    def _table(self, role: str) -> PackageTable | None:
        """Read where something is to be done and not before: a plan without a GPU does not pay for it."""
        table = table_for(role, self._facts, self._catalog)
        self.manager = table.manager if table else self.manager
        return table

    def driver(self, solution: Solution) -> DriverSetup | None:
        if solution.driver.action == "none":
            record = pending(self._facts)
            return None if record is None else self._confirmed(record)
        table = self._table("nvidia_driver")
        branch, module = solution.driver.branch, solution.driver.module
        if table is None or branch is None or module is None:
            return None
        found = driver_sets(table, self._facts, branch, module)
        if not found:
            return None
        return self._installed(found[0], table, solution, branch, module)

    def _installed(
        self, row: PackageSet, table: PackageTable, solution: Solution, branch: str, module: Flavour
    ) -> DriverSetup:
        place, more = place_of(self._facts), {"{branch}": branch}
        words = place.words(more)
        self._use(row, table)
        return DriverSetup(
            action="upgrade" if solution.driver.action == "upgrade" else "install",
            branch=branch,
            version=solution.driver.version,
            module=module,
            build=row.build,
            packages=packages_of(row, self._facts, more),
            headers=(*names_of(row.headers, place, more), *self._keys(row, table)),
            next_kernel=place.next_kernel,
            components=row.components,
            stream=filled(row.stream, words),
            lock=filled(row.lock, words),
            gpus=self._gpus(),
            secure_boot=self._facts.system.secure_boot,
        )

    def _keys(self, row: PackageSet, table: PackageTable) -> tuple[str, ...]:
        return table.secure_boot if row.build == "dkms" and self._facts.system.secure_boot else ()

    def _confirmed(self, record: DriverRecord) -> DriverSetup:
        self._table("nvidia_driver")
        return DriverSetup(
            action="confirm",
            branch=record.branch,
            version=record.version,
            module=record.module,
            build="dkms",
            packages=tuple(SetupPackage(name=each.name, repository="", version="") for each in record.packages),
            gpus=self._gpus(),
            secure_boot=self._facts.system.secure_boot,
        )

    def _gpus(self) -> int:
        return sum(each.gpu is not None for each in targets(self._facts, self._request))

    def package(self, role: str, version: str | None, *, cuda: str | None = None) -> PackageSetup | None:
        table = self._table(role) if version is not None and not self._on_jetson() else None
        if table is None or version is None:
            return None
        major = version.split(".")[0]
        found = [
            row
            for row in of_release(table, place_of(self._facts))
            if not row.versions or version in row.versions or major in row.versions
        ]
        if not found:
            return None
        self._use(found[0], table)
        words = {
            "{version}": self._wanted(role, version),
            "{version_dashed}": "-".join(version.split(".")[:2]),
            "{cuda_major}": (cuda or "").split(".")[0],
        }
        return PackageSetup(version=version, packages=packages_of(found[0], self._facts, words))

    def _on_jetson(self) -> bool:
        """Their CUDA is JetPack's: NVIDIA's repositories for Arm servers have none that runs there."""
        return any(str(each.capability) in ONLY_THEMSELVES for each in targets(self._facts, self._request))

    def _wanted(self, role: str, version: str) -> str:
        """cuDNN's last release with kernels for GPUs before Turing (cudnn.toml); any of the major otherwise."""
        found = [each.capability for each in targets(self._facts, self._request) if each.capability]
        turing = capability("7.5")
        old = turing is not None and any(each < turing for each in found)
        return LAST_CUDNN if role == "cudnn" and version.startswith("9") and old else version.split(".")[0] + "."

    def _use(self, row: PackageSet, table: PackageTable) -> None:
        repository = repository_of(row, table, self._facts)
        if repository is not None:
            self.repositories.append(repository)


LAST_CUDNN = "9.10.2"


def missing_version(role: str, solution: Solution, facts: Facts) -> str | None:
    """The CUDA toolkit or cuDNN that a chosen build neither brings nor finds here; None where there is none."""
    for each in solution.chosen:
        build = each.candidate.build
        if build.device != "cuda" or build.bundles_cuda:
            continue
        toolkit = role == "cuda_toolkit"
        needed, here = (build.cuda, facts.toolkit.cuda) if toolkit else (build.cudnn, facts.toolkit.cudnn)
        parts = 2 if toolkit else 1
        if needed and (here is None or here.split(".")[:parts] != needed.split(".")[:parts]):
            return needed
    return None


def _cuda(solution: Solution) -> str | None:
    return next((each.candidate.build.cuda for each in solution.chosen if each.candidate.build.cuda), None)


def _container_toolkit(facts: Facts, request: Request) -> str | None:
    """ "any" where it was asked for and Docker does not have it yet."""
    done = facts.nvidia is not None and facts.nvidia.container_toolkit is not None and facts.nvidia.docker == "nvidia"
    return "any" if request.container_toolkit and not done else None
