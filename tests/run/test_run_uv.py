"""The uv binary: which one, for which machine, and which settings reach it."""

from __future__ import annotations

import os
import subprocess
import sys
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


def as_nobody(code: str, **environ: str) -> str:
    """What ``code`` prints as a user that is not in the password file; provision.run.uv is imported as ``uv``."""
    if os.getuid() != 0:
        pytest.skip("only root can be another user")
    program = (
        f"import os, sys; sys.path[:] = {sys.path!r}\n"
        "import platformdirs, tempfile, provision.run.uv as uv\n"
        "path = uv.installed(); uv.installed = lambda: path; uv.version()\n"
        f"os.setuid(4711); os.chdir('/')\n{code}\n"
    )
    kept = {name: os.environ[name] for name in ("SSL_CERT_FILE",) if name in os.environ}
    argv = [sys.executable, "-c", program]
    done = subprocess.run(
        argv, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **kept, **environ}, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def needs_what_others_reach() -> None:
    if any(not folder.stat().st_mode & 0o001 for folder in uv.installed().parents):
        pytest.skip("others than root cannot reach uv here")
    if not Path("/usr/bin/python3").exists():
        pytest.skip("there is no /usr/bin/python3, which others than root can start")


def test_a_user_without_a_home_is_told() -> None:
    said = as_nobody("try: uv.cache_folder('x')\nexcept Exception as error: print(repr(error))")
    assert said.startswith("UsageError(what='this user has no home folder'")
    assert "user 4711 is not in the password file" in said
    assert "hint='set HOME to a folder that you may write to: HOME=FOLDER'" in said


@pytest.mark.parametrize("code", [13, 28, 30, 122])
def test_uv_goes_on_without_its_cache_where_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int
) -> None:
    said = tmp_path / "uv"
    said.write_text(
        '#!/bin/sh\n[ -n "$UV_NO_CACHE" ] && exec echo fine\n'
        f'echo "error: Failed to initialize cache (os error {code})" >&2; exit 2\n'
    )
    said.chmod(0o755)
    monkeypatch.setattr(uv, "installed", lambda: said)
    monkeypatch.delenv("UV_CACHE_DIR", raising=False)
    assert uv.run_uv(["pip", "compile"]).stdout == "fine\n"
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path))  # what was named is used, or said to be unusable
    assert f"(os error {code})" in uv.run_uv(["pip", "compile"]).stderr


@pytest.mark.network
def test_uv_really_resolves_without_its_cache(tmp_path: Path) -> None:
    needs_what_others_reach()
    tmp_path.chmod(0o700)
    said = as_nobody(
        "folder = tempfile.mkdtemp(); file = folder + '/wanted.txt'; open(file, 'w').write('six==1.17.0')\n"
        "print(uv.run_uv(['pip', 'compile', '--no-header', '--no-annotate', file]).stdout)\n"
        "import shutil; shutil.rmtree(folder)",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HOME="/usr",  # readable, and not to be written to
    )
    assert said == "six==1.17.0\n\n"


@pytest.mark.network
def test_another_machine_gets_its_uv_though_nothing_can_be_kept(tmp_path: Path) -> None:
    needs_what_others_reach()
    other = "aarch64" if uv.platform.machine() == "x86_64" else "x86_64"
    said = as_nobody(
        f"found = uv.uv_for({other!r}); print(found.path, found.path.stat().st_size > 9_000_000)",
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        HOME="/usr",  # readable, and not to be written to
    )
    path, whole = said.split()
    assert whole == "True"
    assert not Path(path).parent.exists()


def test_a_cache_that_cannot_be_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/full")  # no folder can be made there
    with pytest.raises(StepFailed) as caught:
        uv.uv_for("riscv64" if uv.platform.machine() != "riscv64" else "x86_64")
    assert caught.value.what.endswith("cannot be kept on this machine")
    assert "/dev/full" in caught.value.why
    assert "XDG_CACHE_HOME=FOLDER" in caught.value.hint


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
