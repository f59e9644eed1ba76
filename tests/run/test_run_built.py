"""Wheels that were built on a host: how the lock takes them in, and what the report says of them."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_values import plan, stack

from provision.model.build import Build, Needs, Source
from provision.model.plan import Plan
from provision.run import lock
from provision.run.built import BuiltWheel, build_outcomes, built_wheels

SHA256 = "ab" * 32


def built(**fields: Any) -> BuiltWheel:
    known: dict[str, Any] = {
        "framework": "tensorflow", "distribution": "tensorflow-cpu", "version": "2.21.0", "sha256": SHA256,
        "folder": "builds/0123/wheels", "requires": (), "extras": (),
    }  # fmt: skip
    return BuiltWheel(**{**known, **fields})


def source_plan(*requirements: str, **request: Any) -> Plan:
    build = Build(
        framework="tensorflow", version="2.21.0", device="cpu", engine="bazel", python="3.11",
        source=Source(kind="tree", location="/src/tf"), distributions=("tensorflow", "tensorflow-cpu"), compiler=None,
        cpu="native", copts=(), expect=(), allow=(), runs_here=True, environment={},
        needs=Needs(memory_mib_per_job=2048, disk_mib=1, tmp_mib=1),
    )  # fmt: skip
    made = stack("tensorflow", origin="source", requirements=requirements or ("tensorflow-cpu==2.21.0",))
    return replace(plan(made, **request), builds=(build,))


def little_wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


def locked(asked: Plan, *wheels: BuiltWheel, cache: Path) -> str:
    done = lock.locked(asked, offline=True, environ={}, cache=cache, built=wheels)
    assert done.lock is not None
    return done.lock


def test_the_lock_names_the_built_wheel_by_its_own_hash(tmp_path: Path) -> None:
    text = locked(source_plan(), built(), cache=tmp_path)
    assert text.endswith(f"tensorflow-cpu==2.21.0 \\\n    --hash=sha256:{SHA256}\n")
    assert text.count("tensorflow") == 1, "the stand-in itself is not in the lock"


def test_what_the_built_wheel_requires_is_resolved(tmp_path: Path) -> None:
    little_wheel(tmp_path, "tinydep", "1.5")
    little_wheel(tmp_path, "tinydep", "2.0")
    asked = source_plan(find_links=(str(tmp_path),))
    text = locked(asked, built(requires=("tinydep<2",)), cache=tmp_path / "cache")
    assert "tinydep==1.5" in text


def test_an_extra_that_the_plan_asks_for_is_taken(tmp_path: Path) -> None:
    little_wheel(tmp_path, "tinycuda", "12.0")
    asked = source_plan("tensorflow[and-cuda]==2.21.0", find_links=(str(tmp_path),))
    wheel = built(distribution="tensorflow", requires=('tinycuda; extra == "and-cuda"',), extras=("and-cuda",))
    assert "tinycuda==12.0" in locked(asked, wheel, cache=tmp_path / "cache")


def test_another_package_that_wants_the_built_one_gets_it_and_no_wheel_of_an_index(tmp_path: Path) -> None:
    little_wheel(tmp_path, "addon", "1.0", "tensorflow-cpu>=2")
    asked = source_plan(find_links=(str(tmp_path),), requirements=("addon",))
    wheel = built(version="2.21.0.dev0+selfbuilt")
    text = locked(asked, wheel, cache=tmp_path / "cache")
    assert "addon==1.0" in text
    assert "tensorflow-cpu==2.21.0.dev0+selfbuilt" in text


def test_a_wheel_that_is_too_old_for_another_package_is_explained(tmp_path: Path) -> None:
    little_wheel(tmp_path, "addon", "1.0", "tensorflow-cpu>=3")
    asked = source_plan(find_links=(str(tmp_path),), requirements=("addon",))
    with pytest.raises(lock.StepFailed) as caught:
        locked(asked, built(), cache=tmp_path / "cache")
    assert "contradict" in caught.value.what


def test_the_same_wheel_has_the_same_stand_in(tmp_path: Path) -> None:
    first = built(requires=("numpy>=1.26",)).stand_in(tmp_path)
    assert first == built(requires=("numpy>=1.26",)).stand_in(tmp_path)
    assert first != built(requires=("numpy>=2",)).stand_in(tmp_path)
    assert zipfile.ZipFile(first).testzip() is None


def test_the_modules_answer_becomes_wheels_and_outcomes() -> None:
    answer = {
        "framework": "tensorflow", "version": "2.21.0", "wheel": "/h/builds/k/wheels/t.whl", "sha256": SHA256,
        "folder": "builds/k/wheels", "file": "t.whl", "distribution": "tensorflow-cpu", "wheel_version": "2.21.0",
        "requires": ["numpy"], "provides_extra": [], "built": True, "seconds": 61.5, "actions": 42, "cache_hits": 3,
        "compile_actions": 39, "jobs": 2, "remote_cache": "used", "compiler": "GCC 12.2.0", "silo": "ff", "log": "/l",
        "notes": ["a note"],
    }  # fmt: skip
    (wheel,) = built_wheels([answer])
    assert (wheel.distribution, wheel.requires) == ("tensorflow-cpu", ("numpy",))
    (outcome,) = build_outcomes([answer])
    assert (outcome.actions, outcome.cache_hits, outcome.notes) == (42, 3, ("a note",))
