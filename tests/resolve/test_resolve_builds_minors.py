"""TensorFlow's command lines by minor release, with the real catalog: facts/tensorflow.toml as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds.hosts import V3, host

from provision.catalog.load import catalog
from provision.model.build import Compiler
from provision.resolve import plan_for
from provision.resolve.request import parse_request

GCC = Compiler(family="gcc", version="12.2.0", path="/usr/bin/gcc-12")
CLANG = Compiler(family="clang", version="16.0.6", path="/usr/lib/llvm-16/bin/clang")
OLD_TARGET = "//tensorflow/tools/pip_package:build_pip_package"
NEW_TARGET = "//tensorflow/tools/pip_package:wheel"


@pytest.mark.parametrize(
    ("series", "bazel", "target", "python"),
    [
        ("2.9", "5.0.0", OLD_TARGET, ""),
        ("2.10", "5.1.1", OLD_TARGET, ""),
        ("2.11", "5.3.0", OLD_TARGET, ""),
        ("2.12", "5.3.0", OLD_TARGET, ""),
        ("2.13", "5.3.0", OLD_TARGET, ""),
        ("2.14", "6.1.0", OLD_TARGET, "TF_PYTHON_VERSION"),
        ("2.15", "6.1.0", OLD_TARGET, "TF_PYTHON_VERSION"),
        ("2.16", "6.5.0", OLD_TARGET, "TF_PYTHON_VERSION"),
        ("2.17", "6.5.0", NEW_TARGET, "HERMETIC_PYTHON_VERSION"),
        ("2.18", "6.5.0", NEW_TARGET, "HERMETIC_PYTHON_VERSION"),
        ("2.19", "6.5.0", NEW_TARGET, "HERMETIC_PYTHON_VERSION"),
        ("2.20", "7.4.1", NEW_TARGET, "HERMETIC_PYTHON_VERSION"),
        ("2.21", "7.4.1", NEW_TARGET, "HERMETIC_PYTHON_VERSION"),
    ],
)
def test_each_minor_is_built_by_its_own_row(series: str, bazel: str, target: str, python: str) -> None:
    facts = host(flags=V3, pythons=("3.8.10", "3.10.12", "3.11.2"))
    facts = replace(facts, system=replace(facts.system, compilers=(GCC, CLANG)))
    request = parse_request(frameworks=(f"tensorflow=={series}",), origin="source", catalog=catalog())
    (build,) = plan_for(facts, request, catalog()).builds
    assert build.bazel is not None
    assert (build.bazel.version, build.bazel.target) == (bazel, target)
    assert bool(build.bazel.wheel_argv) == (target == OLD_TARGET)
    named = [each for each in build.bazel.options if "PYTHON_VERSION=" in each]
    assert named == ([f"--repo_env={python}={build.python}"] if python else [])
    # as far as the configure of that release asks, everything is answered
    assert build.configure is not None
    assert build.configure.environment["TF_NEED_CUDA"] == "0"
    release = "--repo_env=ML_WHEEL_TYPE=release"
    assert (release in build.bazel.options) == (series in ("2.19", "2.20", "2.21"))
