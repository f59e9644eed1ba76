"""dnf (4 and 5) and rpm: what can be had (asked without a change), what is there, changes, version locks, repair."""

from __future__ import annotations

import functools
import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.provision_failure import Failure, os_failure
from ansible.module_utils.provision_openpgp import armoured
from ansible.module_utils.provision_packages_run import ENGLISH, LOCK_WAIT_S, Manager, Rehearsal, Run, meaning
from ansible.module_utils.provision_repository import fetched_key, repo_text

DISTRIBUTION = re.compile(
    r"^(?:baseos|appstream|extras|crb|powertools|highavailability|fedora|updates|epel|rhel-|codeready-|ol\d+_|plus|devel)"
)
"""Ids of repositories of Rocky, AlmaLinux, RHEL, Oracle Linux and Fedora, and EPEL, which belongs to them."""
ASKED = "provision-asked-"
"""Begins the id of a repository that is only asked: one of the same id may be configured already."""
LOCKS_PLUGIN = "python3-dnf-plugin-versionlock"
FORM = r"%{name}\t%{evr}\t%{repoid}\n"
RPM_FORM = r"%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"


class Dnf:
    name = "dnf"

    def __init__(
        self, run: Run, env: Mapping[str, str] | None = None, lock_wait_s: float = LOCK_WAIT_S,
        hear: Callable[[str], None] = lambda _: None, root: Path = Path("/"),
    ) -> None:  # fmt: skip
        self._manager = Manager(run, {**ENGLISH, **(env or {})}, lock_wait_s, hear)
        self._root = root
        self._five: bool | None = None

    @property
    def five(self) -> bool:
        """dnf5 is another program with the same name (Fedora 41 and newer)."""
        if self._five is None:
            said = self._manager.ask(["dnf", "--version"], "ask dnf for its version").stdout
            self._five = "dnf5" in said.lower()
        return self._five

    # --- questions ---------------------------------------------------------------------------------------------------

    def candidates(
        self,
        names: Sequence[str],
        repositories: Sequence[Mapping[str, Any]] = (),
        components: Sequence[str] = (),  # noqa: ARG002  # apt's
    ) -> dict[str, list[dict[str, str]]]:
        """``components`` are apt's: there are none here. Streams of modules are not looked at."""
        if not names:
            return {}
        with tempfile.TemporaryDirectory(prefix="provision-dnf-") as name:
            try:
                options = self._scratch(Path(name), repositories)
            except OSError as error:
                raise os_failure(error, "ask for packages") from error
            argv = ["dnf", "-y", "-q", *options, "repoquery", "--available", "--queryformat", FORM, *names]
            done = self._manager.ask(argv)
        said = f"{done.stdout}\n{done.stderr}"
        if done.status != 0:
            raise meaning(said, "ask the repositories for their packages")
        found = query_rows(done.stdout)
        return {name: found.get(name) or of_release(name, found) for name in names}

    def _scratch(self, folder: Path, repositories: Sequence[Mapping[str, Any]]) -> list[str]:
        """Options for caches of their own and the given repositories. /var and /etc stay as they are."""
        options = [f"--setopt={name}={folder}/{name}" for name in ("cachedir", "persistdir", "logdir")]
        if self.five:
            options.append(f"--setopt=system_cachedir={folder}/cachedir")
        else:  # a plugin that keeps the names of packages for shells, in /var/cache whatever cachedir is
            options.append("--disableplugin=generate_completion_cache")
        for one in repositories:
            id_ = ASKED + one["id"]
            key = folder / f"{one['id']}.key"
            key.write_text(armoured(fetched_key(one, self._root)))
            options.append(f"--repofrompath={id_},{one['url']}")
            checks = dict(re.findall(r"(?m)^(\w*gpgcheck)=(\d)$", repo_text(one, str(key))))
            # module_hotfixes: other streams' packages are shown too, which are switched on later
            more = {**checks, "gpgkey": f"file://{key}", "module_hotfixes": "1"}
            options += [f"--setopt={id_}.{name}={value}" for name, value in more.items()]
        return options

    def installed(self, patterns: Iterable[str]) -> dict[str, str]:
        every = list(patterns)
        out = self._manager.ask(["rpm", "-qa", "--qf", RPM_FORM, *every]).stdout
        rows = [line.split("\t") for line in out.splitlines() if line.count("\t") == 1]
        found = {name: re.sub(r"^0:", "", version) for name, version in rows if name != "gpg-pubkey"}
        whole = {asked: version for asked in every for name, version in rows if is_release(asked, name, version)}
        return {**found, **{asked: re.sub(r"^0:", "", version) for asked, version in whole.items()}}

    def broken(self) -> list[str]:
        return []

    def origin(self, name: str) -> str:
        argv = ["dnf", "-q", "-C", "repoquery", "--installed", "--queryformat", r"%{from_repo}\n", name]
        words = self._manager.ask(argv).stdout.split()
        word = words[0].lstrip("@") if words else ""
        return "" if word in ("System", "commandline", "<unknown>") else repository_of(word)

    def held(self) -> list[str]:
        """Names, and the patterns that locks were asked for with."""
        done = self._manager.ask(["dnf", "-q", "versionlock", "list"])
        return [] if done.status != 0 else locked_names(done.stdout)

    def fetch(self, packages: Mapping[str, str] | Iterable[str], folder: Path | str) -> dict[str, str]:
        versions = dict(packages) if isinstance(packages, Mapping) else self.installed(packages)
        found = {}
        for name, version in versions.items():
            begins = f"{name}-{plain(version)}."
            if not _begins(Path(folder), begins):
                self._manager.ask(["dnf", "-y", "-q", "download", f"--destdir={folder}", f"{name}-{version}"])
            path = _begins(Path(folder), begins)
            if path is not None:
                found[name] = str(path)
        return found

    # --- changes -----------------------------------------------------------------------------------------------------

    def install(
        self, packages: Sequence[tuple[str, str]], files: Sequence[Path | str] = (), downgrade: bool = False
    ) -> None:
        words = arguments(packages, files)
        if not words:
            return
        doing = f"install {', '.join([name for name, _ in packages][:4]) or ', '.join(words[:4])}"
        options = ["--allowerasing"] if downgrade else []
        options += ["--allow-downgrade"] if downgrade and self.five else []
        self._change(["install", *options, *words], doing)

    def _change(self, argv: Sequence[str], doing: str) -> None:
        # dnf 4 waits for ever by itself; this says that it cannot have the lock
        wait = [] if self.five else ["--setopt=exit_on_lock=True"]
        self._manager.change(["dnf", "-y", "-q", *wait, *argv], doing)

    def remove(self, names: Sequence[str]) -> None:
        there = sorted(self.installed(names)) if names else []
        if there:
            self._change(["remove", *there], f"remove {', '.join(there[:4])}")

    def unneeded(self, names: Iterable[str]) -> list[str]:  # noqa: ARG002  # apt's
        """None: dnf takes them away with what they served."""
        return []

    def keep_apart(self, url: str, dry: bool = False) -> bool:  # noqa: ARG002  # apt's
        """False: the distributions with dnf have no driver of their own that NVIDIA's could replace."""
        return False

    def end_apart(self) -> None:
        """Nothing: see ``keep_apart``."""

    def hold(self, names: Sequence[str]) -> None:
        if names:
            self._versionlock(["add", *names], f"hold {', '.join(names[:4])}")

    def unhold(self, names: Sequence[str]) -> None:
        if names:
            self._versionlock(["delete", *names], f"release {', '.join(names[:4])}")

    def rehearse(
        self,
        packages: Sequence[tuple[str, str]],
        repositories: Sequence[Mapping[str, Any]] = (),
        components: Sequence[str] = (),  # noqa: ARG002  # apt's
        lock: str = "",  # noqa: ARG002  # dnf finds what goes together by itself
        names: str = "",  # noqa: ARG002
    ) -> Rehearsal:
        """What ``install`` would do, from the given repositories too. Raises Failure as it would."""
        with tempfile.TemporaryDirectory(prefix="provision-dnf-") as name:
            options = self._scratch(Path(name), repositories)
            done = self._manager.ask(["dnf", "--assumeno", *options, "install", *arguments(packages, ())])
        said = f"{done.stdout}\n{done.stderr}"
        if done.status != 0 and not re.search(r"Operation aborted", said):
            raise meaning(said, f"install {', '.join([name for name, _ in packages][:4])}")
        return rehearsal(done.stdout)

    def lock(self, pattern: str, names: str = "") -> None:
        """ "*nvidia*580*": of what matches by name and version, nothing else may come. ``names`` go before it."""
        pattern = names + pattern
        if pattern not in self.held():
            self._versionlock(["add", pattern], f"lock {pattern}")

    def unlock(self, pattern: str, names: str = "") -> None:
        pattern = names + pattern
        held = self.held()
        if pattern in held or any(_under(pattern, name) for name in held):
            self._versionlock(["delete", pattern], f"unlock {pattern}")

    def _versionlock(self, argv: Sequence[str], doing: str) -> None:
        try:
            self._change(["versionlock", *argv], doing)
        except Failure as failure:
            if not re.search(r"No such command|Unknown argument|unknown command", failure.why):
                raise
            self._change(["install", LOCKS_PLUGIN], f"install {LOCKS_PLUGIN}")
            self._change(["versionlock", *argv], doing)

    def stream(self, name: str) -> None:
        """Switch a module's stream on ("nvidia-driver:580-dkms"), another one off. Undo: dnf module reset MODULE."""
        module = name.partition(":")[0]
        done = self._manager.ask(["dnf", "-q", "module", "list", "--enabled", module])
        if stream_is_on(done.stdout, name):
            return
        self._change(["module", "reset", module], f"switch the streams of {module} off")
        self._change(["module", "enable", name], f"switch {name} on")

    def repair(self) -> None:
        """After a run that was killed: rpm's database is whole, and no package is there in two versions."""
        self._manager.change(["rpm", "--rebuilddb"], "mend rpm's database")
        if self.five:
            twice = self._manager.ask(["dnf", "-q", "check", "--duplicates"])
            if twice.status != 0 and "duplicate" in twice.stdout:
                hint = "take the older one of each away: rpm -e --nodeps --justdb NAME-VERSION"
                raise Failure("interrupted_packages", "packages are there in two versions", twice.stdout.strip(), hint)
            return
        twice = self._manager.ask(["dnf", "-q", "-C", "repoquery", "--duplicates", "--queryformat", r"%{name}\n"])
        if twice.stdout.strip():
            self._change(["remove", "--duplicates"], "take packages away that are there twice")


