"""Back to the last known good driver: the packages that were there, and what to type where that cannot be done."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.provision_driver_boot import FILE, kernels, rebuild, typed, unblock
from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_driver_kernel import build_again, on_disk
from ansible.module_utils.provision_driver_packages import FAMILY, family
from ansible.module_utils.provision_driver_record import FILE as RECORD
from ansible.module_utils.provision_driver_record import PREVIOUS, DriverFailure, Record, put_back, versions
from ansible.module_utils.provision_failure import Failure

REPAIR = {
    "apt": ("dpkg --configure -a", "apt-get -y --fix-broken install"),
    "dnf": ("dnf -y distro-sync",),
}
BACK = {"apt": "apt-get install -y --allow-downgrades", "dnf": "dnf -y install --allowerasing"}
REINSTALL = {"apt": ("apt-get", "-y", "--reinstall", "install"), "dnf": ("dnf", "-y", "reinstall")}
REMOVE = {"apt": "apt-get purge -y", "dnf": "dnf -y remove"}
QUIET = {"DEBIAN_FRONTEND": "noninteractive"}
RELEASE = {"apt": "apt-mark unhold", "dnf": "dnf versionlock delete"}
HOLD = {"apt": "apt-mark hold", "dnf": "dnf versionlock add"}
UNLOCK = {"apt": "rm -f /etc/apt/preferences.d/provision-nvidia.pref", "dnf": "dnf versionlock delete {}"}
CONSOLE = "type as root at a text console:"


def keep_previous(box: Box, manager: Any, previous: Mapping[str, str]) -> list[Path]:
    """Files of what is installed now, for going back; a package that cannot be had any more is left out."""
    folder = box.at(PREVIOUS)
    if not previous:
        return []
    box.say("keeping the packages of the driver that is there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        manager.fetch(dict(previous), folder)
    except (Failure, OSError):
        return kept(box)  # the change goes on: what is there is said in the undo
    return kept(box)


def kept(box: Box) -> list[Path]:
    folder = box.at(PREVIOUS)
    return sorted(path for path in folder.rglob("*") if path.suffix in (".deb", ".rpm")) if folder.is_dir() else []


def go_back(box: Box, manager: Any, record: Record, initramfs: Sequence[str]) -> None:
    """The packages of the record's "previous" are installed again, and nothing else of the driver's. Raises Failure."""
    previous = versions(record.get("previous"))
    box.say("going back to the driver that was there")
    now = family(manager.installed(FAMILY))
    ours = {*now, *previous, *(str(name) for name in record.get("holding") or [])}
    held = [name for name in manager.held() if name in ours]
    if held:
        manager.unhold(held)
    _branch_back(manager, record)
    _later_headers_away(manager, record)
    if previous and any(now.get(name) != version for name, version in previous.items()):
        _install_previous(box, manager, previous)
        now = family(manager.installed(FAMILY))
    asked = versions(record.get("packages"))
    new = sorted({*now, *(name for name in asked if name in now)} - set(previous))
    if new:
        manager.remove(new)
    if record.get("blocked") and unblock(box) and record.get("rebuilt"):
        rebuild(box, initramfs, kernels(box, record))
    for kernel in record.get("built_for", [box.kernel]) if previous else []:
        _build_previous(box, record, str(kernel))
    held = held_before(record)
    if held:
        manager.hold(held)


def _later_headers_away(manager: Any, record: Record) -> None:
    """Headers of the kernel that boots next, where the module did not compile for it: they stay half-configured."""
    names = [str(name) for name in record.get("later") or []]
    there = sorted(manager.installed(names)) if names else []
    if there:
        manager.remove(there)


def _install_previous(box: Box, manager: Any, previous: Mapping[str, str]) -> None:
    """The packages of before, over whatever a killed or failed operation has left. Raises Failure."""
    files = kept(box)
    try:
        manager.install(sorted(previous.items()), files=files, downgrade=True)
    except Failure as failure:
        _over(box, manager, files, len(previous), failure)
        manager.install(sorted(previous.items()), files=files, downgrade=True)


def _build_previous(box: Box, record: Record, kernel: str) -> None:
    """The kernel module of before is on disk again. Raises Failure where it is not."""
    if on_disk(box, kernel=kernel):
        return
    build_again(box, kernel)
    if not on_disk(box, kernel=kernel):
        # DKMS was told to forget it when the change began, and no package's script takes that back where it is given up
        files, previous = kept(box), versions(record.get("previous"))
        debs = [str(path) for path in files if path.suffix == ".deb"]
        box.run(["dpkg", "--install", *debs] if debs else [*REINSTALL[str(record["manager"])], *previous], QUIET)
    if not on_disk(box, kernel=kernel):
        what = "the kernel module of the driver that was there was not built again"
        raise Failure("module_build", what, f"modinfo -k {kernel} nvidia finds none")


def _over(box: Box, manager: Any, files: Sequence[Path], packages: int, first: Failure) -> None:
    # apt plans nothing while packages lack what they need of each other; dpkg puts the old ones over them all the same
    whole = len(files) >= packages and all(path.suffix == ".deb" for path in files)
    if not whole or box.run(["dpkg", "--install", *map(str, files)], QUIET).status:
        try:
            manager.repair()
        except Failure:
            raise first from None


def held_before(record: Record) -> list[str]:
    """What an earlier run, or the host's owner, had put on hold."""
    before = record.get("before") or {}
    return sorted({*map(str, before.get("held") or []), *map(str, record.get("released") or [])})


