"""The activate script in the shells that people use."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(shutil.which(shell) is None, reason=f"{shell} is not installed here"))
    for shell in ("dash", "bash", "zsh", "busybox")
]
VARIABLES = {"DEMO": """it's "$HOME" `id` \\ $(id)""", "OTHER": "two\nlines", "EMPTY": ""}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import uv

    folder = tmp_path_factory.mktemp("with space $x 'quoted'") / "venv"
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--no-config", "--prompt", "demo", folder], check=True)
    return folder


def script(venv: Path, variables: Mapping[str, str] = VARIABLES) -> Path:
    from ansible.module_utils.provision_activate import activate_script

    path = venv.parent / "activate"
    path.write_text(activate_script(str(path), str(venv), variables))
    return path


def shell(name: str, text: str, **variables: str) -> str:
    argv = ["busybox", "sh", "-c", text] if name == "busybox" else [name, "-c", text]
    done = subprocess.run(
        argv, check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": "/root", **variables}
    )
    assert (done.stderr, done.returncode) == ("", 0)
    return done.stdout


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("flags", ["", "set -eu; "])
def test_it_activates(name: str, flags: str, venv: Path) -> None:
    show = (
        """printf '%s|' "$DEMO" "$OTHER" "${EMPTY-unset}" "$VIRTUAL_ENV"; python -c 'import sys; print(sys.prefix)'"""
    )
    seen = shell(name, f'{flags}. "$1"; {show}'.replace('"$1"', '"$SCRIPT"'), SCRIPT=str(script(venv)))
    assert seen == f"{VARIABLES['DEMO']}|{VARIABLES['OTHER']}||{venv}|{venv}\n"


@pytest.mark.parametrize("name", SHELLS)
@pytest.mark.parametrize("flags", ["", "set -eu; "])
@pytest.mark.parametrize("twice", ["", '. "$SCRIPT"; '])
def test_deactivate_undoes_it(name: str, flags: str, twice: str, venv: Path) -> None:
    show = """printf '%s|' "$DEMO" "${OTHER-unset}" "${VIRTUAL_ENV-unset}" "$PATH"; set | grep -c provision || true"""
    seen = shell(
        name, f'DEMO=mine; {flags}. "$SCRIPT"; {twice}deactivate; {show}', SCRIPT=str(script(venv)), DEMO="mine"
    )
    value, other, virtual, path, left = seen.split("|")
    assert (value, other, virtual, path) == ("mine", "unset", "unset", "/usr/bin:/bin")
    assert int(left) <= 2  # the script's own path is in the environment of this test


@pytest.mark.parametrize("name", SHELLS)
def test_deactivate_works_after_the_environment_is_gone(name: str, venv: Path, tmp_path: Path) -> None:
    copy = tmp_path / "venv"
    shutil.copytree(venv, copy, symlinks=True)
    text = (copy / "bin" / "activate").read_text().replace(str(venv), str(copy))
    (copy / "bin" / "activate").write_text(text)
    after = """printf '%s|' "${DEMO-unset}" "${VIRTUAL_ENV-unset}" "$PATH" """
    seen = shell(name, f'. "$SCRIPT"; rm -r "$GONE"; deactivate; {after}', SCRIPT=str(script(copy)), GONE=str(copy))
    assert seen == "unset|unset|/usr/bin:/bin|"


@pytest.mark.parametrize("name", SHELLS)
def test_another_environment_can_be_activated_over_it(name: str, venv: Path, tmp_path: Path) -> None:
    import uv

    other = tmp_path / "other"
    subprocess.run([uv.find_uv_bin(), "venv", "-q", "--no-config", other], check=True)
    over = (
        """. "$SCRIPT"; . "$OTHER_VENV/bin/activate"; printf '%s|' "$VIRTUAL_ENV" "$PATH"; . "$SCRIPT"; deactivate; """
    )
    seen = shell(
        name, over + """printf '%s|' "${DEMO-unset}" "$PATH" """, SCRIPT=str(script(venv)), OTHER_VENV=str(other)
    )
    assert seen == f"{other}|{other}/bin:/usr/bin:/bin|unset|/usr/bin:/bin|"


def test_a_plan_without_variables(venv: Path) -> None:
    assert shell("sh", '. "$SCRIPT"; deactivate; echo fine', SCRIPT=str(script(venv, {}))) == "fine\n"


@pytest.mark.parametrize("name", ["A B", "1A", "A=B", "A;id", "", "Ä"])
def test_names_that_no_shell_takes(name: str) -> None:
    from ansible.module_utils.provision_activate import activate_script
    from ansible.module_utils.provision_failure import Failure

    with pytest.raises(Failure, match="is not an environment variable's name") as caught:
        activate_script("/x", "/y", {name: "1"})
    assert caught.value.kind == "bad_input"
