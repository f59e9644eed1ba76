"""What a container has no part of: firmware, PCI bus, kernel modules, initramfs. A machine made of files in /machine.

    python3 -m harness.gpu_machine PROGRAM WORDS...

stands for modprobe, rmmod, lsmod, update-initramfs, mokutil and dmesg; machine-boot is run when the container starts,
machine-hook by the stub packages. Standard library only, without the rest of the harness: it runs on the host.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from harness.gpu_machine.boot import boot, update_initramfs
from harness.gpu_machine.files import Refused, hook, read
from harness.gpu_machine.firmware import mokutil
from harness.gpu_machine.modules import lsmod, modprobe, rmmod


def dmesg(_: Sequence[str]) -> None:
    print(read("/kernel.log"), end="")  # noqa: T201


def machine_hook(words: Sequence[str]) -> None:
    sys.exit(hook(words[0]))


PROGRAMS: dict[str, Callable[[Sequence[str]], None]] = {
    "modprobe": modprobe, "rmmod": rmmod, "lsmod": lsmod, "update-initramfs": update_initramfs, "mokutil": mokutil,
    "dmesg": dmesg, "machine-boot": boot, "machine-hook": machine_hook,
}  # fmt: skip


def main(name: str, words: Sequence[str]) -> None:
    try:
        PROGRAMS[name](words)
    except (Refused, OSError) as reason:
        if name != "modprobe" or not {"-q", "--quiet"} & set(words):
            print(reason if isinstance(reason, Refused) else f"{name}: {reason}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


main(sys.argv[1], sys.argv[2:])
