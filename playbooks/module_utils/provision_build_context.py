"""What an engine is given to build with, what it gives back, and how it fails.

An engine is one module with ``build(context) -> EngineResult``; one whose tree has a configure has
``configure(context) -> Configured`` as well. provision_build.ENGINES lists them. They run in the supervisor
(provision_build_supervisor), whose output nobody sees: what they have to say goes through ``Context``.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable  # Callable of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_failure import Failure, Interrupted
from ansible.module_utils.provision_process import STOP_SIGNALS, run

PLACEHOLDERS = ("python", "site", "tree", "wheels", "jobs", "bazel")
TAIL_LINES = 200
GENTLY_S = 0.7
"""How long a stopped command may take to end by itself. A cancelled run kills what is left after one second."""

# What of the user's own environment a build sees. Anything else (CFLAGS, LD_LIBRARY_PATH, TF_…, USE_…) would change
# the result without being in the plan, nor in the key that says whether it is there already.
KEPT = (
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMPDIR", "TZ", "LANG", "LANGUAGE", "NETRC", "JAVA_HOME",
    "PROVISION_RUN",
    "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
KEPT_STARTS = ("LC_", "XDG_", "BAZELISK_")


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with {python}, {site} … replaced, where ``values`` has them. Any other brace stays as it is."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


def clean_environment(ambient: Mapping[str, str]) -> dict[str, str]:
    """What a build inherits of the user's environment."""
    kept = {name: value for name, value in ambient.items() if name in KEPT or name.startswith(KEPT_STARTS)}
    kept.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return kept


class BuildFailure(Failure):
    """A build that failed: a Failure with the failing action's own words.

    ``label`` is what failed ("//tensorflow/core:mnist", "compiling mnist.cc"), ``command`` its command line,
    ``log_tail`` what it wrote to its standard error, of which the last 200 lines are kept; ``log`` is the whole log.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        hint: str = "",
        *,
        kind: str = "build",
        label: str = "",
        command: str = "",
        log: Path | str = "",
        log_tail: str = "",
    ) -> None:
        super().__init__(kind, what, why, hint)
        self.label, self.command, self.log = label, command, str(log)
        self.log_tail = tail(log_tail)

    def result(self) -> dict[str, Any]:
        return {
            **super().result(),
            "label": self.label, "command": self.command, "log": self.log, "log_tail": self.log_tail,
        }  # fmt: skip


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last ``lines`` of ``text``."""
    return "\n".join(text.splitlines()[-lines:])


@dataclass
class EngineResult:
    """What an engine has made."""

    folder: Path
    """Where the wheel lies: the flow takes the one wheel in it. Nearly always ``context.wheels``."""
    actions: int | None = None
    """Actions that were needed, those from a cache included; None for engines that do not count."""
    cache_hits: int | None = None
    compile_actions: int | None = None
    """Compilations of C or C++ that were run here."""
    remote_cache: str = ""
    """"used", "read only", or why not ("down: connection refused"); empty where none was asked for."""
    tool: str = ""
    """What built it, with its version: "bazel 4.2.3", "uv 0.13.9"."""


@dataclass
class Configured:
    """What a tree's configure wrote, read back and compared with what was asked."""

    file: str
    """Relative to the tree."""
    text: str


Say = Callable[..., None]
"""``say(text, build=None)``: see Progress.say."""


