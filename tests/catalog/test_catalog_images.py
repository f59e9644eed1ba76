"""What images are based on, and what may go from them: whole, sourced, and strict about its rows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pydantic
import pytest

from provision.catalog.images import FILE, distributions, read_distributions, read_slim_rules, slim_rules
from provision.catalog.load import catalog
from provision.catalog.rows import FOLDER, table
from provision.errors import CatalogBroken
from provision.model.image import Distribution, SlimRule
from provision.model.versions import numbers

PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


def test_the_distributions_that_images_can_be_based_on() -> None:
    known = [(row.id, row.version_id, row.codename, row.python) for row in distributions()]
    assert known == [
        ("debian", "12", "bookworm", "3.11"),
        ("debian", "13", "trixie", "3.13"),
        ("ubuntu", "22.04", "jammy", "3.10"),
        ("ubuntu", "24.04", "noble", "3.12"),
        ("ubuntu", "26.04", "resolute", "3.14"),
    ]


def test_every_distribution_brings_an_interpreter_an_init_and_what_strips() -> None:
    for row in distributions():
        assert {"python3", "tini"} <= set(row.runtime_packages)
        assert "binutils" in row.build_packages
        assert {"python3-dev", "git", "patchelf"} <= set(row.builder_packages)
        for name in (*row.runtime_packages, *row.build_packages, *row.builder_packages):
            assert PACKAGE.fullmatch(name), name


def test_compilers_are_newest_first_and_lie_where_their_packages_put_them() -> None:
    for row in distributions():
        for family in ("gcc", "clang"):
            versions = [numbers(each.version) for each in row.compilers if each.family == family]
            assert versions == sorted(versions, reverse=True)
            assert versions
        for each in row.compilers:
            major = each.version.split(".")[0]
            folder = "/usr/bin/gcc-{}" if each.family == "gcc" else "/usr/lib/llvm-{}/bin/clang"
            assert each.path == folder.format(major)
            assert f"{each.family}-{major}" in each.packages
            assert each.family == "clang" or f"g++-{major}" in each.packages


def test_what_nobody_read_says_so() -> None:
    for row in distributions():
        assert (row.confidence == "unconfirmed") == (row.source[0].startswith("not read")), row.codename
        assert row.confidence != "unconfirmed" or row.notes


def test_what_may_go_stays_below_site_packages_and_has_a_reason() -> None:
    for row in slim_rules():
        assert row.why
        assert row.source
        assert row.remove or row.strip or row.shorten
        assert set(row.frameworks) <= set(catalog().frameworks)
        for glob in (*row.remove, *row.strip, *row.shorten):
            path = PurePosixPath(glob)
            assert not path.is_absolute()
            assert ".." not in path.parts
            assert not any(char in glob for char in " '\"$`;\n\\"), "it is a glob, and reaches a shell as one"


def test_what_breaks_when_stripped_is_not() -> None:
    """ENGINEERING: strip moves the load commands of OpenBLAS and HDF5 that wheels carry, and they no longer load."""
    for row in slim_rules():
        for glob in row.strip:
            assert glob.startswith(("tensorflow/", "torch/")), glob


def test_pydantic_reads_the_same_rows() -> None:
    content = table(FILE)
    for key, kind, found in (
        ("distribution", Distribution, distributions()),
        ("slim", SlimRule, slim_rules()),
    ):
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(tuple[kind, ...])  # type: ignore[valid-type]
        assert adapter.validate_python(content[key]) == found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / FILE).write_bytes((FOLDER / FILE).read_bytes())
    return tmp_path


def broken(folder: Path, old: str, new: str) -> CatalogBroken:
    text = (folder / FILE).read_text(encoding="utf-8")
    assert old in text
    (folder / FILE).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CatalogBroken) as caught:
        read_distributions(folder)
        read_slim_rules(folder)
    return caught.value


def test_an_unchanged_copy_reads_the_same(folder: Path) -> None:
    assert read_distributions(folder) == distributions()
    assert read_slim_rules(folder) == slim_rules()


def test_a_compiler_of_an_unknown_family_is_named_with_its_row(folder: Path) -> None:
    error = broken(folder, 'family = "gcc", version = "12.2.0"', 'family = "icc", version = "12.2.0"')
    assert error.what == "the catalog's table images.toml has a broken row"
    assert "[[distribution]] 1 (id = 'debian'): compilers[1].family: 'icc' is none of gcc, clang" in error.why


def test_a_rule_without_a_reason_is_named(folder: Path) -> None:
    error = broken(folder, 'why = "type stubs', 'because = "type stubs')
    assert re.search(r"images\.toml, \[\[slim\]\] \d+: the key 'why' is missing", error.why)


def test_an_unknown_part_is_named(folder: Path) -> None:
    error = broken(folder, "[[slim]]\nframeworks", "[[slimmer]]\nframeworks")
    assert error.why == "images.toml: the key 'slimmer' is unknown (known: distribution, slim)"


def test_a_missing_table_is_named(folder: Path) -> None:
    shutil.rmtree(folder)
    with pytest.raises(CatalogBroken, match=r"the catalog's table images\.toml cannot be read"):
        read_distributions(folder)