def _branch_back(manager: Any, record: Record) -> None:
    """The pin, the version lock or the module stream of before."""
    before = record.get("before") or {}
    if record.get("lock") and record["lock"] != before.get("lock"):
        manager.unlock(record["lock"])
    if before.get("lock"):
        manager.lock(before["lock"])
    if before.get("stream") and before["stream"] != record.get("stream"):
        manager.stream(before["stream"])


def undone(box: Box, manager: Any, record: Record, failure: Failure, initramfs: Sequence[str]) -> DriverFailure:
    """What is told of a failure, once what was there before is there again, or with what to type where it is not."""
    previous = versions(record.get("previous"))
    before = record.get("before") or {}
    try:
        go_back(box, manager, record, initramfs)
    except (Failure, OSError) as error:
        words = error.what + (f": {error.why}" if error.why else "") if isinstance(error, Failure) else str(error)
        typed = "\n".join(by_hand(box, str(record.get("manager", "apt")), record, initramfs, _there(manager)))
        return DriverFailure(
            failure.kind, failure.what, f"{failure.why}\ngoing back failed as well: {words}",
            f"{failure.hint}\nto go back, {CONSOLE}\n{typed}".lstrip("\n"),
        )  # fmt: skip
    put_back(box, before)
    modules = on_disk(box, str(before.get("branch", "")))
    version = modules[0].version if modules else ""
    told = f"the driver that was there, {version or 'the same packages'}, is installed again"
    told = told if previous else "nothing of it was left behind"
    return DriverFailure(
        failure.kind, failure.what, f"{failure.why}\n{told}", failure.hint, state="kept", version=version,
        module=modules[0].flavour if modules else "", branch=version.partition(".")[0], held=held_before(record),
        reboot={"needed": False, "why": []}, console=[], undo=[],
    )  # fmt: skip


def told(box: Box, manager: Any, record: Record, failure: Failure, initramfs: Sequence[str]) -> DriverFailure:
    """A failure that left the new driver where it is, with what to type to go back to what was there before it."""
    typed = "\n".join(by_hand(box, str(record.get("manager", "apt")), record, initramfs, _there(manager)))
    hint = f"{failure.hint}\nto go back instead, {CONSOLE}\n{typed}".lstrip("\n")
    return DriverFailure(failure.kind, failure.what, failure.why, hint)


