"""Operating system, kernel, C library, container, WSL, Python interpreters."""

from __future__ import annotations

import re
from collections.abc import Callable

from provision.detect.compilers import compilers
from provision.detect.secure_boot import secure_boot
from provision.detect.text import pairs
from provision.model.facts import Os, System
from provision.model.readings import Readings
from provision.model.versions import numbers


def system_facts(readings: Readings) -> System:
    return System(
        os=os_facts(readings),
        kernel=kernel(readings),
        glibc=glibc(readings),
        secure_boot=secure_boot(readings),
        wsl=is_wsl(readings),
        container=container(readings),
        pythons=pythons(readings),
        compilers=compilers(readings),
    )


# --- operating system -----------------------------------------------------------------------------------------------


def os_facts(readings: Readings) -> Os:
    """From the first reading that names a distribution, os-release first."""
    for name, read in _OS_READERS:
        found = read(readings.text(name) or "")
        if found is not None:
            return found
    return Os(id=None, version_id=None)


def _os_release(text: str) -> Os | None:
    # https://www.freedesktop.org/software/systemd/man/os-release.html
    values = dict(re.findall(r"""^(ID|VERSION_ID)=["']?([A-Za-z0-9._+-]{1,64})["']?\s*$""", text, re.MULTILINE))
    return Os(id=values["ID"].lower(), version_id=values.get("VERSION_ID")) if "ID" in values else None


def _etc_lsb_release(text: str) -> Os | None:
    values = dict(re.findall(r'^(DISTRIB_ID|DISTRIB_RELEASE)="?([\w.+-]{1,64})"?\s*$', text, re.MULTILINE))
    return _named(values.get("DISTRIB_ID"), values.get("DISTRIB_RELEASE"))


def _lsb_release_a(text: str) -> Os | None:
    values = dict(pairs(text))
    return _named(values.get("Distributor ID"), values.get("Release"))


def _redhat_release(text: str) -> Os | None:
    # "Scientific Linux release 6.5 (Carbon)"
    match = re.search(r"^(\w[\w ]{0,60}?)(?: Linux)?(?: Server| Stream)? release ([\d.]{1,16})", text, re.MULTILINE)
    return _named(match[1].split()[0], match[2]) if match else None


def _issue(text: str) -> Os | None:
    # "Ubuntu 22.04.1 LTS \n \l", "Debian GNU/Linux 12 \n \l"
    match = re.search(r"^(Ubuntu|Debian|Fedora)\b(?: GNU/Linux)? ([\d.]{1,16})", text, re.MULTILINE)
    if match is None:
        return None
    release = match[2] if match[1] != "Ubuntu" else ".".join(match[2].split(".")[:2])
    return _named(match[1], release)


def _debian_version(text: str) -> Os | None:
    # "12.5" on Debian; Ubuntu has its ancestor's "bookworm/sid" there, which names no release of its own
    match = re.match(r"\s*(\d{1,3})(?:\.\d{1,3})?\s*$", text)
    return Os(id="debian", version_id=match[1]) if match else None


def _sw_vers(text: str) -> Os | None:
    values = dict(pairs(text))
    return Os(id="macos", version_id=values.get("ProductVersion") or None) if "ProductName" in values else None


def _sysctl(text: str) -> Os | None:
    return Os(id="macos", version_id=None) if re.search(r"^machdep\.cpu\.", text, re.MULTILINE) else None


_OS_READERS: tuple[tuple[str, Callable[[str], Os | None]], ...] = (
    ("os_release", _os_release),
    ("etc_lsb_release", _etc_lsb_release),
    ("lsb_release_a", _lsb_release_a),
    ("etc_redhat_release", _redhat_release),
    ("etc_debian_version", _debian_version),
    ("etc_issue", _issue),
    ("sw_vers", _sw_vers),
    ("sysctl", _sysctl),
)

# os-release ids of names that are not their id in lower case
_IDS = {"red": "rhel", "redhatenterprise": "rhel", "redhatenterpriseserver": "rhel", "oracle": "ol", "rocky": "rocky"}


def _named(name: str | None, release: str | None) -> Os | None:
    if not name:
        return None
    word = name.lower()
    return Os(id=_IDS.get(word, word), version_id=release or None)


# --- kernel ---------------------------------------------------------------------------------------------------------


def kernel(readings: Readings) -> str | None:
    """The release: "6.8.0-60-generic"."""
    # "Linux host 6.8.0-60-generic #63~22.04.1-Ubuntu SMP …"
    match = re.match(r"\s*\S{1,64} \S{1,255} (\d[^\s]{0,127})", readings.text("uname_a") or "")
    if match is None:
        match = re.match(r"\s*\w{1,32} version (\d[^\s]{0,127})", readings.text("proc_version") or "")
    return match[1] if match and match[1].isprintable() else None


def is_wsl(readings: Readings) -> bool:
    """Microsoft's kernels name it: "5.15.167.4-microsoft-standard-WSL2", "4.4.0-19041-Microsoft" (WSL 1)."""
    return "microsoft" in (kernel(readings) or "").lower()


# --- C library ------------------------------------------------------------------------------------------------------


def glibc(readings: Readings) -> str | None:
    """From `getconf GNU_LIBC_VERSION`: "glibc 2.36". None where it is another C library, too."""
    match = re.match(r"\s*glibc (\d{1,3}\.\d{1,3}(?:\.\d{1,3})?)", readings.text("glibc") or "")
    return match[1] if match else None


def is_musl(readings: Readings) -> bool:
    return (readings.text("glibc") or "").strip().startswith("musl")


# --- container ------------------------------------------------------------------------------------------------------


def container(readings: Readings) -> bool | None:
    """The probe writes what it saw ("docker", "lxc"), or "none"; None where nobody looked."""
    text = readings.text("container")
    if text is None or not text.strip():
        return None
    return text.strip() != "none"


# --- Python ---------------------------------------------------------------------------------------------------------


def python_paths(readings: Readings) -> tuple[tuple[str, str], ...]:
    """(version, path) of each interpreter, newest first, from lines "3.11.2 /usr/bin/python3". No "3.15.0rc1"."""
    found: set[tuple[str, str]] = set()
    for line in (readings.text("pythons") or "").splitlines():
        match = re.match(r"(\d{1,2}\.\d{1,3}\.\d{1,3})\+? (/.{1,4000})$", line)
        if match and match[2].isprintable():
            found.add((match[1], match[2]))
    return tuple(sorted(sorted(found), key=lambda item: numbers(item[0]), reverse=True))


def pythons(readings: Readings) -> tuple[str, ...]:
    return tuple(dict.fromkeys(version for version, _ in python_paths(readings)))
