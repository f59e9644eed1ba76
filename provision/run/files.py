"""Files of ours on this machine, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from provision.errors import UsageError


def write_atomically(path: Path, text: str) -> None:
    """Write ``path`` through a temporary file beside it. A link stays a link, and what is no file (/dev/stdout) is
    written to as it is. Raises UsageError where the place cannot be written."""
    path = path.resolve()
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(what=f"cannot write {path}", why=error.strerror or str(error), hint="give a path you may write")


def write_whole(path: Path, content: bytes) -> None:
    """Write ``path`` through a temporary file beside it. Raises UsageError where the place cannot be written."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
