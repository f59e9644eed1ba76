"""Source trees for tests: small ones of our own, in the shape of TensorFlow's and PyTorch's, for any release."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from packaging.version import Version

TREES = Path(__file__).resolve().parents[1] / "trees"

BAZEL = (
    ("2.8", "4.2.1"),
    ("2.9", "5.0.0"),
    ("2.10", "5.1.1"),
    ("2.11", "5.3.0"),
    ("2.14", "6.1.0"),
    ("2.16", "6.5.0"),
    ("2.20", "7.4.1"),
)
"""The first minor release of TensorFlow that names this Bazel in .bazelversion: ../shared/facts/tensorflow.toml."""

_BLOCK = re.compile(r"^#@ (?:(?P<end>end)|(?P<first>[\d.]*)-(?P<last>[\d.]*))$")


def tensorflow_tree(folder: Path, version: str = "2.15.1", bazel: str | None = None) -> Path:
    """A tree of that release in ``folder``, which is made. ``bazel``: what .bazelversion names instead of its own."""
    found = Version(version)
    named = bazel or next(name for first, name in reversed(BAZEL) if Version(first) <= found)
    _copy(TREES / "tensorflow", folder, version, {"@VERSION@": version, "@BAZEL@": named})
    if found < Version("2.20"):
        (folder / "tensorflow/tf_version.bzl").unlink()
    else:
        (folder / "tensorflow/tools/pip_package/setup.py").unlink()
    if found >= Version("2.17"):
        (folder / "tensorflow/tools/pip_package/build_pip_package.sh").unlink()
    else:
        (folder / "tensorflow/tools/pip_package/build_wheel.py").unlink()
    return folder


def pytorch_tree(folder: Path, version: str = "2.9.0") -> Path:
    """A tree of that release in ``folder``, which is made."""
    _copy(TREES / "pytorch", folder, version, {"@VERSION@": version})
    return folder


def _copy(tree: Path, folder: Path, version: str, names: dict[str, str]) -> None:
    for path in sorted(tree.rglob("*")):
        to = folder / path.relative_to(tree)
        if path.is_dir():
            to.mkdir(parents=True, exist_ok=True)
        elif "__pycache__" not in path.parts:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_text(render(path.read_text(encoding="utf-8"), version, names), encoding="utf-8")
            shutil.copymode(path, to)


def render(text: str, version: str, names: dict[str, str]) -> str:
    """``text`` as it is in a release: less the blocks for other releases, and with ``names`` replaced.

    A block begins with a line ``#@ FIRST-LAST`` (minor releases, either may be missing) and ends with the next such
    line or ``#@ end``.
    """
    minor = Version(".".join(version.split(".")[:2]))
    lines, kept = [], True
    for line in text.splitlines(keepends=True):
        block = _BLOCK.match(line.rstrip("\n"))
        if block is None:
            lines += [line] if kept else []
            continue
        first, last = block["first"], block["last"]
        early, late = first and minor < Version(first), last and minor > Version(last)
        kept = bool(block["end"]) or not (early or late)
    made = "".join(lines)
    for name, value in names.items():
        made = made.replace(name, value)
    return made
