"""How much memory, how many processors and how much disk there is for us, limits of a container included."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20
NETWORK_FILESYSTEMS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "afs",
    "fuse.sshfs",
    "9p",
    "lustre",
    "beegfs",
    "ceph",
    "glusterfs",
)
"""Bazel's output must not lie on these (bazel.build, "output directory layout"; bazelbuild/bazel issue 1970)."""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _cgroups(proc: Path, sys: Path) -> list[Path]:
    """The folders of our control group and its parents, innermost first (cgroups(7)); version 2, then 1's."""
    found = []
    for line in _read(proc / "self" / "cgroup").splitlines():
        # 0::/user.slice/session-1.scope   or, version 1,   9:memory:/docker/4f…
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(",") if controllers else [""]:
            folder = (sys / "fs/cgroup" / name) if name else sys / "fs/cgroup"
            here = folder / path.lstrip("/")
            found += [one for one in (here, *here.parents) if one == folder or folder in one.parents]
    return found


def available_mib(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """Memory that can be had without swapping, in MiB: the kernel's MemAvailable, or what our control group leaves."""
    # MemAvailable:   19322368 kB
    lines = [line.split() for line in _read(proc / "meminfo").splitlines()]
    known = {line[0]: int(line[1]) // 1024 for line in lines if len(line) > 1 and line[1].isdigit()}
    found = [known.get("MemAvailable:", known.get("MemFree:", 0))]
    for folder in _cgroups(proc, sys):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, now = _read(folder / limit), _read(folder / used)
            if most.isdigit() and now.isdigit() and int(most) < 1 << 60:
                # the page cache counts as used, and is given back when it is asked for
                now_used = int(now) - _cached(folder)
                found.append(max(0, int(most) - max(0, now_used)) // MIB)
    return min(found)


def _cached(folder: Path) -> int:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def cores(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> int:
    """Processors that we may use: our affinity, and what our control group gives us."""
    found = [len(os.sched_getaffinity(0))]
    for folder in _cgroups(proc, sys):
        # cpu.max: "200000 100000" is two processors, "max 100000" all
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            found.append(max(1, int(quota) // int(period)))
    return min(found)


def jobs_for(processors: int, memory_mib: int, per_job_mib: int) -> int:
    """How many compilers may run at once."""
    return max(1, min(processors, memory_mib // per_job_mib if per_job_mib > 0 else processors))


def existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def free_mib(path: Path) -> int:
    """What an ordinary user may still write to the file system that ``path`` lies, or would lie, on."""
    found = os.statvfs(existing(path))
    return found.f_bavail * found.f_frsize // MIB


def used_mib(folder: Path) -> int:
    """What lies below ``folder``."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512  # noqa: PTH118  many files
            except OSError:
                continue
    return total // MIB


def filesystem(path: Path, mounts: str | None = None) -> str:
    """The type of the file system that ``path`` lies, or would lie, on: "ext4". ``mounts`` is /proc/self/mountinfo."""
    text = _read(Path("/proc/self/mountinfo")) if mounts is None else mounts
    real = Path(os.path.realpath(existing(path))) if mounts is None else path
    best, kind = -1, ""
    for line in text.splitlines():
        # 36 35 98:0 /root /mnt/a\040b rw,noatime master:1 - ext3 /dev/root rw
        left, _, right = line.partition(" - ")
        point = Path(left.split()[4].replace("\\040", " "))
        if (point == real or point in real.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), right.split()[0]
    return kind