# --- words ---------------------------------------------------------------------------------------------------------


def query_rows(text: str) -> dict[str, list[dict[str, str]]]:
    """Versions of each package in what repoquery printed, the newest first.

    nvidia-driver	3:580.95.05-1.el9	provision-asked-cuda-rhel9-x86_64
    """
    found: dict[str, list[dict[str, str]]] = {}
    for line in text.splitlines():
        words = line.strip().split("\t")
        if len(words) != 3:
            continue
        name, version, repository = words
        row = {"version": re.sub(r"^0:", "", version), "repository": repository_of(repository)}
        rows = found.setdefault(name, [])
        if row not in rows:
            rows.append(row)
    for rows in found.values():
        rows.sort(key=lambda row: evr_key(row["version"]), reverse=True)
    return found


def rehearsal(text: str) -> Rehearsal:
    """What `dnf --assumeno install` says that it would do.

    Installing dependencies:
     cuda-nvcc-12-6   x86_64   12.6.85-1   cuda-rhel9-x86_64   24 M
    Installed size: 6.5 G             (dnf 5: After this operation, 6 GiB extra will be used)
    """
    blocks: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        title = re.match(r"([A-Z][a-z ]+):$", line.strip())
        if title and (not line.startswith("  ")):
            current = title.group(1)
        elif current and re.match(r" \S+ +\S+ +\S+", line):
            blocks.setdefault(current, []).append(line.split()[0])
        elif not line.strip():
            current = ""
    used = re.search(r"(?:Installed size: |After this operation, )([\d.]+) ([kKMG]?)i?B?", text)
    factor = {"": 2**-20, "k": 2**-10, "K": 2**-10, "M": 1, "G": 2**10}
    return Rehearsal(
        new=sorted({name for title, names in blocks.items() if title.startswith("Installing") for name in names}),
        removed=sorted({name for title, names in blocks.items() if title.startswith("Removing") for name in names}),
        disk_mib=int(float(used.group(1)) * factor[used.group(2)]) if used else 0,
    )


