"""One archive of a source, in this user's cache: made once, the same bytes for the same source."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from provision.errors import Interrupted, ProvisionError, StepFailed, UsageError
from provision.model.build import Source
from provision.model.report import Progress
from provision.model.versions import is_source_of
from provision.run import source_git
from provision.run.files import write_atomically
from provision.run.source_download import download
from provision.run.source_pack import archive_peek, pack, repack
from provision.run.source_tree import LABELS, Peek, Seen, entries, folder_peek, identified
from provision.run.uv import cache_folder, sha256

OnEvent = Callable[[Progress], None]

TITLE = "Get the source"
SCHEMA = 1
KEEP_S = 60 * 24 * 3600
"""An archive that nobody used for so long is removed when the next one is made."""
POLL_S = 0.2
TELL_EVERY_S = 0.25
MIB = 1 << 20
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A source, ready to be sent."""

    path: Path
    """A .tar.gz with one folder at its top (source_pack.TOP)."""
    sha256: str
    framework: str
    version: str | None
    """What the tree says it is."""
    bazel: str | None
    """What its .bazelversion names."""


def archive_of(
    source: Source,
    *,
    on_event: OnEvent,
    cancel: threading.Event,
    framework: str | None = None,
    version: str | None = None,
) -> Archive:
    """The archive of a source, made now or found in the cache; not for kind "index", which has none.

    Where ``framework`` or ``version`` is given, a source of another one is refused. Two runs at once make it once.
    Raises UsageError for a source that is not what it was taken for, StepFailed where it cannot be had, Interrupted.
    """
    if source.kind == "index":
        raise ValueError(f"{source} is fetched by the target itself")
    on_event(Progress(host="localhost", kind="step", step=TITLE, text=str(source)))
    try:
        archive = _Making(source=source, on_event=on_event, cancel=cancel, store=cache_folder("sources")).archive()
        _as_wanted(source, archive, framework, version or source.version)
    except ProvisionError as error:
        on_event(Progress(host="localhost", kind="failed", step=TITLE, text=error.what))
        raise
    on_event(Progress(host="localhost", kind="done", step=TITLE, text=archive.path.name))
    return archive


