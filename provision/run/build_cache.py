"""The shared build cache of a host: look at it, set it up, take it away, ask it over HTTP."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision import assets
from provision.errors import HostError, Interrupted, StepFailed
from provision.model.cache import CacheReport, CacheSettings, CacheUsage
from provision.model.data import from_data
from provision.model.host import Host
from provision.model.report import Failure, Progress
from provision.run.command import CANCELLED, TIMED_OUT
from provision.run.play_events import HostResult

LOOK_TIMEOUT_S = 60.0
MARK = "provision-build-cache:"
PROGRAM = r"""
import json, sys, urllib.error, urllib.request, ssl
found = {"settings": None, "status": None, "answer": None, "problem": ""}
def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None
settings = found["settings"] = read("/etc/provision-build-cache.json")
if settings:
    found["status"] = read(settings["folder"] + "/status.json")
    address = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(settings["address"], settings["address"])
    prefix = settings["prefix"] if settings["engine"] == "nginx" else ""
    url = "%s://%s:%d%s/status" % ("https" if settings["certificate"] else "http", address, settings["port"], prefix)
    context = ssl._create_unverified_context() if settings["certificate"] else None
    handlers = [urllib.request.ProxyHandler({})]
    handlers += [urllib.request.HTTPSHandler(context=context)] if context else []
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=10) as answer:
            found["answer"] = answer.status
            if settings["engine"] != "nginx":
                found["status"] = json.loads(answer.read().decode())
    except urllib.error.HTTPError as error:
        found["answer"] = error.code
    except (OSError, ValueError) as error:
        found["problem"] = str(getattr(error, "reason", error))
print("\n%s" % sys.argv[1] + json.dumps(found))
"""
"""Runs on the host with its Python. The certificate's name is for clients to check: here it is asked by address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is on a host."""

    settings: CacheSettings | None = None
    """None: there is no cache."""
    usage: CacheUsage | None = None
    answers: bool = False
    """On the host itself."""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be there."""

    settings: CacheSettings
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By user. A user without one keeps that which is there."""
    binary: str = ""
    binary_sha256: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """How a play goes: who listens, who stops it, how to become root."""

    on_event: Callable[[Progress], None]
    cancel: threading.Event
    control_dir: str
    inventories: tuple[Path, ...] = ()
    become_password: str | None = None


def look(host: Host, *, control_dir: str, cancel: threading.Event) -> Found:
    """Ask the host. Raises HostError where it cannot be reached, StepFailed where its answer cannot be read."""
    from provision.run.ssh import REFUSED, explain_ssh_failure, run_script

    script = f"exec python3 -c {shlex.quote(PROGRAM)} {MARK}"
    done = run_script(host, script, control_dir=control_dir, timeout_s=LOOK_TIMEOUT_S, cancel=cancel)
    if done.status == CANCELLED:
        raise Interrupted(what="interrupted", why=f"{host.name} was only being looked at; nothing was changed")
    line = next((line for line in done.stdout.splitlines() if line.startswith(MARK)), None)
    if line is None:
        if done.status in (REFUSED, TIMED_OUT):
            told = explain_ssh_failure(host, done.stderr)
            raise HostError(what=told.what, why=told.why, hint=told.hint)
        raise HostError(
            what=f"{host.name} could not be asked about its build cache",
            why=(done.stderr.strip() or done.stdout.strip() or f"exit status {done.status}").splitlines()[-1],
            hint="it needs Python 3.9 or newer, as python3",
        )
    return found(host.name, line.removeprefix(MARK))


def found(host: str, text: str) -> Found:
    """What the program on the host printed. Raises StepFailed."""
    data = json.loads(text)
    try:
        settings = None if data["settings"] is None else from_data(CacheSettings, data["settings"])
        usage = None if data["status"] is None else usage_of(data["status"])
    except (ValueError, TypeError, KeyError) as error:
        raise StepFailed(
            what=f"the settings of the build cache on {host} cannot be read",
            why=f"/etc/provision-build-cache.json: {str(error).splitlines()[0]}",
            hint="provision cache remove, then provision cache up: its blobs are lost",
        ) from error
    return Found(
        settings=settings, usage=usage, answers=data["answer"] in (200, 401), problem=problem(data["answer"], data)
    )


