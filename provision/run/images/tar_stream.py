"""A build's context as a tar that is made while it is sent: nothing of it is written to this machine's disk."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provision.run.images.context import ContextFile

CHUNK = 2**20
DOCKERFILE = "Dockerfile"
END = 2 * tarfile.BLOCKSIZE


class Cancelled(Exception):
    """Nobody wants the rest."""


class TarStream:
    """Iterated by requests, which asks for ``len`` to announce the size.

    GNU's format: BuildKit takes a tar that begins with a PAX header for a Dockerfile ("unknown instruction:
    ././@PAXHEADER"). Times are those that were asked for and owners root: equal files make equal layers.
    """

    def __init__(
        self,
        dockerfile: str,
        files: Sequence[ContextFile],
        *,
        cancel: threading.Event,
        on_sent: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._entries: list[tuple[tarfile.TarInfo, bytes | Path]] = [_entry(DOCKERFILE, dockerfile.encode(), 0o644, 0)]
        self._entries += [_entry(file.name, file.content, file.mode, file.mtime) for file in files]
        self._cancel, self._on_sent = cancel, on_sent
        self.len = END + sum(len(_header(info)) + info.size + _padding(info) for info, _ in self._entries)

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for info, content in self._entries:
            for chunk in (_header(info), *([content] if isinstance(content, bytes) else ()), bytes(0)):
                if chunk:
                    yield chunk
                    sent += len(chunk)
            if isinstance(content, Path):
                for chunk in _read(content, info.size):
                    if self._cancel.is_set():
                        raise Cancelled
                    yield chunk
                    sent += len(chunk)
                    self._on_sent(sent, self.len)
            yield bytes(_padding(info))
            sent += _padding(info)
        yield bytes(END)


def _entry(name: str, content: bytes | Path, mode: int, mtime: int) -> tuple[tarfile.TarInfo, bytes | Path]:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = mode, mtime
    info.size = len(content) if isinstance(content, bytes) else content.stat().st_size
    return info, content


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape")


def _padding(info: tarfile.TarInfo) -> int:
    return -info.size % tarfile.BLOCKSIZE


def _read(path: Path, size: int) -> Iterator[bytes]:
    """Exactly ``size`` bytes: the header has said so. Raises OSError where the file has become shorter."""
    with path.open("rb") as file:
        left = size
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                raise OSError(f"{path} became shorter while it was sent")
            left -= len(chunk)
            yield chunk
