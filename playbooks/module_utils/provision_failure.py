"""Failures as their reader needs them: kind, what, why, hint. Also what tells an OSError's kind."""

from __future__ import annotations

import errno
import re
from typing import Any


class Failure(Exception):
    """A stop that can be explained. ``kind`` is for programs, the rest for people; only ``what`` is never empty."""

    def __init__(self, kind: str, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.kind = kind
        self.what = redacted(what)
        self.why = redacted(why)
        self.hint = redacted(hint)

    def result(self) -> dict[str, Any]:
        """What the module returns: the fields, and one text of them for whoever reads only ``msg``."""
        lines = [self.what, *(f"  {line}" for line in self.why.splitlines())]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return {"msg": "\n".join(lines), "kind": self.kind, "what": self.what, "why": self.why, "hint": self.hint}


class Interrupted(BaseException):
    """SIGTERM, SIGINT or SIGHUP came. Not an Exception, so that no clean-up that swallows errors swallows it."""


def redacted(text: str) -> str:
    """``text`` with the user part of every address masked: https://me:secret@host/ becomes https://***@host/."""
    return re.sub(r"(\w+://)[^/@\s'\"]+@", r"\1***@", text)


# (errno values, kind, hint)
OS_ERRORS: tuple[tuple[frozenset[int], str, str], ...] = (
    (
        frozenset({errno.ENOSPC, errno.EDQUOT}),
        "disk_full",
        "free some space there (or raise the quota) and run the same command again",
    ),
    (
        frozenset({errno.EROFS}),
        "read_only",
        "set XDG_DATA_HOME to a folder on a file system that can be written to",
    ),
    (
        frozenset({errno.EACCES, errno.EPERM}),
        "permission",
        "give this user that folder, or set XDG_DATA_HOME to a folder that the user owns",
    ),
    (
        frozenset({errno.ENOLCK, errno.ENOTSUP}),
        "no_lock",
        "set XDG_DATA_HOME to a folder on a local file system",
    ),
)


def os_failure(error: OSError, doing: str) -> Failure:
    """An OSError met while ``doing`` ("write the plan"), explained."""
    where = error.filename or error.filename2
    why = f"{where}: {error.strerror}" if where else str(error.strerror or error)
    for numbers, kind, hint in OS_ERRORS:
        if error.errno in numbers:
            return Failure(kind, f"could not {doing}: {error.strerror}", why, hint)
    return Failure("os_error", f"could not {doing}: {error.strerror or error}", why)
