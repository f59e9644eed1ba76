"""Source trees: which framework's one is, which version it says it is, and what is in it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from stat import S_IXUSR

from packaging.version import InvalidVersion, Version

from provision.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LEFT_OUT = frozenset({".git", "__pycache__"})
"""Anywhere in a tree: not source."""
WRITTEN = frozenset({".tf_configure.bazelrc", "tools/python_bin_path.sh"})
"""What an earlier configure wrote; it is written anew."""
WORKERS = 4
BLOCK = 1 << 20

TF_VERSIONS = (
    ("tensorflow/tf_version.bzl", r'^TF_VERSION = "([^"]+)"'),
    ("tensorflow/tools/pip_package/setup.py", r"^_VERSION = ['\"]([^'\"]+)"),
    ("tensorflow/tools/pip_package/setup.py.tpl", r"^_VERSION = ['\"]([^'\"]+)"),
    ("tensorflow/tensorflow.bzl", r'^VERSION = "([^"]+)"'),
)
"""Where each era says it: tf_version.bzl since 2.20, setup.py before (and "0.0.0" beside it), seen at the tags."""
TEXTS = (
    *(name for name, _ in TF_VERSIONS),
    ".bazelversion",
    ".gitmodules",
    "pyproject.toml",
    "setup.py",
    "version.txt",
)
"""Files that are read to look into a tree."""
LABELS = {"tensorflow": "TensorFlow", "pytorch": "PyTorch", "numpy": "NumPy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """As much of a tree as it takes to know it, wherever it lies: a folder, an archive, a commit."""

    has: Callable[[str], bool]
    """Whether there is a file or folder of that path."""
    read: Callable[[str], str]
    """The text of one of TEXTS, empty where there is none."""
    empty: Callable[[str], bool] = lambda _: False
    """Whether the folder of that path is missing or has nothing in it: a submodule that was not fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a tree is."""

    framework: str
    version: str | None
    bazel: str | None


def folder_peek(folder: Path) -> Peek:
    def read(name: str) -> str:
        try:
            return (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def empty(name: str) -> bool:
        try:
            return next((folder / name).iterdir(), None) is None
        except OSError:
            return True

    return Peek(has=lambda name: (folder / name).exists(), read=read, empty=empty)


def look_into(peek: Peek, framework: str, what: str) -> Seen:
    """What the tree is. Raises UsageError where it is not ``framework``'s, saying what is missing and what it is."""
    missing = MISSING[framework](peek)
    if missing:
        raise _other_tree(peek, framework, what, missing)
    _submodules(peek, what)
    return Seen(framework=framework, version=VERSION[framework](peek), bazel=bazel_version(peek))


def identified(peek: Peek) -> Seen | None:
    """What the tree is, whichever framework's; None where it is none of those that are built."""
    for framework, missing in MISSING.items():
        if not missing(peek):
            return Seen(framework=framework, version=VERSION[framework](peek), bazel=bazel_version(peek))
    return None


def bazel_version(peek: Peek) -> str | None:
    """The first line that is no comment: "6.1.0"."""
    lines = (line.strip() for line in peek.read(".bazelversion").splitlines())
    return next((line for line in lines if line and not line.startswith("#")), None)


# --- which framework's ------------------------------------------------------------------------------------------


def _missing_tensorflow(peek: Peek) -> list[str]:
    missing = [name for name in ("configure.py", "tensorflow", "tensorflow/tools/pip_package") if not peek.has(name)]
    if not peek.has("WORKSPACE") and not peek.has("MODULE.bazel"):
        missing.append("WORKSPACE (or MODULE.bazel)")
    return missing


def _missing_pytorch(peek: Peek) -> list[str]:
    return [name for name in ("setup.py", "torch", "version.txt") if not peek.has(name)]


def _missing_numpy(peek: Peek) -> list[str]:
    if not peek.has("pyproject.toml"):
        return ["pyproject.toml"]
    if _project_name(peek) != "numpy":
        return ['pyproject.toml with name = "numpy"']
    return [] if peek.has("numpy") else ["numpy"]