def repository_of(id_: str) -> str:
    if id_.startswith(ASKED):
        return id_[len(ASKED) :]
    return "distribution" if DISTRIBUTION.match(id_) else id_


def stream_is_on(text: str, name: str) -> bool:
    """Name           Stream         Profiles       Summary
    nvidia-driver  580-dkms [e]   default, ks    Nvidia driver for 580-dkms branch
    """
    module, _, stream = name.partition(":")
    return re.search(rf"(?m)^{re.escape(module)}\s+{re.escape(stream)}\s.*\[e\]", text) is not None


def locked_names(text: str) -> list[str]:
    """dnf 4: "nvidia-driver-3:580.95.05-1.el9.*"; dnf 5: "Package name: nvidia-driver" and "evr = 3:580.95.05-1"."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        line = line.strip()
        five = re.match(r"Package name: (\S+)", line)
        # a name, maybe an epoch, a version that begins with a digit, a release, an architecture
        four = re.match(r"(?!!)([A-Za-z0-9_+.-]+?)-(?:\d+:)?\d[^-\s]*-[^-\s]+$", line)
        if five or four:
            found[(five or four).group(1)] = None  # type: ignore[union-attr]
        elif line and " " not in line and not line.startswith(("!", "#")):
            found[line] = None  # a pattern, as it was given
    return list(found)


def arguments(packages: Sequence[tuple[str, str]], files: Sequence[Path | str]) -> list[str]:
    """What dnf install is given: a package's own file where there is one, else name-version, else its name."""
    paths = [Path(path) for path in files]
    words = []
    for name, version in packages:
        own = [path for path in paths if version and path.name.startswith(f"{name}-{plain(version)}.")]
        one = name if not version or f"-{plain(version)}." in name else f"{name}-{version}"
        words.append(os.path.abspath(own[0]) if own else one)  # noqa: PTH100
    return words or [os.path.abspath(path) for path in paths]  # noqa: PTH100


