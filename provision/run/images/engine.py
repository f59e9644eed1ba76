"""The one module that imports docker: an engine that answers, and requests to it that can be ended.

The SDK speaks for us over Unix sockets and TCP with TLS. What it lacks is added here: SSH by the ssh program, further
parameters of /build, and hanging up on an answer that is still being read.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from queue import Empty, Queue
from types import TracebackType
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, InvalidVersion, NotFound
from docker.tls import TLSConfig

from provision.errors import HostError, Interrupted, StepFailed
from provision.run.images.endpoints import Endpoint, find_endpoint, refused_socket
from provision.run.images.remote import Tunnel

Json = Mapping[str, Any]

OLDEST_API = (1, 40)
"""Docker 19.03: older ones know neither GPU requests nor what BuildKit needs."""
TIMEOUT_S = 120
"""For requests that answer at once; an answer that is a stream may take its time."""
POLL_S = 0.05
LAST_WORDS_S = 2.0
"""How long an answer that was cancelled may take to end by itself."""
LOST = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
EngineSaysNo, NotThere = APIError, NotFound
"""The SDK's errors, for those who ask the engine by its client: they need not import docker."""


class Refused(Exception):
    """The engine said no to a request. ``text`` is its own sentence."""

    def __init__(self, status: int | None, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class StreamClient(docker.APIClient):
    """The SDK's client for one request whose answer is a stream."""

    build_parameters: Mapping[str, str]
    """Of /build, which the SDK has no arguments for: {"version": "2"}."""
    answer: requests.Response | None = None

    def _post(self, url: str, **kwargs: Any) -> requests.Response:
        if url.endswith("/build"):
            kwargs.setdefault("params", {}).update(getattr(self, "build_parameters", {}))
        self.answer = super()._post(url, **kwargs)  # type: ignore[misc]  # not in the stubs
        return self.answer

    def build_from(self, context: Iterable[bytes], tag: str, options: Json) -> Iterable[Json]:
        """Build from a tar that is made while it is sent. A failed step's container is removed as others are."""
        given: Any = context
        found: Iterable[Json] = self.build(
            fileobj=given, custom_context=True, tag=tag, decode=True, rm=True, forcerm=True, **options
        )
        return found

    def hang_up(self) -> None:
        """End the answer, from another thread than the one that reads it."""
        answer = self.answer
        if answer is None:
            return
        with suppress(*LOST, AttributeError, DockerException):
            found: Any = self._get_raw_response_socket(answer)  # type: ignore[attr-defined]
            connection = getattr(found, "_sock", found)
            connection.shutdown(socket.SHUT_RDWR)


class Engine:
    """An engine that answers and is new enough. ``with`` it, or ``close`` it."""

    def __init__(self, client: docker.DockerClient, endpoint: Endpoint, tunnel: Tunnel | None = None) -> None:
        self.client = client
        self.url = endpoint.url
        self._endpoint, self._tunnel = endpoint, tunnel
        said: Json = client.version()
        names = [str(part.get("Name", "")) for part in said.get("Components") or ()]
        self.version = str(said.get("Version", ""))
        self.api_version = str(said.get("ApiVersion", ""))
        self.os_arch = f"{said.get('Os', '')}/{said.get('Arch', '')}"
        """"linux/amd64"."""
        kind = "Podman" if any("Podman" in name for name in names) else "Docker Engine"
        self.text = f"{kind} {self.version} at {self.url}"
        self.kept: dict[str, Any] = {}
        """What was found out about it and holds as long as it runs."""

    def find(self, reference: str) -> Json | None:
        """What the engine says of an image; None where it has none of that name."""
        try:
            found: Json = self.client.api.inspect_image(reference)  # type: ignore[no-untyped-call]
        except (ImageNotFound, NotFound):
            return None
        except APIError as error:
            raise StepFailed(what=f"{reference} cannot be looked at", why=sentence(error)) from error
        return found

    def inspect(self, reference: str) -> Json:
        """What the engine says of an image. Raises StepFailed where it has none of that name."""
        found = self.find(reference)
        if found is None:
            raise StepFailed(
                what=f"there is no image {reference}",
                why=f"{self.text} does not have it",
                hint="it may have been removed meanwhile (`docker image prune`); `docker images` lists what is there",
            )
        return found

    def tag(self, source: str, target: str) -> None:
        """Give an image another name. Raises StepFailed."""
        repository, tag = split_tag(target)
        try:
            self.client.api.tag(source, repository, tag, force=True)
        except APIError as error:
            raise StepFailed(what=f"{source} cannot be tagged {target}", why=sentence(error)) from error

    def remove_image(self, reference: str, *, force: bool = False, noprune: bool = False) -> bool:
        """Whether it is gone: an image that a container or another image needs stays."""
        try:
            self.client.api.remove_image(reference, force=force, noprune=noprune)
        except (ImageNotFound, NotFound):
            return True
        except APIError:
            return False
        return True

    def containers_with(self, label: str, value: str) -> tuple[str, ...]:
        """Ids of the containers, running or not, that have this label."""
        found = self.client.api.containers(all=True, filters={"label": f"{label}={value}"})
        return tuple(str(each["Id"]) for each in found)

    def create(self, image: str, argv: Sequence[str], *, labels: Mapping[str, str], user: str) -> str:
        """A container that runs ``argv`` instead of what the image says, without a network or any right: its id.

        Raises Refused.
        """
        api = self.client.api
        with _refusals():
            confined = api.create_host_config(network_mode="none", cap_drop=["ALL"])
            made = api.create_container(
                image, entrypoint=list(argv), command=[], user=user, labels=dict(labels), host_config=confined
            )
        return str(made["Id"])

    def start(self, container: str) -> None:
        """Raises Refused where its program cannot be started."""
        with _refusals():
            self.client.api.start(container)

    def output(self, container: str, *, cancel: threading.Event, timeout_s: float) -> tuple[str, str]:
        """Its standard output and error, once it has ended. Raises Interrupted, StepFailed, Refused."""
        api = self.client.api
        deadline = time.monotonic() + timeout_s
        with _refusals():
            while api.inspect_container(container)["State"]["Running"]:
                if cancel.wait(POLL_S):
                    raise Interrupted(what="interrupted", why="a container was still running; it is removed")
                if time.monotonic() > deadline:
                    raise StepFailed(what="a container did not end", why=f"it still ran after {timeout_s:g} s")
            said: list[bytes] = [api.logs(container, stdout=not errors, stderr=errors) for errors in (False, True)]
        return said[0].decode("utf-8", "replace"), said[1].decode("utf-8", "replace")

    def has_container(self, container: str) -> bool:
        try:
            self.client.api.inspect_container(container)
        except NotFound:
            return False
        return True

    def remove_container(self, container: str) -> None:
        """End and remove it with its volumes; one that is gone, or being removed, is fine."""
        with suppress(APIError):
            self.client.api.remove_container(container, force=True, v=True)

    def tags_in(self, repository: str) -> tuple[str, ...]:
        """All tags of a repository: ("provision-build:9f3a01bc-0", …)."""
        found = self.client.api.images(repository)
        tags = {tag for each in found for tag in each.get("RepoTags") or () if split_tag(tag)[0] == repository}
        return tuple(sorted(tags))

    def client_environment(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """(variables to set, variables to unset) with which the docker command speaks to this engine."""
        certificates = self._endpoint.certificates
        tls = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certificates)} if certificates else {}
        return {"DOCKER_HOST": self._tunnel.url if self._tunnel else self.url, **tls}, ("DOCKER_CONTEXT",)

    def data_root(self) -> str:
        """The folder on the engine's machine that holds its images; empty where it does not say."""
        with suppress(APIError, *LOST):
            return str(self.client.info().get("DockerRootDir") or "")
        return ""

    def cancel_build(self, build_id: str) -> None:
        """End a build of BuildKit's: POST /build/cancel, which the SDK does not have."""
        with suppress(APIError, *LOST):
            api: Any = self.client.api
            api._post(api._url("/build/cancel"), params={"id": build_id}, timeout=10).close()

    @contextmanager
    def stream(
        self,
        ask: Callable[[StreamClient], Iterable[Json]],
        *,
        cancel: threading.Event,
        build_parameters: Mapping[str, str] | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> Iterator[Iterator[Json]]:
        """The lines of an answer, while the block lasts. ``stop`` is called before hanging up on an answer that did not
        end.

        Reading raises Interrupted within a moment of ``cancel``, Refused with the engine's own sentence, and StepFailed
        where the engine is gone.
        """
        with closing(self._streamed(self._stream_client(build_parameters or {}), ask, cancel, stop)) as lines:
            yield lines

    def _streamed(
        self,
        client: StreamClient,
        ask: Callable[[StreamClient], Iterable[Json]],
        cancel: threading.Event,
        stop: Callable[[], None],
    ) -> Generator[Json, None, None]:
        lines: Queue[Json | BaseException | None] = Queue()
        reader = threading.Thread(target=_read, args=(ask, client, lines), daemon=True)
        reader.start()
        ended = False
        try:
            while True:
                line = _next(lines, cancel)
                if line is None or isinstance(line, BaseException):
                    ended = True
                if line is None:
                    return
                if isinstance(line, BaseException):
                    if cancel.is_set():  # what is sent ends then, too
                        raise _interrupted() from line
                    raise self._explained(line) from line
                yield line
        finally:
            if not ended:
                stop()
                client.hang_up()
            reader.join(timeout=LAST_WORDS_S)
            if client.answer is not None and not reader.is_alive():
                client.answer.close()
            client.close()

    def _stream_client(self, build_parameters: Mapping[str, str]) -> StreamClient:
        client = StreamClient(version=self.api_version, timeout=TIMEOUT_S, **_arguments(self._endpoint, self._tunnel))
        client.build_parameters = build_parameters
        return client

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, APIError):
            return Refused(error.status_code, sentence(error))
        if isinstance(error, DockerException):  # before anything was sent: a credential helper that fails
            return Refused(None, str(error))
        if isinstance(error, LOST):
            return StepFailed(
                what=f"{self.text} stopped answering",
                why=str(error),
                hint="is it still running? `docker version`; its log: journalctl -u docker",
            )
        return error

    def close(self) -> None:
        """Twice does no harm."""
        self.client.close()
        if self._tunnel is not None:
            self._tunnel.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def connect(*, environ: Mapping[str, str] = os.environ) -> Engine:
    """The engine of $DOCKER_HOST, of the current docker context, or of the usual socket.

    Raises HostError: none there, no right to its socket, too old, SSH refused; UsageError for an address that is none.
    """
    endpoint = find_endpoint(environ)
    if endpoint.url.startswith("unix://"):
        refused_socket(endpoint)
    tunnel = Tunnel(endpoint.url) if endpoint.url.startswith("ssh://") else None
    try:
        # "auto": engines refuse versions older (and newer) than they know
        client = docker.DockerClient(version="auto", timeout=TIMEOUT_S, **_arguments(endpoint, tunnel))
        engine = Engine(client, endpoint, tunnel)
    except InvalidVersion as error:
        raise _too_old(f"the Docker engine at {endpoint.url}", str(error).partition(" by this")[0]) from error
    except (DockerException, *LOST) as error:
        if tunnel is not None:
            tunnel.close()
        raise HostError(
            what=f"no Docker engine answers at {endpoint.url}",
            why=f"{root_cause(error)}{endpoint.origin}",
            hint="`docker version` with the same address shows whether it is an engine, and how its answer reads",
        ) from error
    _require_new(engine)
    return engine


