"""Many readings in one stream, as run/probe.sh prints them: frames that begin with a line no reading can contain.

``BOUNDARY NAME [STATUS]``, then the reading, then a line end of the frame's own. The boundary is random, so contents
cannot forge a frame. The last frame is called "end": without it the stream was cut.
"""

from __future__ import annotations

import re

from provision.detect.text import blocks
from provision.model.readings import Readings

END = "end"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def split(text: str, boundary: str) -> Readings:
    """What came through whole or in part; what stands before the first frame (a login banner) is dropped.

    A status other than 0 becomes the reading ``NAME.status``.
    """
    files: dict[str, str] = {}
    for name, status, content in _frames(text, boundary):
        if name == END:
            break
        files.setdefault(name, content)
        if status not in ("", "0"):
            files.setdefault(f"{name}.status", status)
    return Readings(files)


def is_complete(text: str, boundary: str) -> bool:
    """Whether the probe reached its end."""
    return any(name == END for name, _, _ in _frames(text, boundary))


def _frames(text: str, boundary: str) -> list[tuple[str, str, str]]:
    head = re.compile(rf"^{re.escape(boundary)} ({NAME.pattern})(?: (\d{{1,3}}))?\r?\n", re.MULTILINE)
    found = blocks(list(head.finditer(text)), text)
    return [(match[1], match[2] or "", content.removesuffix("\n")) for match, content in found]