def _there(manager: Any) -> list[str]:
    """Names of the driver's packages on the host, half-installed ones too; none where the manager does not answer."""
    try:
        return list(family(manager.installed(FAMILY)))
    except Failure:
        return []


def by_hand(box: Box, manager: str, record: Record, initramfs: Sequence[str], there: Iterable[str] = ()) -> list[str]:
    """Commands that bring back what was there, for somebody at a text console. ``there``: the driver's packages."""
    previous, files = versions(record.get("previous")), kept(box)
    before = record.get("before") or {}
    held = sorted({*map(str, record.get("held") or []), *map(str, record.get("holding") or [])})
    # a hold makes apt refuse what follows
    lines = [f"{RELEASE[manager]} {' '.join(map(shlex.quote, held))}"] if held else []
    if record.get("lock") and record["lock"] != before.get("lock"):
        lines.append(UNLOCK[manager].format(shlex.quote(str(record["lock"]))))
    lines += REPAIR[manager]
    later = [str(name) for name in record.get("later") or []]
    new = sorted({*versions(record.get("packages")), *there, *later} - set(previous))
    if new:
        lines.append(_removal(manager, new))
    if files and manager == "apt":
        lines.append(f"dpkg --install {' '.join(shlex.quote(str(path)) for path in files)}")
        lines.append(REPAIR[manager][1])
    elif previous:
        joint = "=" if manager == "apt" else "-"
        names = [str(path) for path in files] or [f"{name}{joint}{version}" for name, version in previous.items()]
        lines.append(f"{BACK[manager]} {' '.join(map(shlex.quote, names))}")
    # "blocked" is forgotten once all is done; a file from before an upgrade stays
    ours = record.get("blocked") or (not previous and FILE in (record.get("files") or []))
    if ours and box.at(FILE).exists():
        lines.append(" && ".join([f"rm {FILE}", *typed(box, initramfs, kernels(box, record))]))
    if held_before(record):
        lines.append(f"{HOLD[manager]} {' '.join(map(shlex.quote, held_before(record)))}")
    return [*lines, "reboot"]


def _removal(manager: str, names: Sequence[str]) -> str:
    words = " ".join(map(shlex.quote, names))
    # apt removes nothing while something else is broken; dpkg does
    return f"{REMOVE[manager]} {words}" + (f" || dpkg --purge {words}" if manager == "apt" else "")


def take_back(record: Record, names: Sequence[str], blocked: bool, initramfs: Sequence[str]) -> list[str]:
    """The commands that undo an installation that went well, in order: back to what was there before it, the pin and
    its owner's holds included, and nothing of ours written down any more."""
    manager, previous = str(record.get("manager") or "apt"), versions(record.get("previous"))
    lines = [_said(RELEASE[manager], map(str, record.get("held") or []))] if record.get("held") else []
    if record.get("lock") and record["lock"] != record.get("lock_before"):
        lines.append(UNLOCK[manager].format(shlex.quote(str(record["lock"]))))
    if previous:
        joint = "=" if manager == "apt" else "-"
        lines.append(_said(BACK[manager], (f"{name}{joint}{one}" for name, one in sorted(previous.items()))))
    elif names:
        lines.append(_said(REMOVE[manager], sorted(names)))
    if blocked and not previous:
        lines.append(" && sudo ".join((f"rm {FILE}", *initramfs)))
    if previous and record.get("held_before"):
        lines.append(_said(HOLD[manager], map(str, record["held_before"])))
    return [f"sudo {line}" for line in (*lines, f"rm -f {RECORD}", "reboot")]


def _said(command: str, names: Iterable[str]) -> str:
    return f"{command} {' '.join(map(shlex.quote, names))}"


def forget_previous(box: Box) -> None:
    """The files of the driver before: no longer needed once the new one works."""
    for path in kept(box):
        path.unlink()
