"""The harness as pytest fixtures. Each is started when a test first asks for it, and skips with the exact reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from harness.addresses import Addresses
from harness.boxes import Box
from harness.engine import LABEL, Engine, Unavailable, connect
from harness.fleet import Fleet, Fleets
from harness.gpu_box import GpuBox, GpuBoxes
from harness.images import Images
from harness.places import RUN, Run


@pytest.fixture(scope="session")
def harness_run() -> Iterator[Run]:
    """This process's folder for what tests need outside of tmp_path (whose paths are too long for sockets)."""
    run = Run()
    yield run
    run.close()


@pytest.fixture(scope="session")
def engine(harness_run: Run) -> Iterator[Engine]:
    """A Docker engine; `engine.client` is the SDK's client."""
    try:
        found = connect()
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield found
    found.close()


@pytest.fixture(scope="session")
def debian_image(engine: Engine) -> Callable[[str], str]:
    """debian_image(kind): tag of an image of a kind in harness.images.RECIPES."""
    images = Images(engine.client)

    def tag(kind: str) -> str:
        try:
            return images.tag(kind)
        except Unavailable as reason:
            pytest.skip(str(reason))

    return tag


@pytest.fixture(scope="session")
def base_image(engine: Engine) -> str:
    """Tag of a base for images: what debootstrap gives of this machine's distribution, "debian:bookworm"."""
    try:
        return Images(engine.client).base(plain_name=engine.ours)
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def box(engine: Engine, debian_image: Callable[[str], str]) -> Iterator[Callable[..., Box]]:
    """box(kind="bare", network=True, **docker_options): a container without SSH, gone after the test."""
    with ExitStack() as undo:

        def make(kind: str = "bare", *, network: bool = True, **options: Any) -> Box:
            container = engine.client.containers.create(
                debian_image(kind), ["sleep", "infinity"], labels={LABEL: RUN}, network_disabled=not network, **options
            )
            undo.callback(container.remove, force=True, v=True)
            container.start()
            return Box(container=container)

        yield make


@pytest.fixture(scope="session")
def fleets(engine: Engine, harness_run: Run) -> Iterator[Fleets]:
    addresses = Addresses()
    yield Fleets(engine, Images(engine.client), addresses, harness_run.folder)
    addresses.close()


def _make(fleets: Fleets, undo: ExitStack) -> Callable[..., Fleet]:
    def make(
        count: int = 1, kind: str = "ssh", *, user: str = "me", uv_cache: bool = False, volumes: Sequence[str] = ()
    ) -> Fleet:
        try:
            fleet = fleets.make(count, kind, user=user, uv_cache=uv_cache, volumes=volumes)
        except Unavailable as reason:
            pytest.skip(str(reason))
        undo.callback(fleet.close)
        return fleet

    return make


@pytest.fixture
def fleet(fleets: Fleets) -> Iterator[Callable[..., Fleet]]:
    """fleet(count, kind="ssh", user="me", uv_cache=False, volumes=()): fresh hosts, gone after the test."""
    with ExitStack() as undo:
        yield _make(fleets, undo)


@pytest.fixture(scope="session")
def session_fleet(fleets: Fleets) -> Iterator[Callable[..., Fleet]]:
    """As `fleet`, but the same arguments give the same hosts all session long: leave them as you found them."""
    made: dict[tuple[object, ...], Fleet] = {}
    with ExitStack() as undo:
        make = _make(fleets, undo)

        def shared(count: int = 1, kind: str = "ssh", *, user: str = "me", uv_cache: bool = False) -> Fleet:
            key = (count, kind, user, uv_cache)
            if key not in made:
                made[key] = make(count, kind, user=user, uv_cache=uv_cache)
            return made[key]

        yield shared


@pytest.fixture(scope="session")
def gpu_boxes(engine: Engine, fleets: Fleets, harness_run: Run) -> Iterator[GpuBoxes]:
    try:
        boxes = GpuBoxes(engine, fleets, harness_run.folder)
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield boxes
    boxes.close()


@pytest.fixture
def gpu_box(gpu_boxes: GpuBoxes) -> Iterator[Callable[..., GpuBox]]:
    """gpu_box(cards=("GeForce GTX 960",), nouveau=True, secure_boot=False, user="me", uv_cache=False, archive=""): a
    bare workstation made of files, gone after the test. See harness.gpu_box."""
    with ExitStack() as undo:

        def make(cards: Sequence[str] = ("GeForce GTX 960",), **options: Any) -> GpuBox:
            try:
                return gpu_boxes.make(cards, undo=undo, **options)
            except Unavailable as reason:
                pytest.skip(str(reason))

        yield make
