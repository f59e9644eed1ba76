"""Images that the product did not make, in a real engine: found sound, broken or empty, and nothing is left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker.errors import NotFound
from harness.engine import Engine as HarnessEngine
from harness.places import RUN as TEST_RUN

from provision.assets import folder
from provision.errors import Interrupted, StepFailed, UsageError, VerificationFailed
from provision.model.labels import RUN
from provision.model.report import Progress, Report
from provision.run.images import gpus
from provision.run.images.containers import run_once
from provision.run.images.engine import Engine
from provision.run.images.verify import verify_image

pytestmark = pytest.mark.docker

APT = "RUN apt-get update && apt-get install -y --no-install-recommends"
PLAIN = f"{APT} python3 && rm -rf /var/lib/apt/lists/*"
WITH_NUMPY = f"{APT} python3 python3-pip\nRUN pip install --break-system-packages --no-cache-dir numpy==2.4.6"
NOT_HUNG_S = 20.0


@pytest.fixture(scope="module")
def image(mine: Engine, base_image: str) -> Iterator[Callable[..., str]]:
    """image(dockerfile lines, files): its tag. Gone after the module."""
    made: list[str] = []

    def build(lines: str = "", base: str = base_image, network: str = "none", **files: bytes) -> str:
        tag = f"provision-tests-verify:{TEST_RUN}-{len(made)}"
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in {**files, "Dockerfile": f"FROM {base}\n{lines}\n".encode()}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                archive.addfile(entry, io.BytesIO(content))
        context.seek(0)
        mine.client.images.build(
            fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True, network_mode=network
        )
        made.append(tag)
        return tag

    yield build
    for tag in reversed(made):
        mine.remove_image(tag, force=True)


@pytest.fixture(scope="module")
def numpy_image(image: Callable[..., str]) -> str:
    return image(WITH_NUMPY, network="bridge")


@pytest.fixture
def run_id(mine: Engine) -> Iterator[str]:
    """Whatever a test does, no container may be left."""
    name = os.urandom(4).hex()
    yield name
    assert mine.containers_with(RUN, name) == ()


@pytest.fixture
def verify(mine: Engine, run_id: str) -> Callable[..., Report]:
    def run(tag: str, on_event: Callable[[Progress], None] = lambda _: None, **more: object) -> Report:
        arguments = {"cancel": threading.Event(), "on_event": on_event, **more}
        return verify_image(mine, tag, run_id=run_id, **arguments)  # type: ignore[arg-type]

    return run


@pytest.mark.network
@pytest.mark.frameworks
def test_a_plain_image_is_verified(verify: Callable[..., Report], numpy_image: str) -> None:
    events: list[Progress] = []
    report = verify(numpy_image, on_event=events.append)
    assert report.ok, report.failures
    assert {check.id: check.status for check in report.checks} == dict.fromkeys(
        ["memory_disk", "framework_import:numpy", "isa_baseline:numpy", "device_visible:numpy", "quick_ops:numpy",
         "blas", "mnist:numpy"], "pass",
    )  # fmt: skip
    assert report.host == numpy_image
    assert report.smoke is not None
    assert report.smoke.dataset == "synthetic"  # there is no network in the container
    looked = report.steps[0]
    assert (looked.title, looked.detail) == ("Find its Python", "python 3.11.2 (/usr/bin/python3): numpy 2.4.6")
    told = [event.text for event in events if event.kind == "progress"]
    assert told[0] == "memory_disk (1 of 7)"
    assert told[-1] == "mnist:numpy (7 of 7)"


@pytest.mark.network
def test_a_library_that_was_taken_away_is_named(
    verify: Callable[..., Report], image: Callable[..., str], numpy_image: str
) -> None:
    broken = image("RUN rm /usr/local/lib/python3*/dist-packages/numpy.libs/libgfortran*", base=numpy_image)
    report = verify(broken)
    assert not report.ok
    failed = {check.id: check for check in report.checks if check.status == "fail"}
    assert "the shared library libgfortran" in failed["framework_import:numpy"].why
    assert report.failures[0].exit_code == 6
    assert "framework_import:numpy: numpy cannot be imported" in report.failures[0].why


@pytest.mark.network
def test_ctrl_c_in_the_middle_leaves_no_container_and_no_volume(
    verify: Callable[..., Report], mine: Engine, run_id: str, numpy_image: str
) -> None:
    cancel, volumes = threading.Event(), list[str]()

    def stop(event: Progress) -> None:
        if event.text.startswith("mnist:"):
            for container in mine.containers_with(RUN, run_id):
                volumes.extend(each["Name"] for each in mine.client.api.inspect_container(container)["Mounts"])
            threading.Timer(1.0, cancel.set).start()

    begun = time.monotonic()
    with pytest.raises(Interrupted) as stopped:
        verify(numpy_image, on_event=stop, cancel=cancel)
    assert stopped.value.why == "the container was removed, and the image is as it was"
    assert time.monotonic() - begun < 60
    assert len(volumes) == 1
    with pytest.raises(NotFound):
        mine.client.volumes.get(volumes[0])


@pytest.mark.network
def test_a_python_without_a_framework_says_what_was_looked_for(
    verify: Callable[..., Report], image: Callable[..., str]
) -> None:
    tag = image(PLAIN, network="bridge")
    with pytest.raises(VerificationFailed) as found:
        verify(tag)
    assert found.value.what == f"there is no framework in {tag}"
    assert "/usr/bin/python3 is Python 3.11.2, and has none of tensorflow, keras, torch, jax and numpy" in (
        found.value.why
    )


def test_an_image_without_python_says_where_it_was_looked_for(verify: Callable[..., Report], base_image: str) -> None:
    with pytest.raises(VerificationFailed) as found:
        verify(base_image)
    assert found.value.what == f"there is no Python in {base_image}"
    assert "/opt/provision/venv/bin/python, python3 and python in /usr/local/sbin:/usr/local/bin" in found.value.why


def test_an_image_that_is_not_there_is_to_be_pulled_first(verify: Callable[..., Report]) -> None:
    with pytest.raises(StepFailed) as found:
        verify("me/nothing:here")
    assert found.value.what == "there is no image me/nothing:here"
    assert found.value.hint.startswith("docker pull me/nothing:here; or another name")


def test_no_name_is_a_mistake(verify: Callable[..., Report]) -> None:
    with pytest.raises(UsageError, match="no image was named"):
        verify(" ")


def test_gpus_are_asked_for_before_anything_is_started(
    verify: Callable[..., Report], mine: Engine, base_image: str
) -> None:
    if gpus.there(mine):
        pytest.skip("this engine has a GPU to hand over")
    with pytest.raises(UsageError) as found:
        verify(base_image, gpus=True)
    assert found.value.what == "--gpus without a GPU: this engine cannot hand one to a container"
    assert "nvidia-ctk runtime configure" in found.value.hint


def test_a_cpu_that_the_entry_point_refuses_is_said_and_nothing_is_run(
    verify: Callable[..., Report], image: Callable[..., str]
) -> None:
    files = folder("dockerfiles") / "files"
    tag = image(
        "COPY entrypoint check-cpu /opt/provision/bin/\nCOPY cpu /opt/provision/cpu\n"
        'LABEL io.provision.cpu-flags="avx10_9"\nENTRYPOINT ["/opt/provision/bin/entrypoint"]',
        entrypoint=(files / "entrypoint").read_bytes(),
        cpu=b"need avx10_9\ninstead me/tf:v2 sse2\n",
        **{"check-cpu": (files / "check-cpu").read_bytes()},
    )
    report = verify(tag)
    assert not report.ok
    assert [(check.id, check.status) for check in report.checks] == [("entry_point", "skip")]
    assert report.checks[0].what == "not run: this engine's CPU lacks what the image was made for (avx10_9)"
    failure = report.failures[0]
    assert failure.what == "the image was not verified: its entry point refuses this engine's CPU"
    assert failure.why == "this image needs a CPU with avx10_9\nthis CPU lacks avx10_9"
    assert failure.hint == "take me/tf:v2 instead"


# --- containers ------------------------------------------------------------------------------------------------------


def once(engine: Engine, image: str, run_id: str, script: str, timeout_s: float = 60) -> tuple[int, str]:
    command = ["/bin/sh", "-c", script]
    return run_once(engine, image, command, run_id=run_id, timeout_s=timeout_s, cancel=threading.Event())


def test_a_container_is_shut_in(mine: Engine, run_id: str, base_image: str) -> None:
    script = (
        "id -u; ls /sys/class/net; touch /x; touch /tmp/x && echo tmp; echo $HOME; "
        "while read -r name value; do case $name in CapEff:|NoNewPrivs:) echo $name $value ;; esac; done "
        "</proc/self/status"
    )
    code, said = once(mine, base_image, run_id, script)
    assert code == 0
    assert sorted(said.splitlines()) == sorted(
        ["65534", "lo", "touch: cannot touch '/x': Read-only file system", "tmp", "/tmp",
         "CapEff: 0000000000000000", "NoNewPrivs: 1"]
    )  # fmt: skip


def test_a_command_that_is_not_there_leaves_no_container(mine: Engine, run_id: str, base_image: str) -> None:
    with pytest.raises(StepFailed) as failed:
        run_once(mine, base_image, ["/no/such"], run_id=run_id, timeout_s=5, cancel=threading.Event())
    assert failed.value.what == f"a container of {base_image} does not start"
    assert "no such file or directory" in failed.value.why


def test_a_command_that_does_not_end_is_ended(mine: Engine, run_id: str, base_image: str) -> None:
    with pytest.raises(StepFailed) as failed:
        once(mine, base_image, run_id, "echo begun; sleep 600", timeout_s=1)
    assert failed.value.what == f"`/bin/sh -c echo begun; sleep 600` in {base_image} did not end within 1 s"
    assert failed.value.why == "begun"


def test_a_command_ends_with_its_own_status(mine: Engine, run_id: str, base_image: str) -> None:
    assert once(mine, base_image, run_id, "echo out; exit 78") == (78, "out\n")


def test_the_command_leaves_with_5_where_the_image_is_not_there(engine: HarnessEngine, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "provision", "image", "verify", "me/nothing:here"],
        capture_output=True, text=True, timeout=60, env={**os.environ, **engine.environment(), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 5, done.stderr
    assert "error: there is no image me/nothing:here" in done.stderr
    assert "hint: docker pull me/nothing:here" in done.stderr
