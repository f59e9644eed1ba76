"""Does an image do what it should? The checks and MNIST in a container of it, whoever made it."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from provision.errors import StepFailed, UsageError, VerificationFailed
from provision.model import labels
from provision.model.plan import Plan
from provision.model.report import CheckOutcome, Failure, Progress, Report, StepOutcome
from provision.run import checks, reports
from provision.run.checks import Asked, Check
from provision.run.images import containers, gpus
from provision.run.images.containers import WORK, Container, Ended
from provision.run.images.finding import Found, find_python

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

OnEvent = Callable[[Progress], None]

START = "Start the image"
LOOK = "Find its Python"
CHECKS = reports.CHECKED
OUR_ENTRYPOINT = "/opt/provision/bin/entrypoint"
REFUSED = 78
"""EX_CONFIG of sysexits.h: what our entry point ends with on a CPU that lacks what the image was made for."""
START_TIMEOUT_S = 120.0
LIFE_S = 4 * 3600
"""After which the container ends by itself, where we could not remove it (a power cut here)."""
ENTRY = "entry_point"
GPU = "gpu"
STATUSES: Mapping[int, Literal["pass", "fail", "skip"]] = {0: "pass", 1: "fail", 2: "skip"}
TAIL_LINES = 15
OUT_OF_MEMORY = "nearly always the kernel, because memory ran out: docker inspect shows whether the engine limits it"
ENDED_HINTS = {
    "SIGILL": "the image has an instruction that this engine's CPU lacks: take one that was made for lesser CPUs",
    "SIGKILL": OUT_OF_MEMORY,
    "SIGSEGV": "a library in the image is broken, or does not fit another one",
}


def verify_image(
    engine: Engine,
    tag: str,
    *,
    mnist: tuple[Path, ...] = (),
    gpus: bool = False,
    plan: Plan | None = None,
    flags: Sequence[str] = (),
    on_event: OnEvent,
    cancel: threading.Event,
    run_id: str,
    quick_ops: bool = True,
) -> Report:
    """Run the checks of ``plan``, or of what the image's labels say, or of what is found in it.

    ``mnist``: the four files; none: generated digits. ``gpus``: hand all GPUs over; then everything must run on them.
    ``flags``: what the image is to refuse a CPU without, where its labels do not say.
    Nothing of the image is changed, and its container is gone afterwards. Raises StepFailed where there is no such
    image or no container of it starts, UsageError where ``gpus`` cannot be had, VerificationFailed where there is
    nothing that could be checked, Interrupted.
    """
    if not tag.strip():
        raise UsageError(what="no image was named", hint="provision image verify TAG; `docker images` lists them")
    config = _config(engine, tag)
    work = _Verification(engine, tag, config, mnist, gpus, plan, flags, on_event, cancel, run_id, quick_ops)
    return work.report()


def _config(engine: Engine, tag: str) -> Mapping[str, Any]:
    found = engine.find(tag)
    if found is None:
        raise StepFailed(
            what=f"there is no image {tag}",
            why=f"{engine.text} does not have it",
            hint=f"docker pull {tag}; or another name: `docker images` lists what is there",
        )
    arch = str(found.get("Architecture") or "")
    if arch and engine.os_arch.endswith("/amd64") and arch not in ("amd64", "386"):
        raise StepFailed(
            what=f"{tag} is made for other machines",
            why=f"wanted {engine.os_arch}, found {found.get('Os', 'linux')}/{arch}",
            hint=f"docker pull --platform {engine.os_arch} {tag}, where its registry has that",
        )
    config: Mapping[str, Any] = found.get("Config") or {}
    return config


@dataclass
class _Verification:
    """One image, looked at."""

    engine: Engine
    tag: str
    config: Mapping[str, Any]
    mnist: tuple[Path, ...]
    gpus: bool
    plan: Plan | None
    flags: Sequence[str]
    on_event: OnEvent
    cancel: threading.Event
    run_id: str
    quick_ops: bool
    steps: list[StepOutcome] = field(default_factory=list)

    def report(self) -> Report:
        requests = gpus.device_requests(self.engine) if self.gpus else []
        refused = self._refused()
        if refused is not None:
            return self._report([refused], (_not_run(refused),))
        with self._step(LOOK) as said:
            found = find_python(self.engine, self.tag, self.config, run_id=self.run_id, cancel=self.cancel)
            said.append(found.text)
        asked = self._asked(found)
        commands = self._commands(asked, found)
        with self._container(found.python, requests) as container:
            container.put(self._files(commands))
            container.start()
            with self._step(CHECKS):
                answers = self._answers(container, found.python, commands)
        if self._without_gpu(found):
            answers.append(_no_gpu(self.tag))
        return self._report(answers, _failures(answers))

    def _report(self, answers: Sequence[CheckOutcome], failures: tuple[Failure, ...]) -> Report:
        return Report(
            ok=not failures,
            host=self.tag,
            environment=None,
            changed=0,
            steps=tuple(self.steps),
            checks=tuple(answers),
            smoke=reports.smoke_of(answers),
            failures=failures,
        )

    def _refused(self) -> CheckOutcome | None:
        """The entry point's own words where it refuses this CPU; other images' entry points are not run."""
        if OUR_ENTRYPOINT not in (self.config.get("Entrypoint") or ()):
            return None
        command = ["python3", "-c", "import sys; print(sys.version)"]
        with self._step(START):
            code, said = containers.run_once(
                self.engine, self.tag, command, run_id=self.run_id, timeout_s=START_TIMEOUT_S, cancel=self.cancel
            )
        if code == 0:
            return None
        if code != REFUSED:
            raise VerificationFailed(
                what=f"{self.tag} does not start",
                why=f"`{' '.join(command)}` by its entry point ended with {code}:\n{said.strip()}",
                hint=f"docker run --rm -it --entrypoint /bin/sh {self.tag} shows what is in it",
            )
        flags = ", ".join(self.flags or labels.flags_from(self.config.get("Labels")))
        lines = [line.strip() for line in said.strip().splitlines()]
        hint = next((line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")), "")
        why = "\n".join(line.removeprefix("error: ") for line in lines if not line.startswith("hint: "))
        what = f"not run: this engine's CPU lacks what the image was made for{f' ({flags})' if flags else ''}"
        return CheckOutcome(id=ENTRY, status="skip", what=what, why=why, hint=hint)

    def _asked(self, found: Found) -> tuple[Asked, ...]:
        """What is to be there: the plan says it, or the image's labels, or what was found is taken for it."""
        stack = self.plan.stack if self.plan is not None else labels.stack_from((self._labels()).get(labels.STACK))
        if stack:
            return tuple(
                Asked(framework=each.framework, version=each.version, device=self._device(each.framework))
                for each in stack
            )
        names = found.to_check()
        if not names:
            raise VerificationFailed(
                what=f"there is no framework in {self.tag}",
                why=f"{found.python} is Python {found.version}, and has none of tensorflow, keras, torch, jax and numpy"
                f"{found.others}",
                hint="provision image build makes one that has; where it lies in a home folder of root's, "
                "an ordinary user cannot see it",
            )
        return tuple(Asked(framework=name, version=found.frameworks[name], device=self._device(name)) for name in names)

    def _device(self, framework: str) -> str:
        """NumPy beside other frameworks stays on the CPU, where it belongs."""
        alone = self.plan is None or len(self.plan.stack) == 1
        return "cuda" if self.gpus and (framework != "numpy" or alone) else "cpu"

    def _commands(self, asked: Sequence[Asked], found: Found) -> tuple[Check, ...]:
        needed = checks.needed_flags(self.plan) if self.plan is not None else {}
        return checks.commands_for(
            asked,
            needed,
            builds=self.plan.builds if self.plan is not None else (),
            mnist=bool(self.mnist),
            quick_ops=self.quick_ops,
            train=not self._without_gpu(found),
        )

    def _without_gpu(self, found: Found) -> bool:
        """Whether it is made for GPUs and was given none: then a CPU shows only a part."""
        if self.gpus:
            return False
        if self.plan is not None:
            return any(each.device == "cuda" for each in self.plan.stack)
        device = self._labels().get(labels.DEVICE)
        return device == "cuda" if device else bool(found.cuda)

    def _labels(self) -> Mapping[str, str]:
        return self.config.get("Labels") or {}

    def _container(self, python: str, requests: Sequence[Mapping[str, Any]]) -> Container:
        return Container(
            self.engine,
            self.tag,
            run_id=self.run_id,
            entrypoint=[python, f"{WORK}/inside.py", "wait", str(LIFE_S)],
            command=[],
            gpus=requests,
            cancel=self.cancel,
        )

    def _files(self, commands: Sequence[Check]) -> dict[str, bytes]:
        scripts = {f"checks/{name}": text.encode() for name, text in checks.check_files(commands).items()}
        data = {f"mnist/{path.name}": path.read_bytes() for path in self.mnist}
        return {"inside.py": containers.inside_script(), **scripts, **data}

    def _answers(self, container: Container, python: str, commands: Sequence[Check]) -> list[CheckOutcome]:
        answers: list[CheckOutcome] = []
        for number, check in enumerate(commands, 1):
            gate = next((each for each in answers if each.id == check.needs and each.status == "fail"), None)
            if gate is not None:
                what = f"not run: {gate.what}"
                answers.append(CheckOutcome(id=check.id, status="skip", what=what, why=gate.why, hint=gate.hint))
                continue
            self._say("progress", CHECKS, f"{check.id} ({number} of {len(commands)})")
            script, *rest = check.argv
            arguments = [each.replace(checks.DATA, f"{WORK}/mnist") for each in rest]
            ended = container.run(python, [python, f"{WORK}/checks/{script}", *arguments], timeout_s=check.timeout_s)
            answers.append(outcome(check, ended))
        return answers

    @contextmanager
    def _step(self, title: str) -> Iterator[list[str]]:
        """Tell it and time it. Details can be put into what is yielded."""
        begun, said, status = time.monotonic(), list[str](), "failed"
        self._say("step", title)
        try:
            yield said
            status = "ok"
        finally:
            self._say("done" if status == "ok" else "failed", title, " ".join(said))
            self.steps.append(
                StepOutcome(
                    id=title.lower().replace(" ", "_").replace("'", ""),
                    title=title,
                    status="ok" if status == "ok" else "failed",
                    seconds=round(time.monotonic() - begun, 3),
                    detail=" ".join(said),
                )
            )

    def _say(self, kind: Literal["step", "progress", "done", "failed"], step: str, text: str = "") -> None:
        self.on_event(Progress(host=self.tag, kind=kind, step=step, text=text))


