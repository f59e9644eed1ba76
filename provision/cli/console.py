"""The only module that prints: the answer to stdout, the story to stderr, errors in three parts."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from provision.errors import Explanation, Interrupted, ProvisionError, UsageError

BUG_EXIT = 1


def prepare_streams() -> None:
    """Never fail on a letter that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def answer(text: str) -> None:
    """To stdout, as it is. A reader that went away (`provision … | head`) ends the answer and not the program.

    Raises UsageError where stdout cannot be written, as on a full disk.
    """
    if sys.stdout is None:  # closed by the caller: >&-
        return
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    except OSError as error:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        raise UsageError(what="the answer cannot be written to stdout", why=str(error.strerror)) from error


def story(text: str) -> None:
    """To stderr. Where nobody listens there is nothing to tell."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text if text.endswith("\n") else text + "\n")
        sys.stderr.flush()
    except OSError:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123


def answer_json(value: Any) -> None:
    """One JSON document on stdout."""
    from provision.model.data import to_data

    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    answer(json.dumps(to_data(value), indent=2, ensure_ascii=not unicode))


def one_or_many(values: Sequence[Any]) -> Any:
    """The value where there is one, the sequence where there are several: what ``--json`` prints for hosts."""
    return values[0] if len(values) == 1 else list(values)


def error_text(error: ProvisionError) -> str:
    """The three parts, then each detail, indented."""
    lines = [f"error: {error.what}", *_parts(error, "  ")]
    for detail in error.details:
        lines += [f"  {detail.what}", *_parts(detail, "    ")]
    return "\n".join(lines) + "\n"


def _parts(problem: ProvisionError | Explanation, indent: str) -> list[str]:
    lines = [indent + line for line in problem.why.splitlines()]
    for number, line in enumerate(problem.hint.splitlines()):
        lines.append(f"{indent}{'hint: ' if number == 0 else '      '}{line}")
    return lines


def error_data(error: ProvisionError, host: str | None = None) -> dict[str, Any]:
    """The same three parts for ``--json``: a report that never got as far as a step, with every key of one."""
    parts = [{"what": error.what, "why": error.why, "hint": error.hint}]
    parts += [{"what": detail.what, "why": detail.why, "hint": detail.hint} for detail in error.details]
    return {
        "schema": 1,
        "ok": False,
        "host": host,
        "environment": None,
        "changed": 0,
        "steps": [],
        "checks": [],
        "smoke": None,
        "failures": [{**part, "exit_code": error.exit_code} for part in parts],
        "builds": [],
        "comparisons": [],
        "configured": [],
        "until": "",
        "driver": None,
    }


def guarded(program: Callable[[], Any]) -> int:
    """Run ``program`` and turn whatever stops it into an exit code and one clear message.

    ``program`` returns its exit code or None. Typer's own exceptions are taken too: it is to be run without its
    standalone mode, in which it would print and exit by itself.
    """
    try:
        code = program()
    except ProvisionError as error:
        return _stopped(error)
    except (KeyboardInterrupt, typer.Abort):
        return _stopped(Interrupted(what="interrupted", why="nothing was changed"))
    except TyperException as error:
        # without a message: the help was shown, because no command was given
        return _stopped(_wrong_usage(error)) if error.format_message() else UsageError.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        return _bug(error)
    return code if isinstance(code, int) else 0


def _wrong_usage(error: Any) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "provision"
    return UsageError(what=error.format_message().rstrip("."), hint=f"{path} --help")


def _stopped(error: ProvisionError) -> int:
    if wants_json():
        answer_json(error_data(error))
    story(error_text(error))
    return error.exit_code


def _bug(error: Exception) -> int:
    with tempfile.NamedTemporaryFile("w", prefix="provision-bug-", suffix=".log", delete=False) as log:
        log.write(f"arguments: {sys.argv[1:]}\n")
        traceback.print_exception(error, file=log)
    return _stopped(
        ProvisionError(
            what=f"a bug in provision: {type(error).__name__}: {error}",
            why=f"the trace is in {Path(log.name)}",
            hint="please report it with that file",
        )
    )


def wants_json() -> bool:
    """Errors come before options are parsed, so this looks at the words themselves."""
    return "--json" in sys.argv[1:]


def interactive() -> bool:
    """Whether somebody can be asked, and a live display makes sense."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))
