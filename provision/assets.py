"""Where the files that travel with the package lie: playbooks, checks, Dockerfiles.

A checkout has them beside the package; an installed wheel would have to carry them. Until wheels are published,
provision runs from its checkout (``./run``), and a missing folder says so.
"""

from __future__ import annotations

from pathlib import Path

from provision.errors import ProvisionError

ROOT = Path(__file__).resolve().parent.parent


def folder(name: str) -> Path:
    """The folder ``name`` of the checkout ("playbooks", "checks", "dockerfiles").

    Raises ProvisionError where the package was installed without it.
    """
    path = ROOT / name
    if not path.is_dir():
        raise ProvisionError(
            what=f"the folder {name}/ of provision is missing",
            why=f"looked for {path}",
            hint="run provision from a whole checkout: ./run",
        )
    return path
