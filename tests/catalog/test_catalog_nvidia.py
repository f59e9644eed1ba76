"""The package tables of NVIDIA's roles: every row can be filled, and says where it comes from."""

from __future__ import annotations

import re
from typing import Any

import pytest

from provision.catalog.load import catalog
from provision.catalog.nvidia import FILES, package_table, table_from
from provision.errors import CatalogBroken
from provision.model.setup import PackageTable

ROLES = ("nvidia_driver", "cuda_toolkit", "cudnn", "nvidia_container_toolkit")
WORDS = {
    "branch", "kernel", "flavour", "release", "release_digits", "arch", "deb_arch", "version", "version_dashed",
    "cuda_major",
}  # fmt: skip
TABLES = [
    (role, distribution)
    for role in ROLES
    for distribution in sorted(FILES)
    if distribution != "wsl" or role in ("cuda_toolkit", "cudnn")
]


def table(role: str, distribution: str) -> PackageTable:
    found = package_table(role, distribution)
    assert found is not None
    return found


@pytest.mark.parametrize(("role", "distribution"), TABLES)
def test_every_role_knows_every_distribution(role: str, distribution: str) -> None:
    found = table(role, distribution)
    assert found.manager == ("apt" if distribution in ("ubuntu", "debian", "wsl") else "dnf")
    wanted = {"ubuntu": {"22.04", "24.04"}, "debian": {"12", "13"}, "fedora": {"42", "43", "44"}}
    releases = {release for row in found.sets for release in row.releases}
    assert wanted.get(distribution, {"24.04"} if distribution == "wsl" else {"9", "10"}) <= releases


@pytest.mark.parametrize(("role", "distribution"), TABLES)
def test_every_set_has_its_repository_for_each_release(role: str, distribution: str) -> None:
    found = table(role, distribution)
    for row in found.sets:
        if row.repository == "distribution":
            continue
        homes = [each for each in found.repositories if each.id == row.repository]
        assert set(row.releases) <= {release for each in homes for release in each.releases}, row.id
    for each in found.repositories:
        assert re.fullmatch(r"[0-9A-F]{40}", each.fingerprint), each.id
        assert each.url.startswith("https://")
        assert each.key_url.startswith("https://")


@pytest.mark.parametrize(("role", "distribution"), TABLES)
def test_every_brace_is_filled_by_a_plan_and_no_metapackage_brings_a_newer_driver(role: str, distribution: str) -> None:
    found = table(role, distribution)
    for row in found.sets:
        texts = (*row.packages, *row.headers, row.version, row.stream, row.lock)
        assert {word for text in texts for word in re.findall(r"\{(\w*)\}", text)} <= WORDS, row.id
        assert not {"cuda", "cuda-{version_dashed}", "nvidia-driver-latest"} & set(row.packages), row.id
        assert row.source, row.id
    ids = [row.id for row in found.sets]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("distribution", sorted(set(FILES) - {"wsl"}))
def test_rows_of_drivers_name_branches_that_the_catalog_has(distribution: str) -> None:
    known = {row.branch for row in catalog().branches}
    for row in table("nvidia_driver", distribution).sets:
        assert set(row.branches) <= known, row.id
        assert bool(row.branches) != bool(row.first_branch), row.id
        assert row.module in ("open", "proprietary"), row.id
        assert bool(row.headers) == (row.build == "dkms"), row.id
        assert row.version == "{branch}.", row.id
        if row.module == "open":
            assert all(int(branch) >= 515 for branch in row.branches), row.id


def test_what_nobody_has_a_table_for() -> None:
    assert package_table("nvidia_driver", "arch") is None
    assert package_table("nvidia_driver", "wsl") is None
    assert package_table("nvidia_driver", "") is None


ROW: dict[str, Any] = {
    "id": "a", "releases": ["12"], "archs": ["x86_64"], "repository": "cuda", "packages": ["x"], "source": ["a page"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [({"packages": "x"}, "packages"), ({"brand": ["580"]}, "brand"), ({"build": "by hand"}, "build")],
)
def test_a_table_with_a_mistake_names_its_place(change: dict[str, Any], says: str) -> None:
    content = {"__nvidia_driver_manager": "apt", "__nvidia_driver_sets": [{**ROW, **change}]}
    with pytest.raises(CatalogBroken) as caught:
        table_from(content, "nvidia_driver", "nvidia_driver/vars/Debian.yml")
    said = f"{caught.value.what} {caught.value.why}"
    assert "nvidia_driver/vars/Debian.yml" in said
    assert says in said
