"""A real registry: pushing, pulling, logging in, caches, and each refusal with its words."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.registry import Registry, registry

from provision.errors import Interrupted, StepFailed
from provision.model.report import Progress
from provision.run.images import buildkit, cleanup
from provision.run.images.bases import look
from provision.run.images.builders import BuildAsk, choose
from provision.run.images.engine import Engine
from provision.run.images.registry import digest_of, pull, push

pytestmark = pytest.mark.docker


def quiet(_event: Progress) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def open_registry(tmp_path: Path) -> Iterator[Registry]:
    with registry(tmp_path / "registry") as found:
        yield found


@pytest.fixture
def made(mine: Engine, base_image: str) -> Iterator[Callable[[str], str]]:
    """made(reference): a small image of that name, a layer of its own in it; gone after the test."""
    names: list[str] = []

    def make(reference: str) -> str:
        ask = BuildAsk(
            dockerfile=f"FROM {base_image}\nRUN head -c 3000000 /dev/urandom >/noise\n", context=(), tag=reference,
            run_id="none", host="x", title="t", no_cache=True,
        )  # fmt: skip
        choose(mine, "classic").build(ask, on_event=quiet, cancel=threading.Event())
        names.append(reference)
        return reference

    yield make
    for name in names:
        mine.remove_image(name)


def refusal(act: Callable[[], object]) -> StepFailed:
    with pytest.raises(StepFailed) as failure:
        act()
    return failure.value


def test_push_and_pull(mine: Engine, open_registry: Registry, made: Callable[[str], str], base_image: str) -> None:
    tag = made(f"{open_registry.address}/me/tf:v3")
    assert digest_of(mine, tag) is None
    events: list[Progress] = []
    pushed = push(mine, tag, on_event=events.append, cancel=threading.Event())
    name, _, digest = pushed.partition("@")
    assert (name, digest[:7], len(digest)) == (f"{open_registry.address}/me/tf", "sha256:", 71)
    assert digest_of(mine, tag) == digest
    assert any(event.done_mib and event.total_mib for event in events)
    assert {(event.host, event.step) for event in events} == {(tag, "Push")}
    before = mine.inspect(tag)
    mine.remove_image(tag)
    mine.remove_image(pushed)
    assert mine.find(tag) is None
    base = look(mine, tag, on_event=quiet, cancel=threading.Event())
    assert (base.id, base.digest) == (before["Id"], digest)
    assert base.facts.system.os.id == "debian" or base_image.startswith("ubuntu")
    mine.remove_image(tag)
    pull(mine, pushed, on_event=quiet, cancel=threading.Event())
    assert mine.inspect(pushed)["Id"] == before["Id"]
    mine.remove_image(pushed)


@pytest.fixture
def closed_registry(tmp_path: Path) -> Iterator[Registry]:
    with registry(tmp_path / "closed", login=True) as found:
        yield found


def login(folder: Path, monkeypatch: pytest.MonkeyPatch, **configuration: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(configuration))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def auth(found: Registry, password: str) -> dict[str, Any]:
    """What `docker login` writes."""
    return {found.address: {"auth": base64.b64encode(f"{found.user}:{password}".encode()).decode()}}


def test_a_login_is_wanted(
    mine: Engine,
    closed_registry: Registry,
    made: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = made(f"{closed_registry.address}/me/tf:v3")
    login(tmp_path / "none", monkeypatch)
    failure = refusal(lambda: push(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert failure.what == f"{tag} cannot be pushed"
    assert "no basic auth credentials" in failure.why
    assert "known cause: the registry wants a login, or does not accept the one it got" in failure.why
    assert "`docker login REGISTRY`" in failure.hint

    login(tmp_path / "wrong", monkeypatch, auths=auth(closed_registry, "wrong"))
    failure = refusal(lambda: push(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert "unauthorized: authentication required" in failure.why
    assert "wrong" not in failure.why

    login(tmp_path / "right", monkeypatch, auths=auth(closed_registry, closed_registry.password))
    assert push(mine, tag, on_event=quiet, cancel=threading.Event()).startswith(f"{closed_registry.address}/me/tf@")


def test_a_credential_helper_is_asked(
    mine: Engine,
    closed_registry: Registry,
    made: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = made(f"{closed_registry.address}/me/tf:v3")
    helper = tmp_path / "bin" / "docker-credential-tests"
    helper.parent.mkdir()
    said = {"ServerURL": closed_registry.address, "Username": closed_registry.user, "Secret": closed_registry.password}
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\nprintf '%s' '{json.dumps(said)}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    login(tmp_path / "helped", monkeypatch, credHelpers={closed_registry.address: "tests"})
    assert push(mine, tag, on_event=quiet, cancel=threading.Event()).startswith(f"{closed_registry.address}/me/tf@")


@pytest.mark.filterwarnings("ignore:docker-credential-gone not installed")  # the SDK says so twice
def test_a_credential_helper_that_is_not_there(
    mine: Engine, closed_registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login(tmp_path / "gone", monkeypatch, credHelpers={closed_registry.address: "gone"})
    failure = refusal(
        lambda: pull(mine, f"{closed_registry.address}/me/tf:v3", on_event=quiet, cancel=threading.Event())
    )
    assert "docker-credential-gone not installed or not available in PATH" in failure.why
    assert "known cause: ~/.docker/config.json names a credential helper" in failure.why


def test_nobody_listens(mine: Engine, made: Callable[[str], str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    tag = made(f"{address}/me/tf:v3")
    failure = refusal(lambda: push(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert "connect: connection refused" in failure.why
    assert "known cause: a server could not be reached" in failure.why
    assert "firewall" in failure.hint


def test_a_registry_whose_name_nobody_knows(mine: Engine) -> None:
    failure = refusal(lambda: pull(mine, "registry.example.invalid/x:y", on_event=quiet, cancel=threading.Event()))
    assert "no such host" in failure.why
    assert "known cause: a name could not be resolved" in failure.why


def test_plain_http_beyond_loopback(mine: Engine, made: Callable[[str], str], tmp_path: Path) -> None:
    gateway = mine.client.api.inspect_network("bridge")["IPAM"]["Config"][0].get("Gateway")
    if not gateway or not mine.url.startswith("unix://"):
        pytest.skip("the engine's bridge has no address here")
    with registry(tmp_path / "plain", host=gateway) as found:
        tag = made(f"{found.address}/me/tf:v3")
        failure = refusal(lambda: push(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert "server gave HTTP response to HTTPS client" in failure.why
    assert "known cause: the registry speaks plain HTTP" in failure.why
    assert '"insecure-registries" of /etc/docker/daemon.json' in failure.hint


def test_a_registry_that_takes_nothing(mine: Engine, made: Callable[[str], str], tmp_path: Path) -> None:
    with registry(tmp_path / "readonly", readonly=True) as found:
        tag = made(f"{found.address}/me/tf:v3")
        failure = refusal(lambda: push(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert "known cause: the registry takes nothing: it is read-only" in failure.why


@pytest.mark.parametrize("name", ["me/none:v3", "me/none@sha256:" + "0" * 64])
def test_what_the_registry_does_not_have(mine: Engine, open_registry: Registry, name: str) -> None:
    tag = f"{open_registry.address}/{name}"
    failure = refusal(lambda: pull(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert failure.what == f"{tag} cannot be pulled"
    assert "manifest unknown" in failure.why
    assert "known cause: the registry has no image of that name and tag" in failure.why
    assert "check the spelling" in failure.hint


def test_pushing_what_is_not_there(mine: Engine, open_registry: Registry) -> None:
    tag = f"{open_registry.address}/me/none:v3"
    failure = refusal(lambda: push(mine, tag, on_event=quiet, cancel=threading.Event()))
    assert "An image does not exist locally with the tag" in failure.why


def test_an_interrupted_push(mine: Engine, made: Callable[[str], str]) -> None:
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        tag = made(f"127.0.0.1:{silent.getsockname()[1]}/me/tf:v3")
        cancel = threading.Event()
        threading.Timer(0.3, cancel.set).start()
        with pytest.raises(Interrupted):
            push(mine, tag, on_event=quiet, cancel=cancel)


@pytest.mark.parametrize("name", ["buildkit", "classic"])
def test_a_cache_in_a_registry(mine: Engine, open_registry: Registry, base_image: str, name: str) -> None:
    """Built once, taken away with all that the engine remembers of it, and built again from the registry's copy."""
    if name == "buildkit" and (missing := buildkit.missing(mine)) is not None:
        pytest.skip(missing)
    builder, run_id = choose(mine, name), os.urandom(4).hex()
    cache = f"{open_registry.address}/cache/tf:env"
    dockerfile = (
        f"FROM {base_image} AS builder\nRUN echo {run_id} >/made && head -c 20 /dev/urandom >>/made\n"
        f"FROM {base_image} AS environment\nRUN echo {run_id} >/before && head -c 20 /dev/urandom >>/before\n"
        f"COPY --from=builder /made /made-{run_id}\n"
    )

    def build(number: int, **more: Any) -> tuple[list[str], list[str]]:
        events: list[Progress] = []
        tag = f"provision-build:{run_id}-{number}"
        ask = BuildAsk(
            dockerfile=dockerfile, context=(), tag=tag, run_id=run_id, host="x", title="t", **more
        )  # fmt: skip
        builder.build(ask, on_event=events.append, cancel=threading.Event())
        texts = [event.text for event in events]
        return list(mine.inspect(tag)["RootFS"]["Layers"]), [text for text in texts if text]

    try:
        first, texts = build(0, cache_from=(cache,), cache_to=(cache,))
        assert any(text.startswith(f"no cache from {cache}: ") for text in texts)
        assert mine.find(cache) is None, "the name was for the push"
        forget_all(mine, run_id, name)
        other, _ = build(1)
        assert other[1] != first[1], "without the cache it is another image"
        forget_all(mine, run_id, name)
        second, texts = build(2, cache_from=(cache,))
        mine.remove_image(cache)
        found = [text for text in texts if text.endswith("(from the cache)")]
        assert any("RUN" in text and "/before" in text for text in found)
        if name == "buildkit":
            assert second == first, "every layer is the registry's"
        else:
            assert second[:-1] == first[:-1], "the classic builder runs the stages before again"
    finally:
        cleanup.tidy(mine, run_id)


def forget_all(engine: Engine, run_id: str, builder: str) -> None:
    """Another machine: neither the images nor the build cache of the first build are here."""
    cleanup.tidy(engine, run_id)
    if builder == "buildkit":
        api: Any = engine.client.api
        for _ in range(5):  # what others are made from goes after them
            rows = api.df()["BuildCache"] or ()
            named = {row["ID"] for row in rows if run_id in str(row.get("Description"))}
            kept = [row["ID"] for row in rows if row["ID"] in named or row.get("Parent") in named]
            for each in kept:
                filters = json.dumps({"id": {each: True}})
                api._post(api._url("/build/prune"), params={"all": "1", "filters": filters}).close()
        assert not kept, [row for row in rows if row["ID"] in kept]
    else:
        for image in engine.client.api.images(filters={"dangling": True}):
            if run_id in str(engine.client.api.history(image["Id"])[0].get("CreatedBy")):
                engine.remove_image(image["Id"])
