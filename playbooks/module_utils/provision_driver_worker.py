"""The driver's changes in a process of their own: a lost connection or a cancelled run stops no package manager.

The module starts it and follows what it writes into /run/provision/nvidia: ``state`` (who it is, how it ended) and
``progress``. It is a new program and no fork, because a cancelled run ends every process whose environment carries its
mark. It holds the lock, and lets package managers hold it as well: a second run waits until nothing is at work.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Callable  # Callable of collections.abc takes no arguments before 3.9

import ansible.module_utils
from ansible.module_utils.provision_build_supervisor import (
    Relayed,
    Reporter,
    at_work,
    living,
    read_state,
    started,
    try_lock,
)
from ansible.module_utils.provision_driver_absent import absent
from ansible.module_utils.provision_driver_box import MARK, RUNTIME, Box
from ansible.module_utils.provision_driver_packages import Wanted
from ansible.module_utils.provision_driver_record import read as read_record
from ansible.module_utils.provision_driver_stages import Installation
from ansible.module_utils.provision_driver_undo import told
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure
from ansible.module_utils.provision_files import write_atomically
from ansible.module_utils.provision_packages import manager
from ansible.module_utils.provision_progress import Progress

POLL_S = 0.2
GENTLY_S = 0.6
"""How long we wait for a worker that was asked to end: a cancelled run kills us after a second."""
LOCK_S = 3600.0
"""How long another run may have the driver: a module's build on a slow box with many kernels."""
RUNS = Path("/run/provision")
START = """
import json, sys
about = json.loads(sys.argv[1])
sys.path[:] = about["path"]
import ansible.module_utils
ansible.module_utils.__path__[:] = about["utils"]
from ansible.module_utils.provision_driver_worker import main
main(about)
"""


# ── the process that does the work ────────────────────────────────────────────────────────────────────────────────