def _as_wanted(source: Source, archive: Archive, framework: str | None, version: str | None) -> None:
    label = LABELS[archive.framework]
    if framework not in (None, archive.framework):
        raise UsageError(
            what=f"{source} is not a source tree of {LABELS.get(str(framework), framework)}",
            why=f"it is one of {label} {archive.version or ''}".rstrip(),
            hint=f"--framework {archive.framework} builds it",
        )
    if version is not None and archive.version is not None and not is_source_of(archive.version, version):
        raise UsageError(
            what=f"{source} is {label} {archive.version}, and {version} is to be built",
            why="recipe, pins and Bazel are chosen by the release",
            hint=f"--framework {archive.framework}=={archive.version}, or a source of {version}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    source: Source
    on_event: OnEvent
    cancel: threading.Event
    store: Path
    told: list[float] = field(default_factory=lambda: [0.0])
    """When the last amount was told."""

    def archive(self) -> Archive:
        try:
            self.store.mkdir(parents=True, exist_ok=True)
            identity, commit = self._identity()
            key = hashlib.sha256(json.dumps([SCHEMA, self.source.kind, identity]).encode()).hexdigest()[:16]
            with self._locked(key):
                return _kept(self.store, key) or self._made(key, commit)
        except OSError as error:
            raise _unkept(self.store, error) from error

    def _identity(self) -> tuple[str, source_git.Found | None]:
        """What the content is named by, before it is fetched; with git the commit, as the repository says it now."""
        if self.source.kind != "git":
            return str(self.source.sha256), None
        location, ref = self.source.location, str(self.source.ref)
        try:
            found = source_git.find(location, ref, cancel=self.cancel)
        except StepFailed:
            known = _commit_before(self.store, location, ref)
            if known is None:
                raise
            self._say(f"{location} cannot be asked; taking {ref} as it was last fetched")
            found = source_git.Found(ref=ref, commit=known)
        return f"{location} {found.commit}", found

    def _made(self, key: str, commit: source_git.Found | None) -> Archive:
        _remove_old(self.store)
        folder = Path(tempfile.mkdtemp(prefix=f"tmp-{os.getpid()}-", dir=self.store))
        try:
            ready = folder / "ready.tar.gz"
            digest, seen = self._packed(folder, ready, commit)
            final = self.store / f"{self._name()}-{key}.tar.gz"
            ready.chmod(0o644)
            ready.replace(final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        archive = Archive(path=final, sha256=digest, framework=seen.framework, version=seen.version, bazel=seen.bazel)
        origin = {"location": self.source.location, "ref": self.source.ref, "commit": commit and commit.commit}
        note = {**asdict(archive), "path": final.name, "origin": origin}
        write_atomically(self.store / f"{key}.json", json.dumps(note, indent=2) + "\n")
        return archive

    def _packed(self, folder: Path, ready: Path, commit: source_git.Found | None) -> tuple[str, Seen]:
        """The archive at ``ready``: its SHA-256, and what the tree is."""
        location = self.source.location
        if self.source.kind == "tree":
            return self._of_folder(Path(location), ready, self.source.sha256)
        if commit is not None:
            self._say(f"cloning {self.source}")
            source_git.clone(location, commit, folder / "clone", cancel=self.cancel)
            return self._of_folder(folder / "clone", ready, None)
        file = Path(location)
        if "://" in location:
            file = folder / f"file{_ending(location)}"
            download(location, str(self.source.sha256), file, said=self._downloaded, cancel=self.cancel)
        elif not file.is_file():
            raise StepFailed(what=f"the source {file} is gone", why="there is no such file", hint="plan again")
        elif (found := sha256(file)) != self.source.sha256:
            raise _another(str(file), str(self.source.sha256), found)
        seen = _identified(archive_peek(file), str(self.source))
        return repack(file, ready, self._tell(None)), seen

    def _of_folder(self, folder: Path, ready: Path, wanted: str | None) -> tuple[str, Seen]:
        if not folder.is_dir():
            raise StepFailed(what=f"the source tree {folder} is gone", why="there is no such folder", hint="plan again")
        found = entries(folder)
        seen = _identified(folder_peek(folder), str(self.source))
        digest, tree = pack(found, ready, self._tell(sum(entry.size for entry in found)))
        if wanted is not None and tree != wanted:
            raise _another(str(folder), wanted, tree)
        return digest, seen

    def _name(self) -> str:
        """For people: "tensorflow-v2.15.1"."""
        last = self.source.location.rstrip("/").rpartition("/")[2]
        plain = re.sub(r"(\.git|\.tar\.\w+|\.tgz|\.txz|\.zip)$", "", last)
        name = f"{plain}-{self.source.ref}" if self.source.ref else plain
        return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-")[:80] or "source"

    def _say(self, text: str) -> None:
        self.on_event(Progress(host="localhost", kind="progress", step=TITLE, text=text))

    def _downloaded(self, have: int, total: int | None) -> None:
        self._amount("downloading", have, total)

    def _tell(self, total: int | None) -> Callable[[int], None]:
        def tell(done: int) -> None:
            if self.cancel.is_set():
                raise Interrupted(what="interrupted", why="the source was being packed; nothing was changed")
            self._amount("packing", done, total)

        return tell

    def _amount(self, text: str, done: int, total: int | None) -> None:
        if time.monotonic() - self.told[0] < TELL_EVERY_S:
            return
        self.told[0] = time.monotonic()
        of = None if total is None else total / MIB
        self.on_event(
            Progress(host="localhost", kind="progress", step=TITLE, text=text, done_mib=done / MIB, total_mib=of)
        )

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Alone with this archive: another run that makes it is waited for."""
        handle = os.open(self.store / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            said = False
            while not _taken(handle):
                if not said:
                    self._say("waiting: another provision is getting the same source")
                    said = True
                if self.cancel.wait(POLL_S):
                    raise Interrupted(what="interrupted", why="another run was waited for; nothing was changed")
            yield
        finally:
            os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _kept(store: Path, key: str) -> Archive | None:
    """The archive that an earlier run made, where it is whole."""
    note = store / f"{key}.json"
    try:
        data = json.loads(note.read_text(encoding="utf-8"))
        data.pop("origin")
        archive = replace(Archive(**data), path=store / str(data["path"]))
        if sha256(archive.path) != archive.sha256:
            return None
        os.utime(note)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return archive


def _commit_before(store: Path, location: str, ref: str) -> str | None:
    """Which commit that name stood for when it was last fetched from there."""
    for note in sorted(store.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        with suppress(OSError, ValueError, KeyError, TypeError):
            origin = json.loads(note.read_text(encoding="utf-8"))["origin"]
            if (origin["location"], origin["ref"]) == (location, ref):
                return str(origin["commit"])
    return None


def _remove_old(store: Path) -> None:
    """What killed runs left behind, and what nobody used for long."""
    for folder in store.glob("tmp-*"):
        if not Path("/proc", folder.name.split("-")[1]).exists():
            shutil.rmtree(folder, ignore_errors=True)
    for note in store.glob("*.json"):
        with suppress(OSError):
            if time.time() - note.stat().st_mtime > KEEP_S:
                note.unlink()
                for file in store.glob(f"*-{note.stem}.tar.gz"):
                    file.unlink()


def _identified(peek: Peek, what: str) -> Seen:
    seen = identified(peek)
    if seen is None:
        raise UsageError(
            what=f"{what} is no source tree that can be built",
            why=f"it is neither {', nor '.join(LABELS.values())}: their files are not there",
            hint="give the framework's own repository, or a release archive of it",
        )
    return seen


def _ending(location: str) -> str:
    return ".zip" if location.endswith(".zip") else ".tar"


def _another(what: str, wanted: str, found: str) -> StepFailed:
    return StepFailed(
        what=f"{what} is not what was planned with",
        why=f"its SHA-256 is {found} now, and was {wanted}",
        hint="plan again: provision plan -o plan.json",
    )


def _unkept(store: Path, error: OSError) -> StepFailed:
    full = error.errno in FULL
    return StepFailed(
        what="there is no room for the source on this machine" if full else "the source cannot be kept on this machine",
        why=f"{error.filename or store}: {error.strerror or error}",
        hint="make room, or use another folder: XDG_CACHE_HOME=FOLDER",
    )
