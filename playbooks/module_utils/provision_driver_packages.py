"""Which packages: the driver's family, the set of a table that fits, exact versions that belong together, and holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from ansible.module_utils.provision_failure import Failure

FAMILY = (
    "nvidia-*", "libnvidia-*", "libcuda1", "libcudadebugger1", "libnvcuvid1", "libnvoptix1", "libxnvctrl*",
    "libegl-nvidia*", "libgl1-nvidia*", "libgles-nvidia*", "libglx-nvidia*", "cuda-drivers*",
    "xserver-xorg-video-nvidia*", "firmware-nvidia-*", "linux-modules-nvidia-*", "linux-objects-nvidia-*",
    "linux-signatures-nvidia-*", "kmod-nvidia*", "xorg-x11-drv-nvidia*", "akmod-nvidia*",
)  # fmt: skip
"""Patterns of the names of a driver's packages."""
NOT_THE_DRIVER = (
    r"nvidia-container|libnvidia-container|nvidia-docker|nvidia-cuda-(?!mps)|nvidia-cudnn|nvidia-detect|nvidia-nsight"
    r"|nvidia-profiler|nvidia-visual-profiler|nvidia-modprobe-loader|libnvidia-egl-wayland|nvidia-cg-|nvidia-primus"
    r"|nvidia-texture-tools|libnvidia-ml-dev|nvidia-opencl-dev"
)
"""Names that match those and are something else: containers, the distribution's own toolkit and tools."""
OWN_NUMBERS = re.compile(r"persistenced|modprobe|settings|xconfig|support|installer|^linux-|pinning|firmware|epel|egl")
"""Packages whose versions are their own: they need not be the driver's."""
KERNELS = (
    "linux-image-{kernel}", "linux-headers-{kernel}", "linux-modules-{kernel}", "linux-image-amd64",
    "linux-headers-amd64", "linux-image-arm64", "linux-headers-arm64", "linux-generic", "linux-image-generic",
    "linux-headers-generic", "kernel", "kernel-core", "kernel-devel", "kernel-devel-matched", "kernel-headers",
    "kernel-modules",
)  # fmt: skip
"""The kernel that the module was built for, and the packages that would replace it."""
FLAVOURS = ("linux-{}", "linux-image-{}", "linux-headers-{}", "linux-{}-*", "linux-image-{}-*", "linux-headers-{}-*")
"""What brings the next kernel of the running one's flavour: linux-aws, linux-image-cloud-amd64, linux-generic-hwe-*."""
CUDA_REPOSITORIES = "https://developer.download.nvidia.com/compute/cuda/repos"
NVIDIAS = r"/cuda/repos/|^cuda-"
"""What shows in the manager's words that a package is NVIDIA's own."""
EPEL = "epel-release"
ARCHS = {"aarch64": "sbsa"}
"""As NVIDIA's repositories name them, where that is not uname's."""


class Wanted(NamedTuple):
    """What is to be installed."""

    branch: str
    version: str
    module: str
    build: str
    packages: tuple[Mapping[str, str], ...]
    """name, repository ("distribution" or an id), version (what the upstream version begins with)."""
    headers: tuple[str, ...]
    components: tuple[str, ...]
    stream: str
    lock: str
    repositories: tuple[Mapping[str, Any], ...]
    next_kernel: str = ""
    """The release that the next boot takes, where it is another than the running one: it gets the module as well."""

    @property
    def names(self) -> list[str]:
        return [package["name"] for package in self.packages]


def family(installed: Mapping[str, str]) -> dict[str, str]:
    """Of what patterns found, the driver's own packages."""
    return {name: version for name, version in installed.items() if not re.search(NOT_THE_DRIVER, name)}


def family_name(name: str) -> bool:
    """Whether a package of that name is the driver's."""
    return any(fnmatchcase(name, pattern) for pattern in FAMILY) and not re.search(NOT_THE_DRIVER, name)


def upstream(version: str) -> str:
    """ "580.95.05" of "3:580.95.05-1", "580.95.05-0ubuntu1"."""
    return version.rpartition(":")[2].partition("-")[0]


def fits(package: Mapping[str, str], version: str) -> bool:
    """Whether a version is one that the package was asked for with; packages of kernels are numbered as kernels are."""
    prefix = package.get("version") or ""
    return bool(OWN_NUMBERS.search(package["name"])) or upstream(version).startswith(prefix)


# --- a set of the tables ---------------------------------------------------------------------------------------------


