"""What stands against installing the driver, found before anything is changed. Every objection is collected."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple

from ansible.module_utils import provision_driver_record as records
from ansible.module_utils.provision_driver_boot import kernels
from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_driver_kernel import headers
from ansible.module_utils.provision_driver_load import enrolment, key, key_state
from ansible.module_utils.provision_driver_packages import (
    FAMILY,
    Wanted,
    exact,
    family,
    family_name,
    fits,
    pin,
    wanted,
    world,
)
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_packages_run import BROKEN

CONTAINER = re.compile(r"docker|kubepods|containerd|libpod|lxc|buildkit")
DISPLAYS = frozenset(
    {"Xorg", "X", "Xwayland", "gdm", "gdm3", "sddm", "lightdm", "gnome-shell", "kwin_x11", "kwin_wayland",
     "plasmashell", "sway", "xfwm4", "cinnamon", "mutter", "weston", "Hyprland"}
)  # fmt: skip
COMPUTES, DRAWS = "nvidia-driver-cuda", "nvidia-driver"
"""NVIDIA's packages for Debian and rpms: CUDA alone, and what a desktop needs."""
RUNFILE = "/usr/bin/nvidia-uninstall"
"""Written by NVIDIA's installer (.run), by no package of anybody's."""
OWNER = {"apt": ("dpkg", "-S"), "dnf": ("rpm", "-qf")}
VIRTUAL = re.compile(
    r"KVM|QEMU|VMware|VirtualBox|innotek|Microsoft Corporation Virtual|Xen|Bochs|Amazon EC2|Google Compute"
    r"|OpenStack|Parallels"
)
ROOM_MIB = (
    ("/usr", 1200), ("/usr/src", 150), ("/var", 600), ("/var/lib/dkms", 600), ("/var/cache/apt", 500),
    ("/var/cache/dnf", 500), ("/var/lib/dpkg", 40), ("/var/lib/rpm", 40), ("/var/lib/provision", 40),
)  # fmt: skip
"""What packages, their cache, the module's source and its build take, in MiB: about 400 MB of packages, two to three
times that unpacked, half a gigabyte for a build. Of the releases of 2025; UNCONFIRMED for others."""
BOOT_SPARE_MIB = 16


class Look(NamedTuple):
    """What the objections look at."""

    box: Box
    manager: Any
    name: str
    """ "apt" or "dnf"."""
    want: Wanted
    installed: Mapping[str, str]
    """The driver's packages, and of what is wanted what is there."""
    needed: bool
    """Whether packages are to be installed."""
    resumed: bool


