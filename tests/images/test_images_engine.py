"""Finding an engine: where it is looked for, and what is said where none answers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from harness.engine import Engine as HarnessEngine
from harness.fleet import Fleet

from provision.errors import HostError, Interrupted, ProvisionError, StepFailed, UsageError
from provision.run.images.bases import require_platform
from provision.run.images.endpoints import find_endpoint
from provision.run.images.engine import Engine, connect, split_tag

NOBODY = 65534


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def engine_that_says(folder: Path, **version: Any) -> Iterator[str]:
    """The address of a socket where /version is answered, as an engine of that version does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(version).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "a socket has no address"

        def log_message(self, *words: object) -> None:
            """Not on the terminal."""

    with _Server(str(folder / "s"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix://{folder / 's'}"
        finally:
            server.shutdown()
            thread.join()


def refusal(environ: dict[str, str], kind: type[ProvisionError] = HostError) -> ProvisionError:
    with pytest.raises(kind) as failure:
        connect(environ=environ)
    return failure.value


def test_the_address_is_docker_host(tmp_path: Path) -> None:
    assert find_endpoint({"DOCKER_HOST": "ssh://me@box"}).url == "ssh://me@box"
    tls = find_endpoint({"DOCKER_HOST": "tcp://box:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c"})
    assert (tls.certificates, tls.check) == (Path("/c"), True)
    assert find_endpoint({"HOME": str(tmp_path)}).url == "unix:///var/run/docker.sock"


@pytest.fixture
def context(tmp_path: Path) -> Callable[..., dict[str, str]]:
    def make(host: str, name: str = "lab", **more: Any) -> dict[str, str]:
        folder = tmp_path / ".docker" / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host, **more}}}))
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))
        return {"HOME": str(tmp_path)}

    return make


