"""What provision did to the driver: /var/lib/provision/nvidia.json, and what a failure says of it."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any, Mapping  # that of collections.abc takes no arguments before 3.9

from ansible.module_utils.provision_driver_box import Box
from ansible.module_utils.provision_failure import Failure
from ansible.module_utils.provision_files import write_atomically

SCHEMA = 1
FILE = "/var/lib/provision/nvidia.json"
PREVIOUS = "/var/lib/provision/nvidia-previous"
"""Files of the packages that were there before, kept until the new driver is seen to work."""

Record = Mapping[str, Any]


def read(box: Box) -> dict[str, Any]:
    """{} where there is none, or none that can be read: then what is installed counts alone."""
    try:
        found = json.loads(box.at(FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else {}


def write(box: Box, record: Record, **changes: Any) -> dict[str, Any]:
    """``record`` with ``changes`` is on disk, with the time and this boot. Raises OSError."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    made = {"schema": SCHEMA, **record, **changes, "boot_id": box.boot_id(), "time": now}
    path = box.at(FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(made, indent=2) + "\n")
    return made


def put_back(box: Box, record: Record) -> None:
    """The record as it was before a change that was undone."""
    if not record:
        remove(box)
        return
    with contextlib.suppress(OSError):
        write_atomically(box.at(FILE), json.dumps(dict(record), indent=2) + "\n")


def remove(box: Box) -> None:
    with contextlib.suppress(FileNotFoundError):
        box.at(FILE).unlink()


def rows(versions: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "version": version} for name, version in sorted(versions.items())]


def versions(found: Any) -> dict[str, str]:
    """{name: version} of a record's rows."""
    listed = found if isinstance(found, list) else []
    return {str(row["name"]): str(row["version"]) for row in listed if isinstance(row, Mapping) and "name" in row}


class DriverFailure(Failure):
    """A stop that says, besides, what is on the host now: ``state`` and the other fields of a result."""

    def __init__(self, kind: str, what: str, why: str = "", hint: str = "", **fields: Any) -> None:
        super().__init__(kind, what, why, hint)
        self.fields = fields

    def result(self) -> dict[str, Any]:
        return {**self.fields, **super().result()}
