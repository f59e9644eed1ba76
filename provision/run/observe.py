"""What hosts are: all at once, one round trip each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from provision.detect.framed import is_complete, split
from provision.errors import HostError, Interrupted, ProvisionError
from provision.model.host import Host
from provision.model.readings import Readings
from provision.model.report import Failure, Progress
from provision.run import probe
from provision.run.command import CANCELLED, TIMED_OUT, Completed
from provision.run.hosts import machine_root

MAX_AT_ONCE = 32
TIMEOUT_S = 120.0
"""nvidia-smi alone may take half a minute on a box with many GPUs and no persistence daemon."""
STEP = "Read the host"
NEVER = threading.Event()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A host's readings, or why there are none."""

    host: Host
    readings: Readings | None = None
    failure: Failure | None = None


def observe(
    hosts: Sequence[Host],
    *,
    control_dir: str,
    cancel: threading.Event | None = None,
    on_event: Callable[[Progress], None] | None = None,
) -> tuple[Observation, ...]:
    """One observation a host, in order. What goes wrong on one host stays with it; nothing is raised."""
    if not hosts:
        return ()
    stop = cancel or NEVER

    def one(host: Host) -> Observation:
        if on_event is not None:
            on_event(Progress(host=host.name, kind="step", step=STEP))
        found = _observation(host, control_dir, stop)
        if on_event is not None:
            text = found.failure.what if found.failure is not None else ""
            on_event(Progress(host=host.name, kind="failed" if text else "done", step=STEP, text=text))
        return found

    if len(hosts) == 1:
        return (one(hosts[0]),)
    with ThreadPoolExecutor(max_workers=min(len(hosts), MAX_AT_ONCE)) as pool:
        return tuple(pool.map(one, hosts))


def _observation(host: Host, control_dir: str, cancel: threading.Event) -> Observation:
    if cancel.is_set():
        return Observation(host=host, failure=_interrupted(host))
    try:
        if host.connection == "local":
            return Observation(host=host, readings=probe.local_readings())
        return _over_ssh(host, control_dir, cancel)
    except ProvisionError as error:
        return Observation(
            host=host, failure=Failure(what=error.what, why=error.why, hint=error.hint, exit_code=error.exit_code)
        )


def _over_ssh(host: Host, control_dir: str, cancel: threading.Event) -> Observation:
    from provision.run.ssh import run_script

    boundary = probe.new_boundary()
    # a line end first: what a login prints need not end with one, and a frame begins a line
    script = f"printf '\\n'\n{probe.probe_script()}"
    words = [boundary, "-", root] if (root := machine_root(host)) else [boundary]
    done = run_script(host, script, *words, control_dir=control_dir, timeout_s=TIMEOUT_S, cancel=cancel)
    if is_complete(done.stdout, boundary):
        return Observation(host=host, readings=split(done.stdout, boundary))
    return Observation(host=host, failure=_without_readings(host, done, boundary))


def _without_readings(host: Host, done: Completed, boundary: str) -> Failure:
    from provision.run.ssh import REFUSED, explain_ssh_failure

    if done.status == CANCELLED:
        return _interrupted(host)
    read = tuple(split(done.stdout, boundary).files)
    if read:
        return _cut_off(host, done, read)
    if done.status in (REFUSED, TIMED_OUT):
        return explain_ssh_failure(host, done.stderr)
    known = explain_ssh_failure(host, f"{done.stderr}\n{done.stdout}")
    return known if known.kind in ("no_shell", "no_ssh_client") else _no_shell(host, done)


def _no_shell(host: Host, done: Completed) -> Failure:
    answer = "\n".join((done.stdout.strip() or done.stderr.strip()).splitlines()[:5])
    said = f"it answered with status {done.status}" + (f":\n{answer}" if answer else " and no text")
    return Failure(
        kind="no_shell",
        what=f"{host.name} let us in, but did not run a shell for us",
        why=f"asked for `sh -s`, {said}",
        hint="use an account with a POSIX shell, and without a forced command (command= in its authorized_keys, "
        "ForceCommand in sshd_config)",
        exit_code=HostError.exit_code,
    )


def _cut_off(host: Host, done: Completed, names: Sequence[str]) -> Failure:
    said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.status}"]
    return Failure(
        kind="timed_out" if done.status == TIMED_OUT else "connection_lost",
        what=f"{host.name}: the host was not read to the end",
        why=f"its output stops in the reading {names[-1]}; {said[0]}",
        hint="try again; if it stops at the same place, run that command on the host by hand",
        exit_code=HostError.exit_code,
    )


def _interrupted(host: Host) -> Failure:
    return Failure(
        kind="interrupted",
        what="interrupted",
        why=f"{host.name} was not read to the end; nothing was changed",
        exit_code=Interrupted.exit_code,
    )
