"""apt and dpkg: what can be had (asked without a change), what is there, changes, holds, and repair."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.provision_apt_sources import files_of, more_components, plain_address, switched_off
from ansible.module_utils.provision_apt_words import (
    about,
    arguments,
    distribution_addresses,
    failed_addresses,
    installed_mib,
    pins,
    policy_rows,
    preferences,
    preferences_apart,
    simulated,
)
from ansible.module_utils.provision_failure import Failure, os_failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_packages_run import (
    BROKEN,
    ENGLISH,
    LOCK_WAIT_S,
    Manager,
    Rehearsal,
    Run,
    meaning,
)
from ansible.module_utils.provision_repository import codename, fetched_key, sources_text

QUIET = {
    **ENGLISH, "DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "APT_LISTCHANGES_FRONTEND": "none",
    "UCF_FORCE_CONFFOLD": "1", "NEEDRESTART_MODE": "l", "NEEDRESTART_SUSPEND": "1",
}  # fmt: skip
"""Nobody is there to answer questions, and no service is restarted behind a training run's back."""
KEEP = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
"""Configuration files that somebody has changed stay as they are."""
PINS = "etc/apt/preferences.d/provision-{name}.pref"
DRIVER = "*nvidia* libcuda* libnvcuvid* libnvoptix* libxnvctrl* cuda-drivers*"
DRIVER_NAMES = (
    "nvidia-driver*", "nvidia-kernel-*", "nvidia-dkms-*", "nvidia-open*", "nvidia-headless*", "nvidia-utils*",
    "nvidia-compute-utils*", "nvidia-modprobe", "nvidia-persistenced", "nvidia-smi*", "libnvidia-*", "libcuda1*",
    "cuda-drivers*", "xserver-xorg-video-nvidia*", "firmware-nvidia*",
)  # fmt: skip
APART = "etc/apt/preferences.d/provision-driver-apart.pref"
SCRATCH = """\
Dir::State::lists "{folder}/lists/";
Dir::Cache "{folder}/cache/";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/sources.list.d/";
Dir::Etc::preferencesparts "{folder}/preferences.d/";
Acquire::Languages "none";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
"""Hooks of apt-get update (package catalogues, notices) write outside of apt's own folders: they are cleared."""


