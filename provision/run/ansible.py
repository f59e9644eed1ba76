"""The one module that imports ansible_runner: one play on many hosts, with its progress, its results and its end.

ansible-runner 2.4.3 left to itself switches host-key checking off, leaves its workers running when it is cancelled,
writes the environment into its artefacts, keeps SIGINT for itself, and empties long results. Each is undone here and
has its test.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.model.host import Host
from provision.model.report import Failure, Progress
from provision.run import play_files
from provision.run.play_events import Events, HostResult
from provision.run.reap import MARK, reap

GRACE_S = 1.5
"""How long ansible-playbook may take to end its workers before it is killed with them. 0.3 s is usual."""
POLL_S = 0.1
"""How often ansible-runner looks at the cancel flag; its default of 5 s is also how long Ctrl-C would wait."""
BECOME_PROMPT = r"^BECOME password.*:\s*?$"
MAX_FORKS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayResult:
    results: Mapping[str, HostResult]
    """By host name."""
    run_id: str
    cancelled: bool
    unreaped: tuple[str, ...] = ()
    """Hosts where something of a cancelled run may still be running, since nobody could look."""


def play(
    playbook: Path,
    hosts: Sequence[Host],
    variables: Mapping[str, Mapping[str, Any]],
    *,
    inventory_sources: Sequence[str] = (),
    on_event: Callable[[Progress], None],
    cancel: threading.Event,
    control_dir: str,
    tags: Sequence[str] = (),
    check: bool = False,
    secrets: Mapping[str, Any] | None = None,
    become_password: str | None = None,
    run_id: str | None = None,
) -> PlayResult:
    """Run ``playbook`` on ``hosts`` (its group is provision_targets) with ``variables`` by host name.

    A host's failure is in its result, never raised. Returns within seconds of ``cancel`` being set, when nothing of
    the run is left here or on the hosts.
    """
    run = _Run(hosts, on_event, cancel, run_id or new_run_id())
    with play_files.private_folder() as folder:
        names = play_files.aliases(hosts)
        given = play_files.given(hosts, variables, names, {"provision_run_id": run.id})
        inventory = play_files.write_private(folder / "inventory.json", play_files.inventory(hosts, names))
        own = {**given, **(secrets or {}), **play_files.own_variables()}
        extra = play_files.write_private(folder / "extra.json", own)
        run.go(
            folder,
            control_dir,
            playbook=str(playbook.resolve()),
            inventory=[*inventory_sources, str(inventory)],
            cmdline=shlex.join(["-e", f"@{extra}", *(["--ask-become-pass"] if become_password else [])])
            + (" --check" if check else ""),
            passwords={BECOME_PROMPT: become_password} if become_password else None,
            tags=",".join(tags) or None,
            # a user's inventory may have a group of that name with further hosts: those were not asked about
            limit=",".join(names.values()),
            forks=min(len(hosts), 4 * (os.cpu_count() or 1), MAX_FORKS),
        )
    unreaped = reap(hosts, run.id, control_dir) if cancel.is_set() else ()
    return PlayResult(
        results=run.events.results(cancelled=cancel.is_set()),
        run_id=run.id,
        cancelled=cancel.is_set(),
        unreaped=unreaped,
    )


def new_run_id() -> str:
    return "r" + uuid.uuid4().hex[:12]


class _Run:
    """The callbacks of one run. Whatever they raise would end ansible-runner with its workers left behind: they do
    not."""

    def __init__(
        self, hosts: Sequence[Host], on_event: Callable[[Progress], None], cancel: threading.Event, run_id: str
    ) -> None:
        self.id = run_id
        self.cancel = cancel
        self.pid: int | None = None
        self.asked_at: float | None = None
        names = {alias: name for name, alias in play_files.aliases(hosts).items()}
        by_name = {host.name: host for host in hosts}
        self.events = Events(names, on_event, lambda name, text: _explained(by_name[name], text))

    def go(self, folder: Path, control_dir: str, **arguments: Any) -> None:
        runner = load()(
            private_data_dir=str(folder),
            ident=self.id,
            envvars={**play_files.settings(folder, control_dir, os.environ), MARK: self.id},
            suppress_env_files=True,  # otherwise passwords and variables are written under env/
            fact_cache_type="memory",
            quiet=True,
            event_handler=self._event,
            status_handler=self._status,
            cancel_callback=self._cancelled,
            **arguments,
        )
        # set here, since `settings=` is dropped without a word when suppress_env_files is on
        runner.config.pexpect_timeout = POLL_S
        runner.config.suppress_output_file = True
        for name in play_files.secret_names(runner.config.env):
            runner.config.env.pop(name)
        # by our interpreter and not through PATH, which another installation's ansible-playbook may lead
        runner.config.command[:1] = [sys.executable, str(Path(sys.executable).with_name("ansible-playbook"))]
        runner.run()

    def _event(self, event: Mapping[str, Any]) -> bool:
        self.pid = event.get("pid") or self.pid
        with suppress(Exception):
            self.events.take(event)
        return False  # nothing is kept under job_events/

    def _status(self, status: Mapping[str, Any], runner_config: Any) -> None:
        if status["status"] == "running":
            # "command" has just been written there, with the whole environment
            with suppress(OSError):
                Path(runner_config.artifact_dir, "command").unlink()

    def _cancelled(self) -> bool:
        """Whether ansible-runner is to kill ansible-playbook: only when that did not end by itself.

        Its workers have sessions of their own, and only ansible-playbook knows them. Asked every POLL_S.
        """
        with suppress(Exception):
            self.events.tell_running(after_s=POLL_S)
        if not self.cancel.is_set():
            return False
        if self.pid is None:
            return True
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
        return time.monotonic() - self.asked_at > GRACE_S


def load() -> Callable[..., Any]:
    """ansible_runner's own entry, imported (0.1 s)."""
    from ansible_runner.interface import init_runner

    return init_runner  # type: ignore[no-any-return]


def _explained(host: Host, text: str) -> Failure:
    from provision.run.ssh import explain_ssh_failure

    return explain_ssh_failure(host, text)