def look(box: Box, manager: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be installed, exactly, and what its user should know. Changes nothing. Raises Failure."""
    early = [found for found in (wsl(box), container(box), no_gpu(box)) if found is not None]
    if early:
        raise together(early)
    want = wanted({**params, "next_kernel": next_kernel(box, params)}, box.kernel, platform.machine())
    if want.build == "dkms" and box.secure_boot():
        want = want._replace(headers=tuple(dict.fromkeys([*want.headers, *params["secure_boot"]])))
    installed = manager.installed([*FAMILY, *want.names, *want.headers])
    want = want._replace(headers=needed_headers(box, want, installed))
    record = records.read(box)
    resumed = record.get("state") == "changing"
    needed = resumed or params["action"] == "upgrade" or not _all_there(want, installed)
    seen = Look(box, manager, str(params["manager"]), want, installed, needed, resumed)
    objections = [found for rule in RULES for found in [rule(seen)] if found is not None]
    versions: dict[str, str] = {}
    gone: list[str] = []
    if needed and not any(one.kind == "other_install" for one in objections):
        try:
            versions, gone, lock = _packages(seen)
            objections += [found for found in (would_remove(seen, versions, lock),) if found is not None]
        except Failure as failure:
            objections.append(failure)
    if objections:
        raise together(objections)
    return {
        "changed": False, "chosen": {key: _plain(value) for key, value in want._asdict().items()},
        "packages": records.rows(versions), "notes": notes(seen, gone), "console": console(seen),
        "secure_boot": box.secure_boot(), "virtual": virtual(box), "gpus": len(box.gpus()), "kernel": box.kernel,
    }  # fmt: skip


def next_kernel(box: Box, params: Mapping[str, Any]) -> str:
    """What the plan has seen, where it still holds: it is installed, and the host was not rebooted into it since."""
    named = str(params["next_kernel"])
    return named if named and named in kernels(box, {}, named)[1:] else ""


def needed_headers(box: Box, want: Wanted, installed: Mapping[str, str]) -> tuple[str, ...]:
    """Without those of a kernel whose headers are there under another name: its owner built it, or they are gone from
    the archive."""
    ready = [one for one in (box.kernel, want.next_kernel) if one and headers(box, one)]
    return tuple(name for name in want.headers if name in installed or not any(one in name for one in ready))


def _all_there(want: Wanted, installed: Mapping[str, str]) -> bool:
    if any(name not in installed for name in (*want.names, *want.headers)):
        return False
    return all(fits(package, installed[package["name"]]) for package in want.packages)


def _plain(value: Any) -> Any:
    return [dict(one) if isinstance(one, Mapping) else one for one in value] if isinstance(value, tuple) else value


def _packages(seen: Look) -> tuple[dict[str, str], list[str], str]:
    """Exact versions of what is to be installed, what is installed now and cannot be had again, and apt's pin."""
    want = seen.want
    now = {name: version for name, version in family(seen.installed).items() if name not in want.headers}
    missing = tuple(name for name in want.headers if name not in seen.installed)
    names = list(dict.fromkeys([*want.names, *missing, *now]))
    candidates = seen.manager.candidates(names, repositories=want.repositories, components=want.components)
    had = {name: {row["version"] for row in candidates.get(name, ())} for name in now}
    gone = [f"{name} {version}" for name, version in sorted(now.items()) if version not in had[name]]
    versions = exact(want._replace(headers=missing), candidates)
    return versions, gone, pin(want, versions, candidates) if seen.name == "apt" else want.lock


def would_remove(seen: Look, versions: Mapping[str, str], lock: str) -> Failure | None:
    """A desktop, say, that does not go together with the driver's packages. Only what the manager can tell is told."""
    rows = [*versions.items(), *((name, "") for name in seen.want.headers if name not in seen.installed)]
    try:
        places = {"repositories": seen.want.repositories, "components": seen.want.components}
        foreseen = seen.manager.rehearse(rows, **places, lock=lock)
    except Failure as failure:
        # with holds that the installation lifts, dependencies are not what they will be
        bare = seen.name == "apt" and not family(seen.installed)
        return failure if failure.kind == "disk_full" or (bare and failure.kind == BROKEN) else None
    others = sorted(name for name in foreseen.removed if not family_name(name))
    if not others:
        return None
    hint = "take another branch (--driver), or remove them yourself if they are not needed"
    what = "installing the NVIDIA driver would remove packages that are not the driver's"
    return Failure("would_remove", what, ", ".join(others), hint)


def together(objections: Sequence[Failure]) -> Failure:
    """One failure of all of them; the first one's kind."""
    first = objections[0]
    if not objections[1:]:
        return first
    why = "\n".join(f"{one.what}: {one.why}" if one.why else one.what for one in objections)
    hints = list(dict.fromkeys(one.hint for one in objections if one.hint))
    return Failure(
        first.kind, f"{len(objections)} things stand against installing the NVIDIA driver", why, "\n".join(hints)
    )


# --- where no driver belongs -----------------------------------------------------------------------------------------


def wsl(box: Box) -> Failure | None:
    if "microsoft" not in box.read("/proc/sys/kernel/osrelease").lower() and not box.machine("/dev/dxg").exists():
        return None
    what = "this is WSL2, where the driver is Windows's"
    why = "a Linux driver would overwrite the library that Windows gives (/usr/lib/wsl/lib)"
    return Failure("wsl", what, why, "install or update the NVIDIA driver on Windows")


def container(box: Box) -> Failure | None:
    marks = [path for path in ("/.dockerenv", "/run/.containerenv") if box.machine(path).exists()]
    if not marks and not CONTAINER.search(box.read("/proc/1/cgroup")):
        return None
    why = f"{marks[0]} is there" if marks else "/proc/1/cgroup says so"
    return Failure(
        "container", "this is a container, where the driver is the host's", why, "run provision on the host itself"
    )


def no_gpu(box: Box) -> Failure | None:
    gpus = box.gpus()
    taken = [address for address, driver in gpus.items() if driver == "vfio-pci"]
    if taken and len(taken) == len(gpus):
        why = f"{', '.join(taken)}: bound to vfio-pci"
        hint = "install the driver inside the machine that the card is passed to, or give the card back to this host"
        return Failure("passthrough", "the NVIDIA card is set aside for a virtual machine", why, hint)
    if gpus:
        return None
    machine = virtual(box)
    if machine:
        hint = "pass a card through to it (PCI passthrough), or install on its host"
        return Failure("no_gpu", "no NVIDIA card is passed through to this virtual machine", f"it is {machine}", hint)
    why = "no device of vendor 10de is on the PCI bus"
    return Failure("no_gpu", "there is no NVIDIA GPU here", why, "see `lspci -nn`, the slot and its power cables")


def virtual(box: Box) -> str:
    """What the machine is called where it is a virtual one; "" for real ones."""
    words = " ".join(box.read(f"/sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")).strip()
    if VIRTUAL.search(words):
        return f"a virtual machine ({words})"
    return (
        "a virtual machine"
        if re.search(r"^flags\s*:.* hypervisor\b", box.read("/proc/cpuinfo"), re.M) and words == ""
        else ""
    )


# --- objections ------------------------------------------------------------------------------------------------------


def runfile(seen: Look) -> Failure | None:
    if not seen.box.at(RUNFILE).exists() or not seen.box.run([*OWNER[seen.name], RUNFILE]).status:
        return None
    what = "NVIDIA's own installer (.run) has put a driver here, beside the package manager"
    return Failure(
        "other_install", what, f"{RUNFILE} is there, and no package has it", f"remove it first: sudo {RUNFILE} --silent"
    )


def lambda_stack(seen: Look) -> Failure | None:
    found = sorted(seen.manager.installed(["lambda-stack*"]))
    if not found:
        return None
    why = f"{', '.join(found)}: its driver, CUDA and frameworks are upgraded together"
    return Failure(
        "other_install", "Lambda Stack has a driver here", why, f"remove it first: sudo apt-get purge {' '.join(found)}"
    )


def other_world(seen: Look) -> Failure | None:
    """The distribution's packages and NVIDIA's have the same names and do not fit together."""
    core = [
        name
        for name in family(seen.installed)
        if re.match(r"nvidia-(driver|kernel|dkms|open)|kmod-nvidia|libcuda1|cuda-drivers", name)
    ]
    if not seen.needed or seen.resumed:
        return None
    meant = "distribution" if all(one.get("repository") == "distribution" for one in seen.want.packages) else "NVIDIA"
    homes = {name: world(seen.manager.origin(name)) for name in core}
    strange = sorted(name for name, home in homes.items() if home and home != meant)
    if not strange:
        return None
    theirs = "NVIDIA's repository" if meant == "distribution" else "the distribution"
    names = " ".join(sorted(family(seen.installed)))
    remove = "apt-get purge" if seen.name == "apt" else "dnf remove"
    return Failure(
        "other_install", "the driver that is here comes from another repository than the one that is planned",
        f"{', '.join(strange)}: from {theirs}; packages of both together break each other",
        f"stay with {theirs}, or remove it first: sudo {remove} {names}",
    )  # fmt: skip


def room(seen: Look) -> Failure | None:
    if not seen.needed:
        return None
    wanted_mib = [*ROOM_MIB]
    images = (
        [path.stat().st_size for path in seen.box.at("/boot").glob("initr*")] if seen.box.at("/boot").is_dir() else []
    )
    if images:
        wanted_mib.append(("/boot", (max(images) >> 20) + BOOT_SPARE_MIB))
    short = []
    for path, mib in wanted_mib:
        free = seen.box.free_mib(path)
        if free is not None and free < mib:
            short.append(f"{path} has {free} MiB free, and {mib} MiB are needed")
    if not short:
        return None
    hint = "free some space there (apt-get clean, old kernels), and run the same command again"
    return Failure("disk_full", "there is not enough room for the NVIDIA driver", "\n".join(short), hint)


def no_headers(seen: Look) -> Failure | None:
    """Asked for by name among the packages; this is for sets that name none."""
    if seen.want.build != "dkms" or headers(seen.box) or seen.want.headers:
        return None
    why = f"/lib/modules/{seen.box.kernel}/build is not there, and the plan names no package of headers"
    return Failure(
        "no_headers",
        f"there are no headers of the running kernel, {seen.box.kernel}",
        why,
        "name them (nvidia_driver_headers)",
    )


RULES: tuple[Callable[[Look], Failure | None], ...] = (runfile, lambda_stack, other_world, no_headers, room)


# --- what its user should know ---------------------------------------------------------------------------------------


def notes(seen: Look, gone: Sequence[str]) -> list[str]:
    """Warnings: none of them stops anything."""
    box, found = seen.box, []
    shown = ", ".join(sorted(DISPLAYS.intersection(box.processes())))
    if shown and COMPUTES in seen.want.names and DRAWS not in seen.want.names:
        found.append(
            f"{shown} shows pictures here, and {COMPUTES} draws nothing: name {DRAWS} as well, or it goes dark"
        )
    elif shown:
        found.append(f"{shown} shows pictures here: it is left running, and uses the new driver after a reboot")
    if gone:
        found.append(f"cannot be had again if it has to be gone back to: {', '.join(gone)}")
    if seen.want.next_kernel:
        found.append(f"{seen.want.next_kernel} boots next, not {box.kernel}: the driver is made ready for both")
    compiler = other_compiler(box) if seen.want.build == "dkms" else ""
    if compiler:
        found.append(compiler)
    machine = virtual(box)
    if machine:
        found.append(f"this is {machine} that a card is passed through to")
    return found


def other_compiler(box: Box) -> str:
    """A module is best compiled by the compiler that made the kernel.

    Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld …) …
    """
    made = re.search(r"\bgcc(?:-\d+)? \([^)]*\) (\d+)\.", box.read("/proc/version"))
    here = box.run(["gcc", "-dumpfullversion", "-dumpversion"]).stdout.partition(".")[0].strip()
    if made is None or not here or made[1] == here:
        return ""
    advice = f"where the module does not compile, install gcc-{made[1]}"
    return f"the kernel was made by gcc {made[1]}, and gcc here is {here}: {advice}"


def console(seen: Look) -> list[str]:
    """What will have to be done at the box's own screen, before anything is begun."""
    if not seen.box.secure_boot() or seen.want.build == "prebuilt":
        return []
    path = key(seen.box)
    if path and key_state(seen.box, path) == "enrolled":
        return []
    later = "(after the installation; asks for a password that is used once)"
    first = f"sudo mokutil --import {path or '/var/lib/dkms/mok.pub'}   {later}"
    return [first, *enrolment()]
