"""A uv cache that outlives a run, lent to each host so that installing from it costs no copy.

uv links files from its cache into an environment only where both are on one file system, and two mounts are two, even
of one folder. So a host gets a whole home whose ~/.cache/uv is a tree of hard links to the lasting cache: made in half
a second for TensorFlow, and nothing that the host does to its links changes what another host sees, as uv never writes
to a file that is in its cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from harness.places import RUN, cache_folder, locked

OWNER = 1000
"""The user me of the images."""


def lent_home(name: str, authorized_keys: bytes) -> Path | None:
    """A home for the user me with the cache in it; None where we may not give files to that user."""
    if os.getuid() != 0:
        return None
    home = cache_folder() / "homes" / f"{RUN}-{name}"
    cache, ssh = home / ".cache", home / ".ssh"
    for folder in (cache, ssh):
        folder.mkdir(parents=True, mode=0o700)
    (ssh / "authorized_keys").write_bytes(authorized_keys)
    for path in (home, cache, ssh, ssh / "authorized_keys"):
        os.chown(path, OWNER, OWNER)
    with locked("uv-cache"):
        _link(_lasting(), cache / "uv")
    return home


def take_back(home: Path) -> None:
    """Keep what the host added to the cache, and remove its home."""
    used = home / ".cache" / "uv"
    if used.is_dir():
        with locked("uv-cache"):
            _link(used, _lasting())
    shutil.rmtree(home, ignore_errors=True)


def remove_homes(run: str) -> None:
    """What a killed run left: its additions may be half written, and are not kept."""
    for home in (cache_folder() / "homes").glob(f"{run}-*"):
        shutil.rmtree(home, ignore_errors=True)


def _lasting() -> Path:
    folder = cache_folder() / "uv"
    folder.mkdir(exist_ok=True)
    os.chown(folder, OWNER, OWNER)
    return folder


def _link(source: Path, target: Path) -> None:
    """Hard links in ``target`` for all of ``source`` that it does not have."""
    argv = ["cp", "--archive", "--link", "--no-clobber", "--no-target-directory", str(source), str(target)]
    subprocess.run(argv, check=True, capture_output=True)
