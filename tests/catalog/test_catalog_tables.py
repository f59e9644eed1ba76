"""Every table: whole, sourced, sorted, and strict about its rows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from provision.catalog import catalog, microarchitectures
from provision.catalog.releases import _FrameworkTable, _ReleaseRow
from provision.catalog.rows import FOLDER, make, table
from provision.catalog.tables import BUILD_ROWS, BUILDS, FRAMEWORKS, ROWS, read
from provision.errors import CatalogBroken
from provision.model.catalog import Catalog, CudaRelease, Microarchitecture, Release, WheelBuild
from provision.model.chips import Chip
from provision.model.versions import ComputeCapability, Dotted, numbers

FILES = sorted(path.name for path in FOLDER.glob("*.toml"))
ARCHES = {"x86_64", "aarch64"}


def builds() -> Iterator[tuple[Release, WheelBuild]]:
    for release in catalog().releases:
        for build in release.builds:
            yield release, build


def rows(value: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every table inside arrays of tables, with where it is."""
    if isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, list) and item and isinstance(item[0], dict):
                for number, row in enumerate(item, start=1):
                    yield f"{path}.{key}[{number}]", row
                    yield from rows(row, f"{path}.{key}[{number}]")
            elif isinstance(item, dict):
                yield from rows(item, f"{path}.{key}")


SHARED_SOURCE = ("ranges", "gcc", "clang", "limits", "symptoms", "compilers")
"""Rows without their own source: the one of the table or row around them covers all."""


@pytest.mark.parametrize("name", FILES)
def test_every_row_names_its_source(name: str) -> None:
    content, bare = table(name), []
    for path, row in rows(content):
        if path.rsplit(".", 1)[-1].split("[")[0] not in SHARED_SOURCE and not all(row.get("source") or [""]):
            bare.append(path)
    assert bare == []
    for key, part in content.items():
        if isinstance(part, dict) and key != "values":
            assert part.get("source"), key


@pytest.mark.parametrize("name", FILES)
def test_no_table_speaks_of_one_machine(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert re.findall(r"this machine|\bhere\b.*machine|/wor[k]/|shared/|/tmp/|tested_here", text) == []


def test_every_file_is_read() -> None:
    read_by_name = {file for file, _, _ in ROWS.values()} | set(FRAMEWORKS) | set(BUILDS.values())
    assert set(FILES) == read_by_name | {
        "build_failures.toml", "chips.toml", "diagnostics.toml", "gpu_rates.toml", "image_failures.toml", "images.toml",
        "microarchitectures.toml",
    }  # fmt: skip


KINDS: list[tuple[str, str, type[Any]]] = [
    *ROWS.values(),
    *((name, "release", _ReleaseRow) for name in FRAMEWORKS),
    *((name, key, kind) for name in BUILDS.values() for key, kind in BUILD_ROWS.values() if key in table(name)),
    ("chips.toml", "chip", Chip),
    ("microarchitectures.toml", "microarchitecture", Microarchitecture),
]


@pytest.mark.parametrize(("name", "key", "kind"), KINDS, ids=[f"{name}-{key}" for name, key, _ in KINDS])
def test_pydantic_agrees_that_the_rows_fit(name: str, key: str, kind: type[Any]) -> None:
    """The reader of ``rows`` is ours, for speed; this holds it to pydantic's idea of the same dataclasses."""
    validated = strict(kind).validate_json(json.dumps(table(name)[key]))
    assert len(validated) == len(table(name)[key])


def strict(kind: type[Any]) -> pydantic.TypeAdapter[tuple[Any, ...]]:
    """For a list of rows: pydantic takes no configuration for a bare dataclass, and hands down that of a tuple."""
    return pydantic.TypeAdapter(tuple[kind, ...], config=pydantic.ConfigDict(extra="forbid", strict=True))


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"version": 8}, {"source": "a page"}, {"capabilities": [5.0]}, {"notes": None}]
)
def test_pydantic_and_we_refuse_the_same_row(change: dict[str, Any]) -> None:
    row = {**table("cuda.toml")["cuda"][0], **change}
    with pytest.raises(pydantic.ValidationError):
        strict(CudaRelease).validate_json(json.dumps([row]))
    with pytest.raises(CatalogBroken):
        make(CudaRelease, row, "cuda.toml", "[[cuda]] 1")


