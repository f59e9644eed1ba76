"""A host: what messages call it, and how it is reached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    name: str
    """What the user called it, and what every message and report calls it: "localhost", "me@box:2222", "gpu-01"."""
    connection: Literal["local", "ssh", "other"]
    """"other" is any further Ansible connection plugin, reached only through Ansible."""
    address: str = "localhost"
    port: int | None = None
    user: str | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Ansible variables of this host, as the inventory has them (merged from its groups)."""


LOCALHOST = Host(name="localhost", connection="local")
