"""./run on machines that nobody prepared. The messages are read; the machines are real containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.boxes import Box, Output

ROOT = Path(__file__).parents[1]
LEFT_OUT = [".git", ".venv", "__pycache__", "tests", ".mypy_cache", ".ruff_cache", ".hypothesis", ".pytest_cache"]
PLACE = "/opt/a folder/provision"
NOBODY = 65534


def copied(box: Box, owner: int = 0) -> Box:
    box.copy(ROOT, PLACE, leave_out=LEFT_OUT, owner=owner)
    return box


def started(box: Box, *words: str, user: str = "root") -> Output:
    return box.exec([f"{PLACE}/run", *words], user=user)


@pytest.mark.parametrize("script", ["run", ".ci/run", "requirements/lock"])
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    done = subprocess.run(["shellcheck", ROOT / script], capture_output=True, text=True, check=False)
    assert done.stdout == ""


# --- without a container: what goes wrong before anything is installed ----------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """./run and the locks, in a folder with a space."""
    root = tmp_path / "a folder"
    (root / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "run", root)
    for name in ("run.txt", "dev.txt"):
        shutil.copy(ROOT / "requirements" / name, root / "requirements")
    return root


def tools(folder: Path, **programs: str) -> dict[str, str]:
    """An environment whose PATH has a base system's tools, and these programs (shell scripts by name)."""
    folder.mkdir()
    for name in ("cat", "cmp", "flock", "grep", "id", "mkdir", "readlink", "rm", "sed", "tail"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, script in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder)}


