"""Both of the engine's own builders, for real: what they make, what they tell, and what they leave behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from provision.errors import Interrupted, ProvisionError, StepFailed, UsageError
from provision.model.labels import RUN
from provision.model.report import Progress
from provision.run.images import buildkit, cleanup
from provision.run.images.builders import BuildAsk, Builder, choose
from provision.run.images.context import ContextFile
from provision.run.images.engine import Engine, connect

pytestmark = pytest.mark.docker

NASTY = 'it\'s "quoted" $(touch /pwned) `id`; ${HOME} \\ \t end'
QUICK_S = 10.0
"""Far more than the second it takes: a busy machine is no failure, a build that goes on is."""


@pytest.fixture(params=["buildkit", "classic"])
def builder(request: pytest.FixtureRequest, mine: Engine) -> Builder:
    name: str = request.param
    if name == "buildkit" and (missing := buildkit.missing(mine)) is not None:
        pytest.skip(missing)
    return choose(mine, name)


@pytest.fixture
def run_id(mine: Engine) -> Iterator[str]:
    name = os.urandom(4).hex()
    yield name
    cleanup.tidy(mine, name)


@pytest.fixture
def build(builder: Builder, run_id: str) -> Callable[..., tuple[str, list[Progress]]]:
    """build(dockerfile, number=0, files={}, …): (image id, events)."""

    def make(
        dockerfile: str,
        number: int = 0,
        files: Mapping[str, bytes | Path] | None = None,
        cancel: threading.Event | None = None,
        **more: Any,
    ) -> tuple[str, list[Progress]]:
        events: list[Progress] = []
        ask = BuildAsk(
            dockerfile=dockerfile,
            context=tuple(ContextFile(name=name, content=content) for name, content in (files or {}).items()),
            tag=f"provision-build:{run_id}-{number}",
            run_id=run_id,
            host="me/tf:v3",
            title="Build the environment",
            **more,
        )
        return builder.build(ask, on_event=events.append, cancel=cancel or threading.Event()), events

    return make


def left_by(engine: Engine, text: str) -> list[str]:
    """Ids of the containers and images, intermediate ones too, that have ``text`` in what they run or ran.

    Others use the same engine meanwhile: what is there before and after would be theirs, too.
    """
    found = []
    for rows, inspect in (
        (engine.client.api.containers(all=True), engine.client.api.inspect_container),
        (engine.client.api.images(all=True), engine.client.api.inspect_image),
    ):
        for row in rows:
            with suppress(NotFound):
                found += [str(row["Id"])] if text in str(inspect(row["Id"])) else []
    return found


def run_there(engine: Engine, image: str, *argv: str) -> str:
    container = engine.create(image, argv, labels={}, user="0:0")
    try:
        engine.start(container)
        return engine.output(container, cancel=threading.Event(), timeout_s=60)[0]
    finally:
        engine.remove_container(container)


def test_an_image_with_its_files_and_labels(
    build: Callable[..., Any], mine: Engine, base_image: str, run_id: str, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(3 * 2**20 + 17))
    dockerfile = f"FROM {base_image} AS environment\nARG WHO\nCOPY a/small large /in/\n"
    dockerfile += 'RUN sha256sum /in/large && printf %s "$WHO" >/in/who\n'
    image, events = build(
        dockerfile, files={"a/small": b"small\n", "large": large}, labels={"note": NASTY}, build_args={"WHO": NASTY}
    )
    found = mine.inspect(f"provision-build:{run_id}-0")
    assert found["Id"] == image
    assert found["Config"]["Labels"]["note"] == NASTY
    assert run_there(mine, image, "cat", "/in/who", "/in/small") == f"{NASTY}small\n"
    assert run_there(mine, image, "stat", "-c", "%s %U %a", "/in/large") == f"{large.stat().st_size} root 644\n"
    assert events[0].kind == "step"
    assert events[-1].kind == "done"
    assert {event.host for event in events} == {"me/tf:v3"}
    assert any("RUN sha256sum /in/large" in event.text for event in events)
    sent = [event for event in events if event.done_mib and event.total_mib and event.total_mib > 3]
    assert sent, "the context is told in bytes"


def test_the_second_build_comes_from_the_cache(build: Callable[..., Any], base_image: str, run_id: str) -> None:
    dockerfile = f"FROM {base_image}\nRUN echo {run_id}\nRUN echo again {run_id}\n"
    first, _ = build(dockerfile)
    second, events = build(dockerfile, 1)
    assert [event.text for event in events if event.text.endswith("(from the cache)") and "RUN" in event.text]
    assert events[-1].text.endswith(" from the cache")
    third, events = build(dockerfile, 2, no_cache=True)
    assert not [event for event in events if "RUN" in event.text and event.text.endswith("(from the cache)")]
    assert len({first, second, third}) > 1


def test_what_is_built_from_a_temporary_image_does_not_name_the_run(
    build: Callable[..., Any], mine: Engine, base_image: str, run_id: str
) -> None:
    build(f"FROM {base_image}\nRUN echo {run_id} >/made\n", labels={"kept": "yes"})
    final, _ = build(f"FROM provision-build:{run_id}-0\nLABEL verdict=passed\n", 1)
    assert run_there(mine, final, "cat", "/made") == f"{run_id}\n"
    labels = mine.inspect(final)["Config"]["Labels"]
    assert labels == {"kept": "yes", "verdict": "passed"}
    assert RUN not in labels
    assert cleanup.dangling_of(mine, run_id)[1] == (f"provision-build:{run_id}-0", f"provision-build:{run_id}-1")
    cleanup.tidy(mine, run_id)
    assert cleanup.dangling_of(mine, run_id) == ((), ())


def test_a_stage_can_be_the_target(build: Callable[..., Any], mine: Engine, base_image: str, run_id: str) -> None:
    dockerfile = f"FROM {base_image} AS one\nRUN echo {run_id} >/one\nFROM one AS two\nRUN exit 1\n"
    image, _ = build(dockerfile, target="one")
    assert run_there(mine, image, "cat", "/one") == f"{run_id}\n"


def test_a_failed_step_shows_its_own_last_lines(
    build: Callable[..., Any], mine: Engine, base_image: str, run_id: str
) -> None:
    script = "for i in $(seq 60); do echo line $i; done; printf 'E: Unable to %s package nothing\\n' locate >&2; exit 7"
    with pytest.raises(StepFailed) as failure:
        build(f"FROM {base_image} AS environment\nRUN echo {run_id}\nRUN {script}\n")
    what, why, hint = failure.value.what, failure.value.why, failure.value.hint
    assert what.startswith("Build the environment: the build of me/tf:v3 failed at [")
    assert what.endswith("3/3]")
    assert why.splitlines()[0] == f"RUN {script}"
    assert "line 60\n" in why
    assert "E: Unable to locate package nothing\n" in why
    assert "\nexit status 7\nknown cause: the distribution of the base" in why
    assert "line 2\n" not in why
    assert "/etc/apt/sources.list" in hint
    assert not [each for each in left_by(mine, run_id) if mine.has_container(each)]
    assert mine.find(f"provision-build:{run_id}-0") is None


def test_a_failure_of_no_known_cause_says_so(build: Callable[..., Any], base_image: str, run_id: str) -> None:
    with pytest.raises(StepFailed) as failure:
        build(f"FROM {base_image}\nRUN echo {run_id}; exit 9\n")
    assert failure.value.why == f"RUN echo {run_id}; exit 9\n{run_id}\nexit status 9"
    assert failure.value.hint == "no known cause fits: what is above is all that was said"


def test_a_killed_step_ran_out_of_memory(build: Callable[..., Any], base_image: str, run_id: str) -> None:
    with pytest.raises(StepFailed) as failure:
        build(f"FROM {base_image}\nRUN echo {run_id}; sh -c 'kill -KILL $$'\n")
    assert "known cause: the kernel killed the step, most likely because memory ran out" in failure.value.why


def test_a_file_that_the_context_lacks(build: Callable[..., Any], base_image: str) -> None:
    with pytest.raises(StepFailed) as failure:
        build(f"FROM {base_image}\nCOPY nothing /there\n")
    assert "known cause: the Dockerfile copies a file that its context does not have" in failure.value.why


def test_a_dockerfile_that_is_none(build: Callable[..., Any]) -> None:
    with pytest.raises(StepFailed) as failure:
        build("FRUM scratch\n")
    assert "unknown instruction: FRUM" in failure.value.why


def test_a_step_without_a_network_name(build: Callable[..., Any], base_image: str, run_id: str) -> None:
    line = "E: Failed to fetch x  Temporary failure resolving 'deb.example.invalid'"
    with pytest.raises(StepFailed) as failure:
        build(f'FROM {base_image}\nRUN echo {run_id}; echo "{line}"; exit 100\n')
    assert "known cause: a name could not be resolved from there" in failure.value.why
    assert "/etc/docker/daemon.json" in failure.value.hint


def test_an_interruption_leaves_nothing(
    build: Callable[..., Any], mine: Engine, base_image: str, run_id: str, builder: Builder
) -> None:
    marker = str(1_000_000 + int(run_id, 16) % 1_000_000)
    cancel, threads = threading.Event(), threading.active_count()

    def when_it_sleeps() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not sleeping(marker):
            time.sleep(0.05)
        cancel.set()

    waiting = threading.Thread(target=when_it_sleeps)
    waiting.start()
    with pytest.raises(Interrupted) as failure:
        dockerfile = (
            f"FROM {base_image}\nLABEL marker={marker}\nCOPY file /{marker}\nRUN echo {run_id}\nRUN sleep {marker}\n"
        )
        build(dockerfile, files={"file": b"x"}, cancel=cancel)
    ended = time.monotonic()
    waiting.join()
    assert failure.value.exit_code == 130
    while sleeping(marker) and time.monotonic() - ended < QUICK_S:
        time.sleep(0.05)
    assert not sleeping(marker)
    assert left_by(mine, marker) == []
    assert left_by(mine, run_id) == []
    assert cleanup.dangling_of(mine, run_id) == ((), ())
    assert threading.active_count() <= threads + 1
    # the engine takes the next build as if nothing had been
    build(f"FROM {base_image}\nRUN echo after {run_id}\n")


def sleeping(marker: str) -> bool:
    """Whether `sleep MARKER` runs: the engine's processes are this machine's."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[:2] == [b"sleep", marker.encode()]:
                return True
        except OSError:
            continue
    return False