def test_without_it_the_current_docker_context_is(context: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    environ = context("ssh://me@lab", SkipTLSVerify=True)
    found = find_endpoint(environ)
    assert (found.url, found.origin, found.check) == ("ssh://me@lab", " (docker context lab)", False)
    assert find_endpoint({**environ, "DOCKER_HOST": "tcp://x:1"}).url == "tcp://x:1"
    assert find_endpoint({**environ, "DOCKER_CONTEXT": "default"}).url == "unix:///var/run/docker.sock"
    certificates = tmp_path / ".docker/contexts/tls" / hashlib.sha256(b"lab").hexdigest() / "docker"
    certificates.mkdir(parents=True)
    assert find_endpoint(environ).certificates == certificates


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    failure = refusal({"HOME": str(tmp_path), "DOCKER_CONTEXT": "gone"}, UsageError)
    assert failure.what == "there is no docker context 'gone' that can be read"
    assert failure.why.startswith("$DOCKER_CONTEXT names it, and ")
    assert "`docker context ls`" in failure.hint


@pytest.mark.parametrize("url", ["/var/run/docker.sock", "ftp://box", "ssh://", "unix://"])
def test_an_address_that_is_none(url: str) -> None:
    failure = refusal({"DOCKER_HOST": url}, UsageError)
    assert failure.what == f"{url} is not the address of an engine ($DOCKER_HOST)"
    assert "unix://" in failure.why
    assert "DOCKER_HOST=ssh://USER@HOST" in failure.hint


def test_no_engine_at_all(tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/none.sock"
    failure = refusal({"DOCKER_HOST": url})
    assert failure.what == f"no Docker engine answers at {url}"
    assert failure.why.startswith("there is no such socket ($DOCKER_HOST): Docker is ")
    assert "sudo systemctl start docker" in failure.hint
    assert ("apt install docker.io" in failure.hint) == (shutil.which("dockerd", path="/usr/bin:/usr/sbin") is None)
    assert failure.exit_code == 4


def test_a_socket_where_nobody_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    failure = refusal({"DOCKER_HOST": f"unix://{path}"})
    assert failure.why == "Connection refused ($DOCKER_HOST): the socket is there and nobody listens"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
def test_no_right_to_the_socket(tmp_path: Path) -> None:
    # pytest's own folders are closed to everybody else
    with TemporaryDirectory() as name, engine_that_says(Path(name), Version="28.5.1", ApiVersion="1.51") as url:
        Path(name).chmod(0o755)
        (Path(name) / "s").chmod(0o600)
        os.seteuid(NOBODY)
        try:
            failure = refusal({"DOCKER_HOST": url})
        finally:
            os.seteuid(0)
    assert failure.what == f"no right to use the Docker engine at {url}"
    assert "the socket is root:root's with mode 600, and you are nobody, in the groups root" in failure.why
    assert "sudo usermod -aG docker $USER" in failure.hint
    assert "can do all that root can" in failure.hint


def test_too_old(tmp_path: Path) -> None:
    with engine_that_says(tmp_path, Version="18.09.9", ApiVersion="1.39", Os="linux", Arch="amd64") as url:
        failure = refusal({"DOCKER_HOST": url})
    assert failure.what == f"Docker Engine 18.09.9 at {url} is too old"
    assert failure.why == "it speaks API 1.39, and 1.40 (Docker 19.03) or newer is wanted"
    assert "apt install docker.io" in failure.hint


def test_older_than_the_sdk_itself(tmp_path: Path) -> None:
    with engine_that_says(tmp_path, Version="1.10.3", ApiVersion="1.22", Os="linux", Arch="amd64") as url:
        failure = refusal({"DOCKER_HOST": url})
    assert failure.what == f"the Docker engine at {url} is too old"
    assert failure.why == "API versions below 1.24 are no longer supported, and 1.40 (Docker 19.03) or newer is wanted"


def test_newer_ones_are_spoken_to_in_their_own_version(tmp_path: Path) -> None:
    said = {"Version": "31.0.0", "ApiVersion": "1.60", "MinAPIVersion": "1.52", "Os": "linux", "Arch": "amd64"}
    with engine_that_says(tmp_path, **said) as url, connect(environ={"DOCKER_HOST": url}) as engine:
        assert engine.text == f"Docker Engine 31.0.0 at {url}"
        assert (engine.api_version, engine.client.api.api_version) == ("1.60", "1.60")


def test_an_engine_on_another_architecture(tmp_path: Path) -> None:
    said = {"Version": "28.5.1", "ApiVersion": "1.51", "Os": "linux", "Arch": "arm64"}
    with (
        engine_that_says(tmp_path, **said) as url,
        connect(environ={"DOCKER_HOST": url}) as engine,
        pytest.raises(HostError) as failure,
    ):
        require_platform(engine)
    assert failure.value.what.endswith("runs linux/arm64 and images are built for linux/amd64")
    assert "DOCKER_HOST=ssh://USER@HOST" in failure.value.hint


def test_something_else_at_that_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    failure = refusal({"DOCKER_HOST": url})
    assert failure.what == f"no Docker engine answers at {url}"
    assert "Connection refused" in failure.why
    assert "`docker version`" in failure.hint


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("me/tf:v3", ("me/tf", "v3")),
        ("tf", ("tf", "latest")),
        ("localhost:5000/tf", ("localhost:5000/tf", "latest")),
        ("localhost:5000/me/tf:v3", ("localhost:5000/me/tf", "v3")),
    ],
)
def test_a_port_is_no_tag(reference: str, parts: tuple[str, str]) -> None:
    assert split_tag(reference) == parts


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ssh://me:geheim@box", "a password would be seen by everybody on this machine: use a key"),
        ("ssh://me@box/run/docker.sock", "an address ends with its host or port; a socket's path cannot be given"),
        ("ssh://me@box:ssh", "Port could not be cast to integer value as 'ssh'"),
        ("ssh://-oProxyCommand=id@box", "'-oProxyCommand=id' is no user name"),
        ("ssh://me@-box", "'-box' is no name or IPv4 address"),
    ],
)
def test_addresses_that_ssh_is_not_given(url: str, why: str) -> None:
    failure = refusal({"DOCKER_HOST": url}, UsageError)
    assert failure.why == why
    assert "geheim" not in failure.what
    assert failure.hint == "DOCKER_HOST=ssh://USER@HOST[:PORT]"


@pytest.mark.docker
def test_the_engine_says_what_it_is(engine: HarnessEngine) -> None:
    with connect(environ=engine.environment()) as found:
        assert found.text == f"Docker Engine {found.version} at {engine.url}"
        assert found.os_arch.startswith("linux/")
        assert found.find("provision-tests/none:none") is None
        with pytest.raises(StepFailed) as failure:
            found.inspect("provision-tests/none:none")
        assert failure.value.what == "there is no image provision-tests/none:none"
        assert found.data_root().startswith("/")


