"""The only module that prints: the answer to stdout, the story to stderr, errors in three parts."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from provision.errors import Explanation, Interrupted, ProvisionError

BUG_EXIT = 1


def answer(text: str) -> None:
    """To stdout, as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def story(text: str) -> None:
    """To stderr."""
    sys.stderr.write(text if text.endswith("\n") else text + "\n")
    sys.stderr.flush()


def answer_json(value: Any) -> None:
    """One JSON document on stdout."""
    from provision.model.data import to_json

    answer(to_json(value))


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


def error_data(error: ProvisionError) -> dict[str, Any]:
    """The same three parts for ``--json``."""
    parts = [{"what": error.what, "why": error.why, "hint": error.hint}]
    parts += [{"what": detail.what, "why": detail.why, "hint": detail.hint} for detail in error.details]
    return {"schema": 1, "ok": False, "failures": [{**part, "exit_code": error.exit_code} for part in parts]}


def guarded(program: Callable[[], Any]) -> int:
    """Run ``program`` and turn whatever stops it into an exit code and one clear message."""
    try:
        program()
    except ProvisionError as error:
        return _stopped(error)
    except KeyboardInterrupt:
        return _stopped(Interrupted(what="interrupted", why="nothing was being changed"))
    except BrokenPipeError:
        # the reader of our output went away (`provision … | head`): not an error of ours
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        return _bug(error)
    return 0


def _stopped(error: ProvisionError) -> int:
    if wants_json():
        answer(json.dumps(error_data(error), indent=2, ensure_ascii=False))
    story(error_text(error))
    return error.exit_code


def _bug(error: Exception) -> int:
    with tempfile.NamedTemporaryFile("w", prefix="provision-bug-", suffix=".log", delete=False) as log:
        log.write(f"arguments: {sys.argv[1:]}\n")
        traceback.print_exception(error, file=log)
    story(
        f"error: a bug in provision: {type(error).__name__}: {error}\n"
        f"  the trace is in {Path(log.name)}\n"
        "  hint: please report it with that file\n"
    )
    return BUG_EXIT


def wants_json() -> bool:
    """Errors come before options are parsed, so this looks at the words themselves."""
    return "--json" in sys.argv[1:]


def interactive() -> bool:
    """Whether somebody can be asked, and a live display makes sense."""
    return sys.stdin.isatty() and sys.stderr.isatty()
