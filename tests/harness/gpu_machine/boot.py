"""Power on, and the initramfs that the kernel starts from: a tar of modprobe's configuration."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.gpu_machine import nvml
from harness.gpu_machine.bus import plug
from harness.gpu_machine.files import KERNEL, Refused, hook, link, log, machine, remove, write
from harness.gpu_machine.firmware import power_on
from harness.gpu_machine.modules import insert

INITRAMFS = Path(f"/boot/initrd.img-{KERNEL}")
MODPROBE_D = ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d")
MODULES_LOAD_D = ("/etc/modules-load.d", "/usr/lib/modules-load.d")
REAL = ("etc", "usr", "lib", "lib64", "bin", "sbin", "var", "boot", "home", "root", "tmp", "opt")
REAL_PROC = ("cpuinfo", "meminfo", "mounts", "uptime", "loadavg", "stat")
GONE = ("/proc/modules", "/proc/driver", "/sys", "/dev", "/run", "/persistence", "/gpu_in_use", "/kernel.log")
"""What a power cut takes away."""


def update_initramfs(words: Sequence[str]) -> None:
    """update-initramfs -u [-k RELEASE]"""
    image = INITRAMFS.with_name(f"initrd.img-{words[words.index('-k') + 1]}") if "-k" in words else INITRAMFS
    if hook("update-initramfs"):
        raise Refused(f"update-initramfs: failed for {image} with 1.")
    print(f"update-initramfs: Generating {image}")  # noqa: T201
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for path in _configuration():
            tar.add(path)
    new = image.with_name(f"{image.name}.new")
    try:
        new.write_bytes(content.getvalue())
        new.replace(image)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise Refused(f"cp: error writing '{new}': {error.strerror}\nupdate-initramfs: failed with 1.") from error


def _configuration() -> Iterator[Path]:
    for folder in MODPROBE_D:
        yield from sorted(Path(folder).glob("*.conf"))


def _version() -> str:
    """Linux's own words; of a kernel that only a package has brought, by its configuration's."""
    text = Path("/proc/version").read_text()
    config = Path(f"/boot/config-{KERNEL}")
    if f"version {KERNEL} " in text or not config.exists():
        return text
    made = re.search('^CONFIG_CC_VERSION_TEXT="(.*)"$', config.read_text(), re.MULTILINE)
    return f"Linux version {KERNEL} (debian-kernel@lists.debian.org) ({made[1] if made else 'gcc'}, GNU ld) #1 SMP\n"


def _initramfs_text() -> str:
    if not INITRAMFS.exists():
        return ""
    if not tarfile.is_tarfile(INITRAMFS):
        return _unpacked()
    with tarfile.open(INITRAMFS) as tar:
        files = [tar.extractfile(member) for member in tar if member.isfile()]
        return "\n".join(file.read().decode() for file in files if file is not None)


def _unpacked() -> str:
    """Of an initramfs that initramfs-tools made."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["unmkinitramfs", INITRAMFS, folder], check=True, capture_output=True)
        files = sorted(Path(folder).glob("**/modprobe.d/*.conf"))
        return "\n".join(path.read_text() for path in files)


def _blocks_nouveau(text: str) -> bool:
    return bool(re.search(r"^\s*(blacklist\s+nouveau|install\s+nouveau\s+/bin/(false|true))\b", text, re.MULTILINE))


def boot(_: Sequence[str]) -> None:
    """Firmware, initramfs, udev."""
    for path in GONE:
        remove(path)
    for name in REAL:
        if Path(f"/{name}").exists():
            link(f"/{name}", f"/{name}")
    for name in REAL_PROC:
        link(f"/proc/{name}", f"/proc/{name}")
    link("/sys/devices/system", "/sys/devices/system")
    link("/run/reboot-required", "/run/reboot-required")
    write("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n")
    write("/proc/sys/kernel/osrelease", f"{KERNEL}\n")
    write("/proc/version", _version())
    write("/proc/cmdline", f"BOOT_IMAGE=/boot/vmlinuz-{KERNEL} root=/dev/sda1 ro quiet\n")
    write("/proc/1/cgroup", "0::/init.scope\n")
    for empty in ("/proc/modules", "/dev/null", "/kernel.log"):
        write(empty)
    nvml.unloaded()
    power_on()
    for card in machine()["cards"]:
        plug(card)
    _load()


def _load() -> None:
    """udev loads by alias; a blacklist keeps a module out in the initramfs, and again on the root file system."""
    text = "\n".join(path.read_text() for path in _configuration())
    if machine()["nouveau"] and not (_blocks_nouveau(_initramfs_text()) and _blocks_nouveau(text)):
        insert("nouveau")
    for name in ("nvidia", "nvidia_modeset", "nvidia_drm", *_asked_for()):
        try:
            insert(name)
        except Refused as reason:
            if "not found" not in str(reason):
                log(f"systemd-udevd: {reason}")


def _asked_for() -> Iterator[str]:
    for folder in MODULES_LOAD_D:
        for path in sorted(Path(folder).glob("*.conf")):
            names = (line.strip() for line in path.read_text().splitlines())
            yield from (name.replace("-", "_") for name in names if name.startswith("nvidia"))
