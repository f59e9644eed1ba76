"""The uv binary: which one, for which machine, and which settings reach it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from provision.errors import StepFailed
from provision.run import uv


def test_this_machine_gets_the_installed_binary() -> None:
    found = uv.uv_for(None)
    printed = subprocess.run([found.path, "--version"], capture_output=True, text=True, check=True).stdout
    assert printed.split()[1] == found.version
    assert found.sha256 == subprocess.run(["sha256sum", found.path], capture_output=True, text=True).stdout.split()[0]


def test_a_machine_without_uv_is_refused_with_what_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StepFailed) as caught:
        uv.uv_for("ppc64le")
    assert caught.value.what == "there is no uv for ppc64le"
    assert "x86_64, aarch64, riscv64" in caught.value.why


def test_settings_about_reaching_packages_reach_uv_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UV_PYTHON", "/nowhere/python")
    monkeypatch.setenv("UV_RESOLUTION", "lowest")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    assert uv.run_uv(["cache", "dir"]).stdout == f"{tmp_path}/cache\n"
    assert uv.run_uv(["python", "find"]).ok
    assert uv.settings({"UV_PYTHON": "3", "UV_INDEX_LAB_PASSWORD": "x", "HOME": "/"}) == {"UV_INDEX_LAB_PASSWORD": "x"}


@pytest.mark.network
def test_another_machine_gets_the_same_version_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    other = "aarch64" if uv.platform.machine() == "x86_64" else "x86_64"
    found = uv.uv_for(other)
    machine = int.from_bytes(found.path.read_bytes()[18:20], "little")  # e_machine in the ELF header
    assert machine == {"aarch64": 183, "x86_64": 62}[other]
    assert found.path.stat().st_mode & 0o111
    assert found.version == uv.version()
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    assert uv.uv_for(other) == found