MISSING: Mapping[str, Callable[[Peek], list[str]]] = {
    "tensorflow": _missing_tensorflow,
    "pytorch": _missing_pytorch,
    "numpy": _missing_numpy,
}
"""What a framework's tree has and this one has not, by framework."""


def _tensorflow_version(peek: Peek) -> str | None:
    for name, pattern in TF_VERSIONS:
        found = re.search(pattern, peek.read(name), re.MULTILINE)
        if found and found[1] != "0.0.0":
            return _normal(found[1])
    return None


def _numpy_version(peek: Peek) -> str | None:
    return _normal(str(_project(peek).get("version") or ""))


VERSION: Mapping[str, Callable[[Peek], str | None]] = {
    "tensorflow": _tensorflow_version,
    "pytorch": lambda peek: _normal(peek.read("version.txt").strip()),
    "numpy": _numpy_version,
}


def _normal(text: str) -> str | None:
    """ "2.15.0-rc1" as packages write it: 2.15.0rc1. None for what is no version."""
    try:
        return str(Version(text))
    except InvalidVersion:
        return None


def _project(peek: Peek) -> Mapping[str, object]:
    try:
        project = tomllib.loads(peek.read("pyproject.toml")).get("project", {})
    except tomllib.TOMLDecodeError:
        return {}
    return project if isinstance(project, dict) else {}


def _project_name(peek: Peek) -> str:
    return re.sub(r"[-_.]+", "-", str(_project(peek).get("name") or "")).lower()


def _other_tree(peek: Peek, framework: str, what: str, missing: list[str]) -> UsageError:
    label = LABELS[framework]
    looks, hint = _looks_like(peek, framework)
    return UsageError(
        what=f"{what} is not a source tree of {label}",
        why=f"it has no {', no '.join(missing)}" + (f"; {looks}" if looks else ""),
        hint=hint or f"--source takes the folder that `git clone` of {label} makes, or a tarball of it",
    )


def _looks_like(peek: Peek, wanted: str) -> tuple[str, str]:
    """What it is instead, and what to do about it; empty texts where nobody can say."""
    for name, missing in MISSING.items():
        if name != wanted and not missing(peek):
            return f"it looks like {LABELS[name]}", f"--framework {name} builds it"
    if peek.has("HEAD") and peek.has("objects") and peek.has("refs"):
        return "it looks like a bare git repository", "add the tag that is to be built: --source FOLDER@TAG"
    if peek.has(f"{wanted}/configure.py") or (peek.has(f"{wanted}/setup.py") and peek.has(f"{wanted}/.git")):
        return "its folder of that name looks like one", f"give that folder: --source FOLDER/{wanted}"
    for marker, name in OTHERS:
        if peek.has(marker):
            return f"it looks like {name}", ""
    project = _project_name(peek)
    return (f"its pyproject.toml is that of {project}", "") if project else ("", "")


OTHERS = (
    ("tensorflow_serving", "TensorFlow Serving"),
    ("tensorflow_text", "TensorFlow Text"),
    ("official/vision", "the TensorFlow Model Garden"),
    ("jaxlib", "JAX"),
    ("keras/src", "Keras"),
    ("xla/service", "XLA without TensorFlow"),
    ("tensorflow/include", "an installed wheel of TensorFlow, which holds no source"),
    ("torch/include", "an installed wheel of PyTorch, which holds no source"),
)


def _submodules(peek: Peek, what: str) -> None:
    """A tree without its submodules fails after minutes, with a message about a header."""
    paths = re.findall(r"^\s*path\s*=\s*(\S+)\s*$", peek.read(".gitmodules"), re.MULTILINE)
    empty = [path for path in paths if peek.empty(path)]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        raise UsageError(
            what=f"{what} lacks its submodules",
            why=f"it names {len(paths)} in .gitmodules, and these are empty: {', '.join(empty[:3])}{more}",
            hint="git submodule update --init --recursive, in that folder; "
            "an archive made by a web page never holds submodules",
        )


