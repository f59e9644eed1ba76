"""BuildKit's progress, in the two spellings it has."""

from __future__ import annotations

import base64
import json

import pytest

from provision.run.images.trace import Log, Status, Trace, TraceBroken, Vertex, from_aux, from_rawjson


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def aux(*messages: bytes) -> str:
    return base64.b64encode(b"".join(messages)).decode()


def test_a_step_its_bytes_and_its_words() -> None:
    stamp = field(1, 1795386846) + field(2, 894086000)
    vertex = field(1, b"sha256:aa") + field(2, b"sha256:00") + field(3, "[environment 2/3] RUN echo ä".encode())
    vertex += field(5, stamp) + field(6, stamp)
    status = field(1, b"transferring context:") + field(2, b"sha256:aa") + field(4, 300) + field(5, 2**33)
    log = field(1, b"sha256:aa") + field(2, stamp) + field(3, 1) + field(4, b"one\ntwo")
    assert from_aux(aux(field(1, vertex), field(2, status), field(3, log))) == Trace(
        vertexes=(Vertex(digest="sha256:aa", name="[environment 2/3] RUN echo ä", started=True, completed=True),),
        statuses=(Status(id="transferring context:", vertex="sha256:aa", current=300, total=2**33),),
        logs=(Log(vertex="sha256:aa", text="one\ntwo"),),
    )


def test_a_cached_step_and_a_failed_one() -> None:
    cached = field(1, b"sha256:aa") + field(3, b"[1/2] FROM debian") + field(4, 1)
    failed = field(1, b"sha256:bb") + field(3, b"[2/2] RUN false") + field(7, b"exit code: 1")
    trace = from_aux(aux(field(1, cached), field(1, failed)))
    assert [(each.cached, each.error) for each in trace.vertexes] == [(True, ""), (False, "exit code: 1")]


def test_fields_of_newer_engines_are_passed_over() -> None:
    vertex = (
        field(1, b"sha256:aa") + field(99, b"new") + varint(98 << 3 | 1) + bytes(8) + varint(97 << 3 | 5) + bytes(4)
    )
    assert from_aux(aux(field(1, vertex), field(4, b"a warning"))).vertexes == (Vertex(digest="sha256:aa", name=""),)


@pytest.mark.parametrize(
    "text",
    ["not base64!", aux(b"\x0a\x7fshort"), aux(b"\x0b"), aux(b"\xff" * 12), aux(b"\x80"), aux(b"\x00\x01\x02\x05a")],
)
def test_another_protocol_is_said_to_be_one(text: str) -> None:
    with pytest.raises(TraceBroken):
        from_aux(text)


def test_rawjson_says_the_same() -> None:
    line = {
        "vertexes": [
            {"digest": "sha256:aa", "name": "[2/3] RUN echo one", "started": "2026-11-20T10:00:00Z", "cached": True},
            {
                "digest": "sha256:bb",
                "name": "[3/3] RUN false",
                "error": "exit code: 1",
                "completed": "2026-11-20T10:00:01Z",
            },
        ],
        "statuses": [{"id": "sha256:cc", "vertex": "sha256:aa", "current": 5, "total": 9, "name": "extracting"}],
        "logs": [{"vertex": "sha256:aa", "stream": 1, "data": base64.b64encode(b"one\n").decode()}],
    }
    trace = from_rawjson(json.dumps(line))
    assert trace.vertexes[0] == Vertex(digest="sha256:aa", name="[2/3] RUN echo one", started=True, cached=True)
    assert trace.vertexes[1].error == "exit code: 1"
    assert trace.statuses == (Status(id="sha256:cc", vertex="sha256:aa", current=5, total=9),)
    assert trace.logs == (Log(vertex="sha256:aa", text="one\n"),)


@pytest.mark.parametrize("line", ["ERROR: no builder found", "[1, 2]", '{"vertexes": [{"name": "no digest"}]}', "3"])
def test_what_is_no_rawjson_is_said_to_be_none(line: str) -> None:
    with pytest.raises(TraceBroken):
        from_rawjson(line)
