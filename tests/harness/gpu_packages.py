"""Debian packages made in the test run, and signed repositories of them: dpkg-deb and gpg, nothing downloaded."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

MAINTAINER = "provision tests <tests@provision.invalid>"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
HOOK = "[ ! -x /usr/local/sbin/machine-hook ] || /usr/local/sbin/machine-hook {point}:{name}\n"
"""Where a test may stop or break an installation: harness.gpu_box.GpuBox.hook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """A package: control data, files and maintainer scripts."""

    name: str
    version: str
    relations: Mapping[str, str] = field(default_factory=dict)
    """Control fields: {"Depends": "…", "Provides": "…"}."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By absolute path. Those in bin and sbin folders, and those that begin with "#!", are executable."""
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    """Bodies of maintainer scripts, for `sh -e`."""
    architecture: str = "all"
    component: str = "main"
    section: str = "libs"
    summary: str = "Stands in for the package of that name"

    @property
    def file_name(self) -> str:
        return f"{self.name}_{self.version.replace(':', '%3a')}_{self.architecture}.deb"

    def control(self) -> str:
        fields = {
            "Package": self.name, "Version": self.version, "Architecture": self.architecture,
            "Maintainer": MAINTAINER, "Section": f"{self.component}/{self.section}", "Priority": "optional",
            **self.relations, "Description": self.summary,
        }  # fmt: skip
        return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)

    def script(self, kind: str) -> str:
        point = HOOK.format(point=kind, name=self.name) if kind in ("preinst", "postinst") else ""
        body = self.scripts.get(kind, "")
        # a test's fault strikes before what the script does
        return f"#!/bin/sh\nset -e\n{point}{body}" if point or body else ""


def build(deb: Deb, folder: Path) -> Path:
    """The package's file in ``folder``."""
    made = folder / deb.file_name
    with tempfile.TemporaryDirectory(prefix="deb-", dir=folder) as name:
        root = Path(name) / "root"
        (root / "DEBIAN").mkdir(parents=True)
        root.chmod(0o755)
        (root / "DEBIAN" / "control").write_text(deb.control())
        conffiles = sorted(path for path in deb.files if path.startswith("/etc/"))
        if conffiles:
            (root / "DEBIAN" / "conffiles").write_text("".join(f"{path}\n" for path in conffiles))
        for kind in SCRIPTS:
            if text := deb.script(kind):
                _put(root / "DEBIAN" / kind, text.encode(), 0o755)
        for path, content in deb.files.items():
            program = content.startswith(b"#!") or "bin" in Path(path).parts
            _put(root / path.lstrip("/"), content, 0o755 if program else 0o644)
        for path, target in deb.links.items():
            link = root / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        _run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(root), str(made)])
    return made


def _put(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


class Key:
    """A signing key made in this run. ``with`` it, or ``close()`` it: gpg leaves an agent running else."""

    def __init__(self, folder: Path, owner: str) -> None:
        # gpg-agent's sockets lie in its home, and their paths end at 107 bytes
        self._home = folder
        self._home.mkdir(mode=0o700)
        self._gpg("--passphrase", "", "--quick-gen-key", owner, "rsa2048", "sign", "never")
        listing = self._gpg("--with-colons", "--list-keys").decode()
        self.fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:"))
        """40 hexadecimal digits."""
        self.armored = self._gpg("--armor", "--export", self.fingerprint)
        self.binary = self._gpg("--export", self.fingerprint)

    def clearsign(self, text: bytes) -> bytes:
        return self._gpg("--clearsign", stdin=text)

    def detach_sign(self, text: bytes) -> bytes:
        return self._gpg("--armor", "--detach-sign", stdin=text)

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, capture_output=True)

    def _gpg(self, *words: str, stdin: bytes = b"") -> bytes:
        argv = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback"]
        return _run([*argv, *words], stdin)


def publish_flat(folder: Path, debs: Iterable[Path], key: Key, *, origin: str) -> None:
    """A flat repository, as NVIDIA's are: the index and the packages lie in one folder; suite "/"."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for deb in debs:
        _link(deb, folder / deb.name)
        entries.append(_entry(deb, f"./{deb.name}"))
    index = _index(folder, entries)
    _release(folder, index, key, {"Origin": origin, "Label": origin})


def publish_suite(folder: Path, debs: Iterable[tuple[str, Path]], key: Key, *, codename: str, version: str) -> None:
    """A distribution's archive of (component, package) pairs: dists/CODENAME and pool."""
    suite = folder / "dists" / codename
    rows: dict[str, list[str]] = {name: [] for name in ("main", "contrib", "non-free", "non-free-firmware")}
    for component, deb in debs:
        pool = folder / "pool" / component / deb.name
        pool.parent.mkdir(parents=True, exist_ok=True)
        _link(deb, pool)
        rows[component].append(_entry(deb, f"pool/{component}/{deb.name}"))
    index: dict[str, bytes] = {}
    for component, entries in rows.items():
        place = suite / component / f"binary-{architecture()}"
        place.mkdir(parents=True, exist_ok=True)
        prefix = place.relative_to(suite)
        index |= {f"{prefix}/{name}": content for name, content in _index(place, entries).items()}
    words = {
        "Origin": "Debian", "Label": "Debian", "Suite": codename, "Version": version, "Codename": codename,
        "Architectures": architecture(), "Components": " ".join(rows),
    }  # fmt: skip
    _release(suite, index, key, words)


def architecture() -> str:
    """Debian's name of this machine's: "amd64"."""
    return _run(["dpkg", "--print-architecture"]).decode().strip()


def _link(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)  # another package of the same name and version may have been there
    target.hardlink_to(source)


def _entry(deb: Path, name: str) -> str:
    control = _run(["dpkg-deb", "--field", str(deb)]).decode()
    content = deb.read_bytes()
    return (
        f"{control.rstrip()}\nFilename: {name}\nSize: {len(content)}\nMD5sum: {hashlib.md5(content).hexdigest()}\n"  # noqa: S324  # apt's index has it
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )


def _index(folder: Path, entries: Sequence[str]) -> dict[str, bytes]:
    text = "\n".join(entries).encode()
    made = {"Packages": text, "Packages.gz": gzip.compress(text, mtime=0)}
    for name, content in made.items():
        (folder / name).write_bytes(content)
    return made


def _release(folder: Path, index: Mapping[str, bytes], key: Key, words: Mapping[str, str]) -> None:
    lines = [f"{name}: {value}" for name, value in words.items()] + [f"Date: {formatdate(usegmt=True)}", "SHA256:"]
    lines += [f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}" for name, content in index.items()]
    text = ("\n".join(lines) + "\n").encode()
    (folder / "Release").write_bytes(text)
    (folder / "InRelease").write_bytes(key.clearsign(text))
    (folder / "Release.gpg").write_bytes(key.detach_sign(text))


def _run(argv: Sequence[str], stdin: bytes = b"") -> bytes:
    done = subprocess.run(list(argv), input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{argv[0]} failed ({done.returncode}): {done.stderr.decode(errors='replace')[-1500:]}")
    return done.stdout
