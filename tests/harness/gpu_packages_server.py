"""A package mirror over HTTP for the boxes of one test: Debian's archive, NVIDIA's repositories, all signed here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.gpu_packages import Deb, Key, build, publish_flat, publish_suite
from harness.gpu_packages_nvidia import container_toolkit, cuda_toolkit, cudnn, debian_driver, driver, kernel

CODENAME, RELEASE = "bookworm", "12"
NVIDIA_PLACE = "cuda/repos/debian12/x86_64"
TOOLKIT_PLACE = "libnvidia-container/stable/deb/amd64"


class _Handler(SimpleHTTPRequestHandler):
    """Files of a folder; every request is written down, and a test may answer one itself."""

    server: _Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        status = self.server.fault(self.path)
        if status is None:
            super().do_GET()
        elif status:
            self.send_error(status)
        else:  # the network is gone: no answer, the connection just ends
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """The test's output is for the test."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], folder: Path) -> None:
        self.requests: list[str] = []
        self.fault: Callable[[str], int | None] = lambda _: None
        super().__init__(address, partial(_Handler, directory=str(folder)))


class PackageCache:
    """Packages of this process, each built once, and the key that signs every repository."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        self._made: dict[str, tuple[Deb, Path]] = {}
        self._variants = 0
        self.key = Key(folder / "g", "provision tests' packages <tests@provision.invalid>")

    def path(self, deb: Deb) -> Path:
        """The package's file. Another content under the same name and version is another file in another folder."""
        known = self._made.get(deb.file_name)
        if known is not None and known[0] == deb:
            return known[1]
        self._variants += 1
        folder = self._folder / f"v{self._variants}"
        folder.mkdir()
        made = build(deb, folder)
        self._made[deb.file_name] = (deb, made)
        return made

    def close(self) -> None:
        self.key.close()


class Mirror:
    """One test's repositories, at an address that containers reach. ``close()`` it."""

    def __init__(self, cache: PackageCache, folder: Path, host: str) -> None:
        self._cache = cache
        self._folder = folder
        folder.mkdir(parents=True)
        self._server = _Server((host, 0), folder)
        self.url = f"http://{host}:{self._server.server_address[1]}"
        self.debian: list[Deb] = [*kernel(), *debian_driver()]
        self.nvidia: list[Deb] = [*driver("580.95.05"), *cuda_toolkit(), *cudnn()]
        self.toolkit: list[Deb] = container_toolkit()
        self.key = cache.key
        self._publications = 0
        self.publish()
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def nvidia_url(self) -> str:
        """What stands for https://developer.download.nvidia.com/compute/cuda/repos."""
        return f"{self.url}/cuda/repos"

    @property
    def toolkit_url(self) -> str:
        """What stands for https://nvidia.github.io/libnvidia-container/stable/deb."""
        return f"{self.url}/libnvidia-container/stable/deb"

    @property
    def key_url(self) -> str:
        return f"{self.url}/{NVIDIA_PLACE}/3bf863cc.pub"

    @property
    def requests(self) -> list[str]:
        """Paths asked for so far."""
        return self._server.requests

    def variables(self) -> dict[str, str]:
        """For an inventory: where NVIDIA's repositories are mirrored, and the mirror's keys."""
        return {
            "provision_nvidia_mirror": self.nvidia_url,
            "provision_nvidia_key_url": self.key_url,
            "provision_nvidia_fingerprint": self.key.fingerprint,
            "provision_nvidia_toolkit_mirror": f"{self.url}/libnvidia-container/stable",
            "provision_nvidia_toolkit_key_url": f"{self.url}/libnvidia-container/gpgkey",
            "provision_nvidia_toolkit_fingerprint": self.key.fingerprint,
        }

    def add(self, debs: Sequence[Deb], to: str = "nvidia") -> None:
        """More packages ("debian", "nvidia", "toolkit"), as a newer release beside the old one."""
        getattr(self, to).extend(debs)
        self.publish()

    def drop(self, *names: str) -> None:
        """No candidate for these any more, anywhere."""
        for rows in (self.debian, self.nvidia, self.toolkit):
            rows[:] = [deb for deb in rows if deb.name not in names]
        self.publish()

    def replace(self, debs: Sequence[Deb], to: str = "nvidia") -> None:
        """These packages in place of those of the same name."""
        rows = getattr(self, to)
        rows[:] = [deb for deb in rows if deb.name not in {new.name for new in debs}]
        self.add(debs, to)

    def publish(self) -> None:
        """Write and sign every index again."""
        path = self._cache.path
        publish_suite(
            self._folder / "debian", [(deb.component, path(deb)) for deb in self.debian], self.key,
            codename=CODENAME, version=RELEASE,
        )  # fmt: skip
        for place, rows, origin in (
            (NVIDIA_PLACE, self.nvidia, "NVIDIA"),
            (TOOLKIT_PLACE, self.toolkit, "https://nvidia.github.io/libnvidia-container/stable/deb"),
        ):
            publish_flat(self._folder / place, [path(deb) for deb in rows], self.key, origin=origin)
        (self._folder / NVIDIA_PLACE / "3bf863cc.pub").write_bytes(self.key.armored)
        (self._folder / "libnvidia-container" / "gpgkey").write_bytes(self.key.armored)

    def place(self, name: str) -> tuple[Path, str]:
        """A folder that is served as well, and its address."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return folder, f"{self.url}/{name}/"

    def answer(self, fault: Callable[[str], int | None] | None) -> None:
        """``fault(path)``: None serves it, a status answers with that, 0 ends the connection. None: all is well."""
        self._server.fault = fault or (lambda _: None)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
