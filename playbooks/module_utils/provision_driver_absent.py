"""The driver goes: holds, packages, pins, our settings, the record. What others wrote stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils import provision_driver_record as records
from ansible.module_utils.provision_driver_boot import FILE, kernels, rebuild, unblock
from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_driver_load import loaded_version
from ansible.module_utils.provision_driver_packages import FAMILY, family
from ansible.module_utils.provision_driver_undo import forget_previous


def to_remove(box: Box, manager: Any) -> tuple[dict[str, str], bool]:
    """The driver's installed packages, and whether anything else of ours is there."""
    installed = family(manager.installed(FAMILY))
    return installed, bool(records.read(box)) or box.at(FILE).exists()


def absent(box: Box, manager: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """No driver is installed. Each part looks before it acts: a run that was cut off is just run again."""
    record = records.read(box)
    installed, more = to_remove(box, manager)
    if not installed and not more:
        return _result(box, {}, changed=False)
    if record.get("state") == "changing":
        manager.repair()
    held = [name for name in manager.held() if name in installed or name in (record.get("held") or [])]
    if held:
        manager.unhold(held)
    box.pause()
    if installed:
        box.say(f"removing {', '.join(sorted(installed))}")
        manager.remove(sorted(installed))
    if record.get("lock"):
        manager.unlock(record["lock"])
    box.pause()
    if unblock(box) or installed:
        rebuild(box, params["initramfs"], kernels(box, record))
    forget_previous(box)
    records.remove(box)
    return _result(box, installed, changed=True)


def _result(box: Box, removed: Mapping[str, str], *, changed: bool) -> dict[str, Any]:
    loaded = loaded_version(box)
    why = [f"nvidia {loaded} is still in the running kernel"] if loaded else []
    return {
        "changed": changed, "state": "removed", "version": None, "branch": "", "module": "",
        "packages": records.rows(removed), "reboot": {"needed": bool(why), "why": why}, "console": [], "held": [],
        "undo": [],
    }  # fmt: skip
