"""State present of a build: its wheel is there, found or built now. provision/model/build.py says what a build is."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils import (
    provision_bazel,
    provision_build_preflight,
    provision_build_setuptools,
    provision_build_source,
    provision_build_supervisor,
    provision_build_toolchain,
    provision_build_uv,
    provision_build_venv,
    provision_build_wheel,
)
from ansible.module_utils import provision_uv as uv
from ansible.module_utils.provision_build_context import Configured, Context, EngineResult, user_environment
from ansible.module_utils.provision_build_old import clear_old, earlier, record_of
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import remove_tree, sha256_of, sync_folder, write_atomically
from ansible.module_utils.provision_install import now_text, owner
from ansible.module_utils.provision_layout import Layout, cache_home, home
from ansible.module_utils.provision_progress import Progress

SCHEMA = 1

Engine = Callable[[Context], EngineResult]
Configure = Callable[[Context], Configured]
# engine: (what builds, what configures the tree; None where there is nothing to configure)
ENGINES: dict[str, tuple[Engine, Configure | None]] = {
    "bazel": (provision_bazel.build, provision_bazel.configure),
    "setuptools": (provision_build_setuptools.build, None),
    "uv": (provision_build_uv.build, None),
}


def present(layout: Layout, params: Mapping[str, Any], progress: Progress, check_mode: bool) -> dict[str, Any]:
    """The wheel of params["build"] is there. With settings.until, only what is asked for is done."""
    build, until = params["build"], params["settings"].get("until") or ""
    maker = Maker(layout, params)
    record = record_of(maker.folder)
    if record is not None and until in ("", "build"):
        return {"changed": False, "builds": [{**record, "built": False}]}
    if check_mode:
        return {"changed": until in ("", "build"), "builds": []}
    if until in ("preflight", "configure"):
        with provision_build_supervisor.waited_for(
            maker.lock, f"the build of {maker.name}", progress.say, params["lock_timeout_s"]
        ):
            return maker.until(until, progress.say)
    record = _supervised(maker, params, progress)
    return {"changed": True, "builds": [record], "removed": clear_old(layout, maker.build_folder, build, maker.key)}


def _supervised(maker: Maker, params: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Begin the build, or go along with the one that runs, and return its record."""
    supervisor = provision_build_supervisor
    deadline = time.monotonic() + params["lock_timeout_s"]
    while True:
        lock = supervisor.try_lock(maker.lock)
        if lock is not None:
            try:
                record = record_of(maker.folder)  # it may have been finished while we looked
                if record is not None:
                    return {**record, "built": False}
                begin = _begin(maker, params, lock)
                return supervisor.follow(maker.folder, maker.name, progress, begin)
            finally:
                os.close(lock)
        state = supervisor.read_state(maker.folder)
        if supervisor.living(state):
            progress.say(f"going along with the build that runs since {state.get('since')}")
            return supervisor.follow(maker.folder, maker.name, progress)
        if time.monotonic() > deadline:
            why = f"waited {params['lock_timeout_s']:g} s for {maker.lock}"
            hint = "wait until it has ended, or stop it, and run the same command again"
            raise Failure("locked", f"another provision run works on the build of {maker.name}", why, hint)
        time.sleep(supervisor.POLL_S)


def _begin(maker: Maker, params: Mapping[str, Any], lock: int) -> Callable[[], None]:
    def begin() -> None:
        maker.make_folders()
        left = provision_build_supervisor.kill_marked(maker.folder)
        if left:
            maker.notes.append(f"{left} processes of an earlier build that was killed were still there, and were ended")
        about = {key: value for key, value in owner(params).items() if key != "pid"}
        about.update(key=maker.key, tree=maker.tree.name, venv=maker.venv.name)
        provision_build_supervisor.start(maker.folder, lock, about, maker.work, maker.finish)

    return begin


