"""A build from its archive to its wheel, with a shell script in place of a compiler."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from playbook_builds import Builds, build
from playbook_target import Target


@pytest.fixture
def builds(target: Target, tmp_path: Path) -> Builds:
    return Builds(target, tmp_path / "builds")


def test_a_build_leaves_a_wheel_with_what_it_says_of_itself(builds: Builds) -> None:
    shipped = builds.script('echo "[1/2] Building CXX object a.o"; echo "[2/2] Linking"; echo "$MAX_JOBS" > jobs')
    result = builds.made(builds.params(build(), shipped, jobs=3))
    assert result.get("changed") is True, result
    (made,) = result["builds"]
    wheel = Path(made["wheel"])
    assert wheel.name == made["file"] == "demo-1.0-py3-none-any.whl"
    assert made["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert builds.target.root / made["folder"] == wheel.parent
    assert (made["distribution"], made["wheel_version"], made["tags"]) == ("demo", "1.0", ["py3-none-any"])
    assert (made["requires"], made["provides_extra"], made["built"], made["jobs"]) == ([], [], True, 3)
    assert (made["actions"], made["compile_actions"], made["cache_hits"]) == (2, 1, None)
    assert "[2/2] Linking" in Path(made["log"]).read_text()
    assert (builds.cache / "trees" / made["tree"] / "jobs").read_text() == "3\n"
    # and a second time there is nothing to do
    again = builds.made(builds.params(build(), shipped, jobs=2))
    assert again == {"changed": False, "builds": [{**made, "built": False}]}