@pytest.fixture
def far(
    engine: HarnessEngine, fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Fleet, dict[str, str]]]:
    """A host over SSH that has this engine's socket and a docker command, and the environment that names it."""

    def make(user: str = "root", *, command: bool = True, engine_there: bool = True) -> tuple[Fleet, dict[str, str]]:
        program = next((path for path in ("/usr/bin/docker", "/usr/local/bin/docker") if Path(path).is_file()), None)
        if program is None or not engine.url.startswith("unix://"):
            pytest.skip("an engine over SSH needs a docker command and a local socket to put into the host")
        volumes = [f"{program}:/usr/bin/docker:ro"] if command else []
        volumes += [f"{engine.url.removeprefix('unix://')}:/var/run/docker.sock"] if engine_there else []
        made = fleet(1, user=user, volumes=volumes)
        # the SDK starts `ssh` by this process's PATH
        for name, value in made.environment().items():
            if name in ("PATH", "HOME"):
                monkeypatch.setenv(name, value)
        return made, {"DOCKER_HOST": f"ssh://{made.hosts[0].target}"}

    return make


@pytest.mark.docker
@pytest.mark.ssh
def test_an_engine_over_ssh(far: Callable[..., tuple[Fleet, dict[str, str]]], base_image: str) -> None:
    _, environ = far()
    with connect(environ=environ) as found:
        assert found.url == environ["DOCKER_HOST"]
        assert found.find(base_image) is not None


@pytest.mark.docker
@pytest.mark.ssh
def test_an_interruption_over_ssh(far: Callable[..., tuple[Fleet, dict[str, str]]], base_image: str) -> None:
    _, environ = far()
    cancel = threading.Event()
    with connect(environ=environ) as found:
        threading.Timer(0.5, cancel.set).start()
        asked = found.stream(lambda client: client.events(decode=True), cancel=cancel)
        with asked as lines, pytest.raises(Interrupted):
            list(lines)


@pytest.mark.docker
@pytest.mark.ssh
def test_a_changed_host_key_is_not_taken(far: Callable[..., tuple[Fleet, dict[str, str]]]) -> None:
    made, environ = far()
    made.hosts[0].replace_host_key()
    made.hosts[0].stop()
    made.hosts[0].start()
    failure = refusal(environ)
    assert "shows another host key than the one known for it" in failure.what
    assert "compare the fingerprint on the host's own console" in failure.hint


@pytest.mark.docker
@pytest.mark.ssh
def test_an_unknown_host_key_is_not_taken(far: Callable[..., tuple[Fleet, dict[str, str]]]) -> None:
    made, environ = far()
    made.known_hosts.write_text("")
    assert f"the host key of {made.hosts[0].target.partition(':')[0]} is not known here" in refusal(environ).what


@pytest.mark.docker
@pytest.mark.ssh
def test_a_host_that_is_off(far: Callable[..., tuple[Fleet, dict[str, str]]]) -> None:
    made, environ = far()
    made.hosts[0].stop()
    failure = refusal(environ)
    assert failure.what.startswith(f"the engine at {environ['DOCKER_HOST']} cannot be reached: ")
    assert "Connection refused" in failure.why


@pytest.mark.docker
@pytest.mark.ssh
def test_no_docker_there(far: Callable[..., tuple[Fleet, dict[str, str]]]) -> None:
    _, environ = far(command=False)
    failure = refusal(environ)
    assert "has no docker command" in failure.what
    assert "not found" in failure.why
    assert "apt install docker.io" in failure.hint


@pytest.mark.docker
@pytest.mark.ssh
def test_no_engine_there(far: Callable[..., tuple[Fleet, dict[str, str]]]) -> None:
    _, environ = far(engine_there=False)
    failure = refusal(environ)
    assert failure.what == f"no Docker engine answers at {environ['DOCKER_HOST']}"
    assert "Cannot connect to the Docker daemon" in failure.why
    assert failure.hint == "there: sudo systemctl start docker"


@pytest.mark.docker
@pytest.mark.ssh
def test_no_right_to_the_socket_there(far: Callable[..., tuple[Fleet, dict[str, str]]], engine: HarnessEngine) -> None:
    if Path(engine.url.removeprefix("unix://")).stat().st_mode & 0o006:
        pytest.skip("this engine's socket is open to everybody")
    _, environ = far(user="me")
    failure = refusal(environ)
    assert failure.what.startswith("no right to use the Docker engine of me@")
    assert "permission denied" in failure.why
    assert "there: sudo usermod -aG docker me" in failure.hint


def test_an_engine_is_closed_once(tmp_path: Path) -> None:
    with engine_that_says(tmp_path, Version="28.5.1", ApiVersion="1.51", Os="linux", Arch="amd64") as url:
        found: Engine = connect(environ={"DOCKER_HOST": url})
        found.close()
        found.close()