def wanted(params: Mapping[str, Any], kernel: str, arch: str) -> Wanted:
    """What was asked for, or the first set of the tables that fits it. Raises Failure where none does."""
    if params["packages"]:
        # a plan's repositories are those of all its roles
        used = {package.get("repository") for package in params["packages"]}
        return Wanted(
            params["branch"], params["version"], params["module"], params["build"] or "dkms",
            tuple(params["packages"]), tuple(params["headers"]), tuple(params["components"]), params["stream"],
            params["lock"], tuple(mirrored(one, params) for one in params["repositories"] if one["id"] in used),
            params["next_kernel"],
        )  # fmt: skip
    for row in params["sets"]:
        if _row_fits(row, params, kernel, arch):
            return _of_row(row, params, kernel, arch)
    raise Failure(
        "unknown_system",
        f"provision has no packages of NVIDIA driver {params['branch']} ({params['module']}) for this system",
        f"it is {params['distribution']} {params['release']} on {arch}, kernel {kernel}",
        "take another branch or module, or name the packages yourself (nvidia_driver_packages)",
    )


def _row_fits(row: Mapping[str, Any], params: Mapping[str, Any], kernel: str, arch: str) -> bool:
    return (
        params["release"] in row["releases"]
        and arch in row["archs"]
        and row["module"] == params["module"]
        and (not row.get("branches") or params["branch"] in row["branches"])
        and int(params["branch"] or 0) >= int(row.get("first_branch") or 0)
        and (not row.get("flavours") or kernel.rpartition("-")[2] in row["flavours"])
        and params["build"] in ("", row["build"])
    )


def _of_row(row: Mapping[str, Any], params: Mapping[str, Any], kernel: str, arch: str) -> Wanted:
    words = {
        "branch": params["branch"], "kernel": kernel, "flavour": kernel.rpartition("-")[2],
        "arch": ARCHS.get(arch, arch), "release": params["release"],
        "release_digits": params["release"].replace(".", ""),
    }  # fmt: skip

    def filled(text: str, **more: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: {**words, **more}.get(match[1], match[0]), text)

    def names(templates: Sequence[str]) -> tuple[str, ...]:
        kernels = [one for one in (kernel, params["next_kernel"]) if one]
        return tuple(dict.fromkeys(filled(each, kernel=one) for each in templates for one in kernels))

    place = row["repository"]
    found = [one for one in params["set_repositories"] if one["id"] == place and params["release"] in one["releases"]]
    repositories = [
        {
            "id": f"{place}-{params['distribution'].lower()}{words['release_digits']}-{words['arch']}",
            "manager": params["manager"], "url": filled(one["url"]), "suite": one.get("suite", "/"),
            "components": list(one.get("components", ())), "key_url": filled(one["key_url"]),
            "fingerprint": one["fingerprint"],
        }
        for one in found[:1]
    ]  # fmt: skip
    home = repositories[0]["id"] if repositories else place
    prefix = filled(row.get("version", ""))
    packages = tuple({"name": name, "repository": home, "version": prefix} for name in names(row["packages"]))
    return Wanted(
        params["branch"], params["version"], row["module"], row["build"], packages,
        names(row.get("headers", ())), tuple(row.get("components", ())),
        filled(row.get("stream", "")), filled(row.get("lock", "")),
        tuple(mirrored(one, params) for one in repositories), params["next_kernel"],
    )  # fmt: skip


