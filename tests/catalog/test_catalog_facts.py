"""The catalog against the facts it was made from, where they lie beside the checkout: nothing lost, nothing changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from provision.catalog import catalog, microarchitectures
from provision.model.catalog import Release, WheelBuild
from provision.model.recipes import SourceRecipe, When
from provision.model.versions import numbers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FACTS = Path(__file__).resolve().parents[3] / "shared" / "facts"

pytestmark = pytest.mark.skipif(not FACTS.is_dir(), reason="needs the facts in ../shared/facts")


def facts(name: str) -> dict[str, Any]:
    return tomllib.loads((FACTS / name).read_text(encoding="utf-8"))


def release(framework: str, series: str) -> Release:
    return next(found for found in catalog().of(framework) if found.series == series)


def build(found: Release, name: str, arch: str = "x86_64") -> WheelBuild:
    return next(each for each in found.builds if each.name == name and arch in each.archs)


def kernels(archs: list[str]) -> set[str]:
    plain = {"sm_" + arch.removesuffix("+PTX").replace(".", "") for arch in archs}
    return plain | {"compute_" + arch.removesuffix("+PTX").replace(".", "") for arch in archs if arch.endswith("+PTX")}


def test_every_pytorch_variant_is_there() -> None:
    for row in facts("pytorch.toml")["release"]:
        found = release("pytorch", row["version"])
        assert list(found.points) == row["points"]
        assert found.pythons == tuple(python for python in row["python"] if "t" not in python)
        for variant in row["variant"]:
            made = build(found, variant["index"])
            assert set(made.kernels) == kernels(variant["archs"])
            assert (made.cuda, made.driver_minimum) == (variant["cuda"], variant["min_driver_linux"])
            assert made.confidence == variant["arch_confidence"]
            by_pypi = variant["index"] == row["pypi_default"]
            assert (made.index is None) == by_pypi
            assert made.cudnn == row["pypi_cudnn"] if by_pypi else made.requirements[0].endswith(f"+{variant['index']}")
        extra = {each.name for each in found.builds} - {variant["index"] for variant in row["variant"]}
        assert extra == {"cpu"}


def test_every_tensorflow_release_is_there() -> None:
    for row in facts("tensorflow.toml")["release"]:
        found = release("tensorflow", row["minor"])
        assert found.version == row["newest_patch"]
        assert row["version"] in found.points
        wheels = row["python"].get("wheels_newest_patch") or row["python"]["wheels"]
        assert list(found.pythons) == [python for python in wheels if python != "2.7"]
        assert found.glibc == row["wheel"]["max_glibc"]
        assert ("aarch64" in found.cpu_flags) == row["python"]["linux_aarch64_wheels"]
        made = build(found, "and-cuda" if "and_cuda" in row else "gpu")
        assert list(made.kernels) == row["gpu"]["compute_capabilities"]
        assert made.bundles_cuda == ("and_cuda" in row)
        for part in (row["numpy"], row["protobuf"]):
            if "resolver_must_add" in part:
                assert part["resolver_must_add"].split(" ")[0] in found.pins
        assert found.recipe is not None
        assert (found.recipe.bazel, found.recipe.compiler) == (row["bazel"]["version"], row["compiler"]["docs"])
        _same_recipe(found.recipe, row)


def _same_recipe(recipe: SourceRecipe, row: dict[str, Any]) -> None:
    """The typed fields say what the facts say in words."""
    told = row["build"]
    assert recipe.target == told["target"]
    assert bool(recipe.wheel_argv) == bool(told["wheel_command"])
    assert recipe.wheel_folder.endswith(told["wheel_output"].rstrip("/").replace("OUTPUT_DIR", "{wheels}"))
    assert recipe.hermetic_cuda == told["cuda_source"].startswith("hermetic")
    assert recipe.hermetic_compiler == told.get("cc_selector", "").startswith("hermetic")
    assert recipe.hermetic_python == ("PYTHON_VERSION=" in told["python_selector"])
    assert recipe.shared_tools == ("host_configuration" in told)
    bounds = [(limit.oldest or "", limit.below or "") for limit in recipe.limits]
    for text in row["compiler"]["limits"]:
        if "fail" in text:
            assert any(below and f"{below} and newer fail" in text for _, below in bounds), text
    for key in told.keys() & recipe.values.keys():
        assert recipe.values[key] == told[key], (row["minor"], key)


def test_a_tensorflow_build_is_told_what_its_commands_say() -> None:
    """Every option of the documented commands is given, but for the name of the CPU wheel."""
    for row in facts("tensorflow.toml")["release"]:
        for device, key in (("cpu", "cpu_command"), ("cuda", "gpu_command")):
            words = set(row["build"][key].split()) - {"bazel", "build", row["build"]["target"]}
            words = {word.replace("=tensorflow_cpu", "=tensorflow") for word in words}
            if row["minor"] in ("1.15", "2.0", "2.1", "2.2", "2.3", "2.4"):
                words -= {"--config=opt"}  # it would compile the build's tools with -march=native
            options = {
                each.option
                for each in catalog().builds["tensorflow"].options
                if each.when.device in (None, device) and _holds(each.when, row["minor"])
            }
            assert words <= options, (row["minor"], key)


def _holds(when: When, series: str) -> bool:
    first, last = when.first or "0", when.last or "99"
    return numbers(first) <= numbers(series) <= numbers(last)


def test_every_jax_release_on_pypi_is_there() -> None:
    for row in facts("jax.toml")["release"]:
        if row["version"] == "0.3.25":  # neither jax nor jaxlib has a Linux wheel on PyPI
            continue
        found = next(each for each in catalog().of("jax") if each.version == row["version"])
        assert list(found.pythons) == [python for python in row["python"] if not python.endswith("t")]
        cuda = {each.name for each in found.builds if each.device == "cuda"}
        assert cuda == {plugin.removeprefix("jax-").removesuffix("-plugin") for plugin in row["cuda_plugins"]}
        if "cuda12" in cuda:
            assert set(row["archs"]) <= set(build(found, "cuda12").kernels)


def test_cuda_rows_are_carried_over() -> None:
    by_version = {row.version: row for row in catalog().cuda}
    rows = facts("cuda.toml")["cuda"]
    assert set(by_version) == {row["version"] for row in rows}
    for row in rows:
        made = by_version[row["version"]]
        assert (made.driver_minimum or "") == row["min_driver_linux"]
        assert (made.driver_minor_compat or "") == row["min_driver_minor_compat"]
        assert made.gcc_max == row["gcc_max"]
        assert [capability.replace(".", "") for capability in made.capabilities] == row["archs"]


READ_SINCE = {"535": "535.309.01"}
"""Releases that are newer than the facts' reading, each with its source in the row."""


