"""The host as the driver's modules see it: readings of the machine, files of the system, and programs that are run.

/proc, /sys, /dev and /run are read below a machine's root, which tests move: a container has no GPU and no kernel of
its own. Packages, /etc, /lib/modules, /boot and /var are the host's.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Callable, NamedTuple  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_failure import Interrupted

POLL_S = 0.2
TIMED_OUT = 124
NOT_FOUND = 127
MARK = "PROVISION_RUN"
"""Whatever carries it is ended when a run is cancelled: a package manager must never be."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NVIDIA = "0x10de"
DISPLAY = "0x03"
"""PCI class of VGA and 3D controllers."""
EFI_VARIABLES = "/sys/firmware/efi/efivars"
EFI_SECURE_BOOT = f"{EFI_VARIABLES}/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
SHIM_VALIDATION_OFF = f"{EFI_VARIABLES}/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23"
"""Linux, drivers/firmware/efi/libstub/secureboot.c: with it the kernel takes Secure Boot to be off."""
RUNTIME = "/run/provision/nvidia"


class Said(NamedTuple):
    """A program's exit status and what it printed."""

    status: int
    stdout: str
    stderr: str

    @property
    def words(self) -> str:
        return (self.stderr + self.stdout).strip()


def _say_nothing(text: str) -> None:
    pass


class Box:
    """``host`` stands for / in tests; ``lock`` is a descriptor that package managers keep open as long as they run."""

    def __init__(
        self,
        machine_root: str = "",
        host: str = "",
        say: Callable[[str], None] = _say_nothing,
        lock: int | None = None,
    ) -> None:
        self._machine_root, self._host, self.say, self._lock = machine_root.rstrip("/"), host, say, lock
        self.kernel = platform.uname().release
        self.stop = ""
        """Name of the signal that asked us to end; "" as long as none did."""

    # --- files -------------------------------------------------------------------------------------------------------

    def at(self, path: str) -> Path:
        """A file of the system."""
        return Path(self._host + path)

    def machine(self, path: str) -> Path:
        """A reading of the machine."""
        return Path(self._machine_root + path) if self._machine_root else self.at(path)

    def read(self, path: str) -> str:
        """A reading's text without blanks around it; "" where it is not there."""
        try:
            return self.machine(path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    # --- programs ----------------------------------------------------------------------------------------------------

    def run(self, argv: Sequence[str], env: Mapping[str, str] | None = None, timeout_s: float | None = None) -> Said:
        """Run ``argv`` to its end. Neither a signal to us nor our own end stops it; ``env`` is added to ours.

        Its output goes into files, because a pipe would break, and end it, where we are killed. A program that is not
        there has status 127.
        """
        variables = {"PATH": PATH, **os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
        variables.pop(MARK, None)
        folder = RUNTIME if os.path.isdir(RUNTIME) else None  # noqa: PTH112
        with tempfile.TemporaryFile(dir=folder) as out, tempfile.TemporaryFile(dir=folder) as err:
            try:
                process = subprocess.Popen(
                    list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=variables, cwd="/",
                    start_new_session=True, pass_fds=[] if self._lock is None else [self._lock],
                )  # fmt: skip
            except OSError as error:
                return Said(NOT_FOUND, "", f"{argv[0]}: {error.strerror}")
            status = self._wait(process, out.fileno(), timeout_s)
            return Said(status, *(_whole(file.fileno()) for file in (out, err)))

    def _wait(self, process: subprocess.Popen[bytes], out: int, timeout_s: float | None) -> int:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        begun, told = time.monotonic(), ""
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(POLL_S)
            if deadline is not None and time.monotonic() > deadline:
                process.terminate()
                process.wait()
                return TIMED_OUT
            line = _last_line(out) if time.monotonic() - begun > 1 else ""
            if line and line != told:
                told = line
                self.say(line)

    def pause(self) -> None:
        """Between two operations: raises Interrupted where somebody asked us to end."""
        if self.stop:
            raise Interrupted(self.stop)

    # --- the machine -------------------------------------------------------------------------------------------------

    def boot_id(self) -> str:
        return self.read("/proc/sys/kernel/random/boot_id")

    def loaded_modules(self) -> list[str]:
        return [line.split()[0] for line in self.read("/proc/modules").splitlines() if line.split()]

    def nouveau_loaded(self) -> bool:
        return "nouveau" in self.loaded_modules() or self.machine("/sys/module/nouveau").exists()

    def gpus(self) -> dict[str, str]:
        """{PCI address: name of the kernel driver that has it, or ""} of NVIDIA's display controllers."""
        found: dict[str, str] = {}
        folder = self.machine("/sys/bus/pci/devices")
        for device in sorted(folder.iterdir()) if folder.is_dir() else []:
            place = f"/sys/bus/pci/devices/{device.name}"
            if self.read(f"{place}/vendor") == NVIDIA and self.read(f"{place}/class").startswith(DISPLAY):
                driver = device / "driver"
                found[device.name] = Path(os.readlink(driver)).name if driver.is_symlink() else ""
        return found

    def secure_boot(self) -> bool:
        """Whether the kernel asks for signed modules: the firmware does, and nobody switched it off in shim."""
        return self._efi(EFI_SECURE_BOOT) and not self._efi(SHIM_VALIDATION_OFF)

    def _efi(self, variable: str) -> bool:
        """Four bytes of attributes, then 1."""
        try:
            return self.machine(variable).read_bytes()[4:5] == b"\x01"
        except OSError:
            return False

    def processes(self) -> list[str]:
        """Names of running programs."""
        folder = self.machine("/proc")
        names = [entry.name for entry in folder.iterdir() if entry.name.isdigit()] if folder.is_dir() else []
        return sorted({self.read(f"/proc/{name}/comm") for name in names} - {""})

    def free_mib(self, path: str) -> int | None:
        """What root may still write on the file system of ``path``, in MiB; None where it is not there."""
        try:
            found = os.statvfs(self.at(path))
        except OSError:
            return None
        return found.f_bfree * found.f_frsize >> 20


def _whole(handle: int) -> str:
    os.lseek(handle, 0, os.SEEK_SET)
    with os.fdopen(os.dup(handle), "rb") as file:
        return file.read().decode("utf-8", "replace")


def _last_line(handle: int) -> str:
    """The last line of the output so far, as a step's text. pread: the writer shares our place in the file."""
    size = os.fstat(handle).st_size
    text = os.pread(handle, 4096, max(0, size - 4096)).decode("utf-8", "replace")
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return lines[-1][:160] if lines else ""


def tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