def test_releases_are_newest_first_and_told_once() -> None:
    for framework in catalog().frameworks:
        versions = [Version(release.version) for release in catalog().of(framework)]
        assert versions == sorted(set(versions), reverse=True)


def test_a_release_installs_the_newest_of_its_points() -> None:
    for release in catalog().releases:
        points = [Version(point) for point in release.points]
        assert points == sorted(set(points)), release
        assert release.version == release.points[-1]
        assert all(point == release.series or point.startswith(f"{release.series}.") for point in release.points)


def test_the_frameworks_of_the_design_are_there() -> None:
    assert catalog().frameworks == ("tensorflow", "keras", "pytorch", "jax", "numpy")
    assert catalog().aliases == {"tf": "tensorflow", "torch": "pytorch", "np": "numpy"}
    first_and_last = {
        name: (catalog().of(name)[-1].series, catalog().of(name)[0].series) for name in catalog().frameworks
    }
    assert first_and_last["tensorflow"] == ("1.15", "2.21")
    assert first_and_last["pytorch"] == ("1.13", "2.15")
    assert first_and_last["numpy"] == ("1.21", "2.5")


def test_builds_are_installable_lines() -> None:
    for release, build in builds():
        assert build.requirements, release
        for line in (*build.requirements, *release.pins):
            Requirement(line)
            assert "{" not in line
        first = Requirement(build.requirements[0])
        assert f"=={release.version}" in str(first.specifier)
        assert build.index is None or build.index.startswith("https://")
        assert build.archs
        assert set(build.archs) <= ARCHES
        assert set(build.pythons) <= set(release.pythons)
        assert set(build.broken_points) < set(release.points)


def test_a_build_is_told_once_for_a_machine() -> None:
    for release in catalog().releases:
        names = [(build.name, arch) for build in release.builds for arch in build.archs]
        assert len(names) == len(set(names)), release.version


def test_cuda_builds_say_what_they_need() -> None:
    for release, build in builds():
        if build.device == "cpu":
            assert not build.kernels
            assert build.cuda is None
            assert build.driver_minimum is None
            continue
        assert build.kernels, (release.version, build.name)
        for kernel in build.kernels:
            assert re.fullmatch(r"(sm|compute)_\d{2,3}", kernel)
            ComputeCapability.parse(kernel)
        assert build.cuda
        assert build.driver_minimum
        if Dotted(build.cuda).major >= 11:
            assert build.driver_minimum == {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}[Dotted(build.cuda).major]


def test_every_cuda_build_has_its_toolkit_in_the_table() -> None:
    known = {row.version for row in catalog().cuda}
    for release, build in builds():
        if build.cuda:
            assert ".".join(build.cuda.split(".")[:2]) in known, (release.version, build.name)


def test_kernels_are_what_the_toolkit_can_compile() -> None:
    toolkits = {row.version: set(row.capabilities) for row in catalog().cuda}
    for release, build in builds():
        if build.cuda:
            able = toolkits[".".join(build.cuda.split(".")[:2])]
            made = {str(ComputeCapability.parse(kernel)) for kernel in build.kernels}
            assert made <= able, (release.version, build.name, made - able)


def test_pins_hold_and_say_why() -> None:
    for pin in catalog().pins:
        Requirement(pin.requirement)
        assert pin.why
        assert set(pin.frameworks) <= set(catalog().frameworks)
    ids = {pin.id: pin for pin in catalog().pins}
    assert ids["numpy-below-x86-64-v2"].requirement == "numpy<2.4"
    assert ids["cudnn-before-turing"].below_compute_capability == "7.5"
    assert SpecifierSet("<=9.10.2.21") == Requirement(ids["cudnn-before-turing"].requirement).specifier


def test_each_pin_of_a_release_has_its_reason() -> None:
    for release in catalog().releases:
        assert release.pins == tuple(reason.requirement for reason in release.pin_reasons)
        assert all(reason.why and reason.source for reason in release.pin_reasons)


@pytest.mark.parametrize("series", ["1.15", "2.7", "2.14", "2.17"])
def test_tensorflow_up_to_2_17_stays_below_numpy_2(series: str) -> None:
    release = next(release for release in catalog().of("tensorflow") if release.series == series)
    assert "numpy<2" in release.pins