class Maker:
    """Makes one build. Nothing is written before ``work`` or ``until``; build.json comes last."""

    def __init__(self, layout: Layout, params: Mapping[str, Any]) -> None:
        self.layout, self.params = layout, params
        self.build: Mapping[str, Any] = params["build"]
        self.settings: Mapping[str, Any] = params["settings"]
        self.name = f"{self.build['framework']} {self.build['version']}"
        self.notes: list[str] = []
        self.afterwards: list[Callable[[], None]] = []
        who = provision_build_toolchain.identity(self.build["compiler"])
        self.key = provision_build_toolchain.key(self.build, who, params["archive_sha256"] or "")
        self.silo = provision_build_toolchain.silo(who, [copt["option"] for copt in self.build["copts"]])
        self.folder = layout.builds / self.key
        self.lock = layout.builds / f"{self.key}.lock"
        named = self.settings.get("build_folder") or ""
        self.build_folder = (
            Path(os.path.expanduser(named))  # noqa: PTH111  Path's raises where there is no home
            if named
            else cache_home(os.environ, home()) / "provision" / "build"
        )
        if not self.build_folder.is_absolute():
            raise Failure("bad_input", f"the build folder {named!r} is not an absolute path")
        self.scratch = self.build_folder / "work" / self.key
        self.venv = provision_build_venv.place(self.build_folder, self.build)
        self.tree = self._tree()

    def _tree(self) -> Path:
        """Bazel builds of other flags share a tree: it keeps its output apart from it. Others build inside of it."""
        sha256 = self.params["archive_sha256"] or ""
        if self.build["engine"] == "bazel":
            return self.build_folder / "trees" / sha256[:16]
        return self.build_folder / "trees" / (f"{sha256[:16]}-{self.key}" if sha256 else self.key)

    def until(self, until: str, say: Callable[..., None]) -> dict[str, Any]:
        """Go as far as "preflight" or "configure", and tell what came of it."""
        self.make_folders()
        context = self._context(say)
        answer: dict[str, Any] = {"changed": False, "builds": [], "jobs": context.jobs, "silo": self.silo}
        configure = ENGINES[self.build["engine"]][1]
        if until == "configure" and configure is not None:
            with self._alone_in_tree(say):
                self._unpack(say)
                say("configuring")
                done = configure(context)
            answer["configured"] = {
                "framework": self.build["framework"],
                "file": str(self.tree / done.file),
                "text": done.text,
                "notes": context.notes,
            }
        return answer

    def work(self, say: Callable[..., None]) -> dict[str, Any]:
        """Build, in the supervisor. Returns the record, which build.json holds as well."""
        begun = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "build.json").unlink()
        context = self._context(say)
        self.afterwards = context.afterwards
        with self._alone_in_tree(say):
            self._unpack(say)
            remove_tree(context.wheels)
            context.wheels.mkdir(parents=True)
            say(f"building {self.name}")
            result = ENGINES[self.build["engine"]][0](context)
            say("looking at the wheel")
            wheel = provision_build_wheel.the_wheel(result.folder, self.build)
            said = provision_build_wheel.checked(wheel, self.build)
            place = self._put(wheel)
        record = self._record(context, result, place, said, time.monotonic() - begun)
        write_atomically(self.folder / "build.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return record

    def finish(self) -> None:
        """What engines left for when the result is there."""
        for each in self.afterwards:
            each()

    def _alone_in_tree(self, say: Callable[..., None]) -> Any:
        lock = self.tree.with_name(f".{self.tree.name}.lock")
        return provision_build_supervisor.waited_for(lock, "the source tree, which another build uses", say)

    def make_folders(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.scratch.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise Failure(
                "preflight", f"nothing can be written in the build folder {self.build_folder}",
                f"{error.filename}: {error.strerror}",
                "name a folder that this user may write to with --build-folder (provision_build_folder)",
            ) from error  # fmt: skip

    def _context(self, say: Callable[..., None]) -> Context:
        """Everything that an engine needs, after the preflight."""
        program = self.layout.uv(self.params["uv_version"])
        uv_environment = uv.variables(os.environ, self.params["uv_environment"], uv.user_cache(os.environ, home()))
        uv_environment[provision_build_supervisor.MARK] = str(self.folder)
        lock = self.venv.with_name(f".{self.venv.name}.lock")
        with provision_build_supervisor.waited_for(lock, "the build environment, which another build makes", say):
            provision_build_venv.made(self.venv, self.build, program, uv_environment, say)
        python = self.venv / "bin" / "python"
        values = {
            "python": str(python),
            "site": str(provision_build_venv.site_packages(self.venv, self.build["python"])),
            "tree": str(self.tree),
            "wheels": str(self.scratch / "wheels"),
        }
        context = Context(
            build=self.build, settings=self.settings, key=self.key, silo=self.silo, folder=self.folder,
            build_folder=self.build_folder, scratch=self.scratch, tree=self.tree, wheels=self.scratch / "wheels",
            python=python, site=Path(values["site"]), jobs=1, environment={}, uv=program,
            uv_environment=uv_environment, report=say, earlier=earlier(self.layout, self.build), notes=self.notes,
            values=values,
        )  # fmt: skip
        context.environment.update(self._environment())
        say("preflight")
        found = provision_build_preflight.preflight(
            self.build, self.settings, self.build_folder, python, context.environment["PATH"],
            provision_build_preflight.temporary_folder(),
        )  # fmt: skip
        self.notes += found.notes
        context.jobs, values["jobs"] = found.jobs, str(found.jobs)
        return context

    def _environment(self) -> dict[str, str]:
        """Context.environment; {jobs} and {bazel} in it are filled when a command is run."""
        found = user_environment()
        found["PATH"] = f"{self.venv / 'bin'}:{found['PATH']}"
        found[provision_build_supervisor.MARK] = str(self.folder)
        compiler = self.build["compiler"]
        if compiler is not None:
            found["CC"], found["CXX"] = compiler["path"], provision_build_toolchain.companion(compiler["path"])
        found.update(self.build["environment"])
        return found

    def _unpack(self, say: Callable[..., None]) -> None:
        if not self.params["archive"]:  # the engine fetches it
            return
        say("unpacking the source")
        archive = self.layout.inside(self.params["archive"])
        provision_build_source.unpacked(archive, self.params["archive_sha256"], self.tree)

    def _put(self, wheel: Path) -> Path:
        """Move the wheel to its place, where it alone is."""
        folder = self.folder / "wheels"
        remove_tree(folder)
        folder.mkdir()
        place = folder / wheel.name
        temporary = self.folder / f".{wheel.name}"
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        _copy(wheel, temporary)
        temporary.rename(place)
        sync_folder(folder)
        return place

    def _record(
        self, context: Context, result: EngineResult, place: Path, said: Mapping[str, Any], seconds: float
    ) -> dict[str, Any]:
        compiler = self.build["compiler"]
        return {
            "schema": SCHEMA,
            "key": self.key,
            "framework": self.build["framework"],
            "version": self.build["version"],
            "wheel": str(place),
            "folder": str(place.parent.relative_to(self.layout.root)),
            "file": place.name,
            "sha256": sha256_of(place),
            **said,
            "built": True,
            "seconds": round(seconds, 1),
            "actions": result.actions,
            "cache_hits": result.cache_hits,
            "compile_actions": result.compile_actions,
            "jobs": context.jobs,
            "remote_cache": result.remote_cache,
            "tool": result.tool,
            "compiler": provision_build_toolchain.called(compiler) if compiler else "",
            "silo": self.silo,
            "log": str(context.log),
            "notes": context.notes,
            "tree": self.tree.name,
            "venv": self.venv.name,
            "made": now_text(),
            "run_id": self.params["run_id"],
        }


def _copy(source: Path, place: Path) -> None:
    """Bazel's outputs are read-only, and stay where they are for its next build."""
    with source.open("rb") as one, place.open("wb") as other:
        while True:
            block = one.read(1 << 20)
            if not block:
                break
            other.write(block)
        other.flush()
        os.fsync(other.fileno())