class Apt:
    name = "apt"

    def __init__(
        self, run: Run, env: Mapping[str, str] | None = None, lock_wait_s: float = LOCK_WAIT_S,
        hear: Callable[[str], None] = lambda _: None, root: Path = Path("/"),
    ) -> None:  # fmt: skip
        self._manager = Manager(run, {**QUIET, **(env or {})}, lock_wait_s, hear)
        self._root = root

    # --- questions ---------------------------------------------------------------------------------------------------

    def candidates(
        self, names: Sequence[str], repositories: Sequence[Mapping[str, Any]] = (), components: Sequence[str] = ()
    ) -> dict[str, list[dict[str, str]]]:
        if not names:
            return {}
        with self._scratch(repositories, components) as folder:
            options = ("-c", str(folder / "apt.conf"))
            update = self._manager.ask(["apt-get", *options, "-q", "update"])
            said = f"{update.stdout}\n{update.stderr}"
            refused = failed_addresses(said)
            for one in repositories:
                if any(plain_address(address).startswith(plain_address(one["url"])) for address in refused):
                    raise meaning(about(said, one["url"]), f"ask {one['url']} for its packages")
            answer = self._manager.ask(["apt-cache", *options, "policy", *names], "ask for packages")
            origins = self._manager.ask(["apt-cache", *options, "policy"], "ask for packages")
        homes = {str(one["url"]): str(one["id"]) for one in repositories}
        found = policy_rows(answer.stdout, {**distribution_addresses(origins.stdout), **homes})
        if update.status != 0 and not all(found.get(name) for name in names):
            # what is missing may be in what did not answer
            raise meaning(said, "ask the repositories for their packages")
        return {name: found.get(name, []) for name in names}

    @contextlib.contextmanager
    def _scratch(self, repositories: Sequence[Mapping[str, Any]], components: Sequence[str]) -> Iterator[Path]:
        """A folder with this host's sources, the given repositories and lists of their own."""
        with tempfile.TemporaryDirectory(prefix="provision-apt-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # apt reads and writes it as the user _apt
            try:
                self._fill(folder, repositories, components)
            except OSError as error:
                raise os_failure(error, "ask for packages") from error
            yield folder

    def _fill(self, folder: Path, repositories: Sequence[Mapping[str, Any]], components: Sequence[str]) -> None:
        for part in ("lists/partial", "cache/archives/partial", "sources.list.d", "preferences.d"):
            (folder / part).mkdir(parents=True)
        for path in self._pin_files("*"):
            if path.name == Path(APART).name:  # it is lifted before a driver is installed
                continue
            shutil.copy2(path, folder / "preferences.d" / path.name)
        texts = {path.name: path.read_text(errors="replace") for path in files_of(self._root)}
        for name, text in texts.items():
            for one in repositories:
                text = switched_off(text, name, one["url"], one["id"])
            target = folder / name if name == "sources.list" else folder / "sources.list.d" / name
            target.write_text(text)
        more = more_components(texts, codename(self._root), tuple(components)) if components else ""
        if more:
            (folder / "sources.list.d" / "components.sources").write_text(more)
        for one in repositories:
            keyring = folder / f"{one['id']}.gpg"
            keyring.write_bytes(fetched_key(one, self._root))
            (folder / "sources.list.d" / f"asked-{one['id']}.sources").write_text(sources_text(one, str(keyring)))
        (folder / "apt.conf").write_text(SCRATCH.format(folder=folder))
        lists = self._root / "var/lib/apt/lists"
        for path in lists.iterdir() if lists.is_dir() else ():
            if path.is_file() and path.name != "lock":  # what is current already is not fetched again
                shutil.copy2(path, folder / "lists" / path.name)

    def installed(self, patterns: Iterable[str]) -> dict[str, str]:
        return {name: version for name, version, _ in self._dpkg(patterns)}

    def broken(self) -> list[str]:
        """Packages that are neither installed nor gone: a script failed, or a run was killed."""
        return sorted(name for name, _, state in self._dpkg(()) if state != "i")

    def _dpkg(self, patterns: Iterable[str]) -> list[tuple[str, str, str]]:
        """(name, version, second letter of the status) of what is there at least in part."""
        form = "${db:Status-Abbrev}\t${Package}\t${Version}\n"
        out = self._manager.ask(["dpkg-query", "-W", "-f", form, *patterns]).stdout
        rows = [line.split("\t") for line in out.splitlines() if line.count("\t") == 2]
        return [(name, version, state[1]) for state, name, version in rows if state[1:2] not in ("n", "c")]

    def origin(self, name: str) -> str:
        answer = self._manager.ask(["apt-cache", "policy", name], "ask for packages").stdout
        version = re.search(r"^  Installed: (\S+)$", answer, re.M)
        if version is None or version.group(1) == "(none)":
            return ""
        addresses = distribution_addresses(self._manager.ask(["apt-cache", "policy"]).stdout)
        rows = policy_rows(answer, addresses).get(name, [])
        return next((row["repository"] for row in rows if row["version"] == version.group(1)), "")

    def held(self) -> list[str]:
        """Names, and the patterns of versions that ``lock`` keeps."""
        holds = self._manager.ask(["apt-mark", "showhold"], "ask which packages are held").stdout.split()
        return [*holds, *(pattern for path in self._pin_files("provision-*.pref") for pattern in pins(path))]

    def rehearse(
        self,
        packages: Sequence[tuple[str, str]],
        repositories: Sequence[Mapping[str, Any]] = (),
        components: Sequence[str] = (),
        lock: str = "",
        names: str = DRIVER,
    ) -> Rehearsal:
        """What ``install`` would do, from the given repositories and with a lock. Raises Failure as it would."""
        with self._scratch(repositories, components) as folder:
            if lock:
                (folder / "preferences.d" / self._pin_file(names).name).write_text(preferences(lock, names))
            options = ["-c", str(folder / "apt.conf"), "-q"]
            update = self._manager.ask(["apt-get", *options, "update"])
            # --simulate: --assume-no installs all the same where nothing has to be asked
            done = self._manager.ask(["apt-get", *options, "--simulate", "install", *arguments(packages, ())])
            if done.status != 0:
                said = "\n".join([update.stderr if update.status else "", done.stdout, done.stderr])
                failure = meaning(said, f"install {_list(name for name, _ in packages)}")
                raise self._mixed(failure, [name for name, _ in packages])
            new, removed = simulated(done.stdout)
            words = [f"{name}={version}" for name, version in new.items()]
            sizes = self._manager.ask(["apt-cache", *options, "show", *words]).stdout if words else ""
        there = self.installed(new)
        return Rehearsal(sorted(set(new) - set(there)), removed, installed_mib(sizes))

    def fetch(self, packages: Mapping[str, str] | Iterable[str], folder: Path | str) -> dict[str, str]:
        versions = dict(packages) if isinstance(packages, Mapping) else self.installed(packages)
        found = {}
        for name, version in versions.items():
            path = self._fetched(name, version, Path(folder))
            if path is not None:
                found[name] = str(path)
        return found

    def _fetched(self, name: str, version: str, folder: Path) -> Path | None:
        wanted = f"{name}_{version.replace(':', '%3a')}_"
        kept = [path for path in folder.glob("*.deb") if path.name.startswith(wanted)]
        if kept:
            return kept[0]
        cache = self._root / "var/cache/apt/archives"
        for path in cache.glob("*.deb") if cache.is_dir() else ():
            if path.name.startswith(wanted):
                return Path(shutil.copy2(path, folder / path.name))
        # apt-get download writes where it is started
        script = 'cd "$1" && shift && exec apt-get -q download "$@"'
        self._manager.ask(["sh", "-c", script, "sh", str(folder), f"{name}={version}"])
        return next((path for path in folder.glob("*.deb") if path.name.startswith(wanted)), None)

    # --- changes -----------------------------------------------------------------------------------------------------

    def install(
        self, packages: Sequence[tuple[str, str]], files: Sequence[Path | str] = (), downgrade: bool = False
    ) -> None:
        words = arguments(packages, files)
        if not words:
            return
        doing = f"install {_list(name for name, _ in packages) or _list(Path(path).name for path in files)}"
        refreshed = None
        try:
            self._manager.change(["apt-get", "-q", "update"], "ask the repositories for their packages")
        except Failure as failure:
            refreshed = failure  # another repository's trouble need not be ours: what is missing will tell
        argv = ["apt-get", "-y", "-q", *KEEP]
        if downgrade:
            argv.append("--allow-downgrades")
        if {name for name, _ in packages} & set(self.held()):
            argv.append("--allow-change-held-packages")
        try:
            self._installed(argv, words, doing)
        except Failure as failure:
            if refreshed is not None and failure.kind in ("no_candidate", "offline"):
                raise refreshed from failure
            raise self._mixed(failure, [name for name, _ in packages]) from failure

    def _installed(self, argv: Sequence[str], words: Sequence[str], doing: str) -> None:
        try:
            self._manager.change([*argv, "install", *words], doing)
        except Failure as failure:
            if failure.kind != "interrupted_packages":
                raise
            self.repair()
            self._manager.change([*argv, "install", *words], doing)

    def _mixed(self, failure: Failure, names: Sequence[str]) -> Failure:
        """Dependencies that cannot be met because packages of two makers are mixed, as that."""
        if failure.kind != BROKEN:
            return failure
        told = set(re.findall(r"^ *(\S+) : ", failure.why, re.M)) | set(re.findall(r"Depends: (\S+)", failure.why))
        there = self.installed(sorted(told | set(names)))
        homes = {name: self.origin(name) for name in there}
        if len({home == "distribution" for home in homes.values() if home}) < 2:
            return failure
        lines = [f"{name} {there[name]} is from {home}" for name, home in sorted(homes.items()) if home]
        hint = "take one maker's packages away first (apt-get purge), or install from the repository they came from"
        return Failure("mixed_repositories", failure.what, "\n".join([failure.why, *lines]), hint)

    def remove(self, names: Sequence[str]) -> None:
        """With their configuration."""
        there = sorted(self.installed(names)) if names else []
        if not there:
            return
        doing = f"remove {_list(there)}"
        try:
            self._manager.change(["apt-get", "-y", "-q", "--allow-change-held-packages", "purge", *there], doing)
        except Failure as failure:
            if failure.kind not in (BROKEN, "interrupted_packages", "package_script"):
                raise
            # apt wants everything mended first, and what is broken is what is to go
            self._manager.change(["dpkg", "--purge", *there], doing)

    def unneeded(self, names: Iterable[str]) -> list[str]:
        """Of ``names``, what was installed for others' sake and serves nobody any more."""
        out = self._manager.ask(["apt-get", "-s", "-q", "autoremove"]).stdout
        return sorted(set(names) & set(re.findall(r"^(?:Remv|Purg) ([^\s:]+)", out, re.M)))

    def hold(self, names: Sequence[str]) -> None:
        if names:
            self._manager.change(["apt-mark", "hold", *names], f"hold {_list(names)}")

    def unhold(self, names: Sequence[str]) -> None:
        if names:
            self._manager.change(["apt-mark", "unhold", *names], f"release {_list(names)}")

    def lock(self, pattern: str, names: str = DRIVER) -> None:
        """Packages like ``names`` stay at versions like ``pattern`` ("580.*"), what they depend on included."""
        path, text = self._pin_file(names), preferences(pattern, names)
        try:
            if names == DRIVER:
                self.end_apart()
            if not path.is_file() or path.read_text() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, text)
        except OSError as error:
            raise os_failure(error, f"pin {pattern}") from error

    def keep_apart(self, url: str, dry: bool = False) -> bool:
        """Where the distribution's driver is there: none is ever taken from NVIDIA's repository ``url``. True: new.

        apt would replace the distribution's by the newer one at the next upgrade. ``lock`` of the driver lifts it.
        """
        path = self._root / APART
        names = [name for name in self.installed(DRIVER_NAMES) if "container" not in name]
        homes = {self.origin(name) for name in ([] if path.exists() else names)}
        if "distribution" not in homes or plain_address(url) in {plain_address(home) for home in homes}:
            return False
        if not dry:
            write_atomically(path, preferences_apart(" ".join(DRIVER_NAMES)))
        return True

    def end_apart(self) -> None:
        """Once NVIDIA's repository is not there any more."""
        if (self._root / APART).exists():
            (self._root / APART).unlink()

    def unlock(self, pattern: str, names: str = DRIVER) -> None:
        path = self._pin_file(names)
        if pattern in pins(path):
            path.unlink()

    def _pin_files(self, form: str) -> list[Path]:
        folder = (self._root / PINS).parent
        return sorted(path for path in folder.glob(form) if path.is_file()) if folder.is_dir() else []

    def _pin_file(self, names: str) -> Path:
        name = "nvidia" if names == DRIVER else re.sub(r"[^a-z0-9]+", "-", names).strip("-")
        return self._root / PINS.format(name=name)

    def stream(self, name: str) -> None:
        raise Failure("unknown_system", f"apt has no module streams, and {name} was asked for")

    def repair(self) -> None:
        # where dpkg itself was killed between two packages, only apt can mend what they need of each other
        with contextlib.suppress(Failure):
            self._manager.change(
                ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], "mend half-installed packages"
            )
        self._manager.change(["apt-get", "-y", "-q", *KEEP, "-f", "install"], "mend half-installed packages")


def _list(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:4]) + (f" and {len(every) - 4} more" if len(every) > 4 else "")