def test_tensorflow_2_18_takes_numpy_2() -> None:
    assert next(release for release in catalog().of("tensorflow") if release.series == "2.18").pins == ()


def test_recipes_are_there_for_what_can_be_built() -> None:
    for release in (*catalog().of("tensorflow"), *catalog().of("pytorch")):
        assert release.recipe is not None
        assert release.recipe.source
        assert release.recipe.values
    newest = catalog().of("tensorflow")[0].recipe
    assert newest is not None
    assert (newest.bazel, newest.compiler) == ("7.4.1", "Clang 18.1.8")
    assert newest.target == "//tensorflow/tools/pip_package:wheel"


def test_keras_names_backends_that_the_catalog_has() -> None:
    for release in catalog().of("keras"):
        assert release.backends
        for framework, versions in release.backends.items():
            wanted = SpecifierSet(versions)
            assert any(wanted.contains(other.version) for other in catalog().of(framework)), release.version


@pytest.mark.parametrize(
    ("keras", "backend", "version", "fits"),
    [
        ("3.15.1", "tensorflow", "2.21.0", True),
        ("3.15.1", "jax", "0.4.20", False),
        ("3.9.2", "jax", "0.6.2", False),
        ("3.9.2", "jax", "0.5.3", True),
        ("3.9.2", "tensorflow", "2.20.0", False),
        ("2.15.0", "tensorflow", "2.15.1", True),
        ("2.15.0", "tensorflow", "2.16.2", False),
    ],
)
def test_keras_goes_with_what_was_tried(keras: str, backend: str, version: str, fits: bool) -> None:
    release = next(release for release in catalog().of("keras") if release.version == keras)
    assert SpecifierSet(release.backends[backend]).contains(version) is fits


def test_a_point_release_can_be_asked_for() -> None:
    release = next(release for release in catalog().of("tensorflow") if release.series == "2.15")
    older = release.at("2.15.0")
    assert [build.requirements for build in older.builds] == [("tensorflow-cpu==2.15.0",), ("tensorflow==2.15.0",)]
    newer = release.at("2.15.0.post1")
    assert [(build.name, build.archs) for build in newer.builds] == [("cpu", ("x86_64",)), ("and-cuda", ("x86_64",))]


def test_drivers_are_in_order_and_know_their_architectures() -> None:
    branches = catalog().branches
    assert [int(row.branch) for row in branches] == sorted(int(row.branch) for row in branches)
    order = catalog().architectures
    for row in branches:
        assert row.oldest_architecture in order
        if row.newest_architecture:
            assert order.index(row.oldest_architecture) <= order.index(row.newest_architecture)
        assert row.newest_seen is None or row.newest_seen.startswith(f"{row.branch}.")
    assert {chip.architecture for chip in catalog().chips.chips} <= set(order)
    assert {row.branch for row in branches if row.supported} == {"340", "390", "470", "580", "595"}


def test_the_last_branch_of_a_chip_drives_it() -> None:
    order, by_name = catalog().architectures, {row.branch: row for row in catalog().branches}
    for chip in catalog().chips.chips:
        if chip.last_driver_branch:
            row = by_name[chip.last_driver_branch]
            last = order.index(row.newest_architecture or order[-1])
            assert order.index(row.oldest_architecture) <= order.index(chip.architecture) <= last, chip.match


def test_cuda_and_cudnn_are_in_order() -> None:
    for found in ([row.version for row in catalog().cuda], [row.version for row in catalog().cudnn]):
        assert found == sorted(found, key=numbers)
    for row in catalog().cudnn:
        assert row.compute_capability_min
        ComputeCapability.parse(row.compute_capability_min)


def test_levels_add_up_to_options_that_exist() -> None:
    flags = {row.flag: row for row in catalog().compiler_flags if row.arch == "x86_64"}
    assert [level.name for level in catalog().levels] == ["x86-64-v1", "x86-64-v2", "x86-64-v3", "x86-64-v4"]
    for level in catalog().levels[1:]:
        assert {flags[name].level for name in level.adds} == {level.name}
        assert {flags[name].option for name in level.adds} <= set(level.fallback)
    assert {row.flag for row in flags.values() if not row.usable} == {"xsave", "avx10_1"}


