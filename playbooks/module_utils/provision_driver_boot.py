"""What the next boot does: nouveau kept out, and the initramfs that is read before the disk is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible.module_utils.provision_driver_box import Box, tail
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import write_atomically

FILE = "/etc/modprobe.d/provision-nouveau.conf"
TEXT = """\
# Written by provision: the NVIDIA driver and nouveau cannot have the same card. Undo: remove this file and rebuild the
# initramfs.
blacklist nouveau
options nouveau modeset=0
"""
FOLDERS = ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d", "/run/modprobe.d")
BLOCKS = re.compile(r"^\s*(?:blacklist\s+nouveau\s*$|install\s+nouveau\s+(?:/usr)?/bin/(?:false|true)\b)", re.MULTILINE)
INITRAMFS_S = 1800.0
INSTEAD = {"update-initramfs": ("dracut", "--force", "/boot/initrd.img-{kernel}", "{kernel}")}
"""Debian and Ubuntu may have dracut in place of initramfs-tools. As its package calls it when a kernel comes."""
BINARIES = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
IMAGES = ("/boot/initrd.img-{kernel}", "/boot/initramfs-{kernel}.img")


def blocked(box: Box) -> str:
    """The file of modprobe's configuration that keeps nouveau out; "" where none does."""
    for folder in FOLDERS:
        place = box.at(folder)
        for path in sorted(place.glob("*.conf")) if place.is_dir() else []:
            # Debian's packages leave dangling links of alternatives there
            if path.is_file() and BLOCKS.search(path.read_text(encoding="utf-8", errors="replace")):
                return f"{folder}/{path.name}"
    return ""


def block(box: Box) -> bool:
    """nouveau is kept out from the next boot on; whether anything had to be written. Raises OSError."""
    if blocked(box):
        return False
    path = box.at(FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, TEXT)
    return True


def unblock(box: Box) -> bool:
    """Our file is gone; whether it was there. Files that others wrote stay."""
    try:
        box.at(FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def kernels(box: Box, record: Mapping[str, Any], *more: str) -> list[str]:
    """Whose initramfs and packages are the driver's concern: the running kernel, the one that boots next, and those of
    the record; as far as they are installed."""
    found = dict.fromkeys([box.kernel, *more, *(str(one) for one in record.get("kernels") or [])])
    return [one for one in found if one == box.kernel or (one and box.at(f"/lib/modules/{one}").is_dir())]


def tool(box: Box, template: Sequence[str]) -> Sequence[str]:
    """The distribution's command, or what the host has instead; () where it has neither."""
    known = [one for one in (template, INSTEAD.get(template[0], ()) if template else ()) if one]
    return next((one for one in known if any(box.at(f"{folder}/{one[0]}").exists() for folder in BINARIES)), ())


def commands(box: Box, template: Sequence[str], of_kernels: Iterable[str]) -> list[list[str]]:
    """The host's command for each kernel; none where it has none."""
    found = tool(box, template)
    return [[word.replace("{kernel}", one) for word in found] for one in of_kernels if found]


def typed(box: Box, template: Sequence[str], of_kernels: Iterable[str]) -> list[str]:
    """As somebody types them."""
    return [" ".join(argv) for argv in commands(box, template, of_kernels)]


def rebuild(box: Box, template: Sequence[str], of_kernels: Sequence[str]) -> None:
    """The initramfs of each kernel holds modprobe's configuration as it is now. Raises Failure.

    Where it fails the old one is still there: the distributions' tools write beside it and rename.
    """
    images = [path.format(kernel=kernel) for kernel in of_kernels for path in IMAGES]
    there = [path for path in images if box.at(path).exists()]
    if template and not tool(box, template) and there:
        why = f"{', '.join(there)}: there is neither {' nor '.join([template[0], 'dracut'])} here"
        hint = "rebuild it by hand, with nouveau kept out, and run the same command again"
        raise Failure("initramfs", "the initramfs cannot be rebuilt", why, hint)
    for kernel, argv in zip(of_kernels, commands(box, template, of_kernels)):
        _rebuild(box, kernel, argv)


def _rebuild(box: Box, kernel: str, argv: Sequence[str]) -> None:
    box.say(f"rebuilding the initramfs of {kernel}")
    said = box.run(argv, timeout_s=INITRAMFS_S)
    if not said.status:
        return
    words = tail(said.words)
    what = f"the initramfs of {kernel} could not be rebuilt"
    why = f"{' '.join(argv)} ended with status {said.status}\n{words}"
    if "No space left" in words:
        hint = "remove kernels that are not used any more, or make /boot larger, and run the same command again"
        raise Failure("disk_full", what, why, hint)
    raise Failure("initramfs", what, why, "mend what it complains about, and run the same command again")
