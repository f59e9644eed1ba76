"""Loopback addresses: one /24 a process, so that each test host has port 22 of an address of its own.

All of 127.0.0.0/8 is local on Linux without any set-up, and strict host-key checking behaves there as in the field
(an entry of known_hosts is for an address, and a port other than 22 would change how it is written).
"""

from __future__ import annotations

import errno
import socket
from typing import IO

from harness.engine import Unavailable
from harness.places import state_folder, try_lock

NETWORKS = range(20, 250)
SSH_PORT = 22
OTHER_PORT = 2222
"""Where this machine's own sshd listens on port 22 of all addresses."""


class Addresses:
    """Addresses 127.0.X.1 to 127.0.X.250 for one X, ours until close."""

    def __init__(self) -> None:
        self._lock, self._network = _own_network()
        self._next = 1
        self.port = SSH_PORT if _free(f"127.0.{self._network}.254", SSH_PORT) else OTHER_PORT

    def take(self) -> str:
        """The next free one. They are not given back: a test must not meet the host key of an earlier one."""
        while self._next <= 250:
            address = f"127.0.{self._network}.{self._next}"
            self._next += 1
            if _free(address, self.port):
                return address
        raise Unavailable(f"all addresses of 127.0.{self._network}.0/24 are used up")

    def close(self) -> None:
        self._lock.close()


def _own_network() -> tuple[IO[str], int]:
    folder = state_folder() / "networks"
    folder.mkdir(exist_ok=True)
    for number in NETWORKS:
        lock = try_lock(folder / str(number))
        if lock is not None:
            return lock, number
    raise Unavailable("every network 127.0.X.0/24 is in use by another test run")


def _free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EACCES:
                return False
            # a port below 1024, and we are not root: the engine is
            return probe.connect_ex((address, port)) != 0
    return True