def test_microarchitectures_go_with_versions_of_compilers() -> None:
    zen4 = next(row for row in microarchitectures() if row.name == "zen4")
    assert any("-march=znver4" in found.options for found in zen4.gcc)
    for row in microarchitectures():
        for found in (*row.gcc, *row.clang):
            assert found.options
            assert not (found.first and found.last) or numbers(found.first) <= numbers(found.last)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "catalog", ignore=shutil.ignore_patterns("*.py", "__pycache__")))


def broken(folder: Path, name: str, old: str, new: str) -> CatalogBroken:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CatalogBroken) as caught:
        read(folder)
    return caught.value


def test_an_unchanged_copy_reads_the_same(folder: Path) -> None:
    assert isinstance(read(folder), Catalog)
    assert read(folder).releases == catalog().releases


def test_an_unknown_key_is_named(folder: Path) -> None:
    error = broken(folder, "cuda.toml", 'gcc_max = "5"', 'gcc_max = "5"\ngcc_maximum = "6"')
    assert error.what == "the catalog's table cuda.toml has a broken row"
    assert error.why.startswith("cuda.toml, [[cuda]] 1 (version = '8.0'): the key 'gcc_maximum' is unknown (known: ")
    assert "CONTRIBUTING.md" in error.hint


def test_a_missing_key_is_named(folder: Path) -> None:
    error = broken(folder, "drivers.toml", 'cuda_api_version = "6.5"\n', "")
    assert error.why == "drivers.toml, [[branch]] 1 (branch = '340'): the key 'cuda_api_version' is missing"


def test_a_wrong_type_is_named_down_to_the_item(folder: Path) -> None:
    error = broken(folder, "pytorch.toml", 'kernels = ["sm_37", ', "kernels = [37, ")
    assert error.why == "pytorch.toml, [[release]] 1 (version = '1.13.1'): build[3].kernels[1]: 37 is not text"


def test_a_wrong_word_is_named_with_the_right_ones(folder: Path) -> None:
    error = broken(folder, "drivers.toml", 'kind = "lts"', 'kind = "long"')
    assert "(branch = '535'): kind: 'long' is none of production, lts, new-feature, legacy, eol" in error.why


def test_every_broken_row_is_told(folder: Path) -> None:
    path = folder / "pins.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("why = ", "because = "), encoding="utf-8")
    with pytest.raises(CatalogBroken) as caught:
        read(folder)
    assert "[[pin]] 1" in caught.value.why
    assert ["[[pin]] 2" in detail.why for detail in caught.value.details] == [True]


def test_an_unknown_part_of_a_table_is_named(folder: Path) -> None:
    error = broken(folder, "drivers.toml", "[open_modules]", "[open_module]")
    assert error.why == "drivers.toml: the key 'open_module' is unknown (known: architectures, branch, open_modules)"


def test_a_table_that_is_not_toml_is_named_with_its_line(folder: Path) -> None:
    error = broken(folder, "jax.toml", 'framework = "jax"', "framework = jax")
    assert error.what == "the catalog's table jax.toml cannot be read"
    assert "Invalid value (at line " in error.why


def test_a_missing_table_is_named(folder: Path) -> None:
    (folder / "cudnn.toml").unlink()
    with pytest.raises(CatalogBroken, match=r"the catalog's table cudnn\.toml cannot be read"):
        read(folder)


def test_a_table_without_rows_is_named(folder: Path) -> None:
    (folder / "numpy.toml").write_text('framework = "numpy"\nrelease = []\n', encoding="utf-8")
    with pytest.raises(CatalogBroken, match=r"the catalog's table numpy\.toml has no \[\[release\]\] rows"):
        read(folder)


def test_points_must_end_in_the_version(folder: Path) -> None:
    error = broken(folder, "tensorflow.toml", '"1.15.4", "1.15.5"]', '"1.15.4"]')
    assert error.why == "tensorflow.toml, [[release]] (version = '1.15.5'): points: its last is not the version"


def test_a_single_row_reports_its_place() -> None:
    with pytest.raises(CatalogBroken) as caught:
        make(_FrameworkTable, {"framework": 3, "release": []}, "x.toml", "the whole file")
    assert caught.value.why == "x.toml, the whole file: framework: 3 is not text"
