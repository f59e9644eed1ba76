"""`provision image` on the real program: what it refuses, what it shows, and what it does without anybody to ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from harness.engine import Engine
from worlds.images import plans

from provision.cli.image_build import exit_code, unbuilt
from provision.cli.image_input import check_one_output, check_sweep
from provision.errors import UsageError
from provision.model.report import Failure

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def image(tmp_path: Path) -> Run:
    """image("build", …): the program, without a terminal; ``engine`` is its DOCKER_HOST."""

    def run(*words: str, engine: str = "unix:///nowhere/docker.sock", **more: str) -> subprocess.CompletedProcess[str]:
        root = str(Path(__file__).resolve().parents[2])
        environment = {**os.environ, "PYTHONPATH": root, "HOME": str(tmp_path), "DOCKER_HOST": engine, **more}
        return subprocess.run(
            [sys.executable, "-m", "provision", "image", *words], env=environment, cwd=tmp_path, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build", "-f", "numpy"], "the image has no name"),
        (["build", "-f", "numpy", "--tag", "Me/NP"], "'Me/NP' is not an image reference"),
        (["build", "--tag", "np", "--base", "debian bookworm"], "'debian bookworm' is not an image reference"),
        (["build", "--tag", "np", "--cpu", "native"], "--cpu native is for a box"),
        (["build", "--tag", "np", "--per-level"], "--per-level is about hosts, and none was named"),
        (["build", "--tag", "np", "--copy", "gone.py"], "there is no file or folder 'gone.py'"),
        (["build", "--tag", "np", "--label", "vendor"], "--label 'vendor' is not NAME=VALUE"),
        (["build", "--tag", "np", "--builder-package", "$(id)"], "--builder-package '$(id)' is not a package's name"),
        (["build", "--tag", "np", "--data", "nowhere"], "nowhere"),
        (["build", "--tag", "np", "--builder", "podman"], "'podman' is not one of"),
        (["build", "--output", "Dockerfile", "--push"], "--output and --push contradict each other"),
        (["build", "--output", "nowhere/Dockerfile"], "there is no folder nowhere"),
        (["build", "--output", "D", "--cpu", "x86-64-v2,x86-64-v3"], "--output writes one Dockerfile, and 2 images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_refused_before_any_engine_is_asked(image: Run, words: list[str], said: str) -> None:
    done = image(*words)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert "nowhere/docker.sock" not in done.stderr


def test_a_time_that_is_none_is_refused(image: Run) -> None:
    done = image("build", "-f", "numpy", "--tag", "np", SOURCE_DATE_EPOCH="yesterday")
    assert done.returncode == 2
    assert "SOURCE_DATE_EPOCH is 'yesterday', which is not a time" in done.stderr


@pytest.mark.parametrize("words", [["list"], ["build", "-f", "numpy", "--tag", "np", "--yes"]])
def test_without_an_engine_it_says_what_to_do(image: Run, words: list[str]) -> None:
    done = image(*words, "--json")
    assert done.returncode == 4, done.stderr
    (failure,) = json.loads(done.stdout)["failures"]
    assert "unix:///nowhere/docker.sock" in failure["what"]
    assert failure["hint"]


def test_hosts_and_a_cpu_contradict_each_other() -> None:
    with pytest.raises(UsageError) as stop:
        check_sweep(True, False, "x86-64-v3")
    assert stop.value.what == "--cpu x86-64-v3 and hosts contradict each other"
    with pytest.raises(UsageError) as stop:
        check_one_output(Path("Dockerfile"), ["x86-64-v2", "fleet"])
    assert stop.value.why == "one for each of x86-64-v2, fleet"


def test_the_exit_code_is_that_of_the_first_failure() -> None:
    report = unbuilt(plans("tensorflow", cpus=("x86-64-v3", "x86-64-v4")), "nothing was built")
    assert exit_code(report) == 0
    failed = replace(report.images[1], failures=(Failure(what="no", exit_code=6), Failure(what="nor", exit_code=5)))
    assert exit_code(replace(report, ok=False, images=(report.images[0], failed))) == 6
    assert exit_code(replace(report, ok=False)) == 6


@pytest.mark.docker
def test_a_dry_run_shows_each_tag_and_builds_none(image: Run, engine: Engine, base_image: str) -> None:
    words = ["build", "-f", "tensorflow", "--cpu", "x86-64-v3,x86-64-v4", "--tag", "me/dry", "--base", base_image]
    done = image(*words, "--push", "--dry-run", engine=engine.url)
    assert done.returncode == 0, done.stderr
    assert "image me/dry:v3\n" in done.stdout
    assert "me/dry:v3, me/dry:v4: one environment, built and proved once" in " ".join(done.stdout.split())
    assert "then me/dry:v4 is pushed to Docker Hub: the tag names no registry" in done.stdout
    assert done.stdout.endswith("dry run: nothing was built\n")
    document = json.loads(image(*words, "--dry-run", "--json", engine=engine.url).stdout)
    assert [each["tag"] for each in document["images"]] == ["me/dry:v3", "me/dry:v4"]
    assert (document["ok"], document["builder"], document["images"][0]["id"]) == (True, None, None)


@pytest.mark.docker
def test_without_a_terminal_nothing_is_built_unasked(image: Run, engine: Engine, base_image: str) -> None:
    done = image("build", "-f", "numpy", "--tag", "me/unasked", "--base", base_image, engine=engine.url)
    assert done.returncode == 2
    assert "image me/unasked\n" in done.stderr
    assert "error: an image would be built, and nobody can be asked" in done.stderr


@pytest.mark.docker
def test_a_sweep_says_which_host_takes_which_tag(image: Run, engine: Engine, base_image: str) -> None:
    words = ["build", "localhost", "-f", "pytorch", "--tag", "lab/torch", "--base", base_image, "--per-level"]
    done = image(*words, "--dry-run", engine=engine.url)
    assert done.returncode == 0, done.stderr
    assert "which host takes which image\n\n  localhost  lab/torch" in done.stdout
    document = json.loads(image(*words, "--dry-run", "--json", engine=engine.url).stdout)
    assert [each["hosts"] for each in document["images"]] == [["localhost"]]


def test_a_sweep_needs_every_host(image: Run) -> None:
    done = image("build", "me@127.0.0.1:1", "-f", "numpy", "--tag", "lab/np", "--dry-run")
    assert done.returncode == 4
    assert "an image for the fleet needs every host, and me@127.0.0.1:1 cannot be read" in done.stderr
    assert "hint: leave it out with --limit" in done.stderr


NASTY = "a \"b\" 'c' $(touch /pwned) `id` $HOME \\ #"


@pytest.mark.docker
@pytest.mark.network
def test_what_output_writes_is_built_by_hand_and_data_stays_data(
    image: Run, engine: Engine, base_image: str, tmp_path: Path
) -> None:
    (tmp_path / NASTY.replace("/", "_")).write_text("mine\n")
    tag = f"provision-test-output:{os.urandom(4).hex()}"
    target = f"/work/{NASTY.replace('/', '_')}"
    done = image(
        "build", "-f", "numpy==2.4.6", "--python", "3.11", "--base", base_image, "--builder", "classic", "--tag", tag,
        "--output", "by hand", "--label", f"motd={NASTY}", "--copy", f"{NASTY.replace('/', '_')}:{target}",
        engine=engine.url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"docker build -f 'by hand' -t {tag} 'by hand.context'" in done.stdout
    try:
        engine.client.images.build(
            path=f"{tmp_path}/by hand.context", dockerfile=f"{tmp_path}/by hand", tag=tag, rm=True
        )
        assert engine.client.images.get(tag).labels["motd"] == NASTY
        program = f"import numpy, os; print(numpy.__version__, open({target!r}).read(), os.path.exists('/pwned'))"
        said = engine.client.containers.run(tag, ["python3", "-c", program], remove=True, network_disabled=True)
        assert said.decode() == "2.4.6 mine\n False\n"
    finally:
        with suppress(ImageNotFound):
            engine.client.images.remove(tag, force=True)
