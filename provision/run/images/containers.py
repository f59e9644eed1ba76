"""Containers that are gone afterwards: hardened, without network, their files brought by tar, so that an engine on
another machine serves as well as one on this.
"""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from provision.errors import Interrupted, StepFailed
from provision.model.labels import RUN

if TYPE_CHECKING:
    from provision.run.images.engine import Engine

WORK = "/provision-work"
"""Where a volume is mounted: the one folder of the container that files can be put into."""
OUT = f"{WORK}/out"
"""What runs in the container may write here."""
NOBODY = "65534:65534"
PIDS = 4096
HOME = "/tmp"  # noqa: S108 (in the container, a file system of its own)
TMP_SIZE = "4g"
SHM_SIZE = "512m"
"""PyTorch's loader hands tensors over through /dev/shm; 64 MB, the default, is too little for its workers."""
POLL_S = 0.1
START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a program in a container."""

    status: int | None
    """Exit status, minus the signal where one ended it; None where it timed out."""
    stdout: str
    stderr: str
    seconds: float


class Container:
    """A container of an image. ``with`` it: it is created at the beginning and gone at the end, however that comes.

    ``command`` None: created only, to look at its files. ``entrypoint`` None: the image's own.
    """

    def __init__(
        self,
        engine: Engine,
        image: str,
        *,
        run_id: str,
        command: Sequence[str] | None = None,
        entrypoint: Sequence[str] | None = None,
        gpus: Sequence[Mapping[str, Any]] = (),
        cancel: threading.Event,
    ) -> None:
        self.engine, self.image, self.cancel = engine, image, cancel
        self._api: Any = engine.client.api
        self._run_id, self._gpus = run_id, gpus
        self._command, self._entrypoint = command, entrypoint
        self._runs = 0
        self.id = ""

    def __enter__(self) -> Container:
        _stop_if(self.cancel)
        config = engine_config(self.engine, self.image)
        self.user = user_of(config)
        with refusals(f"no container of {self.image} can be made"):
            host = self._api.create_host_config(
                network_mode="none",
                read_only=True,
                tmpfs={HOME: f"rw,exec,nosuid,nodev,mode=1777,size={TMP_SIZE}"},
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                pids_limit=PIDS,
                shm_size=SHM_SIZE,
                device_requests=[dict(each) for each in self._gpus] or None,
                log_config={"Type": "json-file", "Config": {"max-size": "16m"}},
            )
            made = self._api.create_container(
                self.image,
                list(self._command) if self._command is not None else ["/provision-look"],
                entrypoint=list(self._entrypoint) if self._entrypoint is not None else None,
                user=self.user,
                environment={"HOME": HOME, "PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "1"},
                labels={RUN: self._run_id},
                name=f"provision-{self._run_id}-{next_number()}",
                working_dir=HOME,
                volumes=[WORK],
                healthcheck={"test": ["NONE"]},
                host_config=host,
            )
        self.id = str(made["Id"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """With its volumes; also one whose start failed."""
        if self.id:
            with suppress(Exception):
                self._api.remove_container(self.id, force=True, v=True)

    def start(self) -> None:
        """Raises StepFailed with the engine's own sentence."""
        with refusals(f"a container of {self.image} does not start"):
            self._api.start(self.id)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Lay files into WORK, readable by everybody; OUT is there for what is written. Before or after the start."""
        with refusals(f"files cannot be put into a container of {self.image}"):
            self._api.put_archive(self.id, WORK, packed(files))

    def has(self, path: str) -> bool:
        """Whether a file is there; nothing is run. Links are not followed."""
        from provision.run.images.engine import NotThere

        try:
            chunks, _ = self._api.get_archive(self.id, path)
        except NotThere:
            return False
        chunks.close()
        return True

    def read(self, path: str) -> bytes | None:
        """A file's content; None where it is not there."""
        from provision.run.images.engine import NotThere

        try:
            chunks, _ = self._api.get_archive(self.id, path)
        except NotThere:
            return None
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None and member.isfile() else None
            return file.read() if file is not None else None

    def run(self, python: str, argv: Sequence[str], *, timeout_s: float) -> Ended:
        """Run a program by inside.py, which has to lie in WORK, and wait for it.

        Raises Interrupted within a moment of ``cancel``, and StepFailed where the container is gone.
        """
        self._runs += 1
        out = f"{OUT}/{self._runs}.json"
        begun = time.monotonic()
        status = self._exec([python, f"{WORK}/inside.py", "run", out, str(timeout_s), *argv], timeout_s + START_LIMIT_S)
        found = self.read(out) if status == 0 else None
        if found is None:
            # the runner itself was ended: 137 is SIGKILL, mostly for memory
            ended = None if status is None else _signalled(status)
            return Ended(status=ended, stdout="", stderr="", seconds=time.monotonic() - begun)
        return Ended(**json.loads(found))

    def _exec(self, argv: Sequence[str], limit_s: float) -> int | None:
        with refusals(f"nothing can be run in a container of {self.image}"):
            made = self._api.exec_create(self.id, list(argv), stdin=False, tty=False)["Id"]
            self._api.exec_start(made, detach=True)
            return self._wait(lambda: self._exec_status(made), limit_s)

    def _exec_status(self, made: str) -> int | None:
        state = self._api.exec_inspect(made)
        return None if state["Running"] or state["ExitCode"] is None else int(state["ExitCode"])

    def wait(self, timeout_s: float) -> int | None:
        """The exit status of the container's own process; None where it does not end in time."""
        with refusals(f"the container of {self.image} is gone"):
            return self._wait(self._own_status, timeout_s)

    def _own_status(self) -> int | None:
        state = self._api.inspect_container(self.id)["State"]
        return None if state["Running"] or state["Status"] == "created" else int(state["ExitCode"])

    def output(self) -> str:
        with refusals(f"the container of {self.image} is gone"):
            said: bytes = self._api.logs(self.id, stdout=True, stderr=True)
        return said.decode(errors="replace")

    def _wait(self, status: Any, limit_s: float) -> int | None:
        end, pause = time.monotonic() + limit_s, POLL_S / 5
        while True:
            _stop_if(self.cancel)
            found: int | None = status()
            if found is not None or time.monotonic() >= end:
                return found
            self.cancel.wait(pause)
            pause = min(pause * 1.5, POLL_S * 3)


