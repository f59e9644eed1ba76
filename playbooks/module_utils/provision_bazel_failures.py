"""What a `bazel build` that failed is told as: the failing action's own words, or why Bazel itself stopped."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.module_utils.provision_bazel_events import Aborted, Events, Failed, output_of
from ansible.module_utils.provision_bazel_progress import Watch
from ansible.module_utils.provision_build_context import BuildFailure, Context, tail
from ansible.module_utils.provision_failure import Failure

BAD_COMMAND_LINE = 2
INTERRUPTED = 8
OUT_OF_MEMORY = 33
SERVER_DIED = 37
# 32 to 39: Bazel's environment, the remote side, a lost blob. https://bazel.build/run/scripts#exit-codes
CACHE_CODES = (32, 34, 38, 39, 45)
WORDS = {
    "CppCompile": "compiling", "CppLink": "linking", "CppArchive": "archiving", "Genrule": "the genrule for",
    "PyWheel": "packing",
}  # fmt: skip
ERROR = re.compile(r"\b(?:fatal error|error|Error|ERROR)\b[: ]|Killed|No space left|undefined reference|cannot find ")
ABORTS = ("LOADING_FAILURE", "ANALYSIS_FAILURE", "NO_ANALYZE", "NO_BUILD", "REMOTE_ENVIRONMENT_FAILURE")


def caused_by_cache(status: int, events: Events, watch: Watch) -> bool:
    """Whether a build with a cache may have failed through it: then it is worth a second try without.

    An action whose command was run, and failed, has itself to blame. Seen with 4.2.3: an empty action result makes it
    stop at "error while parsing .d file" without running anything.
    """
    if status in (0, BAD_COMMAND_LINE, INTERRUPTED, SERVER_DIED, OUT_OF_MEMORY):
        return False
    if status in CACHE_CODES or (events.exit_name and "REMOTE" in events.exit_name):
        return True
    if any(failed.exit_code for failed in events.failed):
        return False
    if events.failed:
        return True
    text = " ".join(watch.errors)
    return bool(re.search(r"error while parsing \.d file|not all outputs were created|[Rr]emote [Cc]ache", text))


def explained(context: Context, status: int, events: Events, watch: Watch, said: list[str], command: str) -> Failure:
    """The failure of a build that ended with ``status``. ``said`` are the last lines it printed."""
    name = f"{context.build['framework']} {context.build['version']}"
    if events.failed:
        return _of_action(context, name, _worst(events.failed), watch)
    if status == BAD_COMMAND_LINE:
        return Failure(
            "bazel", f"Bazel does not understand how {name} is to be built",
            _first(watch, said), "a Bazel of the version that the tree names knows these options",
        )  # fmt: skip
    if status == INTERRUPTED:
        return Failure("interrupted", f"the build of {name} was interrupted", _first(watch, said),
                       "run the same command again: it goes on from the cache")  # fmt: skip
    # on a full disk the events have no end either, but there is an error that says why
    if not (events.last or watch.errors) or status in (SERVER_DIED, OUT_OF_MEMORY):
        return BuildFailure(
            f"Bazel's server died while it built {name}", _first(watch, said) or f"it ended with status {status}",
            "most often the machine has run out of memory: give fewer --jobs, and run the same command again, which "
            "goes on from the cache",
            label="the Bazel server", command=command, log=context.log, log_tail=_tail(context, said),
        )  # fmt: skip
    aborted = next((one for one in events.aborted if one.reason in ABORTS), None)
    return BuildFailure(
        f"Bazel could not build {name}", _aborted(aborted) if aborted else _first(watch, said),
        "the log has all of it", label=aborted.label if aborted else str(context.build["bazel"]["target"]),
        command=command, log=context.log, log_tail=_tail(context, said),
    )  # fmt: skip


def _worst(failed: list[Failed]) -> Failed:
    """The first whose command ran: others fail because it did."""
    return next((one for one in failed if one.exit_code), failed[0])


def _of_action(context: Context, name: str, failed: Failed, watch: Watch) -> BuildFailure:
    said = output_of(failed)
    # BUILD:5:11: Compiling src/broken.cc failed: (Exit 1): gcc failed: error executing command
    told = next((line for line in watch.errors if " failed" in line), "")
    words = context.masked(said or told)
    subject = WORDS.get(failed.mnemonic, failed.mnemonic)
    thing = next((one for one in failed.command if re.search(r"\.(?:cc|cpp|cxx|c|cu|cu\.cc|S)$", one)), failed.output)
    return BuildFailure(
        f"building {name} failed: {subject} {Path(thing).name}".rstrip(),
        error_line(words) or failed.message,
        "the log has all of it",
        label=failed.label,
        command=context.masked(failed.command_line),
        log=context.log,
        log_tail=words,
    )


def error_line(text: str) -> str:
    """The line that says what is wrong; the last one where none stands out."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if ERROR.search(line)), lines[-1] if lines else "")


def _aborted(aborted: Aborted) -> str:
    return f"{aborted.label}: {aborted.description}"


def _first(watch: Watch, said: list[str]) -> str:
    return watch.errors[0] if watch.errors else next((line for line in reversed(said) if line.strip()), "")


def _tail(context: Context, said: list[str]) -> str:
    return context.masked(tail("\n".join(said)))
