"""After the reboot: the module is loaded and the right one, libraries are of its release, every GPU is seen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils import provision_driver_record as records
from ansible.module_utils.provision_driver_boot import FILE, blocked, kernels, typed
from ansible.module_utils.provision_driver_box import Box, tail
from ansible.module_utils.provision_driver_kernel import KernelModule, built, libraries
from ansible.module_utils.provision_driver_load import Reboot, load, loaded_flavour, loaded_version, obstacles
from ansible.module_utils.provision_driver_undo import CONSOLE, by_hand, forget_previous, take_back
from ansible.module_utils.provision_failure import Failure

SMI_S = 120.0


def confirm(box: Box, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """What works now, or that a reboot is still to come. Raises Failure where it was rebooted and does not work."""
    record = records.read(box)
    module = built(box, params["branch"], params["module"])
    before = loaded_version(box)
    try:
        reboot = obstacles(box, module, "dkms" if _signed_here(module) else "prebuilt", blocked(box))
    except Failure as failure:
        raise _not_working(box, params, record, failure) from failure
    if reboot.needed or (check_mode and before != module.version):
        return _result(box, params, record, module, reboot, "installed", changed=False)
    try:
        load(box, module)
        _check(box, params, module)
    except Failure as failure:
        raise _not_working(box, params, record, failure) from failure
    changed = before != module.version or (bool(record) and record.get("state") != "confirmed")
    if changed and record and not check_mode:
        record = records.write(box, record, state="confirmed", stage="done", version=module.version)
        forget_previous(box)
    return _result(box, params, record, module, Reboot(), "confirmed", changed=changed)


def _signed_here(module: KernelModule) -> bool:
    """Whether it was compiled, and so signed, on the host: the distributions' own keys are known to the firmware."""
    return (
        "dkms" in module.path
        or "extra" in module.path
        or not re.search("Canonical|Debian|Red Hat|Fedora", module.signer)
    )


def _not_working(box: Box, params: Mapping[str, Any], record: Mapping[str, Any], failure: Failure) -> Failure:
    since = "the host was rebooted since" if record.get("boot_id") not in (None, box.boot_id()) else ""
    hint = failure.hint
    if record:
        typed = "\n".join(by_hand(box, str(record.get("manager") or "apt"), record, params["initramfs"]))
        hint = f"{hint}\nto go back instead, {CONSOLE}\n{typed}"
    return Failure(failure.kind, failure.what, f"{failure.why}\n{since}".strip(), hint)


def _check(box: Box, params: Mapping[str, Any], module: KernelModule) -> None:
    """The loaded module is the one on disk, the libraries are its own, every GPU is there. Raises Failure."""
    found = libraries(box)
    loaded = loaded_version(box)
    if loaded and loaded != module.version:
        why = f"loaded is {loaded}, on disk is {module.version}"
        raise Failure(
            "mismatch", "the kernel runs another release of the NVIDIA driver than is installed", why, "reboot"
        )
    if found and found != [module.version]:
        raise Failure(
            "mismatch", "the NVIDIA driver's module and libraries are of different releases",
            f"the module is {module.version}, the libraries are {', '.join(found)}",
            "something has upgraded one half: run `provision up` again, or see `provision doctor`",
        )  # fmt: skip
    flavour = loaded_flavour(box)
    if flavour and flavour != params["module"]:
        why = f"wanted {params['module']}, loaded {flavour}"
        raise Failure("flavour", "the kernel runs the other kind of nvidia module", why, "run `provision up` again")
    said = box.run(["nvidia-smi", "-L"], timeout_s=SMI_S)
    if said.status:
        why = f"nvidia-smi ended with status {said.status}: {tail(said.words, 5)}"
        raise Failure("no_answer", "the NVIDIA driver is loaded and does not answer", why, "see `provision doctor`")
    _count(box, params, said.stdout)


def _count(box: Box, params: Mapping[str, Any], said: str) -> None:
    bus = box.gpus()
    wanted = params["gpus"] or len(bus)
    seen = len(re.findall(r"^GPU \d+:", said, re.MULTILINE))
    if seen >= wanted:
        return
    others = [f"{address} is with {driver or 'no driver'}" for address, driver in bus.items() if driver != "nvidia"]
    log = [line for line in box.run(["dmesg"], timeout_s=60).stdout.splitlines() if "NVRM" in line]
    why = "\n".join([f"{seen} of {wanted} answer", *others, *log[-5:]])
    raise Failure("gpu_missing", "the NVIDIA driver does not see every GPU", why, "see `provision doctor`")


def persistence(box: Box) -> bool | None:
    """Whether every GPU stays initialised while nobody uses it; None where nvidia-smi does not say."""
    said = box.run(["nvidia-smi", "--query-gpu=persistence_mode", "--format=csv,noheader"], timeout_s=SMI_S)
    modes = {line.strip() for line in said.stdout.splitlines() if line.strip() in ("Enabled", "Disabled")}
    return None if said.status or not modes else modes == {"Enabled"}


def _result(
    box: Box, params: Mapping[str, Any], record: Mapping[str, Any], module: KernelModule, reboot: Reboot, state: str,
    *, changed: bool,
) -> dict[str, Any]:  # fmt: skip
    held = [str(name) for name in record.get("held") or []]
    packages = records.versions(record.get("packages"))
    initramfs = typed(box, params["initramfs"], kernels(box, record))
    return {
        "changed": changed, "state": state, "version": module.version, "branch": params["branch"],
        "module": module.flavour, "packages": records.rows(packages),
        "reboot": {"needed": reboot.needed, "why": list(reboot.why)}, "console": list(reboot.console), "held": held,
        "persistence": persistence(box) if state == "confirmed" else None,
        "undo": take_back(record, list(packages), box.at(FILE).exists(), initramfs) if packages else [],
    }  # fmt: skip
