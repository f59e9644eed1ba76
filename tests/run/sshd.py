"""A real sshd of the test's own on loopback: a free port, its own host key, its own folder, one user (whoever runs)."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.model.host import Host

ADDRESS = "127.0.0.1"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    folder: Path
    port: int = field(default_factory=free_port)
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home = self.folder / "home"
        self.home.mkdir(exist_ok=True)
        self.key = make_key(self.folder / "client_key")
        make_key(self.folder / "host_key")
        (self.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        self.known_hosts = self.folder / "known_hosts"
        self.trust()
        self.process: subprocess.Popen[bytes] | None = None

    def trust(self) -> None:
        """Write the host's key into known_hosts, read from its file as a careful user would."""
        kind, key = (self.folder / "host_key.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[{ADDRESS}]:{self.port} {kind} {key}\n")

    def start(self) -> Sshd:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        lines = (
            f"ListenAddress {ADDRESS}:{self.port}",
            f"HostKey {self.folder}/host_key",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            f"PidFile {self.folder}/pid",
            f"SetEnv HOME={self.home} XDG_DATA_HOME={self.home}/.local/share",
            *self.settings,  # sshd takes the first value
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "LogLevel VERBOSE",
        )
        config = self.folder / "config"
        config.write_text("\n".join(lines) + "\n")
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((ADDRESS, self.port)) == 0:
                    return self
            time.sleep(0.02)
        raise RuntimeError(f"sshd did not start: {self.log()}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def accepted(self) -> int:
        """How many connections logged in so far."""
        return self.log().count("Accepted publickey")

    def options(self) -> str:
        """What makes ssh use this test's files instead of the user's."""
        settings = (f"UserKnownHostsFile={self.known_hosts}", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes")
        return shlex.join(["-F", "none", *(part for setting in settings for part in ("-o", setting))])

    def host(self, name: str = "box", **more: Any) -> Host:
        variables = {
            "ansible_host": ADDRESS,
            "ansible_port": self.port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": self.options(),
            **more,
        }
        return Host(
            name=name,
            connection="ssh",
            address=str(variables["ansible_host"]),
            port=variables["ansible_port"],
            user=variables["ansible_user"],
            variables=variables,
        )


def make_key(path: Path) -> Path:
    """A key pair at ``path``; one that is there is replaced."""
    for old in (path, path.with_suffix(".pub")):
        old.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path
