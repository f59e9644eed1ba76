"""Ending what a cancelled run left: every process that carries the run's mark, here and on its hosts."""

from __future__ import annotations

from collections.abc import Sequence

from provision.model.host import Host
from provision.run.command import run

MARK = "PROVISION_RUN"
"""A play sets it for its modules, `play` for ansible-playbook: no terminal ends a remote command when its ssh does."""
TIMEOUT_S = 3.0
SCRIPT = r"""
mark="PROVISION_RUN=$1"
marked() { grep -lzxF "$mark" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
pids=$(marked)
[ -n "$pids" ] || { echo "reaped 0"; exit 0; }
kill -TERM $pids 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$(marked)" ] || break
    sleep 0.1
done
left=$(marked)
[ -z "$left" ] || kill -KILL $left 2>/dev/null
echo "reaped $(echo $pids | wc -w)"
"""
"""TERM lets modules take away what is half-made; what does not listen for a second is killed."""


def reap_here(run_id: str) -> bool:
    """Whether nothing of the run is left on this machine."""
    return run(["sh", "-c", SCRIPT, "sh", run_id], timeout_s=TIMEOUT_S).ok


def reap(hosts: Sequence[Host], run_id: str, control_dir: str) -> tuple[str, ...]:
    """End the run's processes on this machine and on all hosts at once; the names of hosts that could not be asked."""
    from concurrent.futures import ThreadPoolExecutor

    remote = [host for host in hosts if host.connection != "local"]
    reap_here(run_id)
    if not remote:
        return ()
    with ThreadPoolExecutor(max_workers=min(len(remote), 32)) as pool:
        done = list(pool.map(lambda host: _reap_there(host, run_id, control_dir), remote))
    return tuple(host.name for host, clean in zip(remote, done, strict=True) if not clean)


def _reap_there(host: Host, run_id: str, control_dir: str) -> bool:
    from provision.run.ssh import run_script

    return run_script(host, SCRIPT, run_id, control_dir=control_dir, timeout_s=TIMEOUT_S).ok
