"""A host in a folder and a package manager in memory, for the driver's modules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import playbook_target  # noqa: F401  makes ansible.module_utils.provision_* importable
from ansible.module_utils.provision_driver_box import Box, Said
from ansible.module_utils.provision_failure import Failure

KERNEL = "6.1.0-28-amd64"
MODINFO = """\
filename:       /lib/modules/{kernel}/updates/dkms/nvidia.ko
license:        {licence}
version:        {version}
vermagic:       {kernel} SMP preempt mod_unload modversions
signer:         DKMS module signing key
"""


class FakeBox(Box):
    """``module``: (version, licence) of the one on disk, or None, for the kernels ``built_for``. ``answers``: (status,
    words) by a command's begin."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), str(root), self.told_of)
        self.root, self.kernel = root, KERNEL
        self.told: list[str] = []
        self.module: tuple[str, str] | None = None
        self.built_for = {KERNEL}
        self.answers: dict[str, tuple[int, str]] = {}
        self.commands: list[str] = []
        self.put("/proc/sys/kernel/random/boot_id", "boot-1\n")
        self.put("/proc/modules", "")
        self.put("/var/lib/provision/.keep", "")
        self.put(f"/lib/modules/{KERNEL}/build/Makefile", "")
        for program in ("update-initramfs", "dracut"):
            self.put(f"/usr/sbin/{program}", "")

    def told_of(self, text: str) -> None:
        self.told.append(text)

    def put(self, path: str, text: str | bytes) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)

    def card(self, address: str = "0000:01:00.0", driver: str = "") -> None:
        folder = f"/sys/bus/pci/devices/{address}"
        self.put(f"{folder}/vendor", "0x10de\n")
        self.put(f"{folder}/class", "0x030000\n")
        if driver:
            (self.root / folder.lstrip("/") / "driver").symlink_to(f"../../drivers/{driver}")

    def libraries(self, version: str) -> None:
        for path in (self.root / "usr/lib64").glob("*") if (self.root / "usr/lib64").is_dir() else []:
            path.unlink()
        if version:
            self.put(f"/usr/lib64/libnvidia-ml.so.{version}", "")

    def run(self, argv: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float | None = None) -> Said:
        words = " ".join(argv)
        self.commands.append(words)
        for begins, (status, said) in self.answers.items():
            if words.startswith(begins):
                return Said(status, "" if status else said, said if status else "")
        if argv[0] == "modinfo":
            if self.module is None or argv[-1] != "nvidia" or argv[2] not in self.built_for:
                return Said(1, "", f"modinfo: ERROR: Module {argv[-1]} not found.")
            return Said(0, MODINFO.format(kernel=argv[2], version=self.module[0], licence=self.module[1]), "")
        if argv[:3] == ["dkms", "autoinstall", "-k"] and self.at(f"/lib/modules/{argv[3]}/build/Makefile").exists():
            self.built_for.add(argv[3])
        return Said(0, "", "")


class FakeManager:
    """Packages by name; ``offers`` are the candidates. Installing ``makes`` things happen on the box."""

    def __init__(self, box: FakeBox, offers: Mapping[str, Sequence[str]], repository: str = "cuda-x") -> None:
        self.box, self.repository = box, repository
        self.offers = {name: list(versions) for name, versions in offers.items()}
        self.there: dict[str, str] = {}
        self.holds: list[str] = []
        self.calls: list[str] = []
        self.fails: dict[str, Failure] = {}
        self.builds = True

    def candidates(self, names: Sequence[str], repositories: Any = (), components: Any = ()) -> dict[str, Any]:
        rows = {name: self.offers.get(name, []) for name in names}
        return {name: [{"version": one, "repository": self.repository} for one in some] for name, some in rows.items()}

    def installed(self, patterns: Sequence[str]) -> dict[str, str]:
        shapes = [re.compile(re.escape(one).replace(r"\*", ".*")) for one in patterns]
        return {name: one for name, one in self.there.items() if any(shape.fullmatch(name) for shape in shapes)}

    def origin(self, name: str) -> str:
        return self.repository if name in self.there else ""

    def held(self) -> list[str]:
        return list(self.holds)

    def _call(self, name: str, *words: str) -> None:
        self.calls.append(" ".join([name, *words]))
        failure = next((found for begins, found in self.fails.items() if self.calls[-1].startswith(begins)), None)
        if failure is not None:
            raise failure

    def fetch(self, packages: Mapping[str, str], folder: Path) -> None:
        self._call("fetch", *sorted(packages))
        for name, version in packages.items():
            (folder / f"{name}_{version}_amd64.deb").write_text("")

    def install(self, packages: Sequence[tuple[str, str]], files: Sequence[Any] = (), downgrade: bool = False) -> None:
        self.there.update(packages)  # one that fails leaves what it has unpacked
        self._call("downgrade" if downgrade else "install", *(f"{name}={version}" for name, version in packages))
        for name, version in packages:
            if re.search("kernel|kmod|dkms-", name) and self.builds:
                release = version.rpartition(":")[2].partition("-")[0]
                self.box.module = (release, "Dual MIT/GPL" if "open" in name else "NVIDIA")
                self.box.libraries(release)

    def remove(self, names: Sequence[str]) -> None:
        self._call("remove", *names)
        for name in names:
            self.there.pop(name, None)
            if re.search("kernel|kmod", name):
                self.box.module = None
                self.box.libraries("")

    def rehearse(
        self, packages: Sequence[tuple[str, str]], repositories: Any = (), components: Any = (), lock: str = ""
    ) -> Any:
        class Rehearsal:
            removed: Sequence[str] = ()

        self._call("rehearse")
        return Rehearsal()

    def hold(self, names: Sequence[str]) -> None:
        self._call("hold", *names)
        self.holds = sorted({*self.holds, *names})

    def unhold(self, names: Sequence[str]) -> None:
        self._call("unhold", *names)
        self.holds = [name for name in self.holds if name not in names]

    def repair(self) -> None:
        self._call("repair")

    def stream(self, name: str) -> None:
        self._call("stream", name)

    def lock(self, pattern: str) -> None:
        self._call("lock", pattern)

    def unlock(self, pattern: str) -> None:
        self._call("unlock", pattern)
