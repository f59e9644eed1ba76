"""Where things lie on a target: everything below DATA_HOME/provision."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from ansible.module_utils.provision_failure import Failure


def data_home(environ: Mapping[str, str], home: str) -> Path:
    """$XDG_DATA_HOME where it is an absolute path (the specification ignores others), else HOME/.local/share."""
    named = environ.get("XDG_DATA_HOME", "")
    return Path(named) if named.startswith("/") else Path(home) / ".local" / "share"


def cache_home(environ: Mapping[str, str], home: str) -> Path:
    """$XDG_CACHE_HOME where it is an absolute path, else HOME/.cache."""
    named = environ.get("XDG_CACHE_HOME", "")
    return Path(named) if named.startswith("/") else Path(home) / ".cache"


class Layout:
    """The folders. Making one touches nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environments = root / "envs"
        self.runs = root / "run"
        self.incoming = root / "incoming"
        self.mnist = root / "mnist"
        self.sources = root / "sources"
        self.builds = root / "builds"

    def uv(self, version: str) -> Path:
        return self.root / "bin" / f"uv-{version}"

    def environment(self, name: str) -> Path:
        """The folder of one environment. Raises Failure for a name that could leave the folder of environments."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise Failure(
                "bad_input",
                f"an environment cannot be called {name!r}",
                "a name is 1 to 64 letters, digits, '.', '_' and '-', and starts with a letter or a digit",
            )
        return self.environments / name

    def inside(self, relative: str) -> Path:
        """``root/relative``. Raises Failure where that is not below the root."""
        parts = Path(relative).parts
        if not parts or relative.startswith("/") or ".." in parts:
            raise Failure("bad_input", f"{relative!r} is not a path below {self.root}")
        return self.root / relative


def home() -> str:
    """The home of the user that runs this: $HOME, else what the user database says, else "~" as it is."""
    return os.path.expanduser("~")  # noqa: PTH111  Path's raises where there is no home


def target_layout() -> Layout:
    """The layout of the user that runs this."""
    return Layout(data_home(os.environ, home()) / "provision")
