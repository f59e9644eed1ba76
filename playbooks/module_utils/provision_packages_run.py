"""What apt and dnf have in common: how they are started, how long their locks are waited for, what their words mean."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_failure import Failure, Interrupted

MARK = "PROVISION_RUN"
"""Whatever carries it is ended when a run is cancelled: a package manager must never be."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENGLISH = {"LC_ALL": "C", "LANGUAGE": "C"}
NOT_FOUND = 127
TIMED_OUT = 124
LOCK_WAIT_S = 600.0
LOCK_POLL_S = 2.0
LAST_LINES = 12


class Done(NamedTuple):
    status: int
    stdout: str
    stderr: str


Run = Callable[..., Any]
"""run(argv, env=None, timeout_s=None) -> Done. ``env`` is added to the environment."""


def run_apart(argv: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float | None = None) -> Done:
    """Run ``argv`` to its end. Neither a signal to us nor our own end stops it, and no run's mark is on it.

    Its output goes into files: a pipe would break, and end it, where we are killed.
    """
    variables = {"PATH": PATH, **os.environ, **(env or {})}
    variables.pop(MARK, None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=variables, cwd="/",
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Done(NOT_FOUND, "", f"{argv[0]}: {error.strerror}")
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            status = TIMED_OUT
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return Done(status, *texts)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Inside, a signal to stop is noted: what was begun comes to its end, and Interrupted is raised after it."""
    came: list[str] = []

    def note(number: int, _: object) -> None:
        came.append(signal.Signals(number).name)

    before = {one: signal.signal(one, note) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    if came:
        raise Interrupted(came[0])


class Sign(NamedTuple):
    """What the manager says, and what it means."""

    pattern: str
    kind: str
    what: str
    """{0} is the pattern's first group."""
    hint: str
    last: bool = False
    """Whether what is said after it is only what comes of it."""


LOCKED = re.compile(
    r"Could not get lock|Unable to (?:acquire|lock)|is another process using it|is locked by another process"
    r"|Failed to obtain (?:the|rpm) transaction lock|Another app is currently holding"
    r"|Waiting for process with pid|already locked by|Unable to obtain lock|dpkg frontend lock was locked"
)
BROKEN = "broken_dependencies"
SCRIPT = "package_script"

SIGNS: tuple[Sign, ...] = (
    Sign(
        r"No space left on device|You don't have enough free space in|needs? (?:at least )?\d+ ?[KMG]?i?B (?:more )?"
        r"(?:space )?(?:needed )?on the|Disk Requirements|failed to write \(No space|Disk quota exceeded",
        "disk_full", "the disk is full",
        "free some space (df -h names the full file system) and run the same command again",
    ),
    Sign(
        r"Read-only file system", "read_only", "the file system cannot be written to",
        "a disk with errors is mounted read-only: see dmesg, repair it, and run the same command again",
    ),
    Sign(
        r"are you root\?|has to be run with superuser|superuser privileges|Operation not permitted",
        "permission", "packages may be changed by root only", "run this as root, or allow sudo (become)",
    ),
    Sign(
        r"Conflicting values set for option (\S+)", "sources",
        "two of the package manager's sources give one address different values of {0}",
        "take one of the two out of /etc/apt/sources.list.d, and run the same command again",
    ),
    Sign(
        r"The list of sources could not be read|Malformed (?:entry|line|stanza)", "sources",
        "the package manager cannot read its list of sources",
        "mend the file that is named above, and run the same command again",
    ),
    Sign(
        r"NO_PUBKEY ([0-9A-F]+)", "no_key", "the key {0} that signs a repository is not on this host",
        "configure the repository again with its key, or take its file out of /etc/apt/sources.list.d",
    ),
    Sign(
        r"EXPKEYSIG ([0-9A-F]+)", "expired_key", "the key {0} that signs a repository has expired",
        "fetch the repository's key again: its makers have prolonged or replaced it",
    ),
    Sign(
        r"BADSIG ([0-9A-F]+)|GPG check FAILED|BAD GPG signature|(?:repomd\.xml )?GPG signature verification error",
        "bad_signature", "a signature is wrong: what was fetched is not what was signed",
        "do not install it: a mirror in the middle of an update, or a changed file; try again later",
    ),
    Sign(
        r"is not signed\.|cannot be authenticated|Package \S+ is not signed|does not have a Release file",
        "unsigned", "a repository is not signed",
        "unsigned packages are not installed: use a mirror that keeps the signatures (Release, InRelease)",
    ),
    Sign(
        r"Public key for (\S+) is not installed", "no_key", "the key that signs {0} is not on this host",
        "configure the repository again with its key",
    ),
    Sign(
        r"Hash Sum mismatch|File has unexpected size|Checksum doesn't match|checksum mismatch",
        "mirror_sync", "a mirror is in the middle of an update: its index and its packages do not belong together",
        "wait a quarter of an hour, and run the same command again",
    ),
    Sign(
        r"dpkg was interrupted", "interrupted_packages", "an earlier installation was cut off",
        "sudo dpkg --configure -a",
    ),
    Sign(
        r"filtered out by modular filtering", "no_candidate", "the packages are of a module stream that is not on",
        "switch it on first: dnf module reset nvidia-driver, dnf module enable nvidia-driver:STREAM",
    ),
    Sign(
        r"not possible to switch enabled streams", "module_stream", "another stream of the module is switched on",
        "dnf module reset nvidia-driver, and run the same command again",
    ),
    Sign(
        r"Unable to locate package (\S+)|Couldn't find any package by (?:glob|regex) '([^']+)'"
        r"|Version '[^']+' for '([^']+)' was not found|Package '?([^' ]+)'? has no installation candidate"
        r"|No match for argument: (\S+)|Unable to find a match: (\S+)|No package (\S+) available",
        "no_candidate", "no repository has the package {0}",
        "refresh the mirror, or see that the repository is switched on",
    ),
    Sign(
        r"Try 'apt --fix-broken install'|[Tt]ry 'apt-get -f install'",
        BROKEN, "packages that were there before are half-installed", "sudo apt-get -y --fix-broken install",
    ),
    # dpkg says of each package that needs the one whose script failed that it has dependency problems
    Sign(
        r"installed \S+ package \S+ script subprocess returned error|error: .*scriptlet|scriptlet failed",
        SCRIPT, "a package's own script failed",
        "what it said is above; once that is mended, run the same command again", last=True,
    ),
    Sign(
        r"unmet dependencies|held broken packages|nothing provides|conflicting requests|dependency problems|"
        r"Unable to correct problems|package \S+ (?:requires|conflicts with)|Problem(?: \d+)?: ",
        BROKEN, "the packages do not go together",
        "see which of them is held or comes from another repository (apt-cache policy NAME, dnf list NAME)",
    ),
    Sign(
        r"(?:Could not|Temporary failure) resolv|Could not connect|Connection (?:refused|timed out|failed|reset)"
        r"|Failed to fetch|Network is unreachable|Cannot download|Curl error|Failed to download metadata"
        r"|All mirrors were tried|Unable to connect|Couldn't resolve host",
        "offline", "a repository cannot be reached",
        "see that this host reaches the address (a proxy belongs into the package manager's own configuration)",
    ),
    Sign(
        r"Errors were encountered while processing:|subprocess \S+ returned error", SCRIPT,
        "a package's own script failed",
        "what it said is above; once that is mended, run the same command again",
    ),
)  # fmt: skip
"""The first that is found is meant: what stands deeper in the list is often only what follows from it."""

NOISE = re.compile(
    r"^(?:Reading |Building |Get:|Hit:|Ign:|Fetched|Selecting |\(Reading|Preparing to|Unpacking|Setting up"
    r"|Processing triggers|The following (?!packages have unmet)|Use 'apt|Suggested|Recommended|Need to get|After this"
    r"|\d+ upgraded|Last metadata|debconf:|Created symlink|WARNING: apt does not have|Calculating|Correcting"
    r"|Unable to detect release version|Added \S+ repo from|\(try to add|.*\| *[\d.]+ +[kMG]?B +\d+:\d+$)"
)


def meaning(said: str, doing: str) -> Failure:
    """What the manager said when it failed at ``doing`` ("install nvidia-driver"), as a failure to read."""
    for sign in SIGNS:
        match = re.search(sign.pattern, said)
        if match:
            group = next((one for one in match.groups() if one), "") if match.groups() else ""
            heard = said[: match.end()] + said[match.end() :].partition("\n")[0] if sign.last else said
            return Failure(sign.kind, f"could not {doing}: {sign.what.format(group)}", last_words(heard), sign.hint)
    hint = "what the package manager said is above; run the same command again once it is mended"
    return Failure("packages", f"could not {doing}", last_words(said) or "it said nothing", hint)


def last_words(said: str, lines: int = LAST_LINES) -> str:
    """The manager's own last lines, without its progress."""
    kept = [line.rstrip() for line in re.split(r"[\r\n]+", said) if line.strip() and not NOISE.match(line.strip())]
    return "\n".join(kept[-lines:])


class Rehearsal(NamedTuple):
    """What an installation would do."""

    new: list[str]
    """Names of packages that are not there yet."""
    removed: list[str]
    disk_mib: int
    """What all of it takes of the disk once it is unpacked."""


class Manager:
    """Starts the manager's programs. ``hear(text)`` is told what is waited for."""

    def __init__(
        self, run: Run, env: Mapping[str, str], lock_wait_s: float = LOCK_WAIT_S,
        hear: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._run, self._env, self._lock_wait_s, self._hear = run, dict(env), lock_wait_s, hear

    def ask(self, argv: Sequence[str], doing: str = "", env: Mapping[str, str] | None = None) -> Any:
        """Run what changes nothing. With ``doing`` a failure is raised."""
        done = self._run(list(argv), env={**self._env, **(env or {})})
        if doing and done.status != 0:
            raise meaning(f"{done.stdout}\n{done.stderr}", doing)
        return done

    def change(self, argv: Sequence[str], doing: str) -> Any:
        """Run what changes something, once nobody else has the manager's lock. Raises Failure."""
        begun = time.monotonic()
        told = False
        while True:
            done = self._run(list(argv), env=self._env)
            said = f"{done.stdout}\n{done.stderr}"
            if done.status == 0:
                return done
            if not LOCKED.search(said):
                raise meaning(said, doing)
            if time.monotonic() - begun >= self._lock_wait_s:
                raise self._locked(said, doing)
            if not told:
                self._hear(f"waiting for another program to finish with packages: {last_words(said, 1)}")
                told = True
            time.sleep(min(LOCK_POLL_S, self._lock_wait_s))

    def _locked(self, said: str, doing: str) -> Failure:
        return Failure(
            "locked",
            f"could not {doing}: another program is changing packages",
            f"{last_words(said, 4)}\nwaited {self._lock_wait_s:g} s for it",
            "let it finish (unattended upgrades can take a while), and run the same command again",
        )