def work(box: Box, params: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out what was asked for. Raises Failure."""
    packages = manager(params["manager"], box.run, hear=box.say)
    if params["state"] == "absent":
        return absent(box, packages, params)
    return Installation(box, packages, {**params, "want": Wanted(**params["chosen"])}).present()


def main(about: Mapping[str, Any]) -> None:
    """The worker. ``about``: folder, lock and up (descriptors), params."""
    folder, state = Path(about["folder"]), {"pid": os.getpid(), "started": started(os.getpid()), "phase": "running"}
    box = Box(about["params"]["machine_root"], say=Reporter(folder).say, lock=about["lock"])

    def stop(number: int, _: object) -> None:
        box.stop = box.stop or signal.Signals(number).name

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, stop)
    with contextlib.suppress(FileNotFoundError):
        (folder / "progress").unlink()
    _write(folder, state)
    os.write(about["up"], b"up")
    os.close(about["up"])
    try:
        state.update(phase="done", result=work(box, about["params"]))
    except Failure as failure:
        state.update(phase="failed", failure=failure.result())
    except OSError as error:
        state.update(phase="failed", failure=os_failure(error, "change the NVIDIA driver").result())
    except BaseException as error:
        traceback.print_exc()
        why = f"{type(error).__name__}: {error}\nsee {folder}/log.txt"
        what = "the work on the NVIDIA driver ended for a reason that provision does not know"
        state.update(phase="failed", failure=Failure("bug", what, why).result())
    _write(folder, state)


def _write(folder: Path, state: Mapping[str, Any]) -> None:
    write_atomically(folder / "state", json.dumps(dict(state)) + "\n", 0o600)


# ── the module that follows it ────────────────────────────────────────────────────────────────────────────────────


def carried_out(params: Mapping[str, Any], progress: Progress, folder: Path = Path(RUNTIME)) -> dict[str, Any]:
    """Have the work done, and return its result. Raises Failure, Interrupted."""
    folder.mkdir(parents=True, exist_ok=True)
    with _turn(folder, progress) as lock:
        _start(folder, lock, params)
    try:
        while at_work(read_state(folder)):
            _check_listener()
            _pass_on(folder, progress)
            time.sleep(POLL_S)
    except Interrupted as stop:
        raise _left(folder, str(stop)) from stop
    state = read_state(folder)
    if state.get("phase") not in ("done", "failed"):
        raise _killed(params)
    return _ended(state)


@contextlib.contextmanager
def _turn(folder: Path, progress: Progress) -> Iterator[int]:
    """The lock, once nobody else has it; closed here afterwards, the worker has its own descriptor of it."""
    deadline = time.monotonic() + LOCK_S
    handle = try_lock(folder / "lock")
    while handle is None:
        if time.monotonic() > deadline:
            hint = "wait until it has ended, and run the same command again"
            raise Failure(
                "locked", "another run works on this host's NVIDIA driver", f"{folder / 'lock'} is held", hint
            )
        if at_work(read_state(folder)):
            _pass_on(folder, progress, "another run: ")
        else:
            progress.say("waiting for a package manager that an earlier run has started")
        _check_listener()
        time.sleep(POLL_S)
        handle = try_lock(folder / "lock")
    try:
        yield handle
    finally:
        os.close(handle)


def _start(folder: Path, lock: int, params: Mapping[str, Any]) -> None:
    ours, theirs = os.pipe()
    about = {
        "path": sys.path, "utils": list(ansible.module_utils.__path__), "folder": str(folder), "lock": lock,
        "up": theirs, "params": params,
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != MARK}
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(about, default=list)], env=environment, cwd="/",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock, theirs],
        )  # fmt: skip
    finally:
        os.close(log)
        os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        if pipe.read() != b"up":
            said = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
            raise Failure("bug", "the process that works on the NVIDIA driver did not start", said[-2000:])


def _pass_on(folder: Path, progress: Progress, prefix: str = "") -> None:
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        progress.say(prefix + json.loads((folder / "progress").read_text(encoding="utf-8"))["text"])


def _left(folder: Path, number: str) -> Failure:
    """We end before the work does. A signal to stop is passed on; after a lost connection it goes on to its end."""
    state = read_state(folder)
    again = "run the same command again: it waits for that and goes on; do not reboot before"
    if number == "SIGHUP":
        why = f"the work goes on (pid {state.get('pid')})"
        return Failure("interrupted", "the connection was lost while the NVIDIA driver was changed", why, again)
    deadline = time.monotonic() + GENTLY_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if living(state):
            os.kill(state["pid"], signal.SIGTERM)
    while at_work(read_state(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    state = read_state(folder)
    if state.get("phase") == "failed":
        return Relayed(state["failure"])
    why = f"{number}; a package operation that had begun is finished, and its state is kept"
    return Failure("interrupted", "stopped while the NVIDIA driver was changed", why, again)


def _ended(state: Mapping[str, Any]) -> dict[str, Any]:
    if state.get("phase") == "failed":
        raise Relayed(state["failure"])
    return dict(state["result"])


def _killed(params: Mapping[str, Any]) -> Failure:
    """Nothing was tidied up, by us or by the package manager: what is there may not start the next time."""
    failure = Failure(
        "interrupted", "the process that changed the NVIDIA driver was killed",
        "by somebody, or by the kernel because memory ran out",
        "run the same command again: it goes on where it was; do not reboot before that",
    )  # fmt: skip
    box = Box(params["machine_root"])
    record = read_record(box)
    if not record or params["state"] == "absent":
        return failure
    return told(box, manager(params["manager"], box.run), record, failure, params["initramfs"])


def _check_listener() -> None:
    """Raises Interrupted where the reader of our output is gone, as when a connection breaks without a signal."""
    poll = select.poll()
    poll.register(1, 0)
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise Interrupted("SIGHUP")


def done_by(function: Callable[[Progress], Mapping[str, Any]], run_id: str, step: str) -> dict[str, Any]:
    """``function`` with a progress file that everybody on the host may read."""
    with Progress(RUNS, run_id, step) as progress:
        return dict(function(progress))
