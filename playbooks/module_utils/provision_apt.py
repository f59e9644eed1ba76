"""apt and dpkg: what can be had (asked without a change), what is there, changes, holds, and repair."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.provision_apt_sources import files_of, more_components, plain_address, switched_off
from ansible.module_utils.provision_failure import Failure, os_failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_packages_run import BROKEN, ENGLISH, LOCK_WAIT_S, Manager, Run, meaning
from ansible.module_utils.provision_repository import codename, fetched_key, sources_text

QUIET = {
    **ENGLISH, "DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "APT_LISTCHANGES_FRONTEND": "none",
    "UCF_FORCE_CONFFOLD": "1", "NEEDRESTART_MODE": "l", "NEEDRESTART_SUSPEND": "1",
}  # fmt: skip
"""Nobody is there to answer questions, and no service is restarted behind a training run's back."""
KEEP = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
"""Configuration files that somebody has changed stay as they are."""
PIN = "etc/apt/preferences.d/provision-nvidia.pref"
PINNED = "*nvidia* libcuda* libnvcuvid* libnvoptix* libxnvctrl* cuda-drivers*"
PRIORITY = 990
"""Above what is newer (500), below what would downgrade by itself (1000)."""
DISTRIBUTIONS = ("Debian", "Debian Backports", "Ubuntu")
SCRATCH = """\
Dir::State::lists "{folder}/lists/";
Dir::Cache "{folder}/cache/";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "{folder}/sources.list.d/";
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
                    raise meaning(_about(said, one["url"]), f"ask {one['url']} for its packages")
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
        for part in ("lists/partial", "cache/archives/partial", "sources.list.d"):
            (folder / part).mkdir(parents=True)
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
        holds = self._manager.ask(["apt-mark", "showhold"], "ask which packages are held").stdout.split()
        return [*holds, *self._pins()]

    def _pins(self) -> list[str]:
        try:
            return re.findall(r"^Pin: version (\S+)$", (self._root / PIN).read_text(), re.M)
        except OSError:
            return []

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

    def lock(self, pattern: str) -> None:
        """NVIDIA's packages stay at versions like ``pattern`` ("580.*")."""
        text = (
            "# Written by provision: keeps NVIDIA's driver in its branch. Take it away to lift that.\n"
            f"Package: {PINNED}\nPin: version {pattern}\nPin-Priority: {PRIORITY}\n"
        )
        path = self._root / PIN
        try:
            if not path.is_file() or path.read_text() != text:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, text)
        except OSError as error:
            raise os_failure(error, "pin the driver's branch") from error

    def unlock(self, pattern: str) -> None:
        if pattern in self._pins():
            (self._root / PIN).unlink()

    def stream(self, name: str) -> None:
        raise Failure("unknown_system", f"apt has no module streams, and {name} was asked for")

    def repair(self) -> None:
        self._manager.change(
            ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"], "mend half-installed packages"
        )
        self._manager.change(["apt-get", "-y", "-q", *KEEP, "-f", "install"], "mend half-installed packages")


# --- words ---------------------------------------------------------------------------------------------------------


def arguments(packages: Sequence[tuple[str, str]], files: Sequence[Path | str]) -> list[str]:
    """What apt-get install is given: a package's own file where there is one, else name=version, else its name."""
    paths = [Path(path) for path in files]
    words = []
    for name, version in packages:
        begins = f"{name}_{version.replace(':', '%3a')}_"
        own = [path for path in paths if version and path.name.startswith(begins)]
        words.append(os.path.abspath(own[0]) if own else f"{name}={version}" if version else name)  # noqa: PTH100
    return words or [os.path.abspath(path) for path in paths]  # noqa: PTH100


def policy_rows(text: str, homes: Mapping[str, str]) -> dict[str, list[dict[str, str]]]:
    """Versions of each package in the words of `apt-cache policy NAME…`, the candidate first.

        nvidia-driver:
          Installed: (none)
          Candidate: 535.261.03-1
          Version table:
             535.261.03-1 500
                500 http://deb.debian.org/debian bookworm/non-free amd64 Packages

    ``homes``: names of repositories by address. A version that only dpkg knows, or that is pinned out, is left out.
    """
    found: dict[str, list[dict[str, str]]] = {}
    name = candidate = version = ""
    for line in text.splitlines():
        if line[:1].strip() and line.endswith(":"):
            name, candidate, version = line[:-1].partition(":")[0], "", ""
            found[name] = []
        elif line.startswith("  Candidate: "):
            candidate = line.split()[1]
        elif re.match(r" (?:   |\*\*\*) \S+ -?\d+$", line):
            version = line.replace("***", "").split()[0]
        elif re.match(r"     +-?\d+ \S", line) and version:
            priority, address = line.split()[:2]
            if int(priority) >= 0 and not address.startswith("/"):
                row = {"version": version, "repository": home(address, homes)}
                if row not in found[name]:
                    found[name].insert(_place(found[name], version, candidate), row)
    return found


def _place(rows: Sequence[Mapping[str, str]], version: str, candidate: str) -> int:
    if version != candidate:
        return len(rows)
    return sum(row["version"] == candidate for row in rows)


def home(address: str, homes: Mapping[str, str]) -> str:
    """The name of the repository at ``address``, else the address itself."""
    for known, name in homes.items():
        if plain_address(address) == plain_address(known):
            return name
    return address


def distribution_addresses(text: str) -> dict[str, str]:
    """{address: "distribution"} of what `apt-cache policy` says is the distribution's own.

    500 http://deb.debian.org/debian bookworm/main amd64 Packages
        release v=12.1,o=Debian,a=oldstable,n=bookworm,l=Debian,c=main,b=amd64
    """
    found = {}
    address = ""
    for line in text.splitlines():
        match = re.match(r"\s*-?\d+ (\S+) ", line)
        if match:
            address = match.group(1)
        origin = re.search(r"^\s+release .*\bo=([^,]+)", line)
        if origin and origin.group(1) in DISTRIBUTIONS:
            found[address] = "distribution"
    return found


def failed_addresses(said: str) -> list[str]:
    """Addresses that apt-get update could not use."""
    lines = re.findall(r"^(?:Err:\d+|E:|W:) (.*)$", said, re.M)
    return [address for line in lines for address in re.findall(r"\b(?:https?|file|copy|cdrom|ftp):/[^\s'\"]*", line)]


def _about(said: str, url: str) -> str:
    """The lines about one address, and what continues them."""
    lines = said.splitlines()
    mark = plain_address(url)
    kept = [
        line for number, line in enumerate(lines)
        if mark in line or (line.startswith(" ") and number and mark in lines[number - 1])
    ]  # fmt: skip
    return "\n".join(line for line in kept if not line.startswith(("Get:", "Hit:", "Ign:")))


def _list(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every[:4]) + (f" and {len(every) - 4} more" if len(every) > 4 else "")
