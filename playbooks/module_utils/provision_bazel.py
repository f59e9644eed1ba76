"""Engine "bazel": a tree is configured, built by the Bazel that it names, and its wheel is taken out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.module_utils import provision_bazel_caches as caches
from ansible.module_utils import provision_bazel_events as bep
from ansible.module_utils import provision_bazel_failures as failures
from ansible.module_utils import provision_bazel_find as finding
from ansible.module_utils import provision_bazel_options as options
from ansible.module_utils import provision_bazel_profile as profile
from ansible.module_utils import provision_build_configure, provision_build_toolchain
from ansible.module_utils.provision_bazel_progress import Watch
from ansible.module_utils.provision_bazel_wheel import take_wheel
from ansible.module_utils.provision_build_context import Configured, Context, EngineResult, Estimate
from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_process import run

SHUTDOWN_S = 60.0
SERVER_GENTLY_S = 0.4
LOOK_S = 1.0
KEPT_LINES = 400
# What every box has in the same order. PATH is in the key of each compile action (seen with 4.2.3): the user's own
# would keep two boxes from sharing anything.
SEARCH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def configure(context: Context) -> Configured:
    """Only that: no Bazel that builds is needed."""
    found = finding.find(context, stand_in=True)
    return provision_build_configure.configure(context, finding.shim_folder(context), found.environment)


def build(context: Context) -> EngineResult:
    """Build the target and put its wheel where the flow looks for it.

    Raises Failure (kinds "bazel", "configure", "cache", "wheel"), BuildFailure, and Interrupted after the server is
    stopped.
    """
    without_blanks(context)
    found = finding.find(context)
    cache, state = usable_cache(context)
    if context.build.get("configure"):
        provision_build_configure.configure(context, finding.shim_folder(context), found.environment)
    hidden = caches.secrets(cache)
    session = Session(context, found)
    try:
        with caches.credentials(context.scratch / "cache.bazelrc", cache) as rc:
            session.rc = rc
            try:
                session.renew()
                done = _built(session, cache, state)
            except Interrupted:
                session.kill_server()
                raise
            except BaseException:
                session.shut_down()
                raise
            # it takes two seconds to end, and goes on writing its log: the wheel is packed meanwhile
            pid = session.ask_to_end()
            context.afterwards.append(lambda: session.see_end(pid, hidden))
    finally:
        caches.scrub(session.files(), hidden)
        session.keep_events()
    return EngineResult(
        folder=take_wheel(context, session.environment(), done.events.outputs),
        actions=done.actions,
        cache_hits=done.cache_hits,
        compile_actions=done.compiles,
        remote_cache=done.remote_cache,
        tool=found.tool,
    )


def without_blanks(context: Context) -> None:
    """Bazel stops at once in a workspace whose path has a blank in it, and many rules break on one elsewhere."""
    for folder in (context.tree, context.build_folder):
        if any(one.isspace() for one in os.path.realpath(folder)):
            raise Failure(
                "bazel", f"Bazel cannot build below {folder}", "it does not work in folders with blanks in their names",
                "name another folder with --build-folder (provision_build_folder)",
            )  # fmt: skip


def usable_cache(context: Context) -> tuple[caches.Remote | None, str]:
    """The remote cache, if it answers, and what the report says of it (EngineResult.remote_cache).

    One that does not answer is left out, and the user is told.
    """
    cache = caches.remote(context.settings)
    if cache is None:
        return None, ""
    context.say(f"asking the remote cache {cache.url}")
    trouble = caches.probe(cache)
    if trouble:
        finding.note(context, f"the remote cache {cache.url} was left out, and everything built here: {trouble}")
        return None, trouble
    return cache, "used" if cache.upload else "read only"


@dataclass
class Done:
    """A build that did well, second try included."""

    events: bep.Events
    actions: int = 0
    cache_hits: int = 0
    compiles: int | None = 0
    remote_cache: str = ""
    """See EngineResult."""


@dataclass
class Try:
    """One `bazel build`."""

    status: int
    events: bep.Events
    watch: Watch
    said: list[str]
    command: str
    ran: profile.Ran | None

    @property
    def compiles(self) -> int | None:
        """Compile actions whose command ran. None where the trace does not have every command that Bazel counts."""
        spawns = self.watch.spawns
        if spawns is not None and not spawns.executed and not self.status:
            return 0
        if self.ran is None or (spawns is not None and self.ran.actions < spawns.executed):
            return None
        return self.ran.compiles


def _built(session: Session, cache: caches.Remote | None, state: str) -> Done:
    context = session.context
    begun = time.time() - 1
    one = session.build(cache)
    tries = [one]
    if one.status != 0 and cache is not None and failures.caused_by_cache(one.status, one.events, one.watch):
        why = one.watch.errors[0] if one.watch.errors else f"Bazel ended with status {one.status}"
        finding.note(
            context,
            f"the remote cache {cache.url} served something that Bazel could not build with ({why}): "
            "built again without it",
        )
        state = f"not used: it served something that Bazel could not build with ({why})"
        caches.forget_results(session.disk_cache, begun)
        one = session.build(None, caches.without_results())
        tries.append(one)
    if one.status != 0:
        raise failures.explained(context, one.status, one.events, one.watch, one.said, one.command)
    if cache is not None:
        cache_notes(context, cache, tries[0].watch)
        if state == "used" and any(re.match(r"HTTP 40[135]", why) for why in tries[0].watch.writing):
            state = "read only"
    done = Done(one.events, remote_cache=state)
    for each in tries:
        if each.watch.spawns is not None:
            done.actions += each.watch.spawns.actions
            done.cache_hits += each.watch.spawns.cache_hits
        done.compiles = None if done.compiles is None or each.compiles is None else done.compiles + each.compiles
    return done


def cache_notes(context: Context, cache: caches.Remote, watch: Watch) -> None:
    """What did not go well between Bazel and a cache, while the build did."""
    for seen, text in (
        (watch.reading, "could not give all that was asked of it{}: those actions were run here"),
        (watch.writing, "did not take what was built here{}: other machines will not find it there"),
    ):
        if seen:
            why = ", ".join(sorted(seen - {""}))
            finding.note(context, f"the remote cache {cache.url} {text.format(f' ({why})' if why else '')}")


@dataclass
class Session:
    """The commands of one build, which share a server."""

    context: Context
    found: finding.Bazel
    rc: Path | None = None
    _manual: str | None = None
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))

    @property
    def root(self) -> Path:
        return self.context.build_folder / "bazel"

    @property
    def output_base(self) -> Path:
        """Bazel's own choice: the MD5 of the workspace's real path."""
        return self.root / hashlib.md5(os.path.realpath(self.context.tree).encode()).hexdigest()  # noqa: S324

    @property
    def disk_cache(self) -> Path:
        return Path(self.context.setting("disk_cache", self.context.build_folder / "disk_cache"))

    @property
    def events(self) -> Path:
        """While Bazel runs. 4.2.3 cannot open it in a folder with a name that is not ASCII, which a home may have."""
        return self.context.scratch / "bep.json"

    def keep_events(self) -> None:
        """Put them beside the log, once they hold no password."""
        with contextlib.suppress(OSError):
            shutil.move(self.events, self.context.folder / "bep.json")

    @property
    def profile(self) -> Path:
        return self.context.scratch / "profile.json"

    def environment(self) -> dict[str, str]:
        whole = self.context.filled_environment(self.found.environment)
        whole["PATH"] = search_path(self.context)
        return whole

    def startup(self) -> list[str]:
        meminfo = ""
        with contextlib.suppress(OSError):
            meminfo = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
        return [self.found.program, *options.startup_options(self.root, options.heap_mib(meminfo), self.rc)]

    def run(self, arguments: Sequence[str], **how: Any) -> int:
        return self.context.run([*self.startup(), *arguments], environment=self.environment(), **how)

    # what is there already

    def renew(self) -> None:
        """Throw away what another compiler has left: Bazel looks at the compiler only when it first sees it."""
        who = provision_build_toolchain.identity(self.context.build["compiler"])
        text = json.dumps({**who, "bazel": self.found.tool}, sort_keys=True) + "\n"
        stamp = self.root / f"{self.output_base.name}.toolchain"
        with contextlib.suppress(OSError):
            if stamp.read_text(encoding="utf-8") == text:
                return
            self.context.say("clearing what another compiler has left")
            self.run(["clean", "--expunge"], timeout_s=SHUTDOWN_S * 5)
        self.root.mkdir(parents=True, exist_ok=True)
        stamp.write_text(text, encoding="utf-8")

    def manual(self) -> str:
        """`bazel help build --long` of a Bazel that does not say its number; else ""."""
        if self._manual is None:
            text = bytearray()
            if options.needs_manual(self.found.version):
                argv = [*self.startup(), "help", "build", "--long"]  # not in the log: 2,000 lines that say nothing new
                run(argv, env=self.environment(), hear=lambda _, data: text.extend(data), cwd=str(self.context.tree))
            self._manual = text.decode("utf-8", "replace")
        return self._manual

    # building

    def arguments(self, cache: caches.Remote | None, more: Sequence[str] = ()) -> list[str]:
        """After the startup options."""
        context, call = self.context, self.context.build["bazel"]
        values = {
            "jobs": str(context.jobs),
            "memory_mib": str(context.jobs * memory_mib_per_job(context)),
            "disk_cache": str(self.disk_cache),
            "disk_cache_size": options.DISK_CACHE_SIZE,
            "repository_cache": str(context.setting("repository_cache", context.build_folder / "repository_cache")),
            "events": str(self.events),
            "profile": str(self.profile),
            "progress_s": options.PROGRESS_S,
        }
        found = ["build", *context.fill_all(call["options"])]
        found += options.reporting_options(self.found.version, values, self.manual())
        found += options.distdirs([str(one) for one in context.setting("distdir", ())])
        found += caches.silo_options(context.silo)
        if cache is not None:
            found += caches.remote_options(cache, context.silo)
        if executor := context.setting("remote_executor"):
            found += caches.executor_options(str(executor), context.silo)
        return [*found, *more, "--", context.fill(call["target"])]

    def build(self, cache: caches.Remote | None, more: Sequence[str] = ()) -> Try:
        arguments = self.arguments(cache, more)
        for path in (self.events, self.profile):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        # it has the environment and every option: for its owner only
        os.close(os.open(self.events, os.O_WRONLY | os.O_CREAT, 0o600))
        watch, follower = Watch(), profile.Follower(self.profile)
        estimate = Estimate(self.context.earlier, self.context.jobs)
        self._lines.clear()
        looked, remote_execution = 0.0, bool(self.context.setting("remote_executor"))

        def hear(_: str, line: str) -> None:
            nonlocal looked
            self._lines.append(line)
            if not watch.hear(line):
                return
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                follower.look()
            # Bazel counts those that wait for a processor as running
            running = watch.running if remote_execution else min(watch.running, self.context.jobs)
            build = estimate.progress(watch.done, watch.total, cached=follower.fetched, running=running)
            self.context.say(watch.text[:160], build=build)

        status = self.run(arguments, on_line=hear)
        return Try(
            status, bep.read(self.events), watch, list(self._lines), " ".join(["bazel", *arguments]),
            profile.read(self.profile),
        )  # fmt: skip

    # the end

    def ask_to_end(self) -> int | None:
        """What `bazel shutdown` comes to, without waiting for it: the server's process."""
        pid = self.server()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        return pid

    def see_end(self, pid: int | None, hidden: Sequence[str]) -> None:
        """Wait for the server, kill it if it does not end, and clear its last words of ``hidden``."""
        until = time.monotonic() + SHUTDOWN_S
        while pid is not None and self._is_server(pid) and time.monotonic() < until:
            time.sleep(0.05)
        self.kill_server()
        caches.scrub(self.files(), hidden)

    def shut_down(self) -> None:
        """The server would hold its memory for nothing: the next build of this tree starts one in two seconds."""
        if self.server() is None:
            return
        with contextlib.suppress(OSError):
            self.run(["shutdown"], timeout_s=SHUTDOWN_S)
        self.kill_server()

    def server(self) -> int | None:
        """The process of this tree's server; None where there is none."""
        try:
            pid = int((self.output_base / "server" / "server.pid.txt").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        return pid if self._is_server(pid) else None

    def _is_server(self, pid: int) -> bool:
        try:
            return os.fsencode(self.output_base) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def kill_server(self) -> None:
        """Stop the server itself, when there is no time to ask it or it does not answer."""
        pid = self.server()
        if pid is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
            until = time.monotonic() + SERVER_GENTLY_S
            while time.monotonic() < until:
                if not self._is_server(pid):  # its file is gone long before it is
                    return
                time.sleep(0.02)

    def files(self) -> list[Path]:
        """Where Bazel and we write down what was run."""
        logs = [path for path in self.output_base.glob("java.log*") if path.is_file()]
        return [self.context.log, self.events, self.profile, self.output_base / "command.log", *logs]


def memory_mib_per_job(context: Context) -> int:
    return int(context.setting("memory_mib_per_job") or context.build["needs"]["memory_mib_per_job"])


def search_path(context: Context) -> str:
    """PATH for Bazel's actions: the build environment's programs, the system's, and where else a needed tool lies."""
    whole = context.environment.get("PATH", "")
    found = [str(context.python.parent), *SEARCH]
    system = os.pathsep.join(found)
    for tool in context.build["needs"].get("tools") or ():
        path = shutil.which(tool["name"], path=whole)
        if path and shutil.which(tool["name"], path=system) is None:
            found.append(str(Path(path).parent))
    return os.pathsep.join(dict.fromkeys(found))
