"""The distribution's package manager: what can be had, what is there, and changes of it that can be taken back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ansible.module_utils.provision_apt import Apt
from ansible.module_utils.provision_dnf import Dnf
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_packages_run import LOCK_WAIT_S, Run, run_apart

MANAGERS: dict[str, type[Apt] | type[Dnf]] = {"apt": Apt, "dnf": Dnf}


def manager(
    name: str,
    run: Run = run_apart,
    root_env: Mapping[str, str] | None = None,
    lock_wait_s: float = LOCK_WAIT_S,
    hear: Callable[[str], None] = lambda _: None,
) -> Any:
    """The manager called ``name``, which starts its programs with ``run``; ``root_env`` is added to their environment.

    Both have the same methods. All raise Failure with the manager's own last lines as its why:
    candidates(names, repositories=(), components=()) -> {name: [{"version", "repository"}]}, best first; [] is none.
        "repository": the id of one of ``repositories``, "distribution", or an address (apt) or id (dnf). Nothing on
        the host changes: it is asked in a folder of its own.
    installed(patterns) -> {name: version}, half-installed ones too; origin(name) -> as "repository", "" for unknown
    fetch(packages, folder) -> {name: path} of the installed versions' files; what cannot be had is left out
    install([(name, version or "")], files=(), downgrade=False); remove(names): what is not there is no error
    rehearse([(name, version)], repositories, components, lock, names) -> new, removed, disk_mib; nothing changes
    hold(names), unhold(names), held() -> names (and lock patterns); lock(pattern, names=…), unlock(…): keep a branch
    repair(): after a run that was killed; stream(name): dnf's module stream
    """
    if name not in MANAGERS:
        raise Failure("unknown_system", f"there is no package manager {name!r} here", f"known: {', '.join(MANAGERS)}")
    return MANAGERS[name](run, root_env or {}, lock_wait_s, hear)
