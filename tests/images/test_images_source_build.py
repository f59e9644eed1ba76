"""A tree of TensorFlow's shape, built by Bazel in a builder stage of a real engine, with and without mounts."""

from __future__ import annotations

import os
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.engine import Engine as HarnessEngine
from harness.trees import tensorflow_tree
from source_plans import BAZEL, BAZEL_PACKAGES, VERSION, source_plan

from provision.errors import Interrupted, StepFailed, UsageError
from provision.model.image import Base
from provision.model.report import Progress
from provision.run.build_settings import BuildSettings
from provision.run.images import bases, cleanup
from provision.run.images.builders import Builder, choose
from provision.run.images.engine import Engine, connect
from provision.run.images.wheels import MadeWheels, make_wheels

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.bazel, pytest.mark.slow]

COMPILES = 40
"""At least, of the tree's 55: the others include none of its headers, and may be in the engine's cache already."""
PASSWORD = "s3cret-of-the-lab"  # noqa: S105 - nobody's

Make = Callable[..., MadeWheels]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def docker_engine(engine: HarnessEngine) -> Iterator[Engine]:
    with connect(environ={**os.environ, **engine.environment()}) as found:
        yield found


@pytest.fixture(scope="module")
def base(docker_engine: Engine, debian_image: Callable[[str], str]) -> Base:
    """Debian with a compiler and Bazel, so that the stage's packages are there already."""
    return bases.look(docker_engine, debian_image("builder"), on_event=print, cancel=threading.Event())


@pytest.fixture
def run_id() -> str:
    return os.urandom(4).hex()


def like_no_other(folder: Path) -> Path:
    """A tree of which nothing is in the engine's caches."""
    tensorflow_tree(folder, VERSION)
    for header in sorted((folder / "tensorflow").rglob("*.h")):
        with header.open("a", encoding="utf-8") as file:
            file.write(f"// {os.urandom(8).hex()}\n")
    return folder


@pytest.fixture(scope="module")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return like_no_other(tmp_path_factory.mktemp("source") / "tensorflow")


@pytest.fixture
def tree(tmp_path: Path, shared_tree: Path) -> Path:
    """One's own copy; what another test has compiled of it is in the disk cache."""
    return Path(shutil.copytree(shared_tree, tmp_path / "tensorflow"))


@pytest.fixture
def make(docker_engine: Engine, base: Base, tree: Path, run_id: str) -> Iterator[Make]:
    def made(
        builder: str,
        *packages: str,
        source: Path = tree,
        on_event: Callable[[Progress], None] = print,
        cancel: threading.Event | None = None,
        **more: Any,
    ) -> MadeWheels:
        plan = source_plan(f"tensorflow=={VERSION}", on=base, tree=source, compiler="gcc-12")
        settings = BuildSettings(bazel=BAZEL, jobs=2, **more)
        return make_wheels(
            docker_engine, _builder(docker_engine, builder), plan, settings=settings, on_event=on_event,
            cancel=cancel or threading.Event(), run_id=run_id, no_cache=False, packages=(*BAZEL_PACKAGES, *packages),
        )  # fmt: skip

    yield made
    left = cleanup.dangling_of(docker_engine, run_id)
    cleanup.tidy(docker_engine, run_id)
    assert left == ((), ()), "temporary containers and tags were left"


def _builder(engine: Engine, name: str) -> Builder:
    try:
        return choose(engine, name)
    except StepFailed as error:
        pytest.skip(f"{error.what}: {error.why}")


def test_a_wheel_is_made_once_and_another_layer_takes_from_the_disk_cache(make: Make, tmp_path: Path) -> None:
    told: list[Progress] = []
    fresh = like_no_other(tmp_path / "fresh")
    first = make("buildkit", source=fresh, on_event=told.append)
    (outcome,), (file,), (wheel,) = first.outcomes, first.files, first.wheels
    assert outcome.built and outcome.compile_actions is not None and outcome.compile_actions >= COMPILES
    assert outcome.compiler.startswith("GCC 12.") and outcome.compiler.endswith("(/usr/bin/gcc-12)")
    assert [(check.id, check.status) for check in first.checks] == [("isa_audit:tensorflow", "pass")]
    assert zipfile.ZipFile(file).testzip() is None
    assert (wheel.distribution, wheel.version, wheel.requires) == ("tensorflow", VERSION, ("numpy",))
    assert any(re.search(r"\[\d+ / \d+\] Compiling ", event.text) for event in told), "how far Bazel is"

    again = make("buildkit", source=fresh)
    assert again.files == first.files
    assert [each.built for each in again.outcomes] == [False], "the stage is in the builder's cache"

    # one package more is another layer: the recipe runs again
    other = make("buildkit", "gawk", source=fresh)
    (outcome,) = other.outcomes
    assert outcome.built and outcome.compile_actions == 0
    assert outcome.cache_hits is not None and outcome.cache_hits >= COMPILES
    assert other.files == first.files, "the same build gives the same bytes"


def test_the_classic_builder_makes_the_same_and_is_given_no_secret(make: Make, docker_engine: Engine) -> None:
    made = make("classic")
    (outcome,) = made.outcomes
    assert (outcome.built, outcome.compile_actions, outcome.cache_hits) == (True, 55, 0), "it has no cache but layers"
    assert [each.built for each in make("classic").outcomes] == [False]
    with pytest.raises(UsageError) as caught:
        make("classic", remote_cache="http://127.0.0.1:1", remote_cache_user="me", remote_cache_password=PASSWORD)
    assert caught.value.what == "the classic builder cannot keep a secret"


def test_a_source_that_does_not_compile_is_told_as_on_a_box(make: Make, tree: Path) -> None:
    with (tree / "tensorflow/core/kernels/matmul.cc").open("a", encoding="utf-8") as file:
        file.write('#include "nowhere.h"\n')
    told: list[Progress] = []
    with pytest.raises(StepFailed) as caught:
        make("buildkit", on_event=told.append)
    assert not [event for event in told if "provision-answer" in event.text]
    error = caught.value
    assert error.what == "building tensorflow 2.15.1 failed: compiling matmul.cc"
    assert "fatal error: nowhere.h: No such file or directory" in error.why
    assert "the whole log: " in error.why
    log = Path(error.why.partition("the whole log: ")[2].splitlines()[0])
    assert "nowhere.h" in log.read_text(encoding="utf-8")
    assert "provision-answer" not in log.read_text(encoding="utf-8") + error.why


def test_a_password_is_in_no_layer_and_a_cache_that_is_down_is_noted(make: Make, docker_engine: Engine) -> None:
    before = {each["Id"] for each in docker_engine.client.api.images(all=True)}
    made = make("buildkit", remote_cache="http://127.0.0.1:1", remote_cache_user="me", remote_cache_password=PASSWORD)
    (outcome,) = made.outcomes
    assert outcome.remote_cache.startswith("down: ")
    for image in {each["Id"] for each in docker_engine.client.api.images(all=True)} - before:
        assert PASSWORD not in str(docker_engine.client.api.history(image))
    assert PASSWORD not in repr(made)


def test_a_build_that_is_cancelled_ends_and_leaves_nothing(make: Make) -> None:
    cancel = threading.Event()

    def on_event(event: Progress) -> None:
        if "configuring the tree" in event.text:
            cancel.set()

    with pytest.raises(Interrupted):
        make("buildkit", on_event=on_event, cancel=cancel)
