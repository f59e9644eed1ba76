#!/usr/bin/env python3
# /// script
# requires-python = ">=3.9"
# dependencies = []
# ///
"""Are enough memory and disk free here?

Memory is what can be had now: the kernel's MemAvailable, or what the control group still allows where that is less.
Disk is what this user may still write below --path (or below its nearest folder that exists). Changes nothing.
Exit 0 yes, 1 no, 2 cannot tell; one JSON line on stdout.

    python3 memory_disk.py --memory-mib 2048 --disk-mib 4096 --path ~/.local/share
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

MIB = 1 << 20


def available_mib(meminfo: str) -> int | None:
    """MemAvailable; kernels before 3.14 lack it, and free + buffers + cached comes close."""
    # MemAvailable:   24044692 kB
    kib = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+) kB", meminfo, re.MULTILINE)}
    if "MemAvailable" in kib:
        return kib["MemAvailable"] // 1024
    if "MemFree" in kib:
        return (kib["MemFree"] + kib.get("Buffers", 0) + kib.get("Cached", 0)) // 1024
    return None


def number(path: Path) -> int | None:
    """The number in a control-group file; None where it is absent or says "max"."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def cgroup_free_mib(root: Path) -> int | None:
    """What the control group still allows (page cache counts as free); None where it sets no limit."""
    for folder, limit_name, used_name in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = number(folder / limit_name), number(folder / used_name)
        if limit is None or used is None or limit >= 1 << 60:  # version 1 writes "no limit" as a huge number
            continue
        try:
            cache = re.search(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
        except OSError:
            cache = None
        return max(0, limit - used + (int(cache.group(1)) if cache else 0)) // MIB
    return None


def memory_problem(need: int, meminfo: str, cgroup: Path, data: dict[str, Any]) -> str | None:
    """What is wrong, or None. Raises ValueError where memory cannot be read."""
    free = available_mib(meminfo)
    if free is None:
        raise ValueError("the meminfo text has no MemAvailable and no MemFree line")
    allowed = cgroup_free_mib(cgroup)
    data["memory_mib"] = free if allowed is None else min(free, allowed)
    data["memory_limited_by"] = "control group" if allowed is not None and allowed < free else "machine"
    if data["memory_mib"] >= need:
        return None
    return f"{data['memory_mib']} MiB of memory available, {need} MiB needed ({data['memory_limited_by']})"


def disk_problem(need: int, path: Path, data: dict[str, Any]) -> str | None:
    """What is wrong, or None."""
    folder = path.expanduser().absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    stat = os.statvfs(folder)
    data["disk_mib"] = stat.f_bavail * stat.f_frsize // MIB
    data["disk_path"] = str(folder)
    if stat.f_flag & os.ST_RDONLY:
        return f"{folder} is on a file system that is mounted read-only"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written by this user (uid {os.geteuid()})"
    if data["disk_mib"] < need:
        return f"{data['disk_mib']} MiB free for this user at {folder}, {need} MiB needed"
    if stat.f_files and not stat.f_favail:
        return f"the file system of {folder} has no inode left"
    return None


def judge(options: argparse.Namespace) -> dict[str, Any]:
    data: dict[str, Any] = {"memory_need_mib": options.memory_mib, "disk_need_mib": options.disk_mib}
    try:
        meminfo = Path(options.meminfo).read_text() if options.memory_mib else ""
        problems = [
            options.memory_mib and memory_problem(options.memory_mib, meminfo, Path(options.cgroup), data),
            options.disk_mib and disk_problem(options.disk_mib, Path(options.path), data),
        ]
    except (OSError, ValueError) as error:
        return answer("skip", "free memory and disk are not known", str(error), "look at `free -m` and `df -m`", data)
    found = [problem for problem in problems if problem]
    if not found:
        return answer("pass", "enough memory and disk are free", data=data)
    hint = "close programs, add memory, or train with less" if problems[0] else ""
    if problems[1]:
        hint += ("; " if hint else "") + "free space, mend the permissions, or name another folder"
    return answer("fail", "not enough memory or disk is free", "\n".join(found), hint, data)


def answer(status: str, what: str, why: str = "", hint: str = "", data: Any = None) -> dict[str, Any]:
    return {"id": "memory_disk", "status": status, "what": what, "why": why, "hint": hint, "data": data or {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory-mib", type=int, default=0, metavar="N", help="memory that must be available")
    parser.add_argument("--disk-mib", type=int, default=0, metavar="N", help="disk that must be free at --path")
    parser.add_argument("--path", default="~", help="where the disk is needed; may not exist yet (default: home)")
    parser.add_argument("--meminfo", default="/proc/meminfo", metavar="FILE", help="read this instead")
    parser.add_argument("--cgroup", default="/sys/fs/cgroup", metavar="DIR", help="read this instead")
    result = judge(parser.parse_args())
    print(json.dumps(result))
    return {"pass": 0, "fail": 1, "skip": 2}[result["status"]]


if __name__ == "__main__":
    sys.exit(main())
