"""Hosts over SSH without Ansible in between: one raw round trip is 0.3 s where Ansible's is 1 s.

The user's own OpenSSH client, configuration and known_hosts. Host keys are always checked and never learnt. Masters are
shared with Ansible: both use ``CONTROL_DIR/%C``.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from provision.errors import UsageError
from provision.model.host import Host
from provision.model.report import Failure
from provision.run import inventory, ssh_failures
from provision.run.command import Completed, Running, run, start
from provision.run.hosts import checked_address

CONNECT_TIMEOUT_S = 10
REFUSED = 255
"""ssh's own status: it could not connect, or lost the connection."""
CLOSE_TIMEOUT_S = 3.0
PREFIX = "pv-"
STALE_S = 60
"""A folder is made before it is locked: a young one may be another run's that is just starting."""
LONGEST_FOLDER = 45
"""A socket's path has at most 107 bytes, on macOS 103; ssh adds "/", 40 digits, and 17 more while it makes it."""
SHELL = "sh -s"
MAIN = "provision_main"
WATCHED = r"""
exec 3<&0
{main} {arguments} 3<&- </dev/null &
main=$!
{{ cat <&3; kill "$main"; }} >/dev/null 2>&1 &
watch=$!
exec 3<&-
wait "$main"
status=$?
kill "$watch" 2>/dev/null
exit "$status"
"""
"""Our end of the connection is the script's standard input: where that ends, so does the script. Nothing else tells a
remote command without a terminal that nobody listens any more."""


