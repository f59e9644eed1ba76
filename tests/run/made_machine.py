"""A machine made of files with an NVIDIA card, and the probe's script in a shell on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.catalog.load import chips
from provision.detect import host_facts
from provision.detect.framed import is_complete, split
from provision.model.facts import Facts
from provision.model.nvidia import HostNvidia
from provision.model.readings import Readings
from provision.run import probe
from provision.run.command import run
from provision.run.dump import is_reading

SHELLS = [shell for shell in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"]) if shutil.which(shell[0])]
PLAIN_TOOLS = "sh cat grep sed awk tail head tr df id uname readlink getconf timeout sleep env wc".split()  # noqa: SIM905
KERNEL = os.uname().release
ADDRESS = "0000:01:00.0"
CARD = f"sys/bus/pci/devices/{ADDRESS}"
FILES = {
    "proc/modules": "",
    "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
    f"{CARD}/vendor": "0x10de\n",
    f"{CARD}/device": "0x1401\n",
    f"{CARD}/class": "0x030000\n",
    f"{CARD}/current_link_speed": "2.5 GT/s PCIe\n",
    f"{CARD}/current_link_width": "4\n",
    f"{CARD}/max_link_speed": "8.0 GT/s PCIe\n",
    f"{CARD}/max_link_width": "16\n",
}
LISTS = {
    "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_main_binary-amd64_Packages.lz4": "",
    "var/lib/apt/lists/deb.debian.org_debian_dists_bookworm_non-free_binary-amd64_Packages": "",
}
# rc: configuration files are left; un: not installed
DPKG = """printf '%s\\n' 'ii  bash 5.2' 'hi  nvidia-driver 535.261.03-1' 'iF  nvidia-kernel-dkms 535.261.03-1' \
'rc  nvidia-smi 470.1' 'un  nvidia-tesla-driver ' 'ii  libcudnn9-cuda-12 9.10.2.21-1' 'hi  linux-image-amd64 6.1.1'"""


@dataclass(slots=True)
class Machine:
    """``folder / "a root"`` stands for /. On PATH are plain tools and ``programs``: what this machine has of dpkg, apt,
    docker and the like is not seen."""

    folder: Path
    shell: list[str]

    def ask(
        self,
        files: Mapping[str, str] = FILES,
        programs: Mapping[str, str] | None = None,
        real: tuple[str, ...] = (),
        **env: str,
    ) -> Readings:
        """Files and programs of earlier calls stay."""
        self._write(files)
        own, tools = self.folder / "programs", self.folder / "tools"
        for folder in (own, tools):
            folder.mkdir(exist_ok=True)
        for name in (*PLAIN_TOOLS, *real):
            found = shutil.which(name)
            if found and not (tools / name).exists():
                (tools / name).symlink_to(found)
        hidden = {"dkms": "exit 127", "modinfo": "exit 127"}  # the script adds /usr/sbin to PATH
        for name, text in {**hidden, **(programs or {})}.items():
            (own / name).write_text(f"#!/bin/sh\n{text}\n")
            (own / name).chmod(0o755)
        return self._readings({"PATH": f"{own}:{tools}", "HOME": str(self.folder), **env})

    def _write(self, files: Mapping[str, str]) -> None:
        root = self.folder / "a root"
        root.mkdir(exist_ok=True)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def _readings(self, env: Mapping[str, str]) -> Readings:
        boundary = probe.new_boundary()
        shell = [str(shutil.which(self.shell[0])), *self.shell[1:]]
        root = str(self.folder / "a root")
        done = run([*shell, "-s", "--", boundary, "-", root], stdin=probe.probe_script(), env=env, timeout_s=60)
        assert (done.status, done.stderr) == (0, "")
        assert is_complete(done.stdout, boundary)
        readings = split(done.stdout, boundary)
        assert all(is_reading(name) for name in readings.files if name not in ("environments", "data_home"))
        return readings


def facts(readings: Readings) -> Facts:
    return host_facts(readings, chips(), host="here")


def nvidia(readings: Readings) -> HostNvidia:
    found = facts(readings).nvidia
    assert found is not None
    return found