@dataclass
class Context:
    """One build. Folders exist when an engine starts, except ``tree`` for source.kind "index"."""

    build: Mapping[str, Any]
    """to_data(provision.model.build.Build), placeholders unfilled."""
    settings: Mapping[str, Any]
    """The module's ``settings``; every one may be missing, "" or None. Use ``setting``."""
    key: str
    silo: str
    folder: Path
    """DATA_HOME/provision/builds/KEY: log.txt, bep.json."""
    build_folder: Path
    """CACHE_HOME/provision/build, or settings.build_folder."""
    scratch: Path
    """A folder of this KEY below ``build_folder``: kept for the next try, removed with the build."""
    tree: Path
    """The unpacked source. Engine "bazel": trees/SHA16, shared by builds of other flags, one at a time (the flow has a
    lock on it). Others: one of their own."""
    wheels: Path
    """Empty when an engine starts."""
    python: Path
    """The build environment's interpreter. Its path depends only on Python's version and the build requirements."""
    site: Path
    jobs: int
    environment: dict[str, str]
    """For every command: the user's, cleaned; CC and CXX of build.compiler; then build.environment, filled ({bazel} is
    left for engine "bazel" to fill). PATH starts with the build environment's bin."""
    uv: Path
    uv_environment: dict[str, str]
    """The whole environment for a uv command."""
    report: Say
    earlier: Mapping[str, Any] | None = None
    """build.json of the newest complete build of this framework and version here, for estimates: see ``Estimate``."""
    notes: list[str] = field(default_factory=list)
    """What the user should read although the build did well. Engines append."""
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    """What is still to be done when the wheel is there: the result does not wait for it."""
    values: dict[str, str] = field(default_factory=dict)
    """What the placeholders stand for; engine "bazel" adds "bazel"."""

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    def setting(self, name: str, default: Any = None) -> Any:
        """settings[name], or ``default`` where it is missing, None or ""."""
        value = self.settings.get(name)
        return default if value is None or value == "" else value

    def fill(self, text: str) -> str:
        return filled(text, self.values)

    def fill_all(self, texts: Sequence[str]) -> list[str]:
        return [self.fill(text) for text in texts]

    def filled_environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """``environment`` with ``more`` over it, both filled with the values known by now."""
        return {name: self.fill(value) for name, value in {**self.environment, **(more or {})}.items()}

    def masked(self, text: str) -> str:
        """``text`` without the cache's password."""
        password = self.setting("remote_cache_password")
        return text.replace(str(password), "***") if password else text

    def say(self, text: str, build: Mapping[str, Any] | None = None) -> None:
        """Progress: see ``Estimate.progress`` for ``build``."""
        self.report(text, build=build)

    def write_log(self, text: str) -> None:
        """Append to log.txt."""
        with self.log.open("a", encoding="utf-8", errors="replace") as file:
            file.write(self.masked(text))

    def run(
        self,
        argv: Sequence[str],
        *,
        on_line: Callable[[str, str], None] | None = None,
        environment: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        timeout_s: float | None = None,
        gently_s: float = GENTLY_S,
    ) -> int:
        """Run a command to its end, its command line and output in log.txt, and return its status.

        ``on_line`` hears "out" or "err" and each line without its end. stdin is closed. ``environment`` is the whole
        one (default: ``filled_environment()``), ``cwd`` the tree unless told. When the build is stopped, Interrupted is
        raised here: the command's process group has got SIGINT by then, and SIGKILL after ``gently_s``. Signals are
        ignored from then on, so an engine may clean up in ``except Interrupted`` (quickly) and must raise it again.
        Raises OSError where the program cannot be started.
        """
        self.write_log("$ " + " ".join(map(str, argv)) + "\n")
        rest = {"out": b"", "err": b""}

        def line(stream: str, raw: bytes) -> None:
            text = self.masked(raw.decode("utf-8", "replace"))
            self.write_log(text + "\n")
            if on_line is not None:
                on_line(stream, text)

        def hear(stream: str, data: bytes) -> None:
            *whole, rest[stream] = re.split(rb"\r?\n|\r", rest[stream] + data)
            for raw in whole:
                line(stream, raw)

        env = self.filled_environment() if environment is None else dict(environment)
        status = run(
            [str(one) for one in argv], env=env, hear=hear, cwd=str(cwd or self.tree), timeout_s=timeout_s,
            gently_s=gently_s,
        )  # fmt: skip
        for stream, raw in rest.items():
            if raw:
                line(stream, raw)
        if -status in STOP_SIGNALS:  # whoever stops a run may reach the command before us
            raise Interrupted(signal.Signals(-status).name)
        return status


class Estimate:
    """How long a build has still to go, from an earlier build of the same tree where there was one."""

    def __init__(
        self, earlier: Mapping[str, Any] | None, jobs: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._begun, self._jobs = clock, clock(), jobs
        known = earlier or {}
        self._whole, hits = known.get("actions") or 0, known.get("cache_hits") or 0
        worked = self._whole - hits
        seconds, before = known.get("seconds"), known.get("jobs")
        # an earlier build that a cache has done says nothing about compiling
        self._per_action = seconds * before / worked if worked > hits and seconds and before else None

    def progress(self, done: int, total: int | None, cached: int = 0, running: int = 0) -> dict[str, Any]:
        """What ``Context.say`` takes as ``build``. ``total`` is what the tool says now: it may grow."""
        elapsed = self._clock() - self._begun
        whole = max(total or 0, self._whole)
        remaining: float | None = None
        if self._per_action is not None and whole:
            remaining = max(0, whole - done) * self._per_action / self._jobs
        elif done > cached and total:
            remaining = max(0, total - done) * elapsed / (done - cached)
        return {
            "done": done,
            "total": total,
            "cached": cached,
            "running": running,
            "elapsed_s": round(elapsed, 1),
            "remaining_s": None if remaining is None else round(remaining, 1),
            "guess": self._per_action is None,
        }


def user_environment() -> dict[str, str]:
    """``clean_environment`` of this process."""
    return clean_environment(os.environ)
