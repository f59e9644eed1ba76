"""The locks agree with pyproject.toml for every Python that ./run takes, and name no index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> list[Requirement]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return [Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match(r"[a-zA-Z]", line)]


def applies(requirement: Requirement, python: str) -> bool:
    """On Linux, for the first release of this Python."""
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate({**here, "platform_system": "Linux"})


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["run", "dev"])
def test_every_dependency_is_pinned_within_its_bounds(name: str, python: str) -> None:
    wanted = [Requirement(line) for line in PROJECT["dependencies"]]
    if name == "dev":
        wanted += [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]
    locked = {pin.name.lower(): pin for pin in pins(name) if applies(pin, python)}
    for requirement in wanted:
        if not applies(requirement, python):
            continue
        (specifier,) = locked[requirement.name.lower()].specifier
        assert requirement.specifier.contains(specifier.version), f"{requirement} is locked as {specifier.version}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["run", "dev"])
def test_one_version_of_a_package_for_one_python(name: str, python: str) -> None:
    names = [pin.name for pin in pins(name) if applies(pin, python)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("python", PYTHONS)
def test_development_runs_what_users_run(python: str) -> None:
    run = {(pin.name, str(pin.specifier)) for pin in pins("run") if applies(pin, python)}
    dev = {(pin.name, str(pin.specifier)) for pin in pins("dev") if applies(pin, python)}
    assert run <= dev


@pytest.mark.parametrize("name", ["run", "dev"])
def test_each_pin_has_hashes_and_no_address_is_named(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    for block in re.split(r"\n(?=[a-zA-Z])", text)[1:]:
        assert "--hash=sha256:" in block, block


def test_ansible_is_the_last_one_for_python_3_10() -> None:
    versions = {
        p: str(pin.specifier) for pin in pins("run") for p in PYTHONS if pin.name == "ansible-core" and applies(pin, p)
    }
    assert versions["3.10"].startswith("==2.17.")
    assert versions["3.11"].startswith("==2.19.")
