"""Fleets: real SSH hosts in containers, with host keys known out of band and one client key a run."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.addresses import Addresses
from harness.boxes import Box, archive
from harness.caches import OWNER as ME
from harness.caches import lent_home, take_back
from harness.engine import LABEL, Engine
from harness.images import Images
from harness.places import RUN, without_pins

REPOSITORY = Path(__file__).parents[2]
READY_TIMEOUT_S = 60.0
SSH_PROGRAMS = ("ssh", "scp", "sftp")


@dataclass(slots=True, kw_only=True)
class Host(Box):
    """One host: a container that answers at ``address``:``port`` with a host key of its own."""

    name: str
    address: str
    port: int
    user: str
    fleet: Fleet = field(repr=False)

    @property
    def target(self) -> str:
        """As `provision` takes it: "me@127.0.20.1"."""
        return f"{self.user}@{self.address}" + ("" if self.port == 22 else f":{self.port}")

    @property
    def known_hosts(self) -> Path:
        return self.fleet.known_hosts

    @property
    def key(self) -> Path:
        return self.fleet.key

    def ssh(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a remote command as a user would: `ssh me@address WORDS`."""
        argv = ["ssh", "-o", "BatchMode=yes", "-p", str(self.port), f"{self.user}@{self.address}", *words]
        return self.fleet.run(argv, timeout_s=timeout_s)

    def stop(self) -> None:
        """Switch it off: connections are refused."""
        self.container.stop(timeout=0)

    def start(self) -> None:
        self.container.start()
        self.wait()

    def pause(self) -> None:
        """Hang it: connections are taken and nothing answers."""
        self.container.pause()

    def unpause(self) -> None:
        self.container.unpause()

    def replace_host_key(self) -> None:
        """Give it another host key than known_hosts says: what an attacker, or a reinstalled box, looks like."""
        _, private, public = self.fleet.make_host_key(f"{self.name}-replaced")
        self.write("/etc/ssh/ssh_host_ed25519_key", private, 0o600)
        self.write("/etc/ssh/ssh_host_ed25519_key.pub", public)

    def inventory_variables(self) -> dict[str, Any]:
        """This host in an Ansible inventory. Keys come from the SSH configuration, as for most users."""
        return {"ansible_host": self.address, "ansible_port": self.port, "ansible_user": self.user}

    def wait(self) -> None:
        """Until its sshd greets us."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if _greeting(self.address, self.port).startswith(b"SSH-"):
                return
            time.sleep(0.05)
        raise TimeoutError(f"no sshd at {self.address}:{self.port}: {self.container.logs().decode()[-2000:]}")


class Fleet:
    """Hosts, and what a user has who may log in to them: a key, a known_hosts file, an SSH configuration, a home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hosts: tuple[Host, ...] = ()
        self.homes: tuple[Path, ...] = ()
        self.home = folder / "home"
        self.known_hosts = folder / "known_hosts"
        self.key = folder / "id"
        self.ssh_config = folder / "ssh_config"
        self._programs = folder / "bin"
        for path in (self.home, self._programs):
            path.mkdir(parents=True)
        _keygen(self.key)
        self.known_hosts.touch()
        self.ssh_config.write_text(
            f"Host *\n  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile none\n"
            f"  IdentityFile {self.key}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        )
        self._write_programs()

    def _write_programs(self) -> None:
        # OpenSSH finds ~/.ssh by the password database and not by $HOME, so a home of its own does not keep the
        # user's keys and known hosts out of a test: a configuration file on the command line does.
        for name in SSH_PROGRAMS:
            real = shutil.which(name)
            assert real is not None, f"{name} is not installed"
            program = self._programs / name
            program.write_text(f'#!/bin/sh\nexec {real} -F {self.ssh_config} "$@"\n')
            program.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        """For programs under test: a fresh home, this fleet's SSH, nothing that pins a numerical library."""
        kept = {
            name: value for name, value in without_pins(os.environ).items() if not name.startswith(("XDG_", "SSH_"))
        }
        path = f"{self._programs}:{os.environ.get('PATH', os.defpath)}"
        return {**kept, "HOME": str(self.home), "PATH": path, **more}

    def run(self, argv: Sequence[str], *, timeout_s: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program in that environment; ``more`` are further variables."""
        return subprocess.run(
            list(argv), env=self.environment(**more), cwd=self.home, timeout=timeout_s,
            capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def provision(self, *words: str, timeout_s: float = 300, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `provision WORDS`."""
        path = f"{REPOSITORY}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
        argv = [sys.executable, "-m", "provision", *words]
        return self.run(argv, timeout_s=timeout_s, **{"PYTHONPATH": path, **more})

    def inventory(self, name: str = "hosts.yml", **all_variables: object) -> Path:
        """An Ansible inventory of all hosts. JSON, which is YAML."""
        hosts = {host.name: host.inventory_variables() for host in self.hosts}
        path = self.folder / name
        path.write_text(json.dumps({"all": {"hosts": hosts, "vars": all_variables}}, indent=2) + "\n")
        return path

    def make_host_key(self, name: str) -> tuple[Path, bytes, bytes]:
        path = self.folder / f"{name}.host_key"
        _keygen(path)
        return path, path.read_bytes(), path.with_name(path.name + ".pub").read_bytes()

    def trust(self, address: str, port: int, public: bytes) -> None:
        """Add a host key to known_hosts, as an administrator does who has it from the box itself."""
        name = address if port == 22 else f"[{address}]:{port}"
        with self.known_hosts.open("a") as file:
            file.write(f"{name} {' '.join(public.decode().split()[:2])}\n")

    def close(self) -> None:
        """Take the hosts away. Once is enough, and twice does no harm."""
        for host in self.hosts:
            host.container.remove(force=True, v=True)
        for home in self.homes:
            take_back(home)
        self.hosts, self.homes = (), ()
        shutil.rmtree(self.folder, ignore_errors=True)


class Fleets:
    """Makes fleets in one engine."""

    def __init__(self, engine: Engine, images: Images, addresses: Addresses, folder: Path) -> None:
        self._engine = engine
        self._images = images
        self._addresses = addresses
        self._folder = folder
        self._made = 0

    def make(
        self,
        count: int,
        kind: str = "ssh",
        *,
        user: str = "me",
        uv_cache: bool = False,
        volumes: Sequence[str] = (),
        files: Mapping[str, tuple[bytes, int, int]] | None = None,
        codename: str = "",
    ) -> Fleet:
        """``count`` hosts of a kind in harness.images.RECIPES, all of them answering.

        ``uv_cache``: ~me/.cache/uv holds what earlier hosts downloaded. ``volumes``: "/here:/there:ro". ``files``: on
        each before it starts, {path: (content, mode, owner)}. ``codename``: of another release of Debian.
        """
        tag = self._images.tag(kind, codename)
        self._made += 1
        fleet = Fleet(self._folder / f"f{self._made}")
        with ExitStack() as undo:
            undo.callback(fleet.close)
            for number in range(1, count + 1):
                host = self._host(fleet, f"host-{number}", tag, kind, user, uv_cache, volumes)
                fleet.hosts += (host,)
                host.container.put_archive("/", archive(files or {}))
            for host in fleet.hosts:
                host.container.start()
            for host in fleet.hosts:
                host.wait()
            undo.pop_all()
        return fleet

    def _host(
        self, fleet: Fleet, name: str, tag: str, kind: str, user: str, uv_cache: bool, volumes: Sequence[str]
    ) -> Host:
        _, private, public = fleet.make_host_key(name)
        authorized = fleet.key.with_name("id.pub").read_bytes()
        options: dict[str, Any] = dict(_INIT.get(kind, {}))
        options["volumes"] = [*options.get("volumes", []), *volumes]
        home = lent_home(f"{self._made}-{name}", authorized) if uv_cache else None
        if home is not None:
            fleet.homes += (home,)
            options["volumes"] = [*options["volumes"], f"{home}:/home/me:rw"]
        address, port = self._addresses.take(), self._addresses.port
        container = self._engine.client.containers.create(
            tag,
            name=f"provision-tests-{RUN}-{self._made}-{name}",
            hostname=name,
            labels={LABEL: RUN},
            ports={"22/tcp": (address, port)},
            **options,
        )
        files = {
            "/etc/ssh/ssh_host_ed25519_key": (private, 0o600, 0),
            "/etc/ssh/ssh_host_ed25519_key.pub": (public, 0o644, 0),
            "/root/.ssh/authorized_keys": (authorized, 0o600, 0),
        }
        if home is None:
            files["/home/me/.ssh/authorized_keys"] = (authorized, 0o600, ME)
        container.put_archive("/", archive(files))
        fleet.trust(address, port, public)
        return Host(name=name, address=address, port=port, user=user, fleet=fleet, container=container)


def _systemd_volumes() -> list[str]:
    # cgroup v1: the controllers below a read-only tmpfs stay writable; v2 needs it all
    v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    return [f"/sys/fs/cgroup:/sys/fs/cgroup:{'rw' if v2 else 'ro'}"]


_INIT: dict[str, dict[str, Any]] = {
    "systemd": {
        "tmpfs": {"/run": "", "/run/lock": ""},
        "volumes": _systemd_volumes(),
        # systemd on cgroup v2 wants to see the host's hierarchy; on v1 the engine shares it anyway
        "cgroupns": "host",
    }
}
# `systemctl reboot` in it ends the container, and the engine starts it again
_INIT["gpu-box"] = _INIT["workstation"] = {**_INIT["systemd"], "restart_policy": {"Name": "always"}}


def _keygen(path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "provision-tests", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def _greeting(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), timeout=5) as connection:
            return connection.recv(64)
    except OSError:
        return b""
