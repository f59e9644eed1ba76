"""A disk that fills during a build, for real: a second dockerd whose images lie on a small file system."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from provision.errors import HostError, StepFailed
from provision.run.images.builders import BuildAsk, choose
from provision.run.images.engine import Engine, connect

pytestmark = [pytest.mark.docker, pytest.mark.skipif(os.geteuid() != 0, reason="mounting and dockerd need root")]

ROOM_MIB = 350
"""The base is sent as a file before it is unpacked: that has to fit, too."""
START_TIMEOUT_S = 60.0


@pytest.fixture
def small(mine: Engine, base_image: str) -> Iterator[Engine]:
    """An engine that has the base, and at most ROOM_MIB left."""
    dockerd = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if dockerd is None:
        pytest.skip("dockerd is not installed")
    size = int(mine.inspect(base_image)["Size"]) // 2**20
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="pt-small-")))
        data = folder / "data"
        data.mkdir()
        options = f"size={size + ROOM_MIB}m"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(data)], check=False).returncode:
            pytest.skip("no file system can be mounted here")
        undo.callback(subprocess.run, ["umount", "--recursive", "--lazy", str(data)], check=True)
        # a network of its own: a dockerd sees to docker0 when it starts, and that one is the other engine's
        argv = [
            "unshare",
            "--net",
            dockerd,
            "--data-root",
            str(data),
            "--exec-root",
            str(folder / "exec"),
            "-H",
            f"unix://{folder}/s",
        ]
        argv += ["--pidfile", str(folder / "pid"), "--iptables=false", "--ip6tables=false"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        undo.callback(process.wait, timeout=60)
        undo.callback(process.terminate)
        engine = undo.enter_context(answering(f"unix://{folder}/s", folder / "log"))
        # closed here: a stream that is only read to its end keeps its connection
        with tempfile.TemporaryFile() as file:
            for chunk in mine.client.api.get_image(base_image):
                file.write(chunk)
            file.seek(0)
            engine.client.images.load(file)
        yield engine


def answering(url: str, log: Path) -> Engine:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if "API listen on" not in log.read_text(errors="replace"):
                raise HostError(what="it is starting")  # noqa: TRY301
            return connect(environ={"DOCKER_HOST": url})
        except HostError:
            if time.monotonic() > deadline:
                pytest.skip(f"a second dockerd does not start here: {log.read_text(errors='replace')[-300:]}")
            time.sleep(0.1)


def test_the_message_says_where_and_how_much_is_left(small: Engine, base_image: str) -> None:
    for name in ("classic", "buildkit"):
        filled(small, base_image, name)


def filled(small: Engine, base_image: str, builder: str) -> None:
    ask = BuildAsk(
        dockerfile=f"FROM {base_image}\nRUN head -c {2 * ROOM_MIB}M /dev/zero >/large\n", context=(),
        tag="provision-build:full-0", run_id="full", host="me/tf:v3", title="Build the environment",
    )  # fmt: skip
    with pytest.raises(StepFailed) as failure:
        choose(small, builder).build(ask, on_event=lambda _event: None, cancel=threading.Event())
    why, hint = failure.value.why, failure.value.hint
    assert "o space left on device" in why
    assert "known cause: a disk of the engine's machine is full" in why
    assert f"the engine keeps images in {small.data_root()}, and " in why
    assert " MiB are free there" in why
    assert "`docker system df` says what takes the room" in hint
