"""Builds that are driven by ninja or meson: their "[n/m]" lines, and the words of what failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ansible.module_utils.provision_build_context import BuildFailure, Context, Estimate, tail

# [1234/6543] Building CXX object caffe2/CMakeFiles/torch_cpu.dir/aten/src/ATen/…cpp.o
STEP = re.compile(r"\s*\[(\d+)/(\d+)\] ?(.*)")
# [12/1021] /home/me/…/numpy/_core/libnpymath.a     meson-python counts the files that it packs in the same way
PACKED = re.compile(r"/(?!.* -)")
# FAILED: caffe2/CMakeFiles/torch_cpu.dir/x.cpp.o     (ninja 1.12: "FAILED: [code=1] x.o")
FAILED = re.compile(r"\s*FAILED: (?:\[code=\d+\] )?(.*)")
COMPILES = re.compile(r"Building (?:C|CXX|CUDA) object|Compiling (?:C|C\+\+) object")
ERROR = re.compile(r"\b(?:fatal error|error|Error|ERROR)\b[: ]|Killed|No space left")
# ../../meson.build:28:4: ERROR: Problem encountered: …
MESON = re.compile(r"meson\.build:\d+:\d+: ERROR: ")
KEPT_LINES = 4000


class Steps:
    """Hears the lines of a build: how far it is, and what it said when something failed."""

    def __init__(self, context: Context, what: str) -> None:
        self._context, self._what = context, what
        self._estimate = Estimate(context.earlier, context.jobs)
        self._lines: list[str] = []
        self._failed_at: int | None = None
        self.label = ""
        self.done = 0
        self.compiled = 0

    def run(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run the build command in the tree. Raises BuildFailure."""
        try:
            status = self._context.run(argv, on_line=self.hear, environment=environment)
        except OSError as error:
            raise self._failure(f"{argv[0]} cannot be run: {error.strerror}", argv, "") from error
        if status != 0:
            raise self.failure(status, argv)

    def hear(self, _: str, line: str) -> None:
        self._lines.append(line)
        if len(self._lines) > KEPT_LINES and self._failed_at is None:
            del self._lines[: KEPT_LINES // 2]
        step, failed = STEP.match(line), FAILED.match(line)
        if failed and self._failed_at is None:
            self._failed_at, self.label = len(self._lines) - 1, failed[1].strip()
        if step and not PACKED.match(step[3]):
            self._step(int(step[1]), int(step[2]), step[3])

    def _step(self, number: int, total: int, text: str) -> None:
        self.done += 1
        self.compiled += bool(COMPILES.match(text))
        running = min(self._context.jobs, total - number)
        self._context.say(f"{self._what}: {text}"[:160], self._estimate.progress(number, total, running=running))

    def failure(self, status: int, argv: Sequence[str]) -> BuildFailure:
        """What a command that ended with ``status`` says: the failing step's own words, else the last ones."""
        said = self._lines[-200:]
        command = " ".join(argv)
        if self._failed_at is not None:
            said = self._lines[self._failed_at :]
            stop = next(
                (at for at, line in enumerate(said[1:], 1) if STEP.match(line) or FAILED.match(line)), len(said)
            )
            said = said[:stop]
            command = said[1] if len(said) > 1 else command
        why = next((line.strip() for line in said[1:] if ERROR.search(line)), "")
        if self._failed_at is None:  # not a step of ninja: what stopped it stands at the end
            ends = [line.strip() for line in said if ERROR.search(line)]
            why = next((line for line in ends if MESON.search(line)), ends[-1] if ends else "")
        why = why or f"{argv[0]} ended with status {status}" + (f": {said[-1].strip()}" if said else "")
        return self._failure(why, [command], "\n".join(said))

    def _failure(self, why: str, command: Sequence[str], said: str) -> BuildFailure:
        build = self._context.build
        return BuildFailure(
            f"building {build['framework']} {build['version']} failed",
            why,
            "the log has all of it",
            label=self.label,
            command=" ".join(command),
            log=self._context.log,
            log_tail=tail(said),
        )
