"""apt's own words: what its answers say of versions, repositories and changes to come."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.module_utils.provision_apt_sources import plain_address

PRIORITY = 990
"""Above what is newer (500), below what would downgrade by itself (1000)."""
DISTRIBUTIONS = ("Debian", "Debian Backports", "Ubuntu")
"""Origins, as their Release files have them."""


def preferences(pattern: str, names: str) -> str:
    return (
        "# Written by provision: keeps these packages in their branch. Take this file away to lift that.\n"
        f"Package: {names}\nPin: version {pattern}\nPin-Priority: {PRIORITY}\n"
    )


def preferences_apart(names: str) -> str:
    """NVIDIA's CUDA repositories call themselves "o=NVIDIA" in apt-cache policy."""
    return (
        "# Written by provision: this host has its distribution's NVIDIA driver, and NVIDIA's repository has another.\n"
        "# Take this file away to let apt replace the one by the other.\n"
        f"Package: {names}\nPin: release o=NVIDIA\nPin-Priority: -1\n"
    )


def pins(path: Path) -> list[str]:
    """Patterns of versions in a file of preferences."""
    try:
        return re.findall(r"^Pin: version (\S+)$", path.read_text(), re.M)
    except OSError:
        return []


def simulated(text: str) -> tuple[dict[str, str], list[str]]:
    """What `apt-get --simulate install` says: {name: version} that would be there, names that would go.

    Inst cuda-nvcc-12-6 [12.6.77-1] (12.6.85-1 NVIDIA:cuda [amd64])
    Remv nvidia-driver [535.261.03-1]
    """
    new = dict(re.findall(r"^Inst ([^\s:]+)\S* (?:\[\S+\] )?\((\S+)", text, re.M))
    return new, sorted(set(re.findall(r"^(?:Remv|Purg) ([^\s:]+)", text, re.M)))


def installed_mib(text: str) -> int:
    """Sum of the sizes in the words of `apt-cache show`, which are KiB."""
    return sum(int(size) for size in re.findall(r"^Installed-Size: (\d+)", text, re.M)) >> 10


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
                500 http://deb.example.org/debian bookworm/non-free amd64 Packages

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
                    found[name].insert(place(found[name], version, candidate), row)
    return found


def place(rows: Sequence[Mapping[str, str]], version: str, candidate: str) -> int:
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

    500 http://deb.example.org/debian bookworm/main amd64 Packages
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


def about(said: str, url: str) -> str:
    """The lines about one address, and what continues them."""
    lines = said.splitlines()
    mark = plain_address(url)
    kept = [
        line for number, line in enumerate(lines)
        if mark in line or (line.startswith(" ") and number and mark in lines[number - 1])
    ]  # fmt: skip
    return "\n".join(line for line in kept if not line.startswith(("Get:", "Hit:", "Ign:")))
