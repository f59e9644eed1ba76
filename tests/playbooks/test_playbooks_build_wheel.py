"""The wheel that a build leaves: whether it is what was wanted."""

from __future__ import annotations

import platform
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_build_wheel import checked, misfit, platform_fits, public, the_wheel
from ansible.module_utils.provision_failure import Failure
from playbook_builds import build

MACHINE = platform.machine()


def make(folder: Path, name: str, metadata: str = "") -> Path:
    path = folder / name
    distribution, version = name.split("-")[:2]
    with zipfile.ZipFile(path, "w") as archive:
        text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{metadata}"
        archive.writestr(f"{distribution}-{version}.dist-info/METADATA", text)
    return path


def tags(python: str, abi: str, where: str = "any") -> dict[str, str]:
    return {"python": python, "abi": abi, "platform": where}


def test_the_one_wheel_by_its_name(tmp_path: Path) -> None:
    wanted = build(distributions=["tensorflow", "tensorflow-cpu"], framework="tensorflow", version="2.15.1")
    with pytest.raises(Failure) as caught:
        the_wheel(tmp_path, wanted)
    assert (caught.value.kind, caught.value.what) == ("wheel", "the build of tensorflow 2.15.1 left no wheel")
    assert caught.value.why == f"wanted one of tensorflow or tensorflow-cpu in {tmp_path}; there are: none"
    other = make(tmp_path, "other-1.0-py3-none-any.whl")
    with pytest.raises(Failure) as caught:
        the_wheel(tmp_path, wanted)
    assert caught.value.why.endswith(f"there are: {other.name}")
    one = make(tmp_path, "tensorflow_cpu-2.15.1-cp311-cp311-linux_x86_64.whl")
    assert the_wheel(tmp_path, wanted) == one
    make(tmp_path, "tensorflow-2.15.1-cp311-cp311-linux_x86_64.whl")
    with pytest.raises(Failure, match="left more than one wheel"):
        the_wheel(tmp_path, wanted)


def test_what_a_wheel_says_of_itself(tmp_path: Path) -> None:
    metadata = (
        'Requires-Dist: numpy (<2,>=1.23)\nRequires-Dist: x ; extra == "and-cuda"\nProvides-Extra: and-cuda\n\nText\n'
    )
    name = f"tensorflow-2.15.1+selfbuilt-cp311-cp311-linux_{MACHINE}.whl"
    assert checked(make(tmp_path, name, metadata), build(version="2.15.1", python="3.11")) == {
        "distribution": "tensorflow",
        "wheel_version": "2.15.1+selfbuilt",
        "requires": ["numpy (<2,>=1.23)", 'x ; extra == "and-cuda"'],
        "provides_extra": ["and-cuda"],
        "tags": [f"cp311-cp311-linux_{MACHINE}"],
    }


def refused(path: Path, **wanted: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        checked(path, build(**wanted))
    assert caught.value.kind == "wheel"
    return caught.value


def test_a_wheel_for_another_python_is_refused_with_both(tmp_path: Path) -> None:
    told = refused(make(tmp_path, f"demo-1.0-cp310-cp310-linux_{MACHINE}.whl"), python="3.11")
    assert told.what == f"demo-1.0-cp310-cp310-linux_{MACHINE}.whl does not fit the Python that it was built for"
    assert told.why == "its tag cp310-cp310 is not for CPython 3.11, whose tag is cp311-cp311"


def test_a_wheel_for_another_machine_is_refused(tmp_path: Path) -> None:
    told = refused(make(tmp_path, "demo-1.0-cp311-cp311-linux_mips.whl"), python="3.11")
    assert told.why.startswith(f"its tag linux_mips is not for this machine: linux, {MACHINE}, glibc ")


def test_a_wheel_of_another_version_is_refused_with_both(tmp_path: Path) -> None:
    told = refused(make(tmp_path, "demo-2.16.1-py3-none-any.whl"), version="2.15.1")
    assert told.what == "the source is not demo 2.15.1"
    assert told.why == "the wheel that it builds says it is version 2.16.1"
    assert told.hint == "ask for demo==2.16.1, or give the source of 2.15.1"


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path, "demo-1.0-py3-none-any.whl")
    path.write_bytes(path.read_bytes()[:30])
    assert refused(path).what == "demo-1.0-py3-none-any.whl is not a sound wheel"
    (tmp_path / "demo.whl").touch()
    assert refused(tmp_path / "demo.whl").what == "demo.whl is not a wheel's name"


@pytest.mark.parametrize(
    ("python", "abi", "fits"),
    [
        ("cp311", "cp311", True),
        ("cp310", "cp310", False),
        ("cp39", "abi3", True),
        ("cp312", "abi3", False),
        ("py3", "none", True),
        ("py2.py3", "none", True),
        ("py2", "none", False),
        ("cp311", "none", True),
        ("cp310", "none", False),
        ("cp311", "cp311t", False),
        ("pp310", "pypy310_pp73", False),
    ],
)
def test_tags_for_python_3_11(python: str, abi: str, fits: bool) -> None:
    assert (misfit(tags(python, abi), "3.11") == "") is fits


@pytest.mark.parametrize(
    ("tag", "fits"),
    [
        ("any", True),
        ("linux_x86_64", True),
        ("linux_aarch64", False),
        ("manylinux2014_x86_64", True),
        ("manylinux1_x86_64", True),
        ("manylinux_2_36_x86_64", True),
        ("manylinux_2_37_x86_64", False),
        ("musllinux_1_2_x86_64", False),
        ("win_amd64", False),
    ],
)
def test_platforms_for_glibc_2_36(tag: str, fits: bool) -> None:
    assert platform_fits(tag, "x86_64", (2, 36)) is fits


@pytest.mark.parametrize(
    ("one", "other"),
    [("2.21.0rc1", "2.21.0-rc1"), ("2.9.0a0+gitabc", "2.9.0a0"), ("v1.0", "1.0"), ("2.20.0.dev0+x", "2.20.0dev0")],
)
def test_versions_in_another_spelling(one: str, other: str) -> None:
    assert public(one) == public(other)
