"""Which packages a role's outcome is made of: those that were asked for, or the first row of its tables that fits."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_repository import mirrored

WSL = "wsl-ubuntu"
NVIDIA_ARCHS = {"aarch64": "sbsa"}
DEB_ARCHS = {"x86_64": "amd64", "aarch64": "arm64"}


class Choice(NamedTuple):
    packages: list[dict[str, str]]
    """name, repository, version (what the upstream version begins with; "" for any)."""
    repositories: list[dict[str, Any]]
    """As they are asked: at the mirror, where there is one."""


def chosen(params: Mapping[str, Any], arch: str = platform.machine()) -> Choice:
    """``params``: packages, repositories, or sets, set_repositories, distribution, release, version, cuda_version."""
    if params["packages"]:
        used = {one["repository"] for one in params["packages"]}
        given = [one for one in params["repositories"] if one["id"] in used]
        return Choice([dict(one) for one in params["packages"]], [_mirrored(one, params) for one in given])
    row = next((row for row in params["sets"] if _fits(row, params, arch)), None)
    if row is None:
        raise Failure(
            "unknown_system",
            f"provision does not know how to install {params['name']} {params['version']} here".replace("  ", " "),
            f"it is {params['distribution']} {params['release']} on {arch}",
            "take another version or release, or name packages and repository yourself",
        )
    words = _words(params, arch)
    homes = [one for one in params["set_repositories"] if one["id"] == row["repository"]]
    home = next((one for one in homes if params["release"] in one["releases"]), None)
    repositories = [_repository(home, params, words)] if home is not None else []
    place = repositories[0]["id"] if repositories else row["repository"]
    prefix = filled(row.get("version", ""), words)
    packages = [{"name": filled(name, words), "repository": place, "version": prefix} for name in row["packages"]]
    return Choice(packages, [_mirrored(one, params) for one in repositories])


def filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: words.get(match.group(1), match.group(0)), text)


def exact(
    packages: Sequence[Mapping[str, str]], candidates: Mapping[str, Sequence[Mapping[str, str]]],
    installed: Mapping[str, str], asked: Sequence[str],
) -> list[tuple[str, str]]:  # fmt: skip
    """(name, version) of each package that is not there as it should be. Raises Failure where one has no candidate."""
    wanted, absent = [], []
    for one in packages:
        name, prefix = one["name"], one.get("version") or ""
        if fits(installed.get(name, ""), prefix):
            continue
        offered = [row["version"] for row in candidates.get(name, ()) if fits(row["version"], prefix)]
        if offered:
            wanted.append((name, offered[0]))
        else:
            others = ", ".join(row["version"] for row in candidates.get(name, ()))
            absent.append(f"{name} {prefix}".strip() + (f" (there is {others})" if others else ""))
    if absent:
        raise Failure(
            "no_candidate", f"no repository has {', '.join(absent)}",
            f"asked: {', '.join(asked) or 'the repositories of this host'}; nothing was changed",
            "refresh the mirror, or take another version",
        )  # fmt: skip
    return wanted


def fits(version: str, prefix: str) -> bool:
    """Whether a version ("3:9.10.2.21-1") is one of "9.10.2": 9.1 does not stand for 9.10."""
    upstream = version.rpartition(":")[2]
    return bool(version) and (
        not prefix or re.match(re.escape(prefix.rstrip(".")) + r"(?![0-9])", upstream) is not None
    )


def whole_release(prefix: str) -> bool:
    """ "9.10.2" is one, which is to stay; "9" is not."""
    return prefix.rstrip(".").count(".") >= 2


def _fits(row: Mapping[str, Any], params: Mapping[str, Any], arch: str) -> bool:
    versions = [str(one) for one in row.get("versions") or ()]
    version = str(params["version"])
    return (
        params["release"] in row["releases"]
        and arch in row["archs"]
        and (not versions or any(version == one or version.startswith(f"{one}.") for one in versions))
    )


def _words(params: Mapping[str, Any], arch: str) -> dict[str, str]:
    version, cuda = str(params["version"]), str(params["cuda_version"])
    return {
        "version": version, "version_dashed": version.replace(".", "-"), "cuda_major": cuda.partition(".")[0],
        "release": params["release"], "release_digits": params["release"].replace(".", ""),
        "arch": NVIDIA_ARCHS.get(arch, arch), "deb_arch": DEB_ARCHS.get(arch, arch), "rpm_arch": arch,
    }  # fmt: skip


def _repository(row: Mapping[str, Any], params: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": _repository_id(row["id"], params, words), "manager": params["manager"],
        "url": filled(row["url"], words), "suite": row.get("suite", "/"),
        "components": list(row.get("components") or ()), "key_url": filled(row["key_url"], words),
        "fingerprint": row["fingerprint"],
    }  # fmt: skip


def _repository_id(name: str, params: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """ "cuda-debian12-x86_64", "cuda-wsl-ubuntu-x86_64": as plans have it. Other repositories are one for all."""
    if name != "cuda":
        return name
    system = params["distribution"].lower()
    return f"cuda-{system}{'' if system == WSL else words['release_digits']}-{words['rpm_arch']}"


def _mirrored(one: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    return mirrored(one, params["mirror"], params["key_url"], params["fingerprint"])
