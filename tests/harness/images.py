"""Debian images for tests: debootstrap from the machine's own mirror, then one small recipe a kind of host.

No registry is asked: the machines this runs on may reach a Debian mirror and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import BuildError, ImageNotFound

from harness.engine import Unavailable
from harness.places import cache_folder, locked

FRESH_S = 7 * 86400
"""Older images are made again: their package lists name files that mirrors have dropped by then."""

TRUST = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
TRUST |= {"PIP_CERT": TRUST["SSL_CERT_FILE"], "REQUESTS_CA_BUNDLE": TRUST["SSL_CERT_FILE"]}
"""What the administrator of a network that inspects TLS sets on each machine: pip, uv and requests have own roots."""

ROOTFS_VERSION = "1"
"""Count up when the root file system is made in another way."""

_INSTALL = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"

# Host keys and root's and me's authorized_keys are put in when a host is made: hosts of one image must not share a key.
# "me" has no password ("*" forbids one, where "!" would lock the account for keys too).
_SSHD = """\
FROM {base}
RUN {install} openssh-server sudo ca-certificates procps {packages} \\
 && rm -f /etc/ssh/ssh_host_* \\
 && mkdir -p /run/sshd \\
 && useradd --create-home --shell /bin/bash --password '*' me \\
 && install -d -m 700 -o me -g me /home/me/.ssh \\
 && install -d -m 700 /root/.ssh \\
 && echo 'me ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/me \\
 && echo 'Defaults env_keep += "{trust}"' >> /etc/sudoers.d/me && chmod 440 /etc/sudoers.d/me
"""
_SSHD_ALONE = """\
CMD ["/usr/sbin/sshd", "-D", "-e"]
"""
_SYSTEMD = """\
RUN systemctl mask getty.target systemd-logind.service systemd-timesyncd.service apt-daily.timer \\
        apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd"]
"""

# Debian's Bazel is one that works without a network; bazel-rules-java is for trees that name no rules of their own
_TOOLCHAIN = (
    "python3 python3-dev python3-venv g++ binutils git patchelf pkg-config curl unzip zip "
    "bazel-bootstrap bazel-rules-java libeigen3-dev libopenblas-dev"
)

# What the roles of NVIDIA's driver find on a workstation. The machine itself is put in when a box is made (gpu_box.py).
_MODULES = "python3 systemd-sysv dbus libpam-systemd dkms kmod gcc make patch openssl unattended-upgrades"
_MACHINE = """\
RUN printf '%s\\n' '[Unit]' 'Description=What firmware, initramfs and udev do on a machine' DefaultDependencies=no \\
        After=local-fs.target 'Before=ssh.service basic.target' '[Service]' Type=oneshot RemainAfterExit=yes \\
        ExecStart=/usr/local/sbin/machine-boot '[Install]' WantedBy=basic.target \\
        > /etc/systemd/system/machine.service \\
 && systemctl enable machine.service