def is_release(asked: str, name: str, version: str) -> bool:
    """Whether NAME-VERSION-RELEASE.ARCH was asked for, as one must for the headers of the running kernel."""
    return asked.startswith(f"{name}-{plain(version)}.")


def of_release(asked: str, found: Mapping[str, Sequence[Mapping[str, str]]]) -> list[dict[str, str]]:
    """The rows of what was asked for in that way: the managers answer by name."""
    return [dict(row) for name, rows in found.items() for row in rows if is_release(asked, name, row["version"])]


def plain(version: str) -> str:
    """Without its epoch, as in names of files."""
    return version.rpartition(":")[2]


def evr_key(version: str) -> Any:
    """Sorts "epoch:version-release" as rpm does."""
    epoch, _, rest = version.rpartition(":")
    number, _, release = rest.partition("-")
    order = functools.cmp_to_key(compare)
    return int(epoch or 0), order(number), order(release)


def compare(one: str, other: str) -> int:
    """-1, 0 or 1, as rpm's own comparison of versions: digits as numbers, letters as text, "~" before everything."""
    first, second = _segments(one), _segments(other)
    for a, b in zip(first, second):
        if a == b:
            continue
        if "~" in (a, b):
            return -1 if a == "~" else 1
        if "^" in (a, b):
            return 1 if b == "^" else -1
        if a.isdigit() != b.isdigit():
            return 1 if a.isdigit() else -1
        if a.isdigit() and int(a) == int(b):
            continue
        less = int(a) < int(b) if a.isdigit() else a < b
        return -1 if less else 1
    if len(first) == len(second):
        return 0
    longer = first if len(first) > len(second) else second
    sign = 1 if longer is first else -1
    return -sign if longer[min(len(first), len(second))] == "~" else sign


def _segments(text: str) -> list[str]:
    return re.findall(r"\d+|[A-Za-z]+|~|\^", text)


def _begins(folder: Path, begins: str) -> Path | None:
    return next((path for path in sorted(folder.glob("*.rpm")) if path.name.startswith(begins)), None)


def _under(pattern: str, name: str) -> bool:
    """Whether a lock of ``name`` may come from ``pattern``: "*nvidia*580*" and "nvidia-driver"."""
    words = [word for word in pattern.split("*") if word]
    return bool(words) and words[0] in name
