"""Our Dockerfiles, built for real: with both of the engine's builders, by hand, and twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.engine import Engine as HarnessEngine
from plans import base, plan, tiny_wheel

from provision.model.image import Copied, ImagePlan
from provision.render.dockerfile import environment_dockerfile, final_dockerfile, whole_dockerfile
from provision.run.images import buildkit, cleanup
from provision.run.images.builders import BuildAsk, Builder, choose
from provision.run.images.context import environment_context, final_context, templates, write_context
from provision.run.images.engine import Engine
from provision.run.uv import uv_for

pytestmark = [pytest.mark.docker, pytest.mark.network]

NASTY = 'it\'s "quoted" $(touch /pwned) `id`; ${HOME} $HOME \\ \\" \t end\\'
CREDENTIAL = "hunter2 $(touch /pwned)"


class Made:
    """Environments and images of one run, all gone afterwards."""

    def __init__(self, engine: Engine, base_image: str, folder: Path) -> None:
        self.engine, self.base_image, self.folder = engine, base_image, folder
        self.run_id = os.urandom(4).hex()
        self.number = 0
        self.wheel, self.lock = tiny_wheel(folder)

    def plan(self, **more: Any) -> ImagePlan:
        return plan("numpy==2.4.6", on=base(self.base_image), lock=self.lock, **more)

    def files(self, one: ImagePlan) -> tuple[Any, ...]:
        return environment_context(
            one, uv=uv_for("x86_64").path, uv_environment={"UV_INDEX_OURS_PASSWORD": CREDENTIAL}, wheels=[self.wheel]
        )

    def tag(self) -> str:
        self.number += 1
        return f"{cleanup.TEMPORARY}:{self.run_id}-{self.number}"

    def built(self, builder: Builder, dockerfile: str, context: tuple[Any, ...], **more: Any) -> str:
        tag = self.tag()
        ask = BuildAsk(
            dockerfile=dockerfile, context=context, tag=tag, run_id=self.run_id, host="test", title="Build", **more
        )
        builder.build(ask, on_event=lambda _: None, cancel=threading.Event())
        return tag

    def environment(self, builder: Builder, one: ImagePlan, **more: Any) -> str:
        text = environment_dockerfile(one, templates(), mounts=builder.mounts, wheels=(self.wheel.name,))
        return self.built(builder, text, self.files(one), **more)

    def image(self, builder: Builder, one: ImagePlan) -> str:
        start = self.environment(builder, one)
        return self.built(builder, final_dockerfile(one, templates(), start=start, verdict=None), final_context(one))

    def run(self, tag: str, *command: str, **more: Any) -> tuple[int, str]:
        container = self.engine.client.containers.create(tag, list(command) or None, network_mode="none", **more)
        try:
            container.start()
            code = container.wait(timeout=60)["StatusCode"]
            return int(code), container.logs().decode()
        finally:
            container.remove(force=True, v=True)

    def layers(self, tag: str) -> list[str]:
        return list(self.engine.inspect(tag)["RootFS"]["Layers"])


@pytest.fixture(scope="module")
def made(mine: Engine, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    one = Made(mine, base_image, tmp_path_factory.mktemp("made"))
    yield one
    for number in range(one.number, 0, -1):
        with suppress(Exception):
            mine.client.images.remove(f"{cleanup.TEMPORARY}:{one.run_id}-{number}", force=True)
    cleanup.tidy(mine, one.run_id)


def builder_called(engine: Engine, name: str) -> Builder:
    if name == "buildkit" and (missing := buildkit.missing(engine)) is not None:
        pytest.skip(missing)
    return choose(engine, name)


@pytest.fixture(params=["buildkit", "classic"])
def builder(request: pytest.FixtureRequest, mine: Engine) -> Builder:
    return builder_called(mine, request.param)


@pytest.mark.parametrize("minimal", [False, True], ids=["default", "minimal"])
def test_an_image_starts_python_as_an_ordinary_user(
    builder: Builder, made: Made, minimal: bool, tmp_path: Path
) -> None:
    (tmp_path / "my file.txt").write_text("mine")
    copied = (Copied(source=str(tmp_path / "my file.txt"), target="/work/"),)
    image = made.image(builder, made.plan(minimal=minimal, copied=copied, labels={"note": NASTY}))

    code = (
        "import json, numpy, os, ssl, sqlite3, sys; "
        "print(json.dumps([numpy.__version__, numpy.__cached__ is not None and os.path.exists(numpy.__cached__), "
        "os.getuid(), os.getcwd(), open('my file.txt').read(), sys.prefix, os.environ['HOME']]))"
    )
    status, said = made.run(image, "python3", "-c", code)
    assert status == 0, said
    assert json.loads(said) == ["2.4.6", True, 1000, "/work", "mine", "/opt/provision/venv", "/home/provision"]

    assert made.run(image, "/opt/provision/bin/healthcheck") == (0, "")
    found = made.engine.inspect(image)
    assert found["Config"]["Labels"]["note"] == NASTY
    assert found["Config"]["User"] == "1000:1000"
    assert CREDENTIAL not in json.dumps(made.engine.client.api.history(image)) + json.dumps(found)
    left = "import pathlib; p = pathlib.Path; "
    left += "print(*(x for x in ('/build', '/rootfs', '/tmp/begun', '/pwned') if p(x).exists()), "
    left += "*p('/opt/provision').rglob('*.pyi'), *p('/opt/provision').rglob('tests'))"
    assert made.run(image, "python3", "-c", left) == (0, "\n")


def test_two_builds_make_the_same_layers_whichever_builder(mine: Engine, made: Made) -> None:
    one = made.plan()
    layers = []
    for name in ("classic", "classic", "buildkit"):
        builder = builder_called(mine, name)
        layers.append(made.layers(made.environment(builder, one, no_cache=True)))
    assert layers[0] == layers[1]
    assert layers[0] == layers[2]


def test_a_healthcheck_says_that_the_framework_is_gone(mine: Engine, made: Made) -> None:
    image = made.image(builder_called(mine, "classic"), made.plan())
    gone = "rm -r /opt/provision/venv/lib/python3*/site-packages/numpy-*; exec /opt/provision/bin/healthcheck"
    status, said = made.run(image, "sh", "-c", gone, user="0")
    assert status == 1
    assert "numpy is not in /opt/provision/venv/lib/python3" in said


def test_a_cpu_that_lacks_a_flag_is_refused(mine: Engine, made: Made) -> None:
    one = replace(made.plan(), flags=("no_cpu_has_this",), instead=(("me/it:v1", ()),))
    status, said = made.run(made.image(builder_called(mine, "classic"), one), "python3", "-c", "print('started')")
    assert status == 78
    assert "error: this image needs a CPU with no_cpu_has_this" in said
    assert "take me/it:v1 instead" in said
    assert "started" not in said


@pytest.mark.parametrize("buildkit_too", [False, True], ids=["classic", "buildkit"])
def test_what_output_writes_can_be_built_by_hand(
    engine: HarnessEngine, mine: Engine, made: Made, tmp_path: Path, buildkit_too: bool
) -> None:
    docker = shutil.which("docker", path="/usr/bin:/usr/local/bin")
    if docker is None:
        pytest.skip("there is no docker command here")
    one = made.plan(tag=None)
    text = whole_dockerfile(one, templates(), mounts=buildkit_too)
    write_context(tmp_path, text, (*made.files(one), *final_context(one)))
    tag = made.tag()
    environ = {**os.environ, **engine.environment(), "DOCKER_BUILDKIT": str(int(buildkit_too))}
    done = subprocess.run(
        [docker, "build", "-q", "-t", tag, str(tmp_path)], env=environ, capture_output=True, text=True, check=False
    )
    if buildkit_too and "buildx" in done.stderr:
        pytest.skip("this docker command has no BuildKit")
    assert done.returncode == 0, done.stderr
    assert made.run(tag, "python3", "-c", "import numpy; print(numpy.NAMES == {'a', 'b', 'c'})") == (0, "True\n")