"""

# The same workstation with what its distribution has: its newest kernel runs. systemd 256 and 257 take the old cgroups
# only where they are told to.
_WORKSTATION = (
    "python3 systemd-sysv dbus libpam-systemd kmod openssl pciutils zstd initramfs-tools "
    "linux-image-$(dpkg --print-architecture)"
)
_RUNNING = """\
RUN mkdir /machine && ls /boot/vmlinuz-* | sed 's,.*/vmlinuz-,,' | sort -V | tail -1 > /machine/kernel
STOPSIGNAL SIGRTMIN+3
CMD ["/lib/systemd/systemd", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
"""

RECIPES = {
    "bare": 'FROM {base}\nCMD ["sleep", "infinity"]\n',
    "ssh": _SSHD.replace("{packages}", "python3") + _SSHD_ALONE,
    "ssh-nopython": _SSHD.replace("{packages}", "") + _SSHD_ALONE,
    "builder": _SSHD.replace("{packages}", _TOOLCHAIN) + _SSHD_ALONE,
    "systemd": _SSHD.replace("{packages}", "python3 systemd-sysv dbus libpam-systemd") + _SYSTEMD,
    "gpu-box": _SSHD.replace("{packages}", _MODULES) + _MACHINE + _SYSTEMD,
    "workstation": _SSHD.replace("{packages}", _WORKSTATION) + _MACHINE + _SYSTEMD + _RUNNING,
}
"""bare: what debootstrap gives (sh, apt; no Python, no sshd). ssh: sshd alone, Python, the user me with sudo.
ssh-nopython: the same less Python. builder: as ssh, with what source builds need: a compiler, Bazel, Eigen, OpenBLAS.
systemd: as ssh, with systemd as its init. gpu-box: as systemd, with dkms and a compiler: see harness.gpu_box.
workstation: as systemd, with the distribution's kernel and no compiler: see harness.gpu_box."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """What this machine runs and where it gets it from."""

    id: str
    codename: str
    mirror: str
    sources: tuple[str, ...]
    """Lines for sources.list."""
    image: str
    """What its makers call the image of it: "debian:bookworm", "ubuntu:24.04"."""

    @classmethod
    def debian(cls, codename: str) -> Distribution:
        """Another release of Debian, from where this machine gets its own."""
        ours = cls.of_this_machine()
        if ours.id != "debian":
            raise Unavailable("Debian's other releases are fetched from where a Debian gets its own, and this is none")
        sources = tuple(line.replace(f" {ours.codename}", f" {codename}") for line in ours.sources)
        return cls(id="debian", codename=codename, mirror=ours.mirror, sources=sources, image=f"debian:{codename}")

    @classmethod
    def of_this_machine(cls) -> Distribution:
        release = platform.freedesktop_os_release()
        codename = release.get("VERSION_CODENAME", "")
        if shutil.which("apt-get") is None or not codename:
            raise Unavailable("test hosts are made with debootstrap, and this machine is not a Debian or Ubuntu")
        rows = _apt_sources(codename)
        mirror = next((uri for uri, suite, component in rows if (suite, component) == (codename, "main")), None)
        if mirror is None:
            raise Unavailable(f"apt is not configured with a mirror of {codename} main (run apt-get update?)")
        sources = tuple(f"deb {uri} {suite} {component}" for uri, suite, component in rows)
        name = f"{release['ID']}:{release['VERSION_ID'] if release['ID'] == 'ubuntu' else codename}"
        return cls(id=release["ID"], codename=codename, mirror=mirror, sources=sources, image=name)


def _apt_sources(codename: str) -> list[tuple[str, str, str]]:
    """(address, suite, component) of this release's package lists, as apt itself reads its configuration."""
    words = "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    out = subprocess.run(["apt-get", "indextargets", "--format", words], capture_output=True, text=True, check=True)
    rows = {tuple(line.split()) for line in out.stdout.splitlines()}
    found = [(row[1], row[2], row[3]) for row in rows if len(row) == 4 and row[0] == "Packages"]
    return sorted(row for row in found if row[1] == codename or row[1].startswith(f"{codename}-"))


class Images:
    """The images of one engine. Made once, kept as files in the cache folder."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    def tag(self, kind: str, codename: str = "") -> str:
        """Tag of an image of this kind, which is then in the engine. Raises Unavailable where it cannot be made.

        ``codename``: of another release of Debian than this machine's.
        """
        distribution = Distribution.debian(codename) if codename else Distribution.of_this_machine()
        base = _rootfs_key(distribution)
        rootfs = f"provision-tests/rootfs:{base}"
        tag = f"provision-tests/{kind}:{_key(base, RECIPES[kind])}"
        if not self._has(tag):
            with locked("images"):
                self._bring(tag, kind, rootfs, distribution)
        return tag

    def base(self, *, plain_name: bool) -> str:
        """Tag of the image that debootstrap gives. ``plain_name``: as its makers call it, "debian:bookworm", where the
        engine has none of that name; not for somebody else's engine, which would then not pull the real one."""
        distribution = Distribution.of_this_machine()
        rootfs = f"provision-tests/rootfs:{_rootfs_key(distribution)}"
        if not self._has(rootfs):
            with locked("images"):
                self._bring_rootfs(rootfs, distribution)
        name = distribution.image
        if plain_name and not self._has(name):
            repository, _, tag = name.partition(":")
            self._client.api.tag(rootfs, repository, tag)
        return name if self._has(name) else rootfs

    def _has(self, tag: str) -> bool:
        try:
            self._client.images.get(tag)
        except ImageNotFound:
            return False
        return True

    def _bring(self, tag: str, kind: str, rootfs: str, distribution: Distribution) -> None:
        """From the engine, the cache, or nothing at all."""
        if self._has(tag) or self._load(tag):
            return
        self._bring_rootfs(rootfs, distribution)
        self._build(tag, RECIPES[kind].format(base=rootfs, install=_INSTALL, trust=" ".join(TRUST)))
        self._save(tag)

    def _bring_rootfs(self, rootfs: str, distribution: Distribution) -> None:
        if self._has(rootfs) or self._load(rootfs):
            return
        with tempfile.TemporaryDirectory(prefix="provision-tests-") as folder:
            _debootstrap(Path(folder) / "root", distribution)
            _import(self._client, Path(folder) / "root", rootfs)
        self._save(rootfs)

    def _build(self, tag: str, recipe: str) -> None:
        try:
            self._client.images.build(fileobj=io.BytesIO(recipe.encode()), tag=tag, rm=True, forcerm=True)
        except BuildError as error:
            said = "".join(str(line.get("stream") or line.get("error") or "") for line in error.build_log)
            raise RuntimeError(f"the image {tag} cannot be built:\n{said[-3000:]}") from error

    def _load(self, tag: str) -> bool:
        path = _cached(tag)
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < FRESH_S:
                with path.open("rb") as file:
                    self._client.images.load(file)
                return True
        return False

    def _save(self, tag: str) -> None:
        path = _cached(tag)
        path.parent.mkdir(exist_ok=True)
        for old in path.parent.glob("*.tar"):
            if time.time() - old.stat().st_mtime > FRESH_S:
                old.unlink(missing_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            for chunk in self._client.api.get_image(tag):
                file.write(chunk)
        part.replace(path)


def _cached(tag: str) -> Path:
    return cache_folder() / "images" / (tag.rpartition("/")[2].replace(":", "-") + ".tar")


def _rootfs_key(distribution: Distribution) -> str:
    return _key(ROOTFS_VERSION, *distribution.sources, platform.machine(), *_trusted().values())


def _key(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def _trusted() -> dict[str, bytes]:
    """Files that make a host trust what this machine trusts, by path: the bundle, and where it is remade from."""
    bundle = Path(os.environ.get("SSL_CERT_FILE") or TRUST["SSL_CERT_FILE"])
    if not bundle.is_file():
        return {}
    local = sorted(Path("/usr/local/share/ca-certificates").glob("**/*.crt"))
    return {TRUST["SSL_CERT_FILE"]: bundle.read_bytes()} | {str(path): path.read_bytes() for path in local}


def _debootstrap(root: Path, distribution: Distribution) -> None:
    program = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise Unavailable("debootstrap is not installed, and it makes the test hosts' image")
    if os.getuid() != 0:
        raise Unavailable("making the test hosts' image with debootstrap needs root")
    argv = [program, "--variant=minbase", distribution.codename, str(root), distribution.mirror]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        log = root / "debootstrap" / "debootstrap.log"
        more = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise RuntimeError(f"debootstrap failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}\n{more}")
    (root / "etc/apt/sources.list").write_text("\n".join(distribution.sources) + "\n")
    for path, content in _trusted().items():
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    # read by PAM, so that logins over SSH and sudo have it as well as `docker exec`
    (root / "etc/environment").write_text("".join(f"{name}={value}\n" for name, value in TRUST.items()))
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()


def _import(client: docker.DockerClient, root: Path, tag: str) -> None:
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(root, arcname=".")
        archive.seek(0)
        repository, _, name = tag.partition(":")
        changes = [f"ENV {key}={value}" for key, value in TRUST.items()]
        client.api.import_image_from_data(archive, repository=repository, tag=name, changes=changes)
