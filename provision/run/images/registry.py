"""Pulling from and pushing to registries, with progress, and what their refusals mean.

Credentials are those of `docker login`: the SDK reads ~/.docker/config.json (or $DOCKER_CONFIG), with its "auths" and
its credential helpers ("credsStore", "credHelpers"), and sends what fits the registry along with the request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from provision.errors import StepFailed
from provision.model.report import Progress
from provision.run.images.build_steps import EVERY_S, MIB, explained
from provision.run.images.engine import Refused, split_tag

if TYPE_CHECKING:
    from provision.run.images.engine import Engine, StreamClient

OnEvent = Callable[[Progress], None]

PUSH, PULL = "Push", "Pull"
OVER = ("Pushed", "Layer already exists", "Pull complete", "Already exists", "Mounted from")
HINT = "`docker push` and `docker pull` of the same name say the same; the registry's own log may say more"


def push(
    engine: Engine, tag: str, *, on_event: OnEvent, cancel: threading.Event, host: str | None = None, title: str = PUSH
) -> str:
    """Push a tag: "registry/me/tf@sha256:…", by which nobody can be given another image.

    Raises StepFailed with the known cause: not reachable, plain HTTP, login wanted, denied; Interrupted.
    """
    repository, name = split_tag(tag)

    def ask(client: StreamClient) -> Iterable[Mapping[str, Any]]:
        return client.push(repository, tag=name, stream=True, decode=True)  # type: ignore[no-any-return]

    said = _followed(engine, ask, f"{tag} cannot be pushed", host or tag, title, on_event, cancel)
    digest = said or digest_of(engine, tag)
    if digest is None:
        raise StepFailed(what=f"{tag} was pushed and has no digest", why="the registry named none", hint=HINT)
    return f"{repository}@{digest}"


def pull(
    engine: Engine, tag: str, *, on_event: OnEvent, cancel: threading.Event, host: str | None = None, title: str = PULL
) -> None:
    """Pull a tag, or "name@sha256:…". Raises as ``push`` does."""
    repository, _, digest = tag.partition("@")
    name = digest or split_tag(tag)[1]
    repository = repository if digest else split_tag(tag)[0]

    def ask(client: StreamClient) -> Iterable[Mapping[str, Any]]:
        return client.pull(repository, tag=name, stream=True, decode=True)  # type: ignore[no-any-return]

    _followed(engine, ask, f"{tag} cannot be pulled", host or tag, title, on_event, cancel)


def digest_of(engine: Engine, tag: str) -> str | None:
    """The digest of the image's manifest in the registry that ``tag`` names; None where it was never there."""
    repository = tag.partition("@")[0] if "@" in tag else split_tag(tag)[0]
    found = engine.find(tag) or {}
    digests = [each.partition("@") for each in found.get("RepoDigests") or ()]
    return next((digest for name, _, digest in digests if name == repository), None)


def _followed(
    engine: Engine,
    ask: Callable[[StreamClient], Iterable[Mapping[str, Any]]],
    what: str,
    host: str,
    title: str,
    on_event: OnEvent,
    cancel: threading.Event,
) -> str:
    """Read the answer to its end, as Progress: the digest that a push ends with."""
    layers: dict[str, tuple[int, int]] = {}
    shown, digest = 0.0, ""
    try:
        with engine.stream(ask, cancel=cancel) as lines:
            for line in lines:
                if "error" in line:
                    raise explained(engine, what=what, message=str(line["error"]), hint=HINT)
                aux = line.get("aux")
                digest = str(aux.get("Digest") or digest) if isinstance(aux, dict) else digest
                _count(layers, line)
                if time.monotonic() - shown >= EVERY_S and layers:
                    shown = time.monotonic()
                    done, total = (sum(each) / MIB for each in zip(*layers.values(), strict=True))
                    on_event(
                        Progress(
                            host=host, kind="progress", step=title, text=str(line.get("status") or ""),
                            done_mib=done, total_mib=total,
                        )
                    )  # fmt: skip
    except Refused as error:
        raise explained(engine, what=what, message=error.text, hint=HINT) from error
    return digest


def _count(layers: dict[str, tuple[int, int]], line: Mapping[str, Any]) -> None:
    """{"status": "Pushing", "progressDetail": {"current": 512, "total": 8192}, "id": "a1b2…"}; while a layer is
    unpacked its bytes are counted anew, and it has been moved whole by then."""
    layer, status = str(line.get("id") or ""), str(line.get("status") or "")
    detail = line.get("progressDetail") or {}
    if status.startswith(OVER) or status == "Extracting":
        total = layers.get(layer, (0, 0))[1]
        if total:
            layers[layer] = (total, total)
    elif status in ("Pushing", "Downloading") and detail.get("current"):
        current = int(detail["current"])
        layers[layer] = (current, max(current, int(detail.get("total") or 0)))
