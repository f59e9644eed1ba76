"""A tree's own configure: run with every variable set and stdin closed, and what it wrote compared with what was asked.

It must be read back: configure of every release takes a default without a word where an answer does not suit it (a
compute capability list with one bad entry becomes 3.5,7.0), and old ones end with status 0 without having written.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible.module_utils.provision_build_context import Configured, Context, tail
from ansible.module_utils.provision_failure import Failure

CONFIGURE_S = 600.0
SAID_LINES = 12
QUOTED_PATH = re.compile(r'"(/[^"]*)"')
REASON = re.compile(r"Could not find any |Inconsistent CUDA ")
# build:cuda --repo_env HERMETIC_CUDA_COMPUTE_CAPABILITIES="8.6"  ·  build --define=x=1  ·  build:opt --copt=-mavx2
SETS = re.compile(r"^(\S+) (--[\w.-]+)(?:[ =]([A-Za-z_]\w*)(?==))?")


def configure(context: Context, bazel_folder: Path, extra: Mapping[str, str]) -> Configured:
    """Run build.configure in the tree and read its file back. ``bazel_folder`` holds the `bazel` that it will ask.

    Raises Failure (kind "configure").
    """
    asked = context.build["configure"]
    written = context.tree / context.fill(asked["writes"])
    with contextlib.suppress(FileNotFoundError):
        written.unlink()  # one that configure does not write is not its answer
    whole = context.filled_environment({**extra, **asked["environment"]})
    whole["PATH"] = f"{bazel_folder}{os.pathsep}{whole['PATH']}"
    argv, lines = context.fill_all(asked["argv"]), []
    context.say("configuring the tree")
    try:
        status = context.run(argv, on_line=lambda _, line: lines.append(line), environment=whole, timeout_s=CONFIGURE_S)
    except OSError as error:
        raise Failure(
            "configure", f"configure could not be run: {error.strerror}", f"{argv[0]} in {context.tree}",
            "give the source of the release that is to be built",
        ) from error  # fmt: skip
    text = _text(written)
    if status != 0 or not text.strip():
        raise _failed(context, argv, status, lines, asked["writes"], bool(text.strip()))
    problems = differences(text, context.fill_all(asked["expected"]), context.fill_all(asked.get("forbidden") or ()))
    if problems:
        raise Failure(
            "configure",
            f"configure wrote something else into {asked['writes']} than what was asked",
            "\n".join(problems),
            "look into the tree's configure.py: it took a default instead of the answer it was given",
        )
    return Configured(asked["writes"], text)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _failed(
    context: Context, argv: Sequence[str], status: int, lines: Sequence[str], writes: str, wrote: bool
) -> Failure:
    ended = f"`{' '.join(argv)}` ended with status {status}"
    what = "configure failed" if status else f"configure ended well, and wrote no {writes}"
    said = "\n".join(_said(lines))
    cut = f"\n{writes} is cut short" if status and wrote else ""
    hint = f"the log has all of it: {context.log}"
    if any(REASON.match(line.strip()) for line in lines):
        hint = "name the CUDA toolkit's root folders, one real toolkit first; " + hint
    return Failure("configure", what, f"{ended}{cut}\n{said}".strip(), hint)


def _said(lines: Sequence[str]) -> list[str]:
    """The line that tells the reason, then the last different lines: a question that is asked ten times is one."""
    unique = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    last = tail("\n".join(unique), SAID_LINES).splitlines()
    return [*(line for line in unique if REASON.match(line) and line not in last), *last]


# ── reading back ──────────────────────────────────────────────────────────────────────────────────────────────────


def plain(line: str) -> str:
    """Runs of blanks as one, and quoted absolute paths as what they lead to: configure resolves some (the compiler that
    nvcc is given), and keeps others as they are."""
    return QUOTED_PATH.sub(lambda match: f'"{os.path.realpath(match[1])}"', " ".join(line.split()))


def differences(text: str, expected: Sequence[str], forbidden: Sequence[str]) -> list[str]:
    """Every expected line that is not in ``text``, beside what is there instead, and every forbidden text that is."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    there = {plain(line) for line in lines}
    problems = []
    for line in expected:
        if plain(line) not in there:
            instead = [one for one in lines if _sets(one) == _sets(line)]
            problems.append(f"asked: {' '.join(line.split())}")
            problems.append(f"written: {'; '.join(instead) if instead else 'no such line'}")
    for one in forbidden:
        problems += [f"not asked for ({one}): {line}" for line in lines if one in line]
    return problems


def _sets(line: str) -> str:
    """What a line of a bazelrc sets, without the value."""
    match = SETS.match(" ".join(line.split()))
    return " ".join(part for part in match.groups() if part) if match else line
