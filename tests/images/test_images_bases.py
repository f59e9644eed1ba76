"""Bases: what is read of one, and which cannot be one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Iterator

import pytest

from provision.errors import Interrupted, StepFailed, UsageError
from provision.model.labels import RUN
from provision.model.report import Progress
from provision.run.images.bases import look
from provision.run.images.engine import Engine

pytestmark = pytest.mark.docker


@pytest.fixture
def loaded(mine: Engine) -> Iterator[Callable[..., str]]:
    """loaded(architecture, files): an image of these files; gone after the test."""
    names: list[str] = []

    def make(architecture: str = "amd64", files: dict[str, bytes] | None = None) -> str:
        name = f"provision-tests/base-{os.urandom(4).hex()}:1"
        layer = archive(files or {"empty": b""})
        diff = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        configuration = {"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff]}}
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        whole = {"layer.tar": layer, "config.json": json.dumps(configuration).encode()}
        mine.client.images.load(archive({**whole, "manifest.json": json.dumps(manifest).encode()}))
        names.append(name)
        return name

    yield make
    for name in names:
        mine.remove_image(name, force=True)


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def looked(engine: Engine, reference: str, run_id: str = "") -> tuple[object, list[Progress]]:
    events: list[Progress] = []
    return look(engine, reference, on_event=events.append, cancel=threading.Event(), run_id=run_id or "look"), events


def test_a_base_is_what_is_in_it(mine: Engine, base_image: str) -> None:
    run_id = os.urandom(4).hex()
    events: list[Progress] = []
    base = look(mine, base_image, on_event=events.append, cancel=threading.Event(), run_id=run_id)
    said = mine.inspect(base_image)
    assert (base.reference, base.id, base.digest) == (base_image, said["Id"], None)
    assert base.facts.system.os.id in ("debian", "ubuntu")
    assert base.facts.system.glibc is not None
    assert base.facts.system.container
    assert 1_600_000_000 < base.created < 4_000_000_000
    assert [event.kind for event in events] == ["step", "done"]
    assert mine.containers_with(RUN, run_id) == ()


def test_another_architecture(mine: Engine, loaded: Callable[..., str]) -> None:
    name = loaded("arm64")
    with pytest.raises(UsageError) as failure:
        looked(mine, name)
    assert failure.value.what == f"the base {name} is for another architecture"
    assert failure.value.why == "wanted linux/amd64, found linux/arm64"
    assert failure.value.hint.endswith(f"docker pull --platform linux/amd64 {name}")


def test_no_shell(mine: Engine, loaded: Callable[..., str]) -> None:
    name, run_id = loaded(), os.urandom(4).hex()
    with pytest.raises(UsageError) as failure:
        looked(mine, name, run_id)
    assert failure.value.what == f"the base {name} has no /bin/sh"
    assert "debian:bookworm, ubuntu:24.04" in failure.value.hint
    assert mine.containers_with(RUN, run_id) == ()


def test_a_shell_for_another_machine(mine: Engine, loaded: Callable[..., str]) -> None:
    """An image that says amd64 and holds something else: the engine's sentence, with its cause."""
    name = loaded(files={"bin/sh": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\x34\x12" + bytes(100)})
    with pytest.raises(StepFailed) as failure:
        looked(mine, name)
    assert "exec format error" in failure.value.why
    assert "known cause: the image is for another architecture" in failure.value.why


def test_a_base_that_does_not_exist(mine: Engine) -> None:
    with pytest.raises(StepFailed) as failure:
        looked(mine, "127.0.0.1:1/none:1")
    assert failure.value.what == "the engine has no image 127.0.0.1:1/none:1, and it cannot be pulled"
    assert "connection refused" in failure.value.why


def test_an_interruption(mine: Engine, base_image: str) -> None:
    cancel, run_id = threading.Event(), os.urandom(4).hex()
    cancel.set()
    with pytest.raises(Interrupted):
        look(mine, base_image, on_event=lambda _event: None, cancel=cancel, run_id=run_id)
    assert mine.containers_with(RUN, run_id) == ()
