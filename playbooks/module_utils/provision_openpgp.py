"""Keys as OpenPGP writes them (RFC 4880): out of their ASCII armour, and their fingerprints. No gpg is needed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import textwrap

from ansible.module_utils.provision_failure import Failure

BEGIN, END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
PUBLIC_KEY = 6
"""The tag of the packet that begins a key; what follows up to the next one (names, signatures, subkeys) is of it."""
CRC_START, CRC_POLYNOMIAL = 0xB704CE, 0x1864CFB


def key_of(data: bytes, fingerprint: str) -> bytes:
    """The one key with this fingerprint, as binary packets. ``data``: armoured or binary, other keys may be beside it.

    Raises Failure: another key, or no OpenPGP key at all.
    """
    wanted = re.sub(r"\s", "", fingerprint).upper()
    keys = keys_of(dearmoured(data))
    if wanted not in keys:
        raise Failure(
            "wrong_key",
            "the repository's key is not the one that was expected",
            f"expected fingerprint {wanted}\nfetched key{'s have' if len(keys) > 1 else ' has'} {', '.join(keys)}",
            "do not trust it: see whether the address is right, and ask the repository's makers for the fingerprint",
        )
    return keys[wanted]


def keys_of(data: bytes) -> dict[str, bytes]:
    """Keys in binary packets, by fingerprint."""
    keys: dict[str, bytes] = {}
    current = ""
    for tag, start, body, end in _packets(data):
        if tag == PUBLIC_KEY:
            current = _fingerprint(data[body:end])
            keys[current] = b""
        elif not current:
            raise _unreadable("it begins with a packet that is no public key")
        keys[current] += data[start:end]
    if not keys:
        raise _unreadable("it is empty")
    return keys


def dearmoured(data: bytes) -> bytes:
    """Binary packets of armoured text; what is binary already comes back as it is."""
    if data[:1] and data[0] & 0x80:
        return data
    text = data.decode("latin-1")
    inside = text.partition(BEGIN)[2].partition(END)
    if not inside[1]:
        raise _unreadable("there is no PGP PUBLIC KEY BLOCK in it")
    lines = [line.strip() for line in inside[0].strip("\r\n").splitlines()]
    while lines and ":" in lines[0]:  # "Version: GnuPG v1"
        lines.pop(0)
    crc = [line[1:] for line in lines if re.match(r"=[A-Za-z0-9+/]{4}$", line)]
    try:
        packets = base64.b64decode(
            "".join(line for line in lines if not re.match(r"=[A-Za-z0-9+/]{4}$", line)), None, True
        )
        sums = [int.from_bytes(base64.b64decode(one, None, True), "big") for one in crc]
    except (binascii.Error, ValueError):
        raise _unreadable("its base64 is broken") from None
    if any(one != crc24(packets) for one in sums):
        raise _unreadable("its checksum is wrong: it was cut or changed on the way")
    return packets


def armoured(packets: bytes) -> str:
    """Text that rpm imports."""
    body = "\n".join(textwrap.wrap(base64.b64encode(packets).decode(), 64))
    crc = base64.b64encode(crc24(packets).to_bytes(3, "big")).decode()
    return f"{BEGIN}\n\n{body}\n={crc}\n{END}\n"


def crc24(data: bytes) -> int:
    """RFC 4880, section 6.1."""
    crc = CRC_START
    for octet in data:
        crc ^= octet << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= CRC_POLYNOMIAL
    return crc


def _packets(data: bytes) -> list[tuple[int, int, int, int]]:
    """(tag, start, start of the body, end) of each packet. Section 4.2."""
    found = []
    at = 0
    while at < len(data):
        tag, body, end = _header(data, at)
        if end > len(data):
            raise _unreadable("it ends in the middle of a packet")
        found.append((tag, at, body, end))
        at = end
    return found


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """(tag, start of the body, end) of the packet at ``at``."""
    first = data[at]
    if not first & 0x80:
        raise _unreadable("it is not made of OpenPGP packets")
    try:
        if not first & 0x40:
            tag, kind = (first >> 2) & 0x0F, first & 0x03
            if kind == 3:
                raise _unreadable("a packet in it does not say its length")
            size = 1 << kind
            length = int.from_bytes(data[at + 1 : at + 1 + size], "big")
            return tag, at + 1 + size, at + 1 + size + length
        tag, one = first & 0x3F, data[at + 1]
        if one < 192:
            return tag, at + 2, at + 2 + one
        if one < 224:
            return tag, at + 3, at + 3 + ((one - 192) << 8) + data[at + 2] + 192
        if one == 255:
            return tag, at + 6, at + 6 + int.from_bytes(data[at + 2 : at + 6], "big")
    except IndexError:
        raise _unreadable("it ends in the middle of a packet") from None
    raise _unreadable("a packet in it comes in parts, which keys never do")


def _fingerprint(body: bytes) -> str:
    """Section 12.2: SHA-1 of 0x99, two octets of length, and the packet's body."""
    version = body[0] if body else 0
    if version != 4:
        raise Failure(
            "key_version",
            f"the repository's key is an OpenPGP key of version {version}, which is not supported",
            "apt and rpm of the supported distributions read version 4 (RFC 4880)",
            "ask the repository's makers for a key of version 4",
        )
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324  # the format's


def _unreadable(why: str) -> Failure:
    return Failure(
        "no_key", "what was fetched as the repository's key is no OpenPGP key", why,
        "see what the key's address answers: a proxy's page, perhaps",
    )  # fmt: skip
