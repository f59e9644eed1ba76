"""The nvidia kernel module: is it on disk for a kernel, of which version and flavour, and why was it not built."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.provision_driver_box import Box, tail
from ansible.module_utils.provision_failure import Failure

NAMES = ("nvidia", "nvidia-current", "nvidia-current-open")
"""What it is called on disk: NVIDIA's own and Ubuntu's packages; Debian's, which modprobe finds by an alias."""
OLD_NAMES = ("nvidia-tesla-{branch}", "nvidia-tesla", "nvidia-legacy-{branch}xx")
"""Debian's packages of older branches."""
FIELDS = ("version", "license", "signer", "vermagic", "filename")
LIBRARIES = ("libnvidia-ml.so", "libcuda.so")
LIBRARY_FOLDERS = ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib")
LOG_LINES = 25
PLACES = ("/var/lib/dkms", "/lib/modules/{kernel}", "/usr/src")
"""Where a build writes. DKMS 3.0 goes on where its copy of a built module fails for want of room."""
AGAIN = "run the same command again"


class Cause(NamedTuple):
    """Words of a build's log, what they mean, and what to do. Sources: the compilers' and DKMS's own messages."""

    words: str
    means: str
    hint: str


CAUSES = (
    Cause(
        r"No space left on device",
        "the disk is full",
        "free some space in /var (at least 2 GiB) and run the same command again",
    ),
    Cause(
        r"Killed(?: signal)?(?: terminated)?|Cannot allocate memory|out of memory",
        "memory ran out while the module was compiled",
        "end what needs the memory, or add swap space, and run the same command again",
    ),
    Cause(
        r"unrecognized (?:command[- ]line )?option|compiler version check failed|gcc: not found|cc1: not found",
        "the compiler is not the one that the kernel was built with",
        "install the version of gcc that /proc/version names, and run the same command again",
    ),
    Cause(
        r"implicit declaration of function|unknown type name|incompatible pointer type|has no member named"
        r"|too (?:many|few) arguments to function",
        "this release of the driver does not know this kernel",
        "boot an older kernel of the distribution, or take a newer branch that serves the GPU (--driver)",
    ),
    Cause(
        r"Unable to find the kernel source|kernel headers .* (?:do not seem to be|cannot be found)|No such file.*build",
        "the headers of the running kernel are not installed",
        "install the headers of the running kernel, or boot a kernel whose headers can be had",
    ),
)


class KernelModule(NamedTuple):
    name: str
    version: str
    flavour: str
    """ "open" or "proprietary"; "" where the licence says neither."""
    signer: str
    kernel: str
    """The release that it was built for."""
    path: str


def flavour(licence: str) -> str:
    """By the module's licence: "Dual MIT/GPL" is open, "NVIDIA" proprietary."""
    return "open" if licence.startswith("Dual") else "proprietary" if licence.startswith("NVIDIA") else ""


def on_disk(box: Box, branch: str = "", kernel: str = "") -> list[KernelModule]:
    """Modules for a kernel, the running one where none is named, under any name they go by."""
    names = [*NAMES, *(name.format(branch=branch) for name in OLD_NAMES if branch)]
    modules = (asked(box, name, kernel or box.kernel) for name in names)
    return list({module.path: module for module in modules if module is not None}.values())


def asked(box: Box, name: str, kernel: str) -> KernelModule | None:
    """What modinfo says of ``name`` for ``kernel``; None where there is none."""
    said = box.run(["modinfo", "-k", kernel, name], timeout_s=60)
    if said.status:
        return None
    rows = dict(re.findall(r"^(\w+): *(.*)$", said.stdout, re.MULTILINE))
    version, licence, signer, magic, path = (rows.get(field, "").strip() for field in FIELDS)
    return KernelModule(name, version, flavour(licence), signer, magic.split(" ")[0], path)


def built(box: Box, branch: str, wanted: str, kernel: str = "") -> KernelModule:
    """The module of flavour ``wanted`` for a kernel (the running one), of the release that the libraries are of.

    Where no library is on disk, of any release of ``branch``. Raises Failure where there is none.
    """
    kernel = kernel or box.kernel
    modules, found = on_disk(box, branch, kernel), libraries(box)
    versions = [one for one in found if one.startswith(f"{branch}.")]
    for module in modules:
        its = module.version in versions if versions else module.version.startswith(f"{branch}.")
        if its and module.flavour == wanted and module.kernel == kernel:
            if found[1:]:
                raise mix(module.version, found)
            return module
    raise missing(box, branch, wanted, modules, kernel)