def _arguments(endpoint: Endpoint, tunnel: Tunnel | None) -> dict[str, Any]:
    """Of the SDK's clients."""
    more: dict[str, Any] = {}
    if endpoint.certificates is not None:
        files = {name: endpoint.certificates / f"{name}.pem" for name in ("ca", "cert", "key")}
        there = {name: str(path) for name, path in files.items() if path.is_file()}
        more["tls"] = TLSConfig(
            client_cert=(there["cert"], there["key"]) if {"cert", "key"} <= there.keys() else None,
            ca_cert=there.get("ca"),
            verify=endpoint.check,
        )
    return {"base_url": tunnel.url if tunnel else endpoint.url, **more}


def _require_new(engine: Engine) -> None:
    numbers = tuple(int(part) for part in engine.api_version.split(".") if part.isdigit())
    if numbers >= OLDEST_API:
        return
    engine.close()
    raise _too_old(engine.text, f"it speaks API {engine.api_version or 'unknown'}")


def _too_old(engine: str, found: str) -> HostError:
    oldest = ".".join(map(str, OLDEST_API))
    return HostError(
        what=f"{engine} is too old",
        why=f"{found}, and {oldest} (Docker 19.03) or newer is wanted",
        hint="update it: Debian, Ubuntu: sudo apt install docker.io; others: https://docs.docker.com/engine/install/",
    )


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise Refused(error.status_code, sentence(error)) from error