def outcome(check: Check, ended: Ended) -> CheckOutcome:
    """What a check's end means: its own answer, or that it crashed, hung or was killed."""
    answer = _last_json(ended.stdout)
    if ended.status is not None and ended.status in STATUSES and answer is not None:
        what, why, hint = (str(answer.get(name) or "") for name in ("what", "why", "hint"))
        data = answer.get("data")
        found = CheckOutcome(id=check.id, status=STATUSES[ended.status], what=what, why=why, hint=hint, data=data)
        return checks.named(found)
    said = (ended.stderr.strip() or ended.stdout.strip()).splitlines()[-TAIL_LINES:]
    what, hint = _broken(check, ended.status)
    return CheckOutcome(id=check.id, status="fail", what=what, why="\n".join(said) or "it printed nothing", hint=hint)


def _broken(check: Check, status: int | None) -> tuple[str, str]:
    if status is None:
        return f"{check.id} did not end within {check.timeout_s} s and was stopped", "again, when the engine is idle"
    if status < 0:
        known = {each.value: each.name for each in signal.Signals}
        name = known.get(-status, f"signal {-status}")
        return f"{check.id} was ended by {name}", ENDED_HINTS.get(name, "")
    if status == 137:
        return f"{check.id} was killed (137)", OUT_OF_MEMORY
    if status in STATUSES:
        return f"{check.id} gave no answer", "this is a bug in the check; its last output is above"
    return f"{check.id} ended with status {status}", ""


