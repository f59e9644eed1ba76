"""The options that we add to `bazel build`, each for the releases that know it: an unknown one stops Bazel at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Option:
    """``text`` may hold {names}. ``since`` is the first release that knows it, ``until`` the first that does not."""

    text: str
    since: tuple[int, ...] = ()
    until: tuple[int, ...] = ()


# Sources: `bazel help build --long` of 4.2.3; for the rest the threads and pages named.
OPTIONS = (
    Option("--jobs={jobs}"),
    # an estimate that Bazel schedules by, not a limit: --jobs is what keeps memory down
    Option("--local_ram_resources={memory_mib}", (0, 25), (7, 1)),
    Option("--local_cpu_resources={jobs}", (0, 25), (7, 1)),
    # https://github.com/bazelbuild/bazel/pull/20398
    Option("--local_resources=memory={memory_mib}", (7, 1)),
    Option("--local_resources=cpu={jobs}", (7, 1)),
    Option("--disk_cache={disk_cache}"),
    # https://github.com/bazelbuild/bazel/releases/tag/7.4.1: it grows without bound before
    Option("--experimental_disk_cache_gc_max_size={disk_cache_size}", (7, 4)),
    Option("--repository_cache={repository_cache}"),
    Option("--build_event_json_file={events}"),
    Option("--profile={profile}"),
    # without it short events are merged, and the trace no longer tells what ran
    Option("--noslim_profile", (4, 0)),
    Option("--verbose_failures"),
    Option("--curses=no"),
    Option("--color=no"),
    Option("--show_progress_rate_limit={progress_s}"),
    Option("--noshow_loading_progress"),
    Option("--show_result=0"),
    # Debian's /etc/bazel/bazelrc asks for dozens of lines with each action
    Option("--nosandbox_debug"),
    # TensorFlow's .bazelrc asks for it, and it would print our file with the cache's password
    Option("--noannounce_rc"),
)
DISK_CACHE_SIZE = "50G"
PROGRESS_S = "0.5"
IDLE_S = 60
"""Only for a client that was killed: the server is shut down when a build ends, so that it holds no memory then."""
HEAP_MIB = (1024, 4096)


def version_number(text: str | None) -> tuple[int, ...]:
    """(7, 4, 1) of "7.4.1"; () where there is no number."""
    match = re.match(r"\d+(?:\.\d+)*", text or "")
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def known(option: Option, version: str | None, manual: str = "") -> bool:
    """Whether this Bazel has ``option``. One that says no number is judged by its ``manual`` (`help build --long`)."""
    number = version_number(version)
    if number:
        return option.since <= number and (not option.until or number < option.until)
    return in_manual(option.text, manual)


def in_manual(option: str, manual: str) -> bool:
    """Whether `bazel help build --long` has it: lines like "  --[no]keep_going [-k] (a boolean; …"."""
    name = option[2:].partition("=")[0]
    names = {name, name[2:]} if name.startswith("no") else {name}
    return any(re.search(rf"^\s*--(?:\[no\])?{re.escape(one)}(?=[\s\[(])", manual, re.MULTILINE) for one in names)


def reporting_options(version: str | None, values: Mapping[str, str], manual: str = "") -> list[str]:
    """Ours, with the values filled in."""
    return [option.text.format_map(values) for option in OPTIONS if known(option, version, manual)]


def needs_manual(version: str | None) -> bool:
    return not version_number(version)


def heap_mib(meminfo: str) -> int:
    """An eighth of the memory (the text of /proc/meminfo), between 1 and 4 GiB: TensorFlow's graph needs about 2."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    total = int(match[1]) // 1024 if match else 0
    return max(HEAP_MIB[0], min(HEAP_MIB[1], total // 8))


def startup_options(root: Path, heap: int, rc: Path | None) -> list[str]:
    """Before the command. The same for each, or the server is started anew.

    ~/.bazelrc is not read: what it says would be in no plan. The system's is: Debian's Bazel does not start without.
    """
    found = ["--nohome_rc", f"--output_user_root={root}", f"--max_idle_secs={IDLE_S}", f"--host_jvm_args=-Xmx{heap}m"]
    return [*found, f"--bazelrc={rc}"] if rc is not None else found


def distdirs(folders: Sequence[str]) -> list[str]:
    return [f"--distdir={folder}" for folder in folders]