def mix(version: str, found: Sequence[str]) -> Failure:
    return Failure(
        "mixed_versions", "the driver's libraries and its kernel module are not of one release",
        f"the module is {version}, the libraries are {', '.join(found)}",
        "remove what another install has left of the driver's libraries (see `ldconfig -p | grep nvidia-ml`), or wait "
        "until the repository is complete; then run the same command again",
    )  # fmt: skip


def named(box: Box, kernel: str) -> str:
    """For messages: which of the host's kernels it is."""
    return f"{'the running kernel' if kernel == box.kernel else 'the kernel that boots next'}, {kernel}"


def missing(box: Box, branch: str, wanted: str, modules: list[KernelModule], kernel: str) -> Failure:
    """Why the module is not there: what is there in its place, no headers, or the log of the build."""
    found = libraries(box)
    version = next((one for one in found if one.startswith(f"{branch}.")), branch)
    what = f"the kernel module of driver {version} ({wanted}) was not built for {named(box, kernel)}"
    log = newest_log(box, version)
    if not headers(box, kernel) and log is None:
        why = f"/lib/modules/{kernel}/build is not there: no kernel headers"
        hint = f"install the headers of {kernel}, or boot a kernel whose headers can be had"
        return Failure("no_headers", what, why, f"{hint}; then run the same command again")
    if log is not None:
        text = log.read_text(encoding="utf-8", errors="replace")
        return build_failure(what, text, str(log))
    full = [path for path in PLACES if (free := box.free_mib(path.format(kernel=kernel))) is not None and free < 16]
    if full:
        why = f"No space left on device: {', '.join(full).format(kernel=kernel)}"
        return Failure("disk_full", what, why, f"free some space there, and {AGAIN}")
    other = [one.version for one in modules if one.flavour == wanted and one.kernel == kernel]
    if other and found:
        return mix(other[0], found)
    there = ", ".join(f"{one.version} {one.flavour} for {one.kernel}" for one in modules) or "no nvidia module at all"
    hint = "boot the newest kernel of the distribution (its packages have a module for that one), and run this again"
    return Failure("module_build", what, f"modinfo -k {kernel} finds {there}", hint)


def build_failure(what: str, text: str, path: str) -> Failure:
    """A build that failed, in its log's own words and, where they are known, with the cause."""
    cause = next((one for one in CAUSES if re.search(one.words, text, re.IGNORECASE)), None)
    errors = [line for line in text.splitlines() if re.search(r"\berror\b|\*\*\*|No space left", line)]
    said = "\n".join(errors[-8:]) if errors else tail(text, LOG_LINES)
    why = f"{cause.means}\n{path}:\n{said}" if cause else f"{path}:\n{said}"
    hint = cause.hint if cause else f"read {path}"
    kind = "disk_full" if cause is CAUSES[0] else "no_headers" if cause is CAUSES[-1] else "module_build"
    return Failure(kind, what, why, hint)


def newest_log(box: Box, version: str) -> Path | None:
    """DKMS's log of the newest build of a release, or of any of a branch, that did not succeed; else None.

    DKMS takes the folder away where a build succeeds.
    """
    logs = list(box.at("/var/lib/dkms").glob(f"nvidia*/{version}*/build/make.log"))
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def headers(box: Box, kernel: str = "") -> bool:
    """Whether headers of a kernel, the running one where none is named, are installed."""
    return (box.at(f"/lib/modules/{kernel or box.kernel}/build") / "Makefile").exists()


def build_again(box: Box, kernel: str = "") -> None:
    """Let DKMS build what it has for a kernel: headers may have come after the module's package."""
    kernel = kernel or box.kernel
    box.say(f"building the kernel module for {kernel}")
    box.run(["dkms", "autoinstall", "-k", kernel])


def libraries(box: Box) -> list[str]:
    """Versions of the driver's libraries on disk, newest first."""
    found = set()
    for folder in LIBRARY_FOLDERS:
        for name in LIBRARIES:
            for path in [*box.at(folder).glob(f"{name}.*.*"), *box.at(folder).glob(f"nvidia/*/{name}.*.*")]:
                version = path.name[len(name) + 1 :]
                if re.fullmatch(r"\d{2,4}(\.\d+)+", version) and not path.is_symlink():
                    found.add(version)
    return sorted(found, key=_numbers, reverse=True)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
