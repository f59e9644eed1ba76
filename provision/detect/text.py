"""Small readers that never raise: text that is cut, doubled or binary gives None or less, never an exception."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST_NUMBER = 18
"""Digits. Nothing that a host prints is longer, and Python refuses to convert a few thousand of them."""

_VERSION = re.compile(r"\d{1,9}(?:\.\d{1,9}){1,5}")


def natural(text: str | None, base: int = 10) -> int | None:
    """The whole number that ``text`` is (blanks aside), or None. "0x" is taken in base 16."""
    if text is None:
        return None
    text = text.strip()
    if base == 16:
        text = text.removeprefix("0x").removeprefix("0X")
    digits = r"[0-9a-fA-F]" if base == 16 else r"[0-9]"
    return int(text, base) if re.fullmatch(f"{digits}{{1,{LONGEST_NUMBER}}}", text) else None


def version(text: str | None) -> str | None:
    """The first dotted version in ``text``: "610.57.04 [Deprecated; …]" gives "610.57.04"."""
    match = _VERSION.search(text or "")
    return match[0] if match else None


def mib(text: str | None) -> int | None:
    """Mebibytes from "24564 MiB" or "24564MiB"; None for "[N/A]", "Not Supported" and zero."""
    match = re.match(rf"\s*([0-9]{{1,{LONGEST_NUMBER}}})\s*(MiB|MB|GiB)\b", text or "")
    if match is None:
        return None
    return int(match[1]) * (1024 if match[2] == "GiB" else 1) or None


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """(key, value) of each "key : value" line, blanks around both dropped. Lines without a colon are passed over."""
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            yield key.strip(), value.strip()


def blocks(heads: list[re.Match[str]], text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Each head with the text below it, up to the next head."""
    starts = [head.start() for head in heads[1:]] + [len(text)]
    for head, end in zip(heads, starts, strict=False):
        yield head, text[head.end() : end]


def known(text: str | None) -> str | None:
    """``text`` without blanks, or None where a tool said that it does not know ("N/A", "[N/A]", "[REDACTED]")."""
    text = (text or "").strip()
    if not text or text.lower().strip("[]") in {"n/a", "not supported", "redacted", "unknown error", "unknown"}:
        return None
    return text


def printable(text: str, longest: int = 200) -> str:
    """``text`` on one line, control characters gone, cut to ``longest``: fit for a message."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    clean = " ".join(clean.split())
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"
