"""The driver, stage after stage: packages, a module really built, nouveau kept out, holds, a record; then loaded.

Each stage looks at what is there before it does anything, so that a run that was cut off anywhere is gone on with, and
a second run changes nothing. A stage that fails is undone, back to the driver that was there before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils import provision_driver_record as records
from ansible.module_utils.provision_driver_boot import FILE, block, blocked, kernels, rebuild, typed
from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_driver_kernel import (
    KernelModule,
    build_again,
    build_failure,
    built,
    newest_log,
    on_disk,
)
from ansible.module_utils.provision_driver_load import LOADED_VERSION, Reboot, load, obstacles, secure_boot_work
from ansible.module_utils.provision_driver_packages import (
    EPEL,
    FAMILY,
    Wanted,
    exact,
    family,
    fits,
    kernel_names,
    pin,
)
from ansible.module_utils.provision_driver_record import DriverFailure
from ansible.module_utils.provision_driver_undo import held_before, keep_previous, kept, take_back, told, undone
from ansible.module_utils.provision_failure import Failure, Interrupted, os_failure

DURING = ("before", "boot_id", "built_for", "later", "released", "holding", "blocked", "rebuilt")
"""Fields of the record that matter while a change is under way."""
AGAIN = "run the same command again: it goes on from there; do not reboot before that"


class Installation:
    """One run of the stages on a box. ``params``: manager, action, initramfs, block_nouveau, and want (a Wanted)."""

    def __init__(self, box: Box, manager: Any, params: Mapping[str, Any]) -> None:
        self.box, self.manager = box, manager
        self.name = str(params["manager"])
        self.want: Wanted = params["want"]
        self.upgrade = params["action"] == "upgrade"
        self.initramfs: Sequence[str] = params["initramfs"]
        self.block_nouveau = bool(params["block_nouveau"])
        self.before = records.read(box)
        self.resumed = self.before.get("state") == "changing"
        self.record: dict[str, Any] = dict(self.before) if self.resumed else {}
        """Of the change under way; {} as long as nothing is changed."""
        self.changed = False
        self.kernels = kernels(box, {}, self.want.next_kernel)
        """The running one, and the one that boots next: after the reboot, either has the driver."""

    # --- all of it ---------------------------------------------------------------------------------------------------

    def present(self) -> dict[str, Any]:
        """What is installed now, and whether a reboot is asked for. Raises Failure."""
        if self.resumed:
            self._repair()
        stage = "packages"
        try:
            self._packages()
            stage = "module"
            module = self._module()
            stage = "boot"
            self._boot()
        except Interrupted as stop:
            raise self._interrupted(stage, stop) from stop
        except (Failure, OSError) as error:
            raise self._undone(error) from error
        try:
            held = self._hold()
            state = self._done(module, held)
        except (Failure, OSError) as error:
            raise self._unfinished(error, module) from error
        except Interrupted as stop:
            raise self._interrupted("holds", stop) from stop
        return self._result(module, self._load(module), held, state)

    def _result(self, module: KernelModule, reboot: Reboot, held: Sequence[str], state: str) -> dict[str, Any]:
        installed = family(self.manager.installed(FAMILY))
        record = records.read(self.box)
        initramfs = typed(self.box, self.initramfs, kernels(self.box, record, *self.kernels))
        return {
            "changed": self.changed, "state": "installed" if reboot.needed else state, "version": module.version,
            "branch": self.want.branch, "module": module.flavour, "packages": records.rows(installed),
            "reboot": {"needed": reboot.needed, "why": list(reboot.why)}, "console": list(reboot.console),
            "held": list(held),
            "undo": take_back(record, list(installed), self.box.at(FILE).exists(), initramfs),
        }  # fmt: skip

    # --- packages ----------------------------------------------------------------------------------------------------

    def _repair(self) -> None:
        """After a run that was cut off. What cannot be repaired is met again, and told, by the stage itself."""
        self.box.say("mending what a run that was cut off has left")
        try:
            self.manager.repair()
        except Failure:
            self.box.say("the package manager could not mend it by itself")

    def _packages(self) -> None:
        installed = self.manager.installed([*FAMILY, *self.want.names, *self.want.headers])
        cut_off = self.resumed and self.record.get("stage") == "packages"
        if not cut_off and not self._missing(installed) and not self.upgrade:
            return
        self.box.pause()
        headers = sorted((name for name in self.want.headers if name not in installed), key=lambda name: name != EPEL)
        candidates = self.manager.candidates([*self.want.names, *headers], repositories=self.want.repositories)
        versions = exact(self.want._replace(headers=tuple(headers)), candidates)
        if not cut_off and not headers and all(installed.get(name) == one for name, one in versions.items()):
            return
        now = family({name: version for name, version in installed.items() if name not in self.want.headers})
        lock = pin(self.want, versions, candidates) if self.name == "apt" else self.want.lock
        self._begin(versions, now, lock)
        if not (self.resumed and kept(self.box)):
            keep_previous(self.box, self.manager, records.versions(self.record["previous"]))
        self.box.pause()
        self._release()
        later = [name for name in headers if self.want.next_kernel and self.want.next_kernel in name]
        self._install_headers([name for name in headers if name not in later])
        self._install(versions)
        # headers have DKMS build whatever driver is there: the one before may not know this kernel
        self._at("packages", later=sorted({*later, *(self.record.get("later") or [])}))
        self._logged(lambda: self._install_headers(later))
        if lock != self.want.lock:
            self._widen(lock)

    def _missing(self, installed: Mapping[str, str]) -> bool:
        """Whether a package is not there, or of another branch."""
        if any(name not in installed for name in (*self.want.names, *self.want.headers)):
            return True
        return not all(fits(package, installed[package["name"]]) for package in self.want.packages)

    def _begin(self, versions: Mapping[str, str], now: Mapping[str, str], lock: str) -> None:
        """From here on a run that is cut off is gone on with, and a failure is undone."""
        previous = records.versions(self.record.get("previous")) if self.resumed else dict(now)
        before = self.record.get("before", {}) if self.resumed else self.before
        built_for = [one for one in self.kernels if on_disk(self.box, kernel=one)]
        there = self.record.get("built_for", built_for) if self.resumed else built_for
        fields = {
            "state": "changing", "stage": "packages", "manager": self.name, "branch": self.want.branch,
            "version": self.want.version or None, "module": self.want.module, "packages": records.rows(versions),
            "previous": records.rows(previous), "held": before.get("held") or [], "files": before.get("files") or [],
            "lock": lock, "stream": self.want.stream, "before": before, "built_for": there,
            "kernels": kernels(self.box, before, *self.kernels),
        }  # fmt: skip
        self.record = records.write(self.box, {**self.record, **fields})

    def _release(self) -> None:
        """Holds would make the manager refuse; the branch is chosen before it looks for dependencies."""
        ours = {*self.want.names, *records.versions(self.record.get("previous"))}
        held = [name for name in self.manager.held() if name in ours]
        if held:
            self._at("packages", released=sorted({*held, *(self.record.get("released") or [])}))
            self.manager.unhold(held)
        if self.want.stream:
            self.manager.stream(self.want.stream)
        if self.record["lock"]:
            self.manager.lock(self.record["lock"])

    def _widen(self, lock: str) -> None:
        """The release is there, and held from here on: the pin is the plan's, so that an upgrade finds newer ones."""
        if self.want.lock:
            self.manager.lock(self.want.lock)
        else:
            self.manager.unlock(lock)
        self._at("packages", lock=self.want.lock)

    def _install_headers(self, names: Sequence[str]) -> None:
        """What the module is compiled with; EPEL first, because dkms is in it."""
        for group in (names[:1], names[1:]) if EPEL in names[:1] else (names,):
            if group:
                candidates = self.manager.candidates(list(group), repositories=self.want.repositories)
                self.box.say(f"installing {', '.join(group)}")
                self.changed = True
                rows = [(name, candidates[name][0]["version"]) for name in group if candidates.get(name)]
                self.manager.install(rows)
                self.box.pause()

    def _install(self, versions: Mapping[str, str]) -> None:
        self.box.say(f"installing driver {self.want.branch}: {', '.join(sorted(versions))}")
        self.changed = True
        self._logged(lambda: self.manager.install(sorted(versions.items())))
        self.box.pause()

    def _logged(self, install: Callable[[], None]) -> None:
        """Where the module's build was what failed in packages' scripts, its own log says why. Raises Failure."""
        begun = time.time()
        try:
            install()
        except Failure as failure:
            log = newest_log(self.box, self.want.branch)
            if log is None or log.stat().st_mtime < begun - 1:
                raise
            text = log.read_text(encoding="utf-8", errors="replace")
            kernel = next((one for one in self.kernels if one in text.partition("\n")[0]), self.box.kernel)
            what = f"the kernel module of driver {self.want.branch} does not compile for {kernel}"
            raise build_failure(what, text, str(log)) from failure

    # --- the kernel module -------------------------------------------------------------------------------------------

    def _module(self) -> KernelModule:
        """Built for the running kernel and the one that boots next, of the flavour asked for and the libraries'
        release; the running one's. Raises Failure."""
        self._at("module")
        running, *_ = [self._built(kernel) for kernel in self.kernels]
        return running

    def _built(self, kernel: str) -> KernelModule:
        try:
            return built(self.box, self.want.branch, self.want.module, kernel)
        except Failure:
            if self.want.build != "dkms":
                raise
        build_again(self.box, kernel)
        module = built(self.box, self.want.branch, self.want.module, kernel)
        self.changed = True
        self.box.pause()
        return module

    # --- the next boot -----------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        """nouveau is kept out, in the initramfs too. Only now that there is a module to take its place."""
        self.box.pause()
        theirs = blocked(self.box)
        # blocked, and there all the same after a boot: the initramfs does not know it yet
        rebooted = self.before.get("boot_id") not in (None, self.box.boot_id())
        due = self.record or not theirs or (rebooted and self._stale())
        if not self.block_nouveau or not due:
            return
        if not self.record:
            installed = family(self.manager.installed(FAMILY))
            self._begin(installed, installed, self.want.lock)
        self._at("boot", blocked=bool(self.record.get("blocked")) or not theirs)
        self.changed = True
        block(self.box)
        self._at("boot", files=[FILE] if self.box.at(FILE).exists() else [])
        rebuild(self.box, self.initramfs, self.kernels)
        self._at("boot", rebuilt=True)

    def _stale(self) -> bool:
        """Whether the last boot loaded what is no longer meant to be."""
        loaded = self.box.read(LOADED_VERSION)
        return self.box.nouveau_loaded() or (bool(loaded) and not loaded.startswith(f"{self.want.branch}."))

    # --- holds, and the record ---------------------------------------------------------------------------------------

    def _hold(self) -> list[str]:
        """The driver's packages and the kernel's stay as they are, until the undo is typed; their names."""
        self.box.pause()
        concerned = kernels(self.box, self.record or self.before, *self.kernels)
        theirs = self.manager.installed([name for kernel in concerned for name in kernel_names(kernel)])
        names = sorted({*family(self.manager.installed(FAMILY)), *theirs})
        held = set(self.manager.held())
        missing = [name for name in names if name not in held]
        self._at("holds", holding=missing)
        if missing:
            self.box.say("holding the driver's and the kernel's packages")
            self.manager.hold(missing)
            self.changed = True
        return names

    def _done(self, module: KernelModule, held: Sequence[str]) -> str:
        """The record says that the driver is on disk and right; its state."""
        same = self.before.get("version") == module.version and not self.record
        if same and self.before.get("state") in ("installed", "confirmed") and self.before.get("held") == held:
            return str(self.before["state"])
        state = "confirmed" if same and self.before.get("state") == "confirmed" else "installed"
        base = {key: value for key, value in {**self.before, **self.record}.items() if key not in DURING}
        fields = {
            "previous": [], "files": [], **base, **self._to_put_back(), "state": state, "stage": "done",
            "manager": self.name, "branch": self.want.branch, "version": module.version, "module": module.flavour,
            "held": list(held), "packages": records.rows(family(self.manager.installed(FAMILY))),
        }  # fmt: skip
        records.write(self.box, fields)
        return state

    def _to_put_back(self) -> dict[str, Any]:
        """For the undo, what holds and pins there were."""
        if not self.record:
            return {}
        return {"held_before": held_before(self.record), "lock_before": self.record["before"].get("lock", "")}

    # --- loading -----------------------------------------------------------------------------------------------------

    def _load(self, module: KernelModule) -> Reboot:
        """The module is in the kernel, or a reboot is asked for. Raises Failure with modprobe's words."""
        try:
            reboot = obstacles(self.box, module, self.want.build, blocked(self.box))
        except Failure as failure:
            raise self._not_loaded(failure) from failure
        if reboot.needed:
            return reboot
        loaded = self.box.read(LOADED_VERSION)
        try:
            load(self.box, module)
        except Failure as failure:
            if failure.kind == "secure_boot":
                return secure_boot_work(self.box, module, "dkms")
            raise self._not_loaded(failure) from failure
        self.changed = self.changed or loaded != module.version
        return Reboot()

    def _not_loaded(self, failure: Failure) -> Failure:
        """What this run changed is taken back; after an earlier one it is said what to type."""
        if self.record:
            return undone(self.box, self.manager, self.record, failure, self.initramfs)
        return told(self.box, self.manager, self.before, failure, self.initramfs)

    # --- ends that are not the last one ------------------------------------------------------------------------------

    def _at(self, stage: str, **changes: Any) -> None:
        """Where the change is, where there is one."""
        if self.record:
            self.record = records.write(self.box, {**self.record, "stage": stage, **changes})

    def _undone(self, error: Failure | OSError) -> Failure:
        failure = os_failure(error, "install the NVIDIA driver") if isinstance(error, OSError) else error
        if "No space left on device" in f"{failure.what}\n{failure.why}" and failure.kind != "disk_full":
            hint = "free some space there, and run the same command again"
            failure = Failure("disk_full", failure.what, failure.why, hint)
        if not self.record:
            why = f"{failure.why}\nnothing was changed".lstrip("\n")
            return DriverFailure(failure.kind, failure.what, why, failure.hint)
        return undone(self.box, self.manager, self.record, failure, self.initramfs)

    def _interrupted(self, stage: str, stop: Interrupted) -> Failure:
        """Asked to end: what had begun was finished, and its state is kept."""
        if not self.record:
            what, hint = "stopped before anything of the NVIDIA driver was changed", "run the same command again"
            return Failure("interrupted", what, str(stop), hint)
        why = f"{stop} in stage {stage!r}; the package operation that had begun was finished, and its state is kept"
        failure = Failure("interrupted", "stopped while installing the NVIDIA driver", why, AGAIN)
        return told(self.box, self.manager, self.record, failure, self.initramfs)

    def _unfinished(self, error: Failure | OSError, module: KernelModule) -> Failure:
        """The driver is on disk and right, and what follows it is not done: nothing is taken back for that."""
        failure = os_failure(error, "write the driver's record down") if isinstance(error, OSError) else error
        why = f"{failure.why}\ndriver {module.version} itself is installed; it is not held or written down yet"
        failure = Failure(failure.kind, failure.what, why.lstrip("\n"), failure.hint)
        return told(self.box, self.manager, self.record or self.before, failure, self.initramfs)
