"""The package tables of NVIDIA's roles: playbooks/roles/ROLE/vars/DISTRIBUTION.yml, which the roles themselves read.

Read when a plan asks, and then only the one file: a plan without a GPU does not pay for YAML.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from provision import assets
from provision.catalog.rows import HINT, make, make_all
from provision.errors import CatalogBroken
from provision.model.setup import PackageSet, PackageTable, RepositoryRow

FILES = {
    "ubuntu": "Ubuntu", "debian": "Debian", "fedora": "Fedora",
    "rhel": "RedHat", "rocky": "RedHat", "almalinux": "RedHat", "centos": "RedHat", "ol": "RedHat",
    "wsl": "WSL",
}  # fmt: skip
"""By os-release's ID; "wsl" stands for Ubuntu inside WSL2, which has a repository of its own."""


@lru_cache(maxsize=32)
def package_table(role: str, distribution: str) -> PackageTable | None:
    """None where the role has no table for the distribution. Raises CatalogBroken."""
    name = FILES.get(distribution)
    path = assets.folder("playbooks") / "roles" / role / "vars" / f"{name}.yml"
    if name is None or not path.is_file():
        return None
    import yaml

    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogBroken(
            what=f"the table {path.name} of role {role} cannot be read", why=str(error), hint=HINT
        ) from None
    return table_from(content if isinstance(content, dict) else {}, role, f"{role}/vars/{path.name}")


def table_from(content: dict[str, Any], role: str, file: str) -> PackageTable:
    def part(name: str) -> Any:
        return content.get(f"__{role}_{name}")

    repositories = part("repositories")
    return PackageTable(
        manager=make(PackageTable, {"manager": part("manager"), "sets": []}, file, "manager").manager,
        sets=make_all(PackageSet, part("sets"), file, f"__{role}_sets"),
        repositories=make_all(RepositoryRow, repositories, file, f"__{role}_repositories") if repositories else (),
        secure_boot=tuple(part("secure_boot") or ()),
    )