def problem(answer: int | None, data: Mapping[str, Any]) -> str:
    if answer in (200, 401):
        return ""
    return f"its status page answers {answer}" if answer is not None else str(data["problem"])


def usage_of(status: Mapping[str, Any]) -> CacheUsage:
    """From the status page, of the collector or of bazel-remote: {"CurrSize": bytes, "MaxSize": bytes, …}."""
    return CacheUsage(
        used_mib=round(int(status["CurrSize"]) / 2**20, 1),
        bound_mib=round(int(status["MaxSize"]) / 2**20, 1),
        blobs=int(status["NumFiles"]),
        counted_at=int(status["ServerTime"]),
    )


def set_up(host: Host, wanted: Wanted, edge: Edge) -> CacheReport:
    """Make the host's cache what is wanted."""
    return _played(host, wanted.settings, {**variables(wanted), "build_cache_state": "present"}, edge)


def take_away(host: Host, settings: CacheSettings, edge: Edge) -> CacheReport:
    """Remove the host's cache with its blobs. Packages stay."""
    given = {"build_cache_state": "absent", "build_cache_engine": settings.engine}
    return _played(host, settings, given, edge)


def variables(wanted: Wanted) -> dict[str, Any]:
    """What role build_cache takes. Everything is data: nothing in it is a template."""
    settings = wanted.settings
    return {
        "build_cache_engine": settings.engine,
        "build_cache_address": settings.address,
        "build_cache_port": settings.port,
        "build_cache_folder": settings.folder,
        "build_cache_prefix": settings.prefix,
        "build_cache_size_gib": settings.size_gib,
        "build_cache_anonymous_read": settings.anonymous_read,
        "build_cache_writers": _users(settings.writers, wanted.passwords),
        "build_cache_readers": _users(settings.readers, wanted.passwords),
        "build_cache_binary": wanted.binary,
        "build_cache_binary_sha256": wanted.binary_sha256,
        "build_cache_image": wanted.image,
        "build_cache_tls_certificate": settings.certificate,
        "build_cache_tls_key": settings.key,
    }


def _users(names: Sequence[str], passwords: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "password": passwords.get(name, "")} for name in names]


def _played(host: Host, settings: CacheSettings, given: Mapping[str, Any], edge: Edge) -> CacheReport:
    from provision.run.ansible import play

    played = play(
        assets.folder("playbooks") / "build_cache.yml",
        [host],
        {host.name: given},
        inventory_sources=[str(path.resolve()) for path in edge.inventories],
        on_event=edge.on_event,
        cancel=edge.cancel,
        control_dir=edge.control_dir,
        become_password=edge.become_password,
    )
    return report(host, settings, played.results[host.name], unreaped=host.name in played.unreaped)


def report(host: Host, settings: CacheSettings, result: HostResult, *, unreaped: bool = False) -> CacheReport:
    """From what happened to what is told."""
    steps = tuple(step for step in result.steps if step.status != "skipped")
    failures = () if result.failure is None else (result.failure,)
    if result.status == "cancelled":
        left = "; something may still run there, since nobody could look" if unreaped else ""
        why = f"the cache may be half set up{left}"
        failures = (Failure(what="interrupted", why=why, hint="run the same command again", exit_code=130),)
    return CacheReport(
        ok=not failures,
        host=host.name,
        url=url_of(host, settings),
        changed=sum(step.status == "changed" for step in steps),
        steps=steps,
        cache=settings,
        failures=failures,
    )


def url_of(host: Host, settings: CacheSettings) -> str:
    """The address that other hosts use: the one it listens on, else the one that we reach it by."""
    address = settings.address
    if address in ("0.0.0.0", "[::]"):  # noqa: S104 - read, not listened on
        address = _name_here() if host.connection == "local" else host.address
        if ":" in address:
            address = f"[{address}]"
    return f"{'https' if settings.tls else 'http'}://{address}:{settings.port}{settings.prefix}"


def _name_here() -> str:
    import socket

    return socket.gethostname()