# --- what is in a folder ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or a link of a tree."""

    name: str
    """Relative to the tree: "tensorflow/BUILD"."""
    path: Path
    link: str | None
    """Where it points, for a link."""
    executable: bool
    size: int

    def line(self, digest: str) -> bytes:
        """What the tree's hash is made of; ``digest`` is the content's."""
        kind = "link" if self.link is not None else "program" if self.executable else "file"
        return f"{kind} {digest} {self.name}\0".encode(errors="surrogateescape")


def entries(folder: Path) -> list[Entry]:
    """Files and links of the tree, sorted by name, without git's, Bazel's and configure's own.

    Raises UsageError for a link that leads out of it and for what is neither file, folder nor link.
    """
    try:
        return sorted(_walk(folder, folder, ""), key=lambda entry: entry.name)
    except OSError as error:
        raise UsageError(
            what=f"the source tree {folder} cannot be read",
            why=f"{error.filename}: {error.strerror}",
            hint="give a folder that you may read whole",
        ) from error


def _walk(root: Path, folder: Path, prefix: str) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for each in found:
            name = prefix + each.name
            if each.name in LEFT_OUT or name in WRITTEN or (not prefix and _bazel_link(each.name, each.is_symlink())):
                continue
            if each.is_symlink():
                yield _link(root, name, Path(each.path))
            elif each.is_dir(follow_symlinks=False):
                yield from _walk(root, Path(each.path), f"{name}/")
            elif each.is_file(follow_symlinks=False):
                status = each.stat(follow_symlinks=False)
                yield Entry(
                    name=name, path=Path(each.path), link=None, executable=bool(status.st_mode & S_IXUSR),
                    size=status.st_size,
                )  # fmt: skip
            else:
                raise UsageError(
                    what=f"the source tree {root} holds what is no source",
                    why=f"{name} is neither a file nor a folder nor a link",
                    hint="take it away, or clone the repository anew",
                )


def _bazel_link(name: str, is_link: bool) -> bool:
    """bazel-bin, bazel-out …: into the output tree of an earlier build."""
    return is_link and name.startswith("bazel-")


def _link(root: Path, name: str, path: Path) -> Entry:
    pointed = str(path.readlink())
    if leads_out(name, pointed):
        raise UsageError(
            what=f"the source tree {root} holds a link that leads out of it",
            why=f"{name} points to {pointed}, which no other machine has",
            hint="put a copy in its place, or take it away",
        )
    return Entry(name=name, path=path, link=pointed, executable=False, size=0)


def leads_out(name: str, pointed: str) -> bool:
    """Whether a link of that name points to an absolute path, or above the tree."""
    if pointed.startswith("/"):
        return True
    depth = len(PurePosixPath(name).parts) - 1
    for part in PurePosixPath(pointed).parts:
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def tree_sha256(found: list[Entry]) -> str:
    """Over names, kinds and contents. 36,000 files, 400 MB: 2 s here with a warm cache.

    Raises UsageError where a file cannot be read.
    """
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        digests = list(pool.map(_digest, found, chunksize=64))
    return joined_sha256(zip(found, digests, strict=True))


def joined_sha256(found: Iterable[tuple[Entry, str]]) -> str:
    """The tree's hash from its files' hashes, in the order of names."""
    whole = sha256()
    for entry, digest in found:
        whole.update(entry.line(digest))
    return whole.hexdigest()


def _digest(entry: Entry) -> str:
    if entry.link is not None:
        return sha256(entry.link.encode(errors="surrogateescape")).hexdigest()
    digest = sha256()
    try:
        with entry.path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise UsageError(
            what="the source tree cannot be read whole",
            why=f"{entry.path}: {error.strerror}",
            hint="give a folder that you may read, and that nothing changes meanwhile",
        ) from error
    return digest.hexdigest()
