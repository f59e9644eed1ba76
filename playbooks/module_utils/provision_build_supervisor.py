"""A build in a process of its own session: it goes on when the connection, or the module that began it, is lost.

The module forks it and follows what it writes into the build's folder: ``state`` (who it is, how it ended) and
``progress``. It is forked, not started from a file, because Ansible takes the module's files away when the module ends;
all that it needs is in memory by then. A lock file's descriptor goes along, so the lock is held as long as it works.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_process import STOP_SIGNALS, stoppable
from ansible.module_utils.provision_progress import Progress

MARK = "PROVISION_BUILD"
"""What a build's commands carry in their environment: what a killed one left is found by it. Its value is the build's
folder, because another user, or another home, may build the same, with an equal key, at the same time."""
POLL_S = 0.2
STOP_S = 2.0
"""How long a supervisor that was told to stop may take before it is killed."""

Work = Callable[[Callable[..., None]], Any]
"""Does the build; is given a ``say`` (Progress.say) and returns its record, a mapping."""


# ── who it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


def started(pid: int) -> str:
    """When process ``pid`` was started, so that another one with its number is not taken for it; "" where it is gone.

    Boot and clock ticks since then (proc_pid_stat(5), field 22).
    """
    try:
        # 12 (a name) with brackets) S 1 12 …
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, IndexError):
        return ""
    return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def read_state(folder: Path) -> dict[str, Any]:
    """What the last supervisor of this build wrote; {} where there was none."""
    try:
        state = json.loads((folder / "state").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def living(state: Mapping[str, Any]) -> bool:
    """Whether the supervisor that wrote ``state`` is there still."""
    pid = state.get("pid")
    return isinstance(pid, int) and bool(state.get("started")) and started(pid) == state["started"]


def at_work(state: Mapping[str, Any]) -> bool:
    """Whether its result is still to come."""
    return state.get("phase") == "running" and living(state)


def marked(folder: Path) -> list[int]:
    """Processes of the build in ``folder``, whoever their parent is now."""
    found, mark = [], os.fsencode(f"{MARK}={folder}")
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def kill_marked(folder: Path) -> int:
    """Kill what a build that was itself killed has left; how many there were."""
    pids = marked(folder)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


# ── the lock of a build ───────────────────────────────────────────────────────────────────────────────────────────


def try_lock(path: Path) -> int | None:
    """The lock file's descriptor, or None where somebody has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if _locked(handle, path):
                return handle
            os.close(handle)
    except BlockingIOError:
        return None
    except OSError as error:
        raise os_failure(error, "lock the build") from error


def _locked(handle: int, path: Path) -> bool:
    """False where the file was removed, with the build that it belonged to, before we had the lock."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
    except BaseException:
        os.close(handle)
        raise


@contextlib.contextmanager
def waited_for(path: Path, what: str, say: Callable[[str], None], timeout_s: float | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` inside; while others have it, say that we wait for ``what``."""
    begun = time.monotonic()
    handle = try_lock(path)
    while handle is None:
        if timeout_s is not None and time.monotonic() - begun > timeout_s:
            hint = "wait until it has ended, or stop it, and run the same command again"
            raise Failure("locked", f"another provision run has {what}", f"waited {timeout_s:g} s for {path}", hint)
        say(f"waiting for {what}")
        time.sleep(POLL_S)
        handle = try_lock(path)
    try:
        yield
    finally:
        os.close(handle)


# ── the process ───────────────────────────────────────────────────────────────────────────────────────────────────


