"""Reboots, only ever because the user asked for them with --reboot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provision import assets
from provision.model.host import Host
from provision.model.report import Progress
from provision.run.play_events import HostResult


def reboot(
    hosts: Sequence[Host],
    *,
    inventories: Sequence[Path] = (),
    become_password: str | None = None,
    on_event: Callable[[Progress], None],
    cancel: threading.Event,
    control_dir: str,
) -> Mapping[str, HostResult]:
    """Reboot the hosts and wait until they are back; by host name what came of it."""
    from provision.run.ansible import play

    return play(
        assets.folder("playbooks") / "reboot.yml",
        hosts,
        {host.name: {} for host in hosts},
        inventory_sources=tuple(str(path.resolve()) for path in inventories),
        on_event=on_event,
        cancel=cancel,
        control_dir=control_dir,
        become_password=become_password,
    ).results
