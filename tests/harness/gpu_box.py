"""A workstation with an NVIDIA card, made of files: real SSH, systemd, apt, dkms and kmod; no GPU and no kernel.

What a container cannot have lies in /machine (harness.gpu_machine), which stands for / where product code reads
/proc, /sys, /dev and /run: inventory variable provision_machine_root. Packages come from a mirror of this run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engine import Engine, Unavailable
from harness.fleet import Fleets, Host
from harness.gpu_box_files import ROOT, archive_files, kernel_files, machine_files, stub_files
from harness.gpu_packages_nvidia import KERNEL, debian_driver, driver, kernel
from harness.gpu_packages_server import Mirror, PackageCache
from harness.images import Distribution

RECORD = "/var/lib/provision/nvidia.json"
WAIT_S = 300.0

DRIVER = (
    "nvidia-driver-cuda", "libcuda1", "libnvidia-ml1", "libnvidia-ptxjitcompiler1", "nvidia-kernel-common",
    "firmware-nvidia-gsp", "nvidia-modprobe", "nvidia-persistenced",
)  # fmt: skip
"""NVIDIA's packages of one version, less the kernel module's."""


@dataclass(slots=True, kw_only=True)
class GpuBox(Host):
    """The box. ``mirror`` is its package source: change it before a run to make a fault."""

    mirror: Mirror = field(repr=False)
    kernel: str = KERNEL
    next_kernel: str = ""

    def inventory_variables(self) -> dict[str, Any]:
        mine = {"provision_machine_root": ROOT, **self.mirror.variables()}
        return {**Host.inventory_variables(self), **mine}

    def inventory(self) -> Path:
        """An Ansible inventory of this box: ``provision up -i INVENTORY``."""
        return self.fleet.inventory()

    def reboot(self) -> None:
        """Power off in order, and on again."""
        self._choose_kernel()
        self.container.restart(timeout=30)
        self.wait()

    def power_cut(self) -> None:
        """Off at once, whatever is at work, and on again."""
        self._choose_kernel()
        self.container.kill()
        self.container.start()
        self.wait()

    def upgrade_kernel(self) -> str:
        """As an unattended upgrade does: a newer kernel's image is installed, and the next boot takes it. Its release.

        Its headers are in the mirror.
        """
        release = re.sub(r"^(\d+\.\d+\.)(\d+)", lambda found: f"{found[1]}{int(found[2]) + 1}", KERNEL)
        self.mirror.add([deb for deb in kernel(release) if release in deb.name], to="debian")
        self.apt_install(f"linux-image-{release}")
        self.next_kernel = release
        return release

    def _choose_kernel(self) -> None:
        """What a boot loader does."""
        if self.next_kernel and self.kernel != self.next_kernel:
            for path, (content, mode, _) in kernel_files().items():
                self.write(path, content, mode)
            self.write(f"{ROOT}/kernel", self.next_kernel.encode())
            self.kernel = self.next_kernel

    def boot_id(self) -> str:
        return self.sh(f"cat {ROOT}/proc/sys/kernel/random/boot_id").strip()

    def loaded(self) -> tuple[str, ...]:
        """Names of loaded modules, newest first."""
        return tuple(line.split()[0] for line in self.sh(f"cat {ROOT}/proc/modules").splitlines())

    def driver_version(self) -> str:
        """Of the loaded module; "" where none is."""
        return self.sh(f"cat {ROOT}/sys/module/nvidia/version || true").strip()

    def installed(self, pattern: str = "*") -> dict[str, str]:
        """{package: version} of what is installed in full."""
        form = "${db:Status-Status} ${Package} ${Version}\\n"
        said = self.exec(["dpkg-query", "-W", "-f", form, pattern]).stdout
        rows = [line.split(" ") for line in said.splitlines()]
        return {name: version for status, name, version in rows if status == "installed"}

    def broken(self) -> list[str]:
        """Packages that dpkg has not finished with."""
        said = self.sh("dpkg-query -W -f '${db:Status-Status} ${Package}\\n'")
        done = ("installed", "not-installed", "config-files")
        return [name for status, name in map(str.split, said.splitlines()) if status not in done]

    def holds(self) -> list[str]:
        return self.sh("apt-mark showhold").split()

    def initramfs(self) -> str:
        """modprobe's configuration as the initramfs of the running kernel has it."""
        image = f"/boot/initrd.img-{self.kernel}"
        unpacked = "find $made -path '*/modprobe.d/*.conf' -exec cat {} +"
        real = f"made=$(mktemp -d); unmkinitramfs {image} $made; {unpacked}; rm -rf $made"
        return self.sh(f"tar -xOf {image} 2>/dev/null || {{ {real}; }}")

    def dkms(self) -> str:
        return self.sh("dkms status").strip()

    def modinfo(self, name: str = "nvidia") -> dict[str, str]:
        said = self.exec(["modinfo", name]).stdout
        return {key: value.strip() for key, _, value in (line.partition(":") for line in said.splitlines())}

    def record(self) -> dict[str, Any]:
        """What provision wrote down about the driver; {} where it did not."""
        text = self.exec(["cat", RECORD]).stdout
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    def smi(self, *words: str) -> tuple[int, str]:
        """nvidia-smi's exit status and text."""
        done = self.exec(["nvidia-smi", *words])
        return done.status, done.text

    def apt_install(self, *packages: str) -> str:
        """By hand, as somebody did before us."""
        noninteractive = "DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
        return self.sh(f"apt-get update -q >/dev/null && {noninteractive} {' '.join(packages)} 2>&1")

    def use_nvidia_repository(self) -> None:
        """As after NVIDIA's own instructions: key and list are there."""
        self.write("/usr/share/keyrings/cuda-archive-keyring.gpg", self.mirror.key.binary)
        signed = "signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg"
        line = f"deb [{signed}] {self.mirror.nvidia_url}/debian12/x86_64/ /\n"
        self.write("/etc/apt/sources.list.d/cuda-debian12-x86_64.list", line.encode())

    def install_driver(self, version: str, *, module: str = "proprietary") -> None:
        """A working driver of NVIDIA's repository, nouveau blocked, rebooted: what an upgrade starts from."""
        if not any(deb.name == "nvidia-driver-cuda" and deb.version == f"{version}-1" for deb in self.mirror.nvidia):
            self.mirror.add(driver(version))
        self.use_nvidia_repository()
        kernel = "nvidia-kernel-dkms" if module == "proprietary" else "nvidia-kernel-open-dkms"
        names = [*DRIVER, kernel]
        self.apt_install(f"linux-headers-{KERNEL}", *(f"{name}={version}-1" for name in names))
        self.block_nouveau()
        self.reboot()

    def install_debian_driver(self) -> None:
        """The distribution's own driver, working."""
        (version,) = {deb.version for deb in debian_driver() if deb.name == "nvidia-driver"}
        self.sh("sed -i 's/ main$/ main contrib non-free non-free-firmware/' /etc/apt/sources.list")
        names = ("nvidia-driver", "nvidia-smi", "nvidia-kernel-dkms", "libcuda1", "libnvidia-ml1")
        self.apt_install(f"linux-headers-{KERNEL}", *(f"{name}={version}" for name in names))
        self.block_nouveau()
        self.reboot()

    def block_nouveau(self) -> None:
        self.sh("echo 'blacklist nouveau' >/etc/modprobe.d/blacklist-nouveau.conf; update-initramfs -u")

    def confirm_key(self) -> None:
        """Stand at the console during the next boot, and enrol the key that was asked for."""
        self.sh(f"touch {ROOT}/mok/confirm")

    def change_card(self, number: int = 0, **values: object) -> None:
        """Another card from now on (its place on the bus: from the next boot).

        ``fails``: it does not start. ``vfio``: bound to vfio-pci. ``width``: PCIe lanes, of 16. ``power_limit_w``, of
        160. ``throttle``: reasons in nvidia-smi's words. ``temperature_c``.
        """
        built = json.loads(self.sh(f"cat {ROOT}/machine.json"))
        built["cards"][number].update(values)
        self.write(f"{ROOT}/machine.json", json.dumps(built, indent=1).encode())

    def display(self, *, running: bool = True) -> None:
        """Something that uses the GPU, so that its module cannot be unloaded."""
        self.sh(f"touch {ROOT}/gpu_in_use" if running else f"rm -f {ROOT}/gpu_in_use")

    # --- faults -----------------------------------------------------------------------------------------------------

    def hook(self, point: str, script: str = "") -> None:
        """Run ``script`` there at a point, as root; a failing one makes the point fail. "" takes it away again.

        Points: "preinst:PACKAGE" and "postinst:PACKAGE" of each stub package, "build" of its kernel module,
        "update-initramfs", "apt-mark" (holding and releasing), "modprobe", "nvidia-persistenced" (its start),
        "nvidia-smi", "nvidia-ctk".
        """
        path = f"{ROOT}/hooks/{point}"
        if script:
            self.write(path, f"#!/bin/sh\n{script}\n".encode(), 0o755)
        else:
            self.sh(f"rm -f '{path}'")

    @contextmanager
    def held_at(self, point: str) -> Iterator[Callable[..., None]]:
        """Whatever comes to the point waits there. Gives a function that waits until something did.

        Given the process that is to come there, the function fails where that ends first.
        """
        here = f"{ROOT}/held"
        self.sh(f"rm -rf {here}; mkdir {here}")
        # killed with what it belongs to: then there is nobody to wait for
        self.hook(point, f"touch {here}/reached; while [ -e {here}/closed ]; do sleep 0.1; done")
        self.sh(f"touch {here}/closed")

        def reached(process: subprocess.Popen[str] | None = None) -> None:
            deadline = time.monotonic() + WAIT_S
            while self.exec(["test", "-e", f"{here}/reached"]).status:
                if process is not None and process.poll() is not None:
                    raise RuntimeError(f"it ended before it came to {point}: {process.communicate()}")
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nothing came to {point}")
                time.sleep(0.1)

        try:
            yield reached
        finally:
            self.hook(point)
            self.sh(f"rm -rf {here}")

    @contextmanager
    def small_disk(self, path: str, free_mib: float) -> Iterator[None]:
        """A file system of its own below ``path``, with so much free and all that was there. Kept when it ends."""
        with_tools = self._mount_namespace()
        used = int(self.sh(f"du -sk {path} | cut -f1")) + 256
        size = f"{used + int(free_mib * 1024)}k"
        copy = f"/tmp/{path.strip('/').replace('/', '-')}.copy"
        with_tools(f"cp -a {path} {copy}; mount -t tmpfs -o size={size},mode=0755 tmpfs {path}; cp -a {copy}/. {path}/")
        with_tools(f"rm -rf {copy}")
        try:
            yield
        finally:
            with_tools(
                f"rm -f {path}/.fill; cp -a {path} {copy}; umount -l {path}; find {path} -mindepth 1 -delete; "
                f"cp -a {copy}/. {path}/; rm -rf {copy}"
            )

    def fill(self, path: str) -> str:
        """A script that leaves no room on the small disk at ``path``: for a hook, or to run at once."""
        return f"fallocate -l $(df --output=avail -k {path} | tail -1)K {path}/.fill || true"

    def _mount_namespace(self) -> Callable[[str], None]:
        if os.getuid() != 0:
            raise Unavailable("a small disk in a container is mounted from outside, and that needs root")
        self.container.reload()
        pid = self.container.attrs["State"]["Pid"]

        def run(script: str) -> None:
            argv = ["nsenter", "--target", str(pid), "--mount", "--pid", "--root", "sh", "-ec", f"cd /; {script}"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{script}: {done.stderr}")

        return run

    def cut_ssh(self) -> None:
        """Every SSH session ends at once, and no new one is taken until mend_ssh."""
        self.sh("systemctl stop ssh.socket ssh.service || true; pkill -KILL -f '^sshd: ' || true")

    def mend_ssh(self) -> None:
        self.sh("systemctl start ssh.service")
        self.wait()


class GpuBoxes:
    """Makes boxes in one engine."""

    def __init__(self, engine: Engine, fleets: Fleets, folder: Path) -> None:
        self._fleets = fleets
        self._folder = folder
        self._gateway = gateway(engine)
        self._cache: PackageCache | None = None
        self._made = 0

    def make(
        self,
        cards: Sequence[str] = ("GeForce GTX 960",),
        *,
        nouveau: bool = True,
        secure_boot: bool = False,
        user: str = "me",
        uv_cache: bool = False,
        archive: str = "",
        undo: ExitStack,
    ) -> GpuBox:
        """A bare box with these cards that answers over SSH; ``undo`` takes it and its mirror away.

        ``archive``: codename of a release of Debian, whose own archive and kernel it has in place of stub packages.
        """
        if self._cache is None:
            self._cache = PackageCache(self._folder / "p")
        self._made += 1
        mirror = Mirror(self._cache, self._folder / f"m{self._made}", self._gateway)
        undo.callback(mirror.close)
        files = machine_files(cards, nouveau=nouveau, secure_boot=secure_boot)
        files |= archive_files(Distribution.debian(archive)) if archive else stub_files(mirror)
        kind = "workstation" if archive else "gpu-box"
        fleet = self._fleets.make(1, kind, user=user, uv_cache=uv_cache, files=files, codename=archive)
        undo.callback(fleet.close)
        (host,) = fleet.hosts
        box = GpuBox(
            name=host.name, address=host.address, port=host.port, user=host.user, fleet=fleet,
            container=host.container, mirror=mirror,
        )  # fmt: skip
        fleet.hosts = (box,)
        if archive:
            box.kernel = box.sh("uname -r").strip()
        else:
            box.apt_install("linux-image-amd64")
        return box

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()


def gateway(engine: Engine) -> str:
    """This machine's address as containers see it. Raises Unavailable where they cannot reach it."""
    if not engine.url.startswith("unix://"):
        raise Unavailable("the engine is on another machine, and its containers could not reach this one's packages")
    config = engine.client.networks.get("bridge").attrs["IPAM"]["Config"]
    found = next((row["Gateway"] for row in config if "Gateway" in row), None)
    if found is None:
        raise Unavailable("the engine's bridge network has no gateway address")
    return str(found)
