"""docker buildx: its command line, and what it prints as its documentation shows it. No distribution here has it."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.errors import Interrupted, StepFailed
from provision.model.report import Progress
from provision.run.images import buildx
from provision.run.images.build_steps import Steps
from provision.run.images.builders import BuildAsk, choose

NASTY = 'it\'s "quoted"\n$(touch /tmp/pwned) `id` ; rm -rf ~'

# docker buildx build --progress=plain, as https://docs.docker.com/build/building/multi-stage/ and the reference show it
PLAIN = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 312B done
#1 DONE 0.0s

#4 [environment 1/3] FROM docker.io/library/debian:bookworm
#4 CACHED

#5 [environment 2/3] RUN uv pip sync lock.txt
#5 0.245 Resolved 32 packages in 12ms
#5 ...

#6 [builder 2/2] RUN make
#6 0.301 cc -c a.c
#6 DONE 0.4s

#5 [environment 2/3] RUN uv pip sync lock.txt
#5 3.100 error: Hash mismatch for `numpy==2.4.6`
#5 ERROR: process "/bin/sh -c uv pip sync lock.txt" did not complete successfully: exit code: 1
------
 > [environment 2/3] RUN uv pip sync lock.txt:
3.100 error: Hash mismatch for `numpy==2.4.6`
------
Dockerfile:3
--------------------
   3 | >>> RUN uv pip sync lock.txt
--------------------
ERROR: failed to solve: process "/bin/sh -c uv pip sync lock.txt" did not complete successfully: exit code: 1
"""


class FakeEngine(SimpleNamespace):
    """What a builder asks of an engine, with an engine's own answers: no engine here has buildx."""

    url, text = "unix:///run/docker.sock", "Docker Engine 28.5.1 at unix:///run/docker.sock"

    def client_environment(self) -> tuple[dict[str, str], tuple[str, ...]]:
        return {"DOCKER_HOST": self.url}, ("DOCKER_CONTEXT",)

    def inspect(self, tag: str) -> dict[str, str]:
        return {"Id": f"sha256:of-{tag}"}

    def remove_image(self, tag: str, **options: Any) -> bool:
        self.removed = tag
        return True


def fake_engine() -> Any:
    return FakeEngine(kept={})


def ask(**more: Any) -> BuildAsk:
    given: dict[str, Any] = {"dockerfile": "FROM scratch\n", "context": (), "tag": "provision-build:ab-0"}
    return BuildAsk(**{**given, "run_id": "ab", "host": "me/tf:v3", "title": "Build the environment", **more})


def test_all_that_is_asked_is_on_the_command_line_as_data() -> None:
    asked = ask(
        target="environment", no_cache=True, labels={"note": NASTY}, build_args={"WHO": NASTY},
        cache_from=("type=registry,ref=r/c:1", "r/c:2"), cache_to=("inline", "type=local,dest=/tmp/c"),
    )  # fmt: skip
    argv = buildx.command(asked, folder=Path("/t/context"), iid=Path("/t/iid"), progress="rawjson")
    pairs = list(itertools.pairwise(argv))
    assert argv[:3] == ("docker", "buildx", "build")
    assert argv[-1] == "/t/context"
    for expected in [
        ("--builder", "default"), ("--progress", "rawjson"), ("--tag", "provision-build:ab-0"),
        ("--target", "environment"), ("--label", f"note={NASTY}"), ("--build-arg", f"WHO={NASTY}"),
        ("--cache-from", "type=registry,ref=r/c:1"), ("--cache-from", "r/c:2"),
        ("--cache-to", "type=inline"), ("--cache-to", "type=local,dest=/tmp/c"), ("--iidfile", "/t/iid"),
    ]:  # fmt: skip
        assert expected in pairs
    assert "--no-cache" in argv
    plain = buildx.command(ask(), folder=Path("/t/c"), iid=Path("/t/iid"), progress="plain")
    assert {"--no-cache", "--target", "--label", "--cache-to"}.isdisjoint(plain)


