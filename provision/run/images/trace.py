"""What BuildKit tells while it builds, from both of its spellings.

Through the engine's API each line is {"id": "moby.buildkit.trace", "aux": base64 of a StatusResponse}, a protobuf
message whose fields are those of api/services/control/control.proto in github.com/moby/buildkit; `docker buildx build
--progress=rawjson` prints the same as JSON.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Vertex:
    """A step: "[environment 4/7] RUN uv pip sync …", "[internal] load build context", "exporting to image"."""

    digest: str
    name: str
    cached: bool = False
    started: bool = False
    completed: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How far a part of a step is, in bytes; ``total`` is 0 where nobody knows."""

    id: str
    """"transferring context:", "sha256:…", "exporting layers"."""
    vertex: str
    current: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    vertex: str
    text: str
    """Any number of lines, the last one perhaps not whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One message. Later ones of the same vertex replace what earlier ones said of it."""

    vertexes: tuple[Vertex, ...] = ()
    statuses: tuple[Status, ...] = ()
    logs: tuple[Log, ...] = ()


class TraceBroken(ValueError):
    """It is not such a message: another protocol, or a newer one."""


def from_aux(aux: str) -> Trace:
    """From the API's ``aux``. Raises TraceBroken."""
    try:
        return _from_protobuf(base64.b64decode(aux, validate=True))
    except (ValueError, IndexError) as error:
        raise TraceBroken(str(error)) from error


def from_rawjson(line: str) -> Trace:
    """From a line of buildx. Raises TraceBroken."""
    try:
        said = json.loads(line)
        return Trace(
            vertexes=tuple(_json_vertex(each) for each in said.get("vertexes") or ()),
            statuses=tuple(
                Status(
                    id=str(each.get("id", "")),
                    vertex=str(each.get("vertex", "")),
                    current=int(each.get("current") or 0),
                    total=int(each.get("total") or 0),
                )
                for each in said.get("statuses") or ()
            ),
            logs=tuple(
                Log(
                    vertex=str(each["vertex"]), text=base64.b64decode(each.get("data") or "").decode("utf-8", "replace")
                )
                for each in said.get("logs") or ()
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TraceBroken(str(error)) from error


def _json_vertex(said: Mapping[str, Any]) -> Vertex:
    return Vertex(
        digest=str(said["digest"]),
        name=str(said.get("name") or ""),
        cached=bool(said.get("cached")),
        started=bool(said.get("started")),
        completed=bool(said.get("completed")),
        error=str(said.get("error") or ""),
    )


def _from_protobuf(data: bytes) -> Trace:
    vertexes, statuses, logs = [], [], []
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            continue
        # a field that is given twice: the last one counts, and the repeated ones (inputs) are not read
        said = dict(_fields(value))
        if number == 1:
            vertexes.append(
                Vertex(
                    digest=_text(said.get(1)),
                    name=_text(said.get(3)),
                    cached=bool(said.get(4)),
                    started=5 in said,
                    completed=6 in said,
                    error=_text(said.get(7)),
                )
            )
        elif number == 2:
            amounts = [each if isinstance(each, int) else 0 for each in (said.get(4), said.get(5))]
            statuses.append(
                Status(id=_text(said.get(1)), vertex=_text(said.get(2)), current=amounts[0], total=amounts[1])
            )
        elif number == 3:
            logs.append(Log(vertex=_text(said.get(1)), text=_text(said.get(4))))
    return Trace(vertexes=tuple(vertexes), statuses=tuple(statuses), logs=tuple(logs))


def _text(value: int | bytes | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value): https://protobuf.dev/programming-guides/encoding/. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == LENGTH:
            size, at = _varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} of field {number}")
        if number == 0 or at + size > len(data):
            raise ValueError(f"field {number} goes beyond the message's end")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
