"""A target without a fitting Python gets uv's, from a mirror that the user names."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import sysconfig
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from playbook_target import PYTHON, Target
from playbook_wheels import Wheel

SKIPPED = {
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "__pycache__",
    "idlelib",
    "tkinter",
    "ensurepip",
    "lib2to3",
}


def small(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out what no environment needs."""
    path = Path(member.name)
    return None if SKIPPED & set(path.parts) or path.suffix == ".a" else member


@pytest.fixture
def mirror(tmp_path: Path) -> dict[str, str]:
    """uv's variables for a mirror in a folder, with the interpreter of the tests laid out as uv's downloads are."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    archive = folder / "python.tar.gz"
    prefix = Path(sys.base_prefix)
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(Path(sys._base_executable).resolve(), f"python/bin/python{PYTHON}")  # type: ignore[attr-defined]
        for name in ("python3", "python"):
            link = tarfile.TarInfo(f"python/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"python{PYTHON}"
            tar.addfile(link)
        tar.add(
            sysconfig.get_path("stdlib", vars={"installed_base": str(prefix)}),
            f"python/lib/python{PYTHON}",
            filter=small,
        )
        for library in (prefix / "lib").glob(f"libpython{PYTHON}*.so*"):
            tar.add(library, f"python/lib/{library.name}")
    version = platform.python_version_tuple()
    download = {
        "name": "cpython", "arch": {"family": platform.machine(), "variant": None}, "os": "linux", "libc": "gnu",
        "major": int(version[0]), "minor": int(version[1]), "patch": int(version[2]), "prerelease": "",
        "url": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "variant": None, "build": "1",
    }  # fmt: skip
    key = f"cpython-{platform.python_version()}-linux-{platform.machine()}-gnu"
    (folder / "downloads.json").write_text(json.dumps({key: download}))
    return {
        "UV_PYTHON_DOWNLOADS_JSON_URL": (folder / "downloads.json").as_uri(),
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "pythons"),
        "UV_PYTHON_PREFERENCE": "only-managed",
    }


def test_uv_brings_a_python(target: Target, demo: Callable[..., Wheel], mirror: dict[str, str]) -> None:
    result = target.make(target.plan(target.lock(demo())), uv_environment=mirror)
    assert result["python"] == platform.python_version()
    provenance = json.loads((target.generation(1) / "PROVENANCE.json").read_text())
    assert provenance["interpreter"].startswith(mirror["UV_PYTHON_INSTALL_DIR"])