def test_driver_branches_are_carried_over() -> None:
    by_branch = {row.branch: row for row in catalog().branches}
    rows = facts("drivers.toml")["branch"]
    assert set(by_branch) == {row["branch"] for row in rows}
    for row in rows:
        made = by_branch[row["branch"]]
        assert (made.status, made.eol, made.min_kernel) == (row["status"], row["eol"], row["min_kernel"])
        seen = READ_SINCE.get(row["branch"], row["last_seen"])
        assert (made.newest_seen or "", made.cuda_api_version) == (seen, row["max_cuda"])


def test_chips_are_carried_over() -> None:
    table = facts("gpus.toml")
    made = catalog().chips
    assert [(chip.match, chip.architecture, chip.compute_capability) for chip in made.chips] == [
        (row["match"], row["architecture"], row["compute_capability"]) for row in table["chip"]
    ]
    assert [(f"{each.first:04x}", f"{each.last:04x}", each.compute_capability) for each in made.ranges] == [
        (row["first"], row["last"], row["compute_capability"]) for row in table["device_ids"]["segments"]
    ]


def test_compiler_tables_are_carried_over() -> None:
    table = facts("gcc_flags.toml")
    for arch, key in (("x86_64", "x86_flag"), ("aarch64", "aarch64_flag")):
        made = [row for row in catalog().compiler_flags if row.arch == arch]
        assert [(row.option, row.gcc or "", row.clang or "") for row in made] == [
            (row["option"], row.get("gcc_ok", ""), row.get("clang_ok", "")) for row in table[key]
        ]
    assert len(microarchitectures()) == len(table["march"])
    assert {row.option for row in catalog().rejected_options} == {row["option"] for row in table["rejected"]}


def test_cudnn_rows_are_carried_over() -> None:
    rows = facts("cudnn.toml")["cudnn"]
    made = [row.version + (f" - {row.last}" if row.last else "") for row in catalog().cudnn]
    assert made == [row["version"] for row in rows]
    assert [list(row.cuda) for row in catalog().cudnn] == [row["cuda"] for row in rows]
