"""Small source trees for the tests of sources: what each framework's tree is known by, and no more."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

FILES = {
    "tensorflow": {
        "configure.py": "", "WORKSPACE": "", ".bazelversion": "6.1.0\n# a note\n", "tensorflow/BUILD": "",
        "tensorflow/tools/pip_package/setup.py": "_VERSION = '2.15.1'\n",
    },
    "pytorch": {"setup.py": "", "torch/__init__.py": "", "version.txt": "2.9.0\n"},
    "numpy": {"pyproject.toml": '[project]\nname = "numpy"\nversion = "2.4.6"\n', "numpy/__init__.py": ""},
}  # fmt: skip


def tree(folder: Path, framework: str = "tensorflow", **files: str) -> Path:
    """A tree of ``framework`` with further ``files``, by path."""
    write(folder, {**FILES[framework], **files})
    return folder


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


def repository(folder: Path, *tags: str, framework: str = "tensorflow") -> Path:
    """A git repository of such a tree, its commit tagged."""
    tree(folder, framework)
    git(folder, "init", "--quiet", "--initial-branch=master")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "one")
    for tag in tags:
        git(folder, "tag", "-a", tag, "-m", tag)
    return folder