def run_once(
    engine: Engine,
    image: str,
    command: Sequence[str],
    *,
    run_id: str,
    timeout_s: float,
    cancel: threading.Event,
    gpus: Sequence[Mapping[str, Any]] = (),
) -> tuple[int, str]:
    """A command through the image's own entry point: its exit status, and what it wrote. The container is gone then.

    Raises StepFailed where it cannot be started or does not end within ``timeout_s``, Interrupted.
    """
    with Container(engine, image, run_id=run_id, command=command, gpus=gpus, cancel=cancel) as container:
        container.start()
        status = container.wait(timeout_s)
        said = container.output()
    if status is None:
        raise StepFailed(
            what=f"`{' '.join(command)}` in {image} did not end within {timeout_s:g} s",
            why=said.strip() or "it wrote nothing",
            hint="its entry point may start something else: docker inspect --format '{{.Config.Entrypoint}}' " + image,
        )
    return status, said


def inside_script() -> bytes:
    """The text of inside.py, which goes into the container."""
    return Path(__file__).with_name("inside.py").read_bytes()


def engine_config(engine: Engine, image: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = engine.inspect(image).get("Config") or {}
    return found


def user_of(config: Mapping[str, Any]) -> str:
    """The image's own user where it is an ordinary one, else nobody."""
    own = str(config.get("User") or "").strip()
    return NOBODY if own.partition(":")[0] in {"", "0", "root"} else own


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tar of the files, and of the folder for results, which everybody may write to."""
    packed_files = io.BytesIO()
    with tarfile.open(fileobj=packed_files, mode="w", format=tarfile.GNU_FORMAT) as archive:
        out = tarfile.TarInfo("out")
        out.type, out.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(out)
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed_files.getvalue()


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """The engine's no as StepFailed."""
    from provision.run.images.engine import LOST, EngineSaysNo, sentence

    try:
        yield
    except EngineSaysNo as error:
        raise StepFailed(what=what, why=sentence(error)) from error
    except LOST as error:
        raise StepFailed(
            what=what, why=f"the engine stopped answering: {error}", hint="is it still running? `docker version`"
        ) from error


_counter = iter(range(1, 1 << 62))


def next_number() -> int:
    return next(_counter)


def _signalled(status: int) -> int:
    return 128 - status if status > 128 else status


def _stop_if(cancel: threading.Event) -> None:
    if cancel.is_set():
        raise Interrupted(what="interrupted", why="the container was removed, and the image is as it was")