def start(
    folder: Path, lock: int, about: Mapping[str, Any], work: Work, afterwards: Callable[[], None] | None = None
) -> None:
    """Fork the supervisor, which does ``work`` and holds ``lock``; returns once its state is there.

    ``about`` goes into the state. What is printed in it goes to log.txt. ``afterwards`` is done when the result is
    there already, and nobody waits for it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # a signal that comes in between waits until there is somebody to pass it on to
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    _supervise(folder, lock, theirs, about, work, afterwards)
            finally:
                os._exit(0)
        os.close(theirs)
        os.waitpid(child, 0)
        with os.fdopen(ours, "rb") as pipe:
            if pipe.read() != b"up":
                raise Failure("build", "the build's process ended before it began", f"see {folder / 'log.txt'}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _supervise(
    folder: Path, lock: int, up: int, about: Mapping[str, Any], work: Work, afterwards: Callable[[], None] | None
) -> None:
    """Never returns."""
    state = {**about, "pid": os.getpid(), "started": started(os.getpid()), "phase": "running"}
    try:
        with stoppable():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            _detach(folder / "log.txt", keep=(lock, up))
            with contextlib.suppress(FileNotFoundError):
                (folder / "progress").unlink()
            _write(folder, state)
            os.write(up, b"up")
            os.close(up)
            state.update(_done(work, Reporter(folder).say))
    except Interrupted as stop:
        state.update(phase="interrupted", signal=str(stop))
    except BaseException:
        traceback.print_exc()
        state.update(phase="failed", failure=_bug(folder))
    finally:
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            _write(folder, state)
        with contextlib.suppress(Exception):
            if afterwards is not None:
                afterwards()
        os._exit(0)


def _done(work: Work, say: Callable[..., None]) -> dict[str, Any]:
    try:
        return {"phase": "done", "result": dict(work(say))}
    except Failure as failure:
        return {"phase": "failed", "failure": failure.result()}
    except OSError as error:
        traceback.print_exc()
        return {"phase": "failed", "failure": os_failure(error, "build").result()}


def _bug(folder: Path) -> dict[str, Any]:
    error = sys.exc_info()[1]
    why = f"{type(error).__name__}: {error}"
    return Failure(
        "bug", "the build ended for a reason that provision does not know", f"{why}\n{folder}/log.txt"
    ).result()


def _detach(log: Path, keep: tuple[int, ...]) -> None:
    """Let go of everything that Ansible waits for, and of the terminal: only ``keep`` and log.txt stay open."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are all that is there
        if int(name) > 2 and int(name) not in keep:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _write(folder: Path, state: Mapping[str, Any]) -> None:
    write_atomically(folder / "state", json.dumps(dict(state), indent=2, ensure_ascii=False) + "\n", 0o600)


class Reporter:
    """Keeps ``folder/progress`` at the newest that was said. Whoever follows looks as often as it likes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress"

    def say(
        self,
        text: str,
        done_mib: float | None = None,
        total_mib: float | None = None,
        build: Mapping[str, Any] | None = None,
    ) -> None:
        temporary = self._path.with_name(".progress")
        said = {"text": text, "done_mib": done_mib, "total_mib": total_mib, "build": build}
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps(said), encoding="utf-8", errors="replace")
            temporary.replace(self._path)


# ── following it ──────────────────────────────────────────────────────────────────────────────────────────────────


class Relayed(Failure):
    """A failure of the supervisor, as it is told here."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        super().__init__(str(told.get("kind", "build")), str(told.get("what", "")), str(told.get("why", "")))
        self._told = dict(told)

    def result(self) -> dict[str, Any]:
        return self._told


def follow(folder: Path, name: str, progress: Progress, begin: Callable[[], None] | None = None) -> dict[str, Any]:
    """Pass on what the build's process says until it ends, and return its record. ``name`` is what is built.

    ``begin`` starts it; without, it is there already. SIGTERM and SIGINT end the build; after SIGHUP, or where nobody
    listens to us any more, it goes on without us. Raises the Failure that it ended with.
    """
    try:
        if begin is not None:
            begin()
        while at_work(read_state(folder)):
            _check_listener()
            with contextlib.suppress(OSError, ValueError, TypeError):
                progress.say(**json.loads((folder / "progress").read_text(encoding="utf-8")))
            time.sleep(POLL_S)
    except Interrupted as stop:
        if str(stop) == "SIGHUP":
            pid = read_state(folder).get("pid")
            raise Failure(
                "interrupted", f"the connection was lost while {name} was built", f"the build goes on (pid {pid})",
                "run the same command again to follow it",
            ) from stop  # fmt: skip
        end(folder)
        raise
    return ended(read_state(folder), name)


def ended(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The record of a build that has ended. Raises Failure where it did not end well."""
    if state.get("phase") == "done":
        return dict(state["result"])
    if state.get("phase") == "failed":
        raise Relayed(state["failure"])
    why = "its process was killed: by somebody, or by the kernel because memory ran out"
    if state.get("phase") == "interrupted":
        why = f"its process got {state.get('signal')}: another run stopped it"
    raise Failure(
        "interrupted", f"the build of {name} was stopped", why, "run the same command again: it goes on where it was"
    )


def end(folder: Path) -> None:
    """Stop the build's process, and see to it that nothing of it is left."""
    state = read_state(folder)
    deadline = time.monotonic() + STOP_S
    while living(state):
        late = time.monotonic() > deadline
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(state["pid"], signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.05)
    kill_marked(folder)


def _check_listener() -> None:
    """Raises Interrupted where the reader of our output is gone, as when a connection breaks without a signal."""
    poll = select.poll()
    poll.register(1, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise Interrupted("SIGHUP")
