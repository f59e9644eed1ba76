"""The files that the machine is made of: what every program of it reads and writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path("/machine")
KERNEL = os.uname().release


class Refused(Exception):
    """What a program says before it exits with status 1."""


def at(path: str) -> Path:
    """Where "/proc/modules" of the machine lies."""
    return ROOT / path.lstrip("/")


def read(path: str) -> str:
    try:
        return at(path).read_text()
    except OSError:
        return ""


def write(path: str, text: str = "") -> None:
    at(path).parent.mkdir(parents=True, exist_ok=True)
    at(path).write_text(text)


def remove(path: str) -> None:
    if at(path).is_dir() and not at(path).is_symlink():
        shutil.rmtree(at(path))
    else:
        at(path).unlink(missing_ok=True)


def link(path: str, target: str) -> None:
    at(path).parent.mkdir(parents=True, exist_ok=True)
    remove(path)
    at(path).symlink_to(target)


def machine() -> dict[str, Any]:
    """What was built in: {"cards": […], "nouveau": whether the kernel has it, "secure_boot"}."""
    built: dict[str, Any] = json.loads(read("/machine.json"))
    return built


def log(text: str) -> None:
    """Into the kernel's log, which dmesg prints."""
    with at("/kernel.log").open("a") as file:
        file.write(f"[{time.monotonic():12.6f}] {text}\n")


def hook(point: str) -> int:
    """A test's fault at this point, and its exit status: harness.gpu_box.GpuBox.hook."""
    program = at(f"/hooks/{point}")
    return subprocess.run([program], check=False).returncode if os.access(program, os.X_OK) else 0
