"""The wheel that a build has made: whether it is the one that was wanted, and what it says of itself."""

from __future__ import annotations

import platform
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from email import message_from_string
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_build_toolchain import glibc_version
from ansible.module_utils.provision_failure import Failure

# tensorflow-2.15.1-cp311-cp311-linux_x86_64.whl, with a build tag before "cp311" at times
NAME = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-\d[^-]*)?-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl"
)
MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def the_wheel(folder: Path, build: Mapping[str, Any]) -> Path:
    """The one wheel in ``folder`` whose name is among build.distributions. Raises Failure (kind "wheel")."""
    there = sorted(folder.glob("*.whl")) if folder.is_dir() else []
    wanted = {normal(name) for name in build["distributions"]}
    fitting = [path for path in there if normal(path.name.split("-")[0]) in wanted]
    names = " or ".join(build["distributions"])
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(path.name for path in there) or "none"
    what = f"the build of {build['framework']} {build['version']} left no wheel"
    if fitting:
        what = f"the build of {build['framework']} {build['version']} left more than one wheel"
    raise Failure("wheel", what, f"wanted one of {names} in {folder}; there are: {have}")


def checked(path: Path, build: Mapping[str, Any]) -> dict[str, Any]:
    """What the wheel says of itself. Raises Failure where it is not what was wanted, or does not fit here."""
    match = NAME.fullmatch(path.name)
    if match is None:
        raise Failure(
            "wheel", f"{path.name} is not a wheel's name", "a wheel is called NAME-VERSION-PYTHON-ABI-PLATFORM.whl"
        )
    problem = misfit(match, build["python"])
    if problem:
        raise Failure(
            "wheel", f"{path.name} does not fit the Python that it was built for", problem,
            "the build took another interpreter than the planned one: see how its configure chooses it",
        )  # fmt: skip
    metadata = _metadata(path)
    version = str(metadata.get("Version", ""))
    if public(version) != public(build["version"]):
        raise Failure(
            "wheel", f"the source is not {build['framework']} {build['version']}",
            f"the wheel that it builds says it is version {version or 'unknown'}",
            f"ask for {build['framework']}=={version}, or give the source of {build['version']}",
        )  # fmt: skip
    return {
        "distribution": str(metadata.get("Name", match["name"])),
        "wheel_version": version,
        "requires": [" ".join(line.split()) for line in metadata.get_all("Requires-Dist") or []],
        "provides_extra": list(metadata.get_all("Provides-Extra") or []),
        "tags": [f"{match['python']}-{match['abi']}-{match['platform']}"],
    }


def public(version: str) -> str:
    """A version without its local part, in one spelling: "2.21.0-rc1+local" is 2.21.0rc1."""
    text = version.lower().split("+")[0].lstrip("v")
    return re.sub(r"[-_.]?(a|b|rc|dev|post)[-_.]?", r"\1", text)


def _metadata(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            if bad is None and len(names) == 1:
                return message_from_string(archive.read(names[0]).decode("utf-8", "replace"))
            why = f"{bad} in it is damaged" if bad else f"it has {len(names)} METADATA files"
    except (zipfile.BadZipFile, OSError) as error:
        why = str(error)
    raise Failure(
        "wheel", f"{path.name} is not a sound wheel", why, "look at the build's log: packing it may have failed"
    )


# ── tags ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def misfit(tags: Mapping[str, str], python: str) -> str:
    """Why a wheel with these tags cannot be installed for CPython ``python`` ("3.11") here; "" where it can.

    Tags as in packaging.python.org, "Platform compatibility tags".
    """
    minor = int(python.split(".")[1])
    pythons, abis = tags["python"].split("."), tags["abi"].split(".")
    if not any(_python_fits(one, abis, minor) for one in pythons):
        return f"its tag {tags['python']}-{tags['abi']} is not for CPython {python}, whose tag is cp3{minor}-cp3{minor}"
    platforms, machine = tags["platform"].split("."), platform.machine()
    if not any(platform_fits(one, machine, glibc_version()) for one in platforms):
        libc = ".".join(map(str, glibc_version() or ())) or "none"
        return f"its tag {tags['platform']} is not for this machine: {sys.platform}, {machine}, glibc {libc}"
    return ""


def _python_fits(tag: str, abis: Sequence[str], minor: int) -> bool:
    match = re.fullmatch(r"(cp|py)3(\d*)", tag)
    if match is None:
        return False
    least = int(match[2] or 0)
    exact = f"cp3{minor}" in abis and match[1] == "cp" and least == minor
    stable = "abi3" in abis and match[1] == "cp" and least <= minor
    pure = "none" in abis and (least <= minor if match[1] == "py" else least == minor)
    return exact or stable or pure


def platform_fits(tag: str, machine: str, glibc: tuple[int, int] | None) -> bool:
    if tag in ("any", f"linux_{machine}"):
        return True
    match = re.fullmatch(rf"(manylinux(?:1|2010|2014|_(\d+)_(\d+)))_{re.escape(machine)}", tag)
    if match is None or glibc is None:
        return False
    least = MANYLINUX.get(match[1]) or (int(match[2]), int(match[3]))
    return least <= glibc