def _last_json(text: str) -> Mapping[str, Any] | None:
    for line in reversed(text.splitlines()):
        if line.lstrip().startswith("{"):
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                return value
    return None


def _failures(answers: Sequence[CheckOutcome]) -> tuple[Failure, ...]:
    failed = [each for each in answers if each.status == "fail"]
    if not failed:
        return ()
    return (
        Failure(
            what=f"{len(failed)} of {len(answers)} checks failed: {', '.join(each.id for each in failed)}",
            why="\n".join(f"{each.id}: {each.what}" for each in failed),
            hint=next((each.hint for each in failed if each.hint), ""),
            exit_code=VerificationFailed.exit_code,
        ),
    )


def _not_run(refused: CheckOutcome) -> Failure:
    return Failure(
        what="the image was not verified: its entry point refuses this engine's CPU",
        why=refused.why,
        hint=refused.hint or "verify it with an engine on a CPU that has these flags (DOCKER_HOST=ssh://…)",
        exit_code=VerificationFailed.exit_code,
    )


def _no_gpu(tag: str) -> CheckOutcome:
    return CheckOutcome(
        id=GPU,
        status="skip",
        what="not proved on a GPU: none was handed to the container",
        why="the image is made for NVIDIA GPUs; only what runs on a CPU was checked, and MNIST was left out",
        hint=f"on an engine with a GPU: provision image verify {tag} --gpus",
    )
