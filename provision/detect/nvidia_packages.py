"""NVIDIA's packages: what is installed, held, and to be had, as dpkg, apt, rpm and dnf say it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provision.detect.text import natural
from provision.model.nvidia import DkmsModule, Package, PackageCandidate
from provision.model.readings import Readings

PACKAGES_READING = "packages_nvidia"
HOLDS_READING = "package_holds"
APT_READING = "apt_policy"
LISTS_READING = "apt_lists"
DNF_READING = "dnf_candidates"
DKMS_READING = "dkms_status"
UNATTENDED_READING = "unattended_upgrades"

_NOTHING_THERE = ("n", "c")
"""Second letter of dpkg's state: not installed; only configuration files left."""


def _states(readings: Readings) -> Iterator[tuple[str, Package]]:
    # "ii  nvidia-driver 535.261.03-1", "iF  nvidia-kernel-dkms 535.261.03-1": wanted and found state, name, version
    for line in (readings.text(PACKAGES_READING) or "").splitlines():
        words = line.split()
        if len(words) == 3 and 2 <= len(words[0]) <= 3 and line.isprintable():
            yield words[0][1], Package(name=words[1], version=words[2])


def packages(readings: Readings) -> tuple[Package, ...]:
    """By name, those of which anything is installed."""
    return _sorted(package for state, package in _states(readings) if state not in _NOTHING_THERE)


def unfinished(readings: Readings) -> tuple[Package, ...]:
    return _sorted(package for state, package in _states(readings) if state not in (*_NOTHING_THERE, "i"))


def _sorted(found: Iterator[Package]) -> tuple[Package, ...]:
    return tuple(sorted(dict.fromkeys(found), key=lambda package: (package.name, package.version)))


def holds(readings: Readings) -> tuple[str, ...]:
    """Names (dpkg), patterns (versionlock.list of dnf 4) and names (versionlock.toml of dnf 5), sorted."""
    found = set()
    for line in (readings.text(HOLDS_READING) or "").splitlines():
        text = line.strip()
        named = re.fullmatch(r'name\s*=\s*"([^"]{1,200})"', text)
        if named:
            found.add(named[1])
        elif text and text.isprintable() and not text.startswith(("#", "[")) and "=" not in text and " " not in text:
            found.add(text)
    return tuple(sorted(found))


# --- candidates -----------------------------------------------------------------------------------------------------


def candidates(readings: Readings) -> tuple[PackageCandidate, ...] | None:
    """By name. None where no manager was asked, or where it gave no answer."""
    for name, read in ((APT_READING, _apt_policy), (DNF_READING, _repoquery)):
        text = readings.text(name)
        if text is not None and readings.text(f"{name}.status") is None:
            return tuple(sorted(read(text), key=lambda each: each.name))
    return None


def _apt_policy(text: str) -> Iterator[PackageCandidate]:
    # nvidia-driver:
    #   Installed: (none)
    #   Candidate: 535.261.03-1
    #   Version table:
    #      535.261.03-1 500
    #         500 http://deb.example.org/debian bookworm/non-free amd64 Packages
    name, candidate, version = "", "", ""
    places: dict[str, str] = {}
    for line in [*text.splitlines(), "end:"]:
        words = line.split()
        if not words or not line.isprintable():
            continue
        if line[0] not in " *" and line.endswith(":"):
            if name and candidate not in ("", "(none)"):
                yield PackageCandidate(name=name, version=candidate, repository=places.get(candidate, ""))
            name, candidate, version, places = line[:-1], "", "", {}
        elif words[0] == "Candidate:":
            candidate = words[-1]
        elif words[-1] == "Packages" and len(words) >= 3:
            places.setdefault(version, _place(words))
        elif len(words) in (2, 3) and natural(words[-1].lstrip("-")) is not None:
            version = words[-2]


def _place(words: list[str]) -> str:
    """ "500 http://deb.example.org/debian bookworm/non-free amd64 Packages" without priority, architecture and kind. A
    flat repository has no suite: "500 https://…/repos/debian12/x86_64  Packages"."""
    return " ".join(words[1:3] if len(words) >= 5 else words[1:2])


def _repoquery(text: str) -> Iterator[PackageCandidate]:
    # "nvidia-driver 3:580.95.05-1.el9 cuda-rhel9-x86_64"
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and line.isprintable() and re.match(r"(?:\d{1,4}:)?\w", words[1]):
            yield PackageCandidate(name=words[0], version=words[1], repository=words[2])


def components(readings: Readings) -> tuple[str, ...] | None:
    """From names of apt's lists: "bookworm_non-free_binary-amd64_Packages.lz4"."""
    text = readings.text(LISTS_READING)
    if text is None:
        return None
    return tuple(sorted(set(re.findall(r"_([a-z][a-z-]{1,40})_binary-", text))))


# --- DKMS, unattended upgrades --------------------------------------------------------------------------------------

# DKMS 3: "nvidia/580.95.05, 6.8.0-60-generic, x86_64: installed"; DKMS 2: "nvidia, 470.82.01, 5.4.0-90-generic, …"
_DKMS = re.compile(r"([\w.+-]{1,80})(?:/|, )([\w.+~:-]{1,80})(?:, ([\w.+~-]{1,120}), [\w-]{1,20})?: (\w{1,20})\b")


def dkms(readings: Readings) -> tuple[DkmsModule, ...]:
    lines = (readings.text(DKMS_READING) or "").splitlines()
    matches = [match for line in lines if (match := _DKMS.match(line.strip()))]
    return tuple(DkmsModule(name=each[1], version=each[2], kernel=each[3], state=each[4]) for each in matches)


def unattended(readings: Readings) -> bool | None:
    """Whether packages are upgraded unasked: unattended-upgrades switched on, or dnf-automatic that installs."""
    text = readings.text(UNATTENDED_READING)
    if text is None:
        return None
    options = dict(re.findall(r'^\s*APT::Periodic::([\w-]{1,40})\s+"?(\w{1,10})"?', text, re.MULTILINE))
    apt = options.get("Unattended-Upgrade", "0") != "0" and options.get("Enable", "1") != "0"
    timers = set(re.findall(r"^timer (\S{1,80})$", text, re.MULTILINE))
    applies = re.search(r"^\s*apply_updates\s*=\s*(?:yes|true|1)\s*$", text, re.MULTILINE | re.IGNORECASE)
    dnf = bool(timers) and (any("install" in timer for timer in timers) or applies is not None)
    return ("program unattended-upgrade" in text and apt) or dnf