def mirrored(repository: Mapping[str, Any], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The repository at a lab's mirror of NVIDIA's, with that mirror's key, where there is one."""
    url, mirror = str(repository["url"]), str(params["mirror"]).rstrip("/")
    if not mirror or not url.startswith(CUDA_REPOSITORIES):
        return repository
    key_url = params["key_url"] or str(repository["key_url"]).replace(CUDA_REPOSITORIES, mirror)
    fingerprint = params["fingerprint"] or repository["fingerprint"]
    return {**repository, "url": mirror + url[len(CUDA_REPOSITORIES) :], "key_url": key_url, "fingerprint": fingerprint}


# --- versions --------------------------------------------------------------------------------------------------------


def exact(want: Wanted, candidates: Mapping[str, Sequence[Mapping[str, str]]]) -> dict[str, str]:
    """{name: version} of each package of the driver, all of one release. Raises Failure "no_candidate", "mixed".

    ``candidates``: by name, best first. The release that was asked for is taken where it can be had, else the newest
    that every package has.
    """
    offered = {one["name"]: _offered(one, want, candidates) for one in want.packages}
    absent = sorted(name for name, versions in offered.items() if not versions)
    brings = {"dkms"} if candidates.get(EPEL) else set()  # it is in EPEL, which is switched on first
    absent += [name for name in want.headers if not candidates.get(name) and name not in brings]
    if absent:
        raise no_candidate(want, absent, candidates)
    core = [name for name in offered if not OWN_NUMBERS.search(name)]
    releases = [[upstream(version) for version in offered[name]] for name in core]
    common = [one for one in (releases[0] if releases else []) if all(one in other for other in releases)]
    if core and not common:
        raise mixed(want, {name: offered[name][0] for name in core})
    release = want.version if want.version in common else (common[0] if common else "")
    return {name: _nearest(versions, release, want.branch) for name, versions in offered.items()}


def pin(want: Wanted, versions: Mapping[str, str], candidates: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """The lock under which ``versions`` are installed; narrower than the plan's where a newer release is there too.

    apt takes what a package depends on at its newest, and a driver's packages depend on each other exactly. Debian 12's
    security archive has a newer release of all of them but the open module.
    """
    for one in want.packages:
        name = one["name"]
        if OWN_NUMBERS.search(name) or name not in versions or versions[name] == _offered(one, want, candidates)[0]:
            continue
        return versions[name].partition("-")[0] + "*"
    return want.lock


def _nearest(versions: Sequence[str], release: str, branch: str) -> str:
    """The release itself, else the branch's newest, else the newest: for packages with numbers of their own."""
    same = [one for one in versions if release and upstream(one) == release]
    near = [one for one in versions if upstream(one).startswith(f"{branch}.")]
    return [*same, *near, *versions][0]


def _offered(
    package: Mapping[str, str], want: Wanted, candidates: Mapping[str, Sequence[Mapping[str, str]]]
) -> list[str]:
    """Versions that may be taken, best first: of the repository that was meant, where the manager's words show it."""
    rows = [row for row in candidates.get(package["name"], ()) if fits(package, str(row["version"]))]
    homes = [one for one in want.repositories if one["id"] == package.get("repository")]
    marks = [mark for one in homes for mark in (str(one["url"]), str(one["id"]))]
    if marks:
        meant = [row for row in rows if any(mark in row.get("repository", "") for mark in marks)]
    else:
        meant = [row for row in rows if world(row.get("repository", "")) != "NVIDIA"]
    return [str(row["version"]) for row in meant]


def world(repository: str) -> str:
    """Whose packages come from a repository, by its id or address: "NVIDIA", "distribution", "" where that is open."""
    if repository == "distribution":
        return repository
    return "NVIDIA" if re.search(NVIDIAS, repository) else ""


def no_candidate(want: Wanted, absent: Sequence[str], candidates: Mapping[str, Sequence[Mapping[str, str]]]) -> Failure:
    asked = [one["url"] for one in want.repositories] or ["the distribution's own repositories"]
    others = [f"{name}: only {candidates[name][0]['version']}" for name in absent if candidates.get(name)]
    kernels = [name for name in absent if name in want.headers and re.search(r"headers|devel", name)]
    hint = (
        "refresh the package lists (sudo apt-get update, or dnf makecache) and plan again: it takes what can be had; "
        "or refresh the mirror, or take another branch (--driver)"
    )
    kind = "no_candidate"
    if EPEL in absent:  # Rocky and AlmaLinux have it among their own, RHEL does not
        hint = "switch EPEL and CodeReady Builder on (docs.fedoraproject.org/en-US/epel), then run this again"
    elif kernels:
        kind, hint = "no_headers", _kernel_hint(want, kernels)
    why = "\n".join([f"no candidate for {', '.join(absent)}", *others, f"asked: {', '.join(asked)}"])
    return Failure(kind, f"the packages of NVIDIA driver {want.branch} cannot be had here", why, hint)


def _kernel_hint(want: Wanted, absent: Sequence[str]) -> str:
    """What to do where a kernel's headers cannot be had."""
    if not want.next_kernel:
        return "the repositories have moved on from the running kernel: upgrade the kernel, reboot, and run this again"
    if not any(want.next_kernel in name for name in absent):
        return f"{want.next_kernel} is installed, and boots next: reboot into it (sudo reboot), and run this again"
    return (
        f"{want.next_kernel} boots next: install its headers by hand, or have the running kernel booted from now on "
        f"(GRUB_DEFAULT, grubby --set-default), or remove {want.next_kernel}; and run this again"
    )


def mixed(want: Wanted, best: Mapping[str, str]) -> Failure:
    said = ", ".join(f"{name} {version}" for name, version in sorted(best.items()))
    return Failure(
        "mixed_versions",
        f"the repository has no release of driver {want.branch} that all its packages share",
        f"the newest are {said}: a module and libraries of different releases do not work together",
        "it is in the middle of an update: wait until its mirror is complete, and run the same command again",
    )


def kernel_names(kernel: str) -> list[str]:
    flavour = re.search(
        r"-([a-z][a-z0-9-]*)$", kernel
    )  # 6.8.0-1021-aws, 6.1.0-28-cloud-amd64; not 5.14.0-427.el9.x86_64
    brought = [name.format(flavour.group(1)) for name in FLAVOURS] if flavour else []
    return [*(name.format(kernel=kernel) for name in KERNELS), *brought]