def test_plain_progress_is_told_step_by_step_and_a_failure_has_its_cause() -> None:
    events: list[Progress] = []
    steps = Steps(ask(), events.append)
    last = buildx.follow(PLAIN.splitlines(keepends=True), steps, raw=False)
    texts = [event.text for event in events]
    assert "[environment 1/3] FROM docker.io/library/debian:bookworm (from the cache)" in texts
    assert "[builder 2/2] RUN make" in texts
    assert steps.steps["5"].all_lines == ["Resolved 32 packages in 12ms", "error: Hash mismatch for `numpy==2.4.6`"]
    failure = steps.failed(fake_engine(), "\n".join(last))
    assert failure.what == "Build the environment: the build of me/tf:v3 failed at [environment 2/3]"
    assert failure.why.splitlines()[0] == "RUN uv pip sync lock.txt"
    assert "error: Hash mismatch for `numpy==2.4.6`\nexit status 1\nknown cause: a package is not what" in failure.why
    assert "ask whoever runs the mirror" in failure.hint


def test_rawjson_progress_is_told_likewise() -> None:
    def line(**said: Any) -> str:
        return json.dumps(said) + "\n"

    vertex = {"digest": "sha256:a", "name": "[2/2] RUN false", "started": "2026-11-20T10:00:00Z"}
    lines = [
        line(vertexes=[vertex]),
        line(logs=[{"vertex": "sha256:a", "data": base64.b64encode(b"no luck\n").decode()}]),
        line(vertexes=[{**vertex, "completed": "2026-11-20T10:00:01Z", "error": "exit code: 1"}]),
        "ERROR: failed to solve: exit code: 1\n",
    ]
    steps = Steps(ask(), lambda _event: None)
    assert buildx.follow(lines, steps, raw=True) == ["ERROR: failed to solve: exit code: 1"]
    assert "RUN false\nno luck\nexit status 1" in steps.failed(fake_engine(), "exit code: 1").why


DOCKER = """\
#!/bin/sh
# stands for a docker command with the plugin, of which no package is to be had here
case "$*" in
    "buildx version") echo 'github.com/docker/buildx v0.13.1 788433953af10f2a698f5c07611dddce2e08c7a0' ;;
    "buildx inspect default") printf 'Name:          default\\nDriver:        {driver}\\n' ;;
    "buildx build --help") echo '  --progress string   Set type of progress output ("auto", "plain", "rawjson")' ;;
    "buildx build "*) printf '%s\\n' "$DOCKER_HOST" >"{seen}"; {script} ;;
    *) echo "docker: unknown: $*" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def docker_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(script: str = "exit 0", driver: str = "docker") -> Path:
        seen = tmp_path / "seen"
        program = tmp_path / "docker"
        program.write_text(DOCKER.format(script=script, driver=driver, seen=seen))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        return seen

    return make


def test_auto_takes_it_where_it_is(docker_command: Any) -> None:
    docker_command()
    assert choose(fake_engine(), "auto").name == "buildx"


def test_another_driver_does_not_do(docker_command: Any) -> None:
    docker_command(driver="docker-container")
    assert "cannot use Docker Engine 28.5.1" in (buildx.missing(fake_engine()) or "")
    assert "its driver is docker-container" in (buildx.missing(fake_engine()) or "")


def test_asked_for_and_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepFailed) as failure:
        choose(fake_engine(), "buildx")
    assert failure.value.what == "the builder buildx does not work here"
    assert "there is no docker buildx on this machine: docker: No such file" in failure.value.why
    assert "apt install docker-buildx" in failure.value.hint


def test_a_build_speaks_to_the_engine_and_says_which_image_it_made(docker_command: Any) -> None:
    seen = docker_command()
    image = buildx.Buildx(fake_engine()).build(ask(), on_event=lambda _event: None, cancel=threading.Event())
    assert image == "sha256:of-provision-build:ab-0"
    assert seen.read_text() == "unix:///run/docker.sock\n"


def test_a_build_that_cannot_begin_says_so(docker_command: Any) -> None:
    docker_command("echo 'ERROR: Cache export is not supported for the docker driver.' >&2; exit 1")
    with pytest.raises(StepFailed) as failure:
        buildx.Buildx(fake_engine()).build(ask(), on_event=lambda _event: None, cancel=threading.Event())
    assert "Cache export is not supported" in failure.value.why
    assert "--cache-to inline" in failure.value.hint


def test_an_interruption_ends_the_program(docker_command: Any) -> None:
    docker_command("sleep 600")
    cancel, engine = threading.Event(), fake_engine()
    threading.Timer(0.3, cancel.set).start()
    with pytest.raises(Interrupted):
        buildx.Buildx(engine).build(ask(), on_event=lambda _event: None, cancel=cancel)
    assert engine.removed == "provision-build:ab-0"
