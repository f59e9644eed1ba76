"""Check mode: what installing or removing the driver would do, without a change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils import provision_driver_record as records
from ansible.module_utils.provision_driver_absent import to_remove
from ansible.module_utils.provision_driver_boot import blocked
from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_driver_kernel import on_disk
from ansible.module_utils.provision_driver_packages import FAMILY, Wanted, exact, family
from ansible.module_utils.provision_packages import manager


def foreseen(params: Mapping[str, Any]) -> dict[str, Any]:
    """As the change's own result. A reboot is foreseen where nouveau or another release is loaded."""
    box = Box(params["machine_root"])
    packages = manager(params["manager"], box.run)
    if params["state"] == "absent":
        installed, more = to_remove(box, packages)
        return _result(bool(installed) or more, "removed", "", {}, installed)
    want = Wanted(**params["chosen"])
    installed = packages.installed([*FAMILY, *want.names, *want.headers])
    missing = tuple(name for name in want.headers if name not in installed)
    candidates = packages.candidates(
        [*want.names, *missing], repositories=want.repositories, components=want.components
    )
    versions = exact(want._replace(headers=missing), candidates)
    same = all(installed.get(name) == version for name, version in versions.items())
    kept = params["action"] == "install" and all(name in installed for name in versions)
    ready = all(
        any(one.kernel == kernel and one.flavour == want.module for one in on_disk(box, want.branch, kernel))
        for kernel in (box.kernel, *filter(None, [want.next_kernel]))
    )
    unfinished = records.read(box).get("state") not in ("installed", "confirmed")
    changed = bool(missing) or not (same or kept) or not ready or unfinished
    changed = changed or (bool(params["block_nouveau"]) and not blocked(box))
    return _result(changed, "installed", want.branch, want._asdict(), versions if changed else family(installed))


def _result(changed: bool, state: str, branch: str, want: Mapping[str, Any], rows: Mapping[str, str]) -> dict[str, Any]:
    return {
        "changed": changed, "state": state, "version": want.get("version") or None, "branch": branch,
        "module": want.get("module", ""), "packages": records.rows(rows), "reboot": {"needed": False, "why": []},
        "console": [], "held": [], "undo": [],
    }  # fmt: skip