class ControlDir:
    """``with ControlDir() as control_dir``: a short folder of ours alone for the sockets of SSH masters.

    Masters are closed and the folder removed at the end. It is locked meanwhile, so that a later run can tell what a
    killed one left behind, and close that too.
    """

    def __init__(self, parents: Sequence[str] = ()) -> None:
        """``parents`` are the places to try first."""
        self._parents = tuple(parents)
        self.path = ""
        self._lock = -1

    def __enter__(self) -> str:
        parent = _short_parent([*self._parents, os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"])  # noqa: S108 - mkdtemp makes it ours
        _remove_stale(parent)
        self.path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        close_masters(self.path)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _short_parent(places: Sequence[str]) -> Path:
    room = LONGEST_FOLDER - len(f"/{PREFIX}12345678")
    for place in places:
        # ssh reads % as a placeholder, and splits at spaces
        if re.fullmatch(rf"/[\w./+-]{{0,{room - 1}}}", place) and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    raise UsageError(
        what="there is no folder for the sockets of SSH connections",
        why=f"of {', '.join(filter(None, places))} none is writable and has at most {room} plain characters",
        hint="set TMPDIR to a folder with a short path that you may write to",
    )


def _remove_stale(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                found = os.fstat(lock)
                ours = found.st_uid == os.getuid() and found.st_mode & 0o777 == 0o700
                if ours and time.time() - found.st_mtime > STALE_S:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    close_masters(str(folder))
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def close_masters(control_dir: str) -> None:
    """End every SSH master whose socket lies in ``control_dir``, all at once."""
    with suppress(OSError):
        sockets = [str(path) for path in Path(control_dir).iterdir() if path.is_socket()]
        if sockets:
            with ThreadPoolExecutor(max_workers=min(len(sockets), 16)) as pool:
                list(pool.map(_close_master, sockets))


def _close_master(socket: str) -> None:
    run(["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "master"], timeout_s=CLOSE_TIMEOUT_S)


def arguments(host: Host, control_dir: str) -> tuple[str, ...]:
    """The command that reaches ``host``, up to and with its address. Raises UsageError where it cannot be made.

    Of an option given twice ssh takes the first: ours stand before those of the inventory and of ~/.ssh/config.
    """
    timeout = inventory.last_set(host.variables, inventory.TIMEOUT) or CONNECT_TIMEOUT_S
    ours = {
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": f"{control_dir}/%C",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": timeout,
        "ServerAliveInterval": 15,
        "ServerAliveCountMax": 4,
        # a user's settings for interactive use would get in the way
        "RemoteCommand": "none",
        "ClearAllForwardings": "yes",
    }
    options = [part for name, value in ours.items() for part in ("-o", f"{name}={value}")]
    user = ("-l", host.user) if host.user else ()
    return (_program(host), "-T", *options, *user, *_reached(host), "--", checked_address(host.address, host.name))


def by_hand(host: Host) -> str:
    """The command that a user types to get there. Raises UsageError as ``arguments`` does."""
    target = f"{host.user}@{host.address}" if host.user else host.address
    return shlex.join([_program(host), *_reached(host), target])


def _program(host: Host) -> str:
    return str(inventory.last_set(host.variables, inventory.EXECUTABLE) or "ssh")


def _reached(host: Host) -> tuple[str, ...]:
    """Options that lead to the host: those of the inventory as they are."""
    key = inventory.last_set(host.variables, inventory.KEY)
    return (
        *(("-p", str(host.port)) if host.port is not None else ()),
        *(("-i", str(Path(str(key)).expanduser())) if key else ()),
        *(part for name in inventory.OPTIONS for part in _split(host, name)),
    )


def _split(host: Host, name: str) -> list[str]:
    try:
        return shlex.split(str(host.variables.get(name) or ""))
    except ValueError as error:
        raise UsageError(
            what=f"{name} of {host.name} cannot be read",
            why=f"{error} in {host.variables[name]}",
            hint="correct the quotes in the inventory",
        ) from error


def run_script(
    host: Host,
    script: str,
    *words: str,
    control_dir: str,
    timeout_s: float | None = None,
    cancel: threading.Event | None = None,
) -> Completed:
    """Run a POSIX shell script on ``host`` with ``words`` as $1, $2, …; its standard input is empty.

    Status 255 is ssh's own. Nothing runs where the script did not arrive whole. Hosts that only Ansible reaches are
    reached through it.
    """
    if host.connection == "other":
        from provision.run.ad_hoc import run_script as run_by_ansible

        text = whole(script) + called(words)
        return run_by_ansible(host, text, control_dir=control_dir, timeout_s=timeout_s, cancel=cancel)
    return run(command(host, control_dir), stdin=whole(script) + called(words), timeout_s=timeout_s, cancel=cancel)


def start_script(host: Host, script: str, *words: str, control_dir: str) -> Running:
    """The same, read line by line while it runs. It ends there when it is stopped, or this process ends, here.

    Raises UsageError for a host that only Ansible reaches: that gives no output before the end.
    """
    if host.connection == "other":
        raise UsageError(what=f"{host.name} is reached only through Ansible", why="which does not stream output")
    watched = WATCHED.format(main=MAIN, arguments=shlex.join(words))
    return start(command(host, control_dir), stdin=whole(script) + watched)


def command(host: Host, control_dir: str) -> tuple[str, ...]:
    """What starts a POSIX shell there that reads its script from standard input. Whatever the login shell is (fish,
    csh), it has these five characters to read; quoting is a matter of the script."""
    if host.connection == "local":
        return tuple(SHELL.split())
    return (*arguments(host, control_dir), SHELL)


def whole(script: str) -> str:
    """The script as a function: a shell that reads from a connection must not run the first half of it."""
    return f"{MAIN}() {{\n:\n{script}\n}}\n"


def called(words: Sequence[str]) -> str:
    return f"{MAIN} {shlex.join(words)} </dev/null\n"


def explain_ssh_failure(host: Host, text: str) -> Failure:
    """What stderr of ssh, or a message of Ansible's about an unreachable host, means."""
    address, port = host.address, host.port
    try:
        ssh = by_hand(host)
    except UsageError:
        ssh = f"ssh {host.name}"
    keyscan = f"-p {port} {address}" if port else address
    return ssh_failures.explained(
        text,
        {"host": host.name, "address": address, "port": str(port or 22), "ssh": ssh, "keyscan": keyscan},
        with_password=any(host.variables.get(name) for name in inventory.PASSWORD),
    )
