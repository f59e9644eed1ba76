"""Fixtures for the check scripts: run one, load one, and environments with real frameworks to run them in."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uv
from harness.places import locked, state_folder, without_pins

ROOT = Path(__file__).resolve().parents[2]
CHECKS = ROOT / "checks"
MNIST = ROOT.parent / "shared" / "data" / "mnist"

# More variables that decide a check's answer, besides those that pin a numerical library.
DECIDING = ("CUDA_VISIBLE_DEVICES", "KERAS_BACKEND", "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "UV_PYTHON")

ENVIRONMENTS = {
    "numpy": ("numpy",),
    "tensorflow": ("tensorflow-cpu",),
    "jax": ("jax[cpu]",),
    "pytorch": ("torch==2.13.0+cpu", "numpy"),
}
HOMES = {"keras": "tensorflow"}
"""Frameworks that live in another's environment."""


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in without_pins(os.environ).items() if name not in DECIDING}


@dataclass(frozen=True)
class Answer:
    status: int
    data: dict[str, Any]
    """The JSON line."""
    stderr: str


@dataclass(frozen=True)
class Checks:
    python: str
    cache: Path

    def __call__(self, script: str, *arguments: object, env: Mapping[str, str] | None = None) -> Answer:
        """Run ``script`` with this interpreter; its stdout must be one line of JSON, in the agreed form."""
        done = subprocess.run(
            [self.python, str(CHECKS / script), *map(str, arguments)],
            capture_output=True, text=True, timeout=600, env=self.environment(env),
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert len(lines) == 1, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        data = json.loads(lines[0])
        assert list(data) == ["id", "status", "what", "why", "hint", "data"]
        assert data["id"].partition(":")[0] == script.removesuffix(".py")
        assert {"pass": 0, "fail": 1, "skip": 2}[data["status"]] == done.returncode
        assert data["what"] and isinstance(data["data"], dict)
        return Answer(done.returncode, data, done.stderr)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        places = {"XDG_CACHE_HOME": str(self.cache), "XDG_DATA_HOME": str(self.cache)}
        return {**clean_environment(), **places, **(more or {})}


@pytest.fixture
def check(tmp_path: Path) -> Checks:
    """Runs checks with the tests' own Python."""
    return Checks(sys.executable, tmp_path / "cache")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads a check as a module, for its pure functions."""
    monkeypatch.syspath_prepend(str(CHECKS))
    return importlib.import_module


@pytest.fixture(scope="session")
def environment_of() -> Callable[[str], str]:
    """Makes (once a machine: it is kept in the temporary folder) the environment NAME, and returns its Python."""

    def python(framework: str) -> str:
        name = HOMES.get(framework, framework)
        packages: Sequence[str] = ENVIRONMENTS[name]
        more: list[str] = []
        if name == "pytorch":
            links = os.environ.get("PROVISION_TEST_FIND_LINKS")
            if not links:
                pytest.skip("PROVISION_TEST_FIND_LINKS names no folder with the wheel of torch 2.13.0+cpu")
            more = ["--find-links", links]
        return made(name, [*more, *packages])

    return python


def made(name: str, arguments: list[str]) -> str:
    key = hashlib.sha256(json.dumps([sys.version, arguments]).encode()).hexdigest()[:12]
    folder = state_folder() / "checks" / f"{name}-{key}"
    folder.parent.mkdir(exist_ok=True)
    python = folder / "bin" / "python"
    with locked(f"checks-{name}"):  # parallel test workers share the environments
        if not (folder / "complete").exists():
            uv_run("venv", "--clear", "--python", sys.executable, str(folder))
            uv_run("pip", "install", "--compile-bytecode", "--python", str(python), *arguments)
            (folder / "complete").touch()
    return str(python)


def uv_run(*arguments: str) -> None:
    command = [uv.find_uv_bin(), "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=900)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def bare(tmp_path: Path) -> Checks:
    """Runs checks with a Python that has no package at all."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    return Checks(str(tmp_path / "bare" / "bin" / "python"), tmp_path / "cache")


@pytest.fixture(params=[*ENVIRONMENTS, *HOMES])
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def check_in(environment_of: Callable[[str], str], tmp_path: Path) -> Callable[[str], Checks]:
    """Runs checks in the environment NAME."""
    return lambda name: Checks(environment_of(name), tmp_path / "cache")


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    if not MNIST.is_dir():
        pytest.skip(f"no MNIST in {MNIST.relative_to(ROOT.parent)} beside the checkout")
    return MNIST


@pytest.fixture
def emulated(environment_of: Callable[[str], str], tmp_path: Path) -> Callable[[str, str], Checks]:
    """Runs checks in the environment NAME on an emulated CPU: a Python that is a script around QEMU, so that the child
    processes of a check are emulated too."""
    qemu = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if not qemu:
        pytest.skip("no qemu-x86_64 (Debian: qemu-user-static)")

    def on(name: str, cpu: str) -> Checks:
        original = Path(environment_of(name)).parents[1]
        folder = tmp_path / f"{name} on {cpu}"
        python = folder / "bin" / "python"
        if python.exists():
            return Checks(str(python), tmp_path / "cache")
        (folder / "bin").mkdir(parents=True)
        (folder / "lib").symlink_to(original / "lib")
        shutil.copy(original / "pyvenv.cfg", folder)
        real = Path(environment_of(name)).resolve()
        python.write_text(f'#!/bin/sh\nexec "{qemu}" -cpu {cpu} -0 "{python}" "{real}" "$@"\n')
        python.chmod(0o755)
        return Checks(str(python), tmp_path / "cache")

    return on