def sentence(error: APIError) -> str:
    """The engine's own words, without the SDK's frame around them."""
    return str(error.explanation or error).strip()


def root_cause(error: BaseException) -> str:
    """The innermost of the errors that requests and the SDK wrap around each other."""
    while True:
        inner = next((each for each in (*error.args, error.__cause__) if isinstance(each, BaseException)), None)
        inner = inner or (error.__context__ if isinstance(error, DockerException) else None)
        if inner is None or inner is error:
            return str(getattr(error, "strerror", None) or error).strip()
        error = inner


def split_tag(reference: str) -> tuple[str, str]:
    """("localhost:5000/me/tf", "v3"): a colon before the last slash is a port's."""
    head, colon, tail = reference.rpartition(":")
    return (head, tail) if colon and "/" not in tail else (reference, "latest")


def _read(
    ask: Callable[[StreamClient], Iterable[Json]], client: StreamClient, lines: Queue[Json | BaseException | None]
) -> None:
    try:
        for line in ask(client):
            lines.put(line)
        lines.put(None)
    except BaseException as error:
        lines.put(error)


def _interrupted() -> Interrupted:
    return Interrupted(what="interrupted", why="the engine was told to stop")


def _next(lines: Queue[Json | BaseException | None], cancel: threading.Event) -> Json | BaseException | None:
    while True:
        if cancel.is_set():
            raise _interrupted()
        with suppress(Empty):
            return lines.get(timeout=POLL_S)