def test_an_old_python_is_named_with_its_version(checkout: Path, tmp_path: Path) -> None:
    environment = tools(tmp_path / "bin", python3="case $2 in *print*) echo 3.9.2 ;; *) exit 1 ;; esac")
    done = subprocess.run([checkout / "run", "up"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr == (
        "error: Python 3.10 to 3.14 is needed\n"
        f"  python3 ({tmp_path}/bin/python3) is 3.9.2\n"
        "  hint: Debian 12, Ubuntu 22.04 and newer have it; elsewhere install one and put it on PATH as python3 or"
        " python3.X\n"
    )


def test_without_apt_the_reader_is_told_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [checkout / "run", "up"], env=tools(tmp_path / "bin"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert done.stderr == (
        "error: Python 3.10 to 3.14 with venv and pip is needed\n"
        "  there is no python3 on PATH\n"
        "  hint: install it with the package manager of this system\n"
    )


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere (a container test covers it)")
def test_a_read_only_checkout_is_said(checkout: Path) -> None:
    checkout.chmod(0o555)
    done = subprocess.run([checkout / "run", "up"], capture_output=True, text=True, check=False)
    assert "may not write to" in done.stderr


# --- in bare containers ---------------------------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.network
def test_a_bare_debian_gets_what_it_lacks(box: Callable[..., Box]) -> None:
    bare = copied(box())
    first = started(bare, "detect", "--json")
    assert first.status == 0, first.text
    assert json.loads(first.stdout)["system"]["os"]["id"] in ("debian", "ubuntu")
    assert "there is no python3 on PATH: installing the Debian packages python3 python3-venv (as root" in first.stderr
    assert "making .venv with Python 3." in first.stderr
    again = started(bare, "detect", "--json")
    assert (again.status, again.stderr) == (0, "")
    bare.sh("ln -s '/opt/a folder/provision/run' /usr/local/bin/short")
    assert bare.sh("cd /tmp && short --version").startswith("provision ")
    # Ansible's own programs are started by their first line, which a path with a space makes hard
    assert "core 2." in bare.sh(f"'{PLACE}/.venv/bin/ansible-playbook' --version")


@pytest.mark.docker
def test_without_root_or_sudo_the_command_is_given(box: Callable[..., Box]) -> None:
    done = started(copied(box(), owner=NOBODY), "up", user="nobody")
    assert (done.status, done.stdout) == (5, "")
    assert done.stderr == (
        "error: Python 3.10 to 3.14 with venv and pip is needed, and installing it needs root\n"
        "  there is no python3 on PATH\n"
        "  hint: as root: apt-get update && apt-get install python3 python3-venv\n"
    )


@pytest.mark.docker
def test_without_a_network_the_failure_is_said(box: Callable[..., Box]) -> None:
    done = started(copied(box(network=False)), "up")
    assert (done.status, done.stdout) == (5, "")
    assert "error: the Debian packages python3 python3-venv cannot be installed" in done.stderr
    assert "hint: see that this machine reaches its mirror" in done.stderr


@pytest.mark.docker
@pytest.mark.network
def test_sudo_is_used_and_said_and_a_killed_run_is_made_good(box: Callable[..., Box]) -> None:
    user = 1000
    host = copied(box("ssh"), owner=user)
    killed = host.exec(["timeout", "-s", "KILL", "25", f"{PLACE}/run", "--version"], user="me")
    said = "lacks venv or ensurepip: installing the Debian packages python3 python3-venv (with sudo"
    assert said in killed.stderr
    if killed.status == 0:  # a fast machine was through with it
        host.sh(f"touch '{PLACE}/.venv/.incomplete'; rm -r '{PLACE}'/.venv/lib/python3*/site-packages/typer")
    assert host.exec(["test", "-e", f"{PLACE}/.venv/.incomplete"]).status == 0
    done = started(host, "--version", user="me")
    assert done.status == 0, done.text
    assert done.stdout.startswith("provision ")
    assert "making .venv" in done.stderr


@pytest.fixture
def small(box: Callable[..., Box]) -> Box:
    """./run with a project of one package in place of provision: making .venv takes a moment."""
    host = box("ssh", tmpfs={"/small": "exec,size=64m"})
    host.sh("apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv >&2")
    host.write(f"{PLACE}/run", (ROOT / "run").read_bytes(), 0o755)
    text = (ROOT / "requirements" / "run.txt").read_text()
    (block,) = re.findall(r"^packaging==.*?(?=^[a-z]|\Z)", text, re.DOTALL | re.MULTILINE)
    host.write(f"{PLACE}/requirements/run.txt", block.encode())
    host.write(f"{PLACE}/provision/__init__.py", b"")
    host.write(f"{PLACE}/provision/__main__.py", PROJECT.encode())
    return host


PROJECT = """\
import sys
from packaging.version import Version

def main():
    print(Version("1.0"), sys.argv[1:])
"""


@pytest.mark.docker
@pytest.mark.network
def test_a_lock_that_changed_is_installed_and_a_moved_checkout_made_again(small: Box) -> None:
    first = started(small, "a b", "$c")
    assert (first.status, first.stdout) == (0, "1.0 ['a b', '$c']\n"), first.stderr
    assert "making .venv" in first.stderr
    assert started(small).stderr == ""
    small.sh(f"echo '# changed' >> '{PLACE}/requirements/run.txt'")
    assert "making .venv" in started(small).stderr
    small.sh(f"mv '{PLACE}' /opt/moved")
    moved = small.exec(["/opt/moved/run"])
    assert "making .venv" in moved.stderr
    assert small.exec(["/opt/moved/run"]).stderr == ""


@pytest.mark.docker
@pytest.mark.network
def test_two_runs_at_once_make_one_venv(small: Box) -> None:
    both = small.exec(["sh", "-c", f"'{PLACE}/run' & '{PLACE}/run'; wait"])
    assert both.stdout == "1.0 []\n" * 2, both.stderr
    assert both.stderr.count("making .venv") == 1
    assert both.stderr.count("waiting for another ./run that makes .venv") == 1


@pytest.mark.docker
@pytest.mark.network
def test_a_venv_made_by_hand_is_taken_over(small: Box) -> None:
    small.sh(f"python3 -m venv '{PLACE}/.venv' && touch '{PLACE}/.venv/mine'")
    done = started(small)
    assert (done.status, done.stdout) == (0, "1.0 []\n"), done.stderr
    assert "making .venv" not in done.stderr
    small.sh(f"test -e '{PLACE}/.venv/mine'")


@pytest.mark.docker
@pytest.mark.network
def test_no_index_and_no_right_to_write_are_said(small: Box) -> None:
    refused = started(small, "up", user="me")
    assert refused.status == 5
    assert f"error: {PLACE}/.venv cannot be made\n  me may not write to {PLACE}\n  hint: copy" in refused.stderr
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}
    offline = small.exec([f"{PLACE}/run", "up"], environment=nowhere)
    assert (offline.status, offline.stdout) == (5, "")
    assert "error: the Python packages cannot be installed" in offline.stderr
    assert "hint: see that this machine reaches PyPI" in offline.stderr
    assert started(small).status == 0  # and it goes on from there


@pytest.mark.docker
@pytest.mark.network
def test_a_lock_with_a_wrong_hash_is_refused(small: Box) -> None:
    path = f"{PLACE}/requirements/run.txt"
    small.sh(f"sed -i 's/sha256:....../sha256:000000/' '{path}'")
    done = started(small)
    assert (done.status, done.stdout) == (5, "")
    assert re.search(r"error: the Python packages cannot be installed\n(  .*\n)+  hint: something between", done.stderr)
    assert "Expected sha256 000000" in done.stderr


@pytest.mark.docker
@pytest.mark.network
def test_a_full_disk_is_said_and_mended(small: Box) -> None:
    small.sh(f"dd if=/dev/zero of=/small/filler bs=1M count=56 status=none; mv '{PLACE}' /small/full")
    done = small.exec(["/small/full/run"])
    assert done.status == 5
    assert re.search(r"hint: make room on the disk of /small/full, which has \d+ MiB left", done.stderr)
    small.sh("rm /small/filler")
    assert small.exec(["/small/full/run"]).stdout == "1.0 []\n"
