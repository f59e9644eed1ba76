"""The files that make a container the workstation of harness.gpu_box: its cards, its programs, its package sources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.gpu_packages_nvidia import FILES, kernel_library
from harness.gpu_packages_server import CODENAME, Mirror
from harness.images import Distribution

ROOT = "/machine"
PROGRAMS = (
    "/usr/sbin/modprobe", "/usr/sbin/rmmod", "/usr/sbin/lsmod", "/usr/bin/mokutil", "/usr/bin/dmesg",
    "/usr/local/sbin/machine-boot",
)  # fmt: skip
STUB_PROGRAMS = ("/usr/sbin/update-initramfs", "/usr/local/sbin/machine-hook")
PROGRAM = '#!/bin/sh\nPYTHONPATH=/usr/local/lib/machine exec /usr/bin/python3 -m harness.gpu_machine {name} "$@"\n'
APT_MARK = """\
#!/bin/sh
case "$1" in hold | unhold) /usr/local/sbin/machine-hook apt-mark || exit 1 ;; esac
exec /usr/bin/apt-mark "$@"
"""
"""Goes before apt's own on PATH, because no package's script runs while packages are held."""

CARDS: dict[str, tuple[int, str, str, int]] = {
    "GeForce GTX 960": (0x1401, "Maxwell", "5.2", 4096),
    "GeForce GTX 1080 Ti": (0x1B06, "Pascal", "6.1", 11264),
    "GeForce RTX 2080": (0x1E87, "Turing", "7.5", 8192),
    "GeForce RTX 4090": (0x2684, "Ada Lovelace", "8.9", 24564),
    "GeForce RTX 5090": (0x2B85, "Blackwell", "12.0", 32607),
    "H100 PCIe": (0x2331, "Hopper", "9.0", 81559),
}
"""By marketing name: device id (pci.ids), architecture, compute capability, memory in MiB."""


def card(name: str, number: int) -> dict[str, object]:
    """The ``number``-th card, as /machine/machine.json describes it."""
    device, architecture, capability, memory_mib = CARDS[name]
    return {
        "name": name, "device": device, "architecture": architecture, "compute_capability": capability,
        "memory_mib": memory_mib, "address": f"0000:{number:02x}:00.0",
        "uuid": f"GPU-{number:08x}-0000-4000-8000-{number:012x}",
    }  # fmt: skip


Files = dict[str, tuple[bytes, int, int]]
"""{path: (content, mode, owner)}."""


def machine_files(cards: Sequence[str], *, nouveau: bool, secure_boot: bool) -> Files:
    """What makes a container this machine, whatever packages it has."""
    described = [card(name, number) for number, name in enumerate(cards, 1)]
    built = {"cards": described, "nouveau": nouveau, "secure_boot": secure_boot}
    library = {f"/usr/local/lib/machine/harness/gpu_machine/{path.name}": path for path in FILES.glob("*.py")}
    return {
        **programs(PROGRAMS),
        **{path: (source.read_bytes(), 0o644, 0) for path, source in library.items()},
        f"{ROOT}/machine.json": (json.dumps(built, indent=1).encode(), 0o644, 0),
        # an unattended upgrade would be one more thing that moves during a test
        "/etc/apt/apt.conf.d/20auto-upgrades": (b'APT::Periodic::Unattended-Upgrade "0";\n', 0o644, 0),
    }


def stub_files(mirror: Mirror) -> Files:
    """Packages of a mirror, and an initramfs that they can do with."""
    sources = f"deb {mirror.url}/debian {CODENAME} main\n"
    return {
        **programs(STUB_PROGRAMS),
        "/usr/local/bin/apt-mark": (APT_MARK.encode(), 0o755, 0),
        "/etc/apt/sources.list": (sources.encode(), 0o644, 0),
        "/etc/apt/trusted.gpg.d/archive.asc": (mirror.key.armored, 0o644, 0),
    }


def archive_files(distribution: Distribution) -> Files:
    """Debian's own archive, configured as Debian's installer does it, and the release of its kernel."""
    path, text = installer_sources(distribution)
    return {
        "/etc/apt/sources.list": (b"", 0o644, 0),
        path: (text.encode(), 0o644, 0),
        **kernel_files(),
    }


def kernel_files() -> Files:
    """With them the release of the running kernel is what /machine/kernel says."""
    return {
        "/usr/local/lib/machine/kernel.so": (kernel_library(f"{ROOT}/kernel"), 0o755, 0),
        "/etc/ld.so.preload": (b"/usr/local/lib/machine/kernel.so\n", 0o644, 0),
    }


def installer_sources(distribution: Distribution) -> tuple[str, str]:
    """(path, text): one-line entries up to Debian 12, deb822 from 13 on."""
    places: dict[str, list[str]] = {}
    for line in distribution.sources:
        _, address, suite, component = line.split()
        if component == "main":
            places.setdefault(address, []).append(suite)
    if distribution.codename == "bookworm":
        lines = [f"deb {address} {suite} main non-free-firmware" for address in places for suite in places[address]]
        return "/etc/apt/sources.list", "\n".join(lines) + "\n"
    stanzas = [
        f"Types: deb\nURIs: {address}\nSuites: {' '.join(suites)}\nComponents: main non-free-firmware\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        for address, suites in places.items()
    ]
    return "/etc/apt/sources.list.d/debian.sources", "\n".join(stanzas)


def programs(paths: Sequence[str]) -> Files:
    return {path: (PROGRAM.format(name=Path(path).name).encode(), 0o755, 0) for path in paths}