def test_an_interruption_while_the_context_is_sent(
    build: Callable[..., Any], mine: Engine, base_image: str, run_id: str, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(8 * 2**30)  # a hole: nothing of it is on a disk, and sending it takes a while
    cancel = threading.Event()
    threading.Timer(0.3, cancel.set).start()
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        build(f"FROM {base_image}\nCOPY large /\n", files={"large": tmp_path / "large"}, cancel=cancel)
    assert time.monotonic() - begun < QUICK_S
    assert cleanup.dangling_of(mine, run_id) == ((), ())


def test_the_classic_builder_has_no_mounts(mine: Engine, base_image: str) -> None:
    ask = BuildAsk(
        dockerfile=f"FROM {base_image}\nRUN --mount=type=cache,target=/c true\n", context=(),
        tag="provision-build:none-0", run_id="none", host="x", title="t",
    )  # fmt: skip
    classic = choose(mine, "classic")
    assert not classic.mounts
    with pytest.raises(StepFailed) as failure:
        classic.build(ask, on_event=lambda _event: None, cancel=threading.Event())
    assert "--builder buildkit" in failure.value.hint


def test_buildkit_keeps_what_a_cache_mount_holds(mine: Engine, base_image: str, run_id: str) -> None:
    if (missing := buildkit.missing(mine)) is not None:
        pytest.skip(missing)
    found = choose(mine, "buildkit")
    assert found.mounts
    mount = f"--mount=type=cache,target=/c,id={run_id}"
    for number, line in enumerate((f"echo kept >/c/{run_id}", f"grep kept /c/{run_id}")):
        ask = BuildAsk(
            dockerfile=f"FROM {base_image}\nRUN {mount} {line}\n", context=(), tag=f"provision-build:{run_id}-{number}",
            run_id=run_id, host="x", title="t",
        )  # fmt: skip
        found.build(ask, on_event=lambda _event: None, cancel=threading.Event())


def test_which_builder_is_taken(mine: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no docker command, and so no buildx
    with connect(environ={"DOCKER_HOST": mine.url}) as found:
        asked = choose(found, "auto")
        assert asked.name == ("buildkit" if buildkit.missing(found) is None else "classic")
        assert not found.tags_in("provision-build") or not [t for t in found.tags_in("provision-build") if "probe" in t]
        found.kept[buildkit.KEPT] = "it does not work here"
        assert choose(found, "auto").name == "classic"
        with pytest.raises(StepFailed) as failure:
            choose(found, "buildkit")
        assert (failure.value.what, failure.value.why) == (
            "the builder buildkit does not work here",
            "it does not work here",
        )
        with pytest.raises(UsageError) as wrong:
            choose(found, "kaniko")
    assert wrong.value.why == "known: auto, buildx, buildkit, classic"


def test_a_cache_that_is_no_image(build: Callable[..., Any], base_image: str) -> None:
    for option in ("cache_from", "cache_to"):
        with pytest.raises(UsageError) as failure:
            build(f"FROM {base_image}\n", **{option: ("type=local,dest=/tmp/c",)})
        assert failure.value.what == f"--{option.replace('_', '-')} type=local,dest=/tmp/c is not an image"
        assert "--builder buildx" in failure.value.hint


def test_errors_are_all_of_ours(build: Callable[..., Any]) -> None:
    with pytest.raises(ProvisionError):
        build("FROM provision-tests/none:none\n")
