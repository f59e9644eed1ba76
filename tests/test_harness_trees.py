"""The source trees that the harness writes: configure by release, both wheel targets with Bazel, PyTorch's setup.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness.boxes import Box
from harness.places import without_pins
from harness.trees import TREES, pytorch_tree, render, tensorflow_tree
from packaging.version import Version

CHECKS = Path(__file__).resolve().parents[1] / "checks"
BAZEL = Path("/usr/bin/bazel-4")
UV = Path(sys.executable).with_name("uv")
RELEASES = ("2.8.4", "2.9.3", "2.12.1", "2.15.1", "2.17.1", "2.18.1", "2.21.0")

ANSWERS = {
    "USE_DEFAULT_PYTHON_LIB_PATH": "1",
    "TF_NEED_ROCM": "0",
    "TF_NEED_CUDA": "0",
    "TF_SET_ANDROID_WORKSPACE": "0",
}


def clean(**more: str) -> dict[str, str]:
    """An environment that no tree reads anything in but ``more``."""
    names = ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL", "UV_INDEX_URL")
    return {name: os.environ[name] for name in names if name in os.environ} | more


def configure(
    tree: Path, environment: Mapping[str, str], program: str | None = "bazel"
) -> subprocess.CompletedProcess[str]:
    """configure.py with nothing on PATH but a ``program`` that says it is Bazel, and standard input closed."""
    folder = tree.parent / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if program:
        (folder / program).write_text("#!/bin/sh\necho 'bazel no_version'\n")
        (folder / program).chmod(0o755)
    argv = [sys.executable, str(tree / "configure.py")]
    made = {"PATH": str(folder)} | dict(environment)
    return subprocess.run(argv, env=made, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def written(tree: Path) -> list[str]:
    return (tree / ".tf_configure.bazelrc").read_text().splitlines()


@pytest.fixture
def cuda(tmp_path: Path) -> Path:
    """A folder with as much of CUDA 12.2 and cuDNN 8.9 as configure looks at."""
    include = tmp_path / "cuda/include"
    include.mkdir(parents=True)
    (include / "cuda.h").write_text("#define CUDA_VERSION 12020\n")
    (include / "cudnn_version.h").write_text("#define CUDNN_MAJOR 8\n#define CUDNN_MINOR 9\n")
    return include.parent


def hermetic(version: str) -> bool:
    return Version(version) >= Version("2.18")


def cuda_answers(version: str, cuda: Path) -> dict[str, str]:
    """Variables of a CUDA build, less the compute capabilities."""
    answers = ANSWERS | {"TF_NEED_CUDA": "1", "TF_CUDA_CLANG": "0", "GCC_HOST_COMPILER_PATH": "/bin/sh"}
    return answers | ({} if hermetic(version) else {"TF_CUDA_PATHS": str(cuda), "TF_NEED_TENSORRT": "0"})


class TestRender:
    def test_keeps_the_blocks_of_a_release(self) -> None:
        text = "a\n#@ -2.16\nold @VERSION@\n#@ 2.17-2.19\nmiddle\n#@ 2.20-\nnew\n#@ end\nb\n"
        assert render(text, "2.9.3", {"@VERSION@": "2.9.3"}) == "a\nold 2.9.3\nb\n"
        assert render(text, "2.17.1", {}) == "a\nmiddle\nb\n"
        assert render(text, "2.21.0", {}) == "a\nnew\nb\n"

    @pytest.mark.parametrize("version", RELEASES)
    def test_leaves_nothing_to_be_filled_in(self, tmp_path: Path, version: str) -> None:
        tree = tensorflow_tree(tmp_path / "tree", version)
        for path in tree.rglob("*"):
            if path.is_file() and path.name != "README.md":
                assert not re.search(r"^#@ |@VERSION@|@BAZEL@", path.read_text(), re.MULTILINE), path

    def test_says_the_version_where_that_release_does(self, tmp_path: Path) -> None:
        old, new = tensorflow_tree(tmp_path / "old", "2.15.1"), tensorflow_tree(tmp_path / "new", "2.21.0")
        assert '_VERSION = "2.15.1"' in (old / "tensorflow/tools/pip_package/setup.py").read_text()
        assert 'TF_VERSION = "2.21.0"' in (new / "tensorflow/tf_version.bzl").read_text()
        assert not (old / "tensorflow/tf_version.bzl").exists()
        assert (old / ".bazelversion").read_text() == "6.1.0\n"
        assert (new / ".bazelversion").read_text() == "7.4.1\n"
        assert (tensorflow_tree(tmp_path / "own", "2.21.0", "4.2.3") / ".bazelversion").read_text() == "4.2.3\n"

    def test_names_no_folder_of_this_machine(self) -> None:
        own = re.compile("|".join(map(re.escape, {str(Path.home()) + "/", str(TREES.parents[1]) + "/"})))
        for path in [*(TREES / "tensorflow").rglob("*"), *(TREES / "pytorch").rglob("*")]:
            if path.is_file() and "__pycache__" not in path.parts:
                assert not own.search(path.read_text()), path


class TestConfigure:
    @pytest.mark.parametrize("version", RELEASES)
    def test_writes_what_it_was_told(self, tmp_path: Path, version: str) -> None:
        tree = tensorflow_tree(tmp_path / "tree", version)
        answers = ANSWERS | {"PYTHON_BIN_PATH": sys.executable, "CC_OPT_FLAGS": "-mavx2 -mfma", "TF_NEED_CLANG": "0"}
        done = configure(tree, answers)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = written(tree)
        assert f'build --action_env PYTHON_BIN_PATH="{sys.executable}"' in lines
        assert f'build --python_path="{sys.executable}"' in lines
        for flag in ("-mavx2", "-mfma"):
            assert f"build:opt --copt={flag}" in lines and f"build:opt --host_copt={flag}" in lines

    def test_asks_for_clang_from_2_14_on(self, tmp_path: Path) -> None:
        clang = tmp_path / "clang"
        clang.write_text("#!/bin/sh\necho 'Debian clang version 16.0.6 (15~deb12u1)'\n")
        clang.chmod(0o755)
        answers = ANSWERS | {"TF_NEED_CLANG": "1", "CLANG_COMPILER_PATH": str(clang)}
        for version, asked in (("2.13.1", False), ("2.14.1", True), ("2.21.0", True)):
            tree = tensorflow_tree(tmp_path / version / "tree", version)
            assert configure(tree, answers).returncode == 0
            lines = written(tree)
            assert (f"build --repo_env=CC={clang}" in lines) is asked
            assert (f"build --repo_env=BAZEL_COMPILER={clang}" in lines) is asked
            assert ("build --copt=-Wno-gnu-offsetof-extensions" in lines) is asked

    @pytest.mark.parametrize("given", [None, "", "8.6,banana"])
    @pytest.mark.parametrize("version", ["2.9.3", "2.15.1", "2.18.1", "2.21.0"])
    def test_takes_default_capabilities_in_silence(
        self, tmp_path: Path, cuda: Path, version: str, given: str | None
    ) -> None:
        """Missing, empty, and with a wrong entry: the list is 3.5,7.0, and the exit status 0."""
        tree = tensorflow_tree(tmp_path / "tree", version)
        name = "HERMETIC_CUDA_COMPUTE_CAPABILITIES" if hermetic(version) else "TF_CUDA_COMPUTE_CAPABILITIES"
        done = configure(tree, cuda_answers(version, cuda) | ({} if given is None else {name: given}))
        assert done.returncode == 0, done.stdout + done.stderr
        start = "build:cuda --repo_env" if hermetic(version) else "build --action_env"
        assert f'{start} {name}="3.5,7.0"' in written(tree)

    @pytest.mark.parametrize("version", ["2.9.3", "2.15.1", "2.18.1", "2.21.0"])
    def test_writes_capabilities(self, tmp_path: Path, cuda: Path, version: str) -> None:
        tree = tensorflow_tree(tmp_path / "tree", version)
        name = "HERMETIC_CUDA_COMPUTE_CAPABILITIES" if hermetic(version) else "TF_CUDA_COMPUTE_CAPABILITIES"
        done = configure(tree, cuda_answers(version, cuda) | {name: "sm_80,compute_90"})
        assert done.returncode == 0, done.stdout + done.stderr
        assert [line for line in written(tree) if f'{name}="sm_80,compute_90"' in line]
        assert "build --config=cuda" in written(tree)

    def test_ends_where_no_toolkit_is_found(self, tmp_path: Path) -> None:
        tree = tensorflow_tree(tmp_path / "tree", "2.15.1")
        done = configure(tree, cuda_answers("2.15.1", tmp_path / "nothing"))
        assert done.returncode == 1
        assert "Invalid CUDA setting were provided 10 times in a row" in done.stderr

    def test_an_empty_variable_is_an_unset_one(self, tmp_path: Path) -> None:
        tree = tensorflow_tree(tmp_path / "tree", "2.15.1")
        assert configure(tree, ANSWERS | {"TF_NEED_CLANG": "0", "CC_OPT_FLAGS": ""}).returncode == 0
        assert "build:opt --copt=-Wno-sign-compare" in written(tree)

    def test_an_empty_boolean_is_an_error(self, tmp_path: Path) -> None:
        tree = tensorflow_tree(tmp_path / "tree", "2.15.1")
        done = configure(tree, ANSWERS | {"TF_NEED_CUDA": ""})
        assert done.returncode == 1
        assert "Environment variable TF_NEED_CUDA must be set as a boolean indicator" in done.stderr

    def test_a_wrong_path_is_an_error(self, tmp_path: Path) -> None:
        tree = tensorflow_tree(tmp_path / "tree", "2.15.1")
        done = configure(tree, ANSWERS | {"TF_NEED_CLANG": "1", "CLANG_COMPILER_PATH": "/nowhere/clang"})
        assert done.returncode == 1
        assert "Invalid CLANG_COMPILER_PATH setting was provided 10 times in a row" in done.stderr

    def test_needs_bazel_on_path(self, tmp_path: Path) -> None:
        for version, program, status in (
            ("2.8.4", None, 1),
            ("2.8.4", "bazelisk", 1),
            ("2.9.3", "bazelisk", 0),
            ("2.21.0", None, 1),
        ):
            tree = tensorflow_tree(tmp_path / f"{version}-{program}" / "tree", version)
            done = configure(tree, ANSWERS | {"TF_NEED_CLANG": "0"}, program)
            assert done.returncode == status, (version, program, done.stdout)
            assert status == 0 or "Cannot find bazel" in done.stdout


# --- with Bazel -----------------------------------------------------------------------------------------------------


class Builder:
    """Bazel on one tree, with an output root and a disk cache of its own."""

    def __init__(self, tree: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self.tree, self.folder, self.environment = tree, folder, dict(environment)

    def bazel(self, command: str, *arguments: str) -> str:
        """Standard error of a command that worked."""
        argv = [str(BAZEL), f"--output_user_root={self.folder}/bazel", "--max_idle_secs=30", command, *arguments]
        done = subprocess.run(argv, cwd=self.tree, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-5000:]
        return done.stderr

    def build(self, target: str, *options: str) -> dict[str, int]:
        """What the build's processes were: {"internal": 5, "local": 60, "remote cache hit": 0}."""
        said = self.bazel("build", f"--disk_cache={self.folder}/cache", "--jobs=2", "--curses=no", *options, target)
        line = re.search(r"INFO: \d+ processes?: (.*)\.$", said, re.MULTILINE)
        assert line, said
        return {name: int(count) for count, name in re.findall(r"(\d+) ([a-z ]+)", line.group(1))}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with what packs a wheel, made from the one that has headers."""
    venv = tmp_path_factory.mktemp("python") / "venv"
    uv("venv", "--quiet", "--python", sys.base_prefix + "/bin/python3", str(venv))
    uv("pip", "install", "--quiet", "--python", str(venv), "numpy", "setuptools", "wheel")
    return venv / "bin/python"


def uv(*arguments: str) -> None:
    done = subprocess.run([str(UV), *arguments], env=clean(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def builder(tmp_path: Path, python: Path) -> Iterator[Callable[[str], Builder]]:
    """builder(version): a configured tree of that release."""
    if not BAZEL.exists() or shutil.which("g++") is None:
        pytest.skip("this needs g++ and Debian's bazel-bootstrap")
    made: list[Builder] = []

    def make(version: str) -> Builder:
        tree = tensorflow_tree(tmp_path / "tree", version, "4.2.3")
        answers = ANSWERS | {"PYTHON_BIN_PATH": str(python), "TF_NEED_CLANG": "0"}
        assert configure(tree, answers).returncode == 0
        found = clean(PATH=f"{python.parent}:{os.environ['PATH']}")
        made.append(Builder(tree, tmp_path / "build", without_pins(found)))
        return made[-1]

    yield make
    for one in made:
        one.bazel("shutdown")


def check(python: Path, name: str, *arguments: str) -> dict[str, Any]:
    argv = [str(python), str(CHECKS / name), "--framework", "tensorflow", *arguments]
    done = subprocess.run(argv, env=without_pins(clean()), capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["status"] == "pass", found
    return found["data"]


def python_version(python: Path) -> str:
    return subprocess.run(
        [str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def install_and_train(python: Path, wheel: Path, shared: Path) -> None:
    uv("pip", "install", "--quiet", "--python", str(python), "--reinstall-package", "tensorflow", str(wheel))
    assert check(python, "isa_baseline.py")["baseline"] == ["sse", "sse2"]
    assert check(python, "device_visible.py", "--device", "cpu")["ran_on"] == "cpu"
    found = check(python, "mnist.py", "--device", "cpu", "--data", str(shared / "data/mnist"))
    assert found["dataset"] == "mnist" and found["accuracy"] >= 0.97


@pytest.mark.bazel
@pytest.mark.network
@pytest.mark.slow
class TestBuild:
    def test_build_pip_package(
        self, builder: Callable[[str], Builder], python: Path, tmp_path: Path, shared: Path
    ) -> None:
        """Up to 2.16: a program is built, and it packs the wheel."""
        made, target = builder("2.12.1"), "//tensorflow/tools/pip_package:build_pip_package"
        first = made.build(target, "--config=opt")
        assert first["local"] >= 40
        program = made.tree / "bazel-bin/tensorflow/tools/pip_package/build_pip_package"
        subprocess.run([str(program), str(tmp_path / "wheels")], cwd=made.tree, env=made.environment, check=True)
        (wheel,) = (tmp_path / "wheels").iterdir()
        tag = "cp" + python_version(python).replace(".", "")
        assert wheel.name == f"tensorflow-2.12.1-{tag}-{tag}-linux_x86_64.whl"
        install_and_train(python, wheel, shared)

    def test_wheel(self, builder: Callable[[str], Builder], python: Path, shared: Path) -> None:
        """From 2.17 on: the wheel is the target. Once cleaned, all comes from the disk cache."""
        made, target = builder("2.21.0"), "//tensorflow/tools/pip_package:wheel"
        options = [f"--repo_env=HERMETIC_PYTHON_VERSION={python_version(python)}", "--repo_env=ML_WHEEL_TYPE=release"]
        first = made.build(target, *options)
        assert first["local"] >= 40
        house = made.tree / "bazel-bin/tensorflow/tools/pip_package/wheel_house"
        (wheel,) = house.iterdir()
        tag = "cp" + python_version(python).replace(".", "")
        assert wheel.name == f"tensorflow-2.21.0-{tag}-{tag}-linux_x86_64.whl"
        install_and_train(python, wheel, shared)
        made.bazel("clean")
        again = made.build(target, *options)
        assert again.get("local", 0) == 0
        assert again["remote cache hit"] == first["local"]
        made.build(target, "--repo_env=WHEEL_NAME=tensorflow_cpu", options[0])
        assert f"tensorflow_cpu-2.21.0.dev0+selfbuilt-{tag}-{tag}-linux_x86_64.whl" in [
            path.name for path in house.iterdir()
        ]


class TestPytorch:
    """Its C++ is compiled in a few seconds, so it needs no marker but that for the packages that pack it."""

    @pytest.mark.network
    def test_says_what_it_was_built_with(self, python: Path, tmp_path: Path) -> None:
        tree = pytorch_tree(tmp_path / "tree", "2.9.0")
        environment = clean(
            PYTORCH_BUILD_VERSION="2.9.0+local", PYTORCH_BUILD_NUMBER="1", USE_CUDA="0", USE_MKLDNN="0",
            MAX_JOBS="2", CXXFLAGS="-mno-avx -msse4.2",
        )  # fmt: skip
        argv = [str(python), "setup.py", "--quiet", "bdist_wheel"]
        done = subprocess.run(argv, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (wheel,) = (tree / "dist").iterdir()
        assert wheel.name.startswith("torch-2.9.0+local-cp")
        uv("pip", "install", "--quiet", "--python", str(python), str(wheel))
        code = "import torch; print(torch.__version__, torch.version.cuda, torch.dot([1, 2], [3, 4]));"
        code += "print(torch.__config__.show())"
        said = subprocess.run(
            [str(python), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        assert said.startswith("2.9.0+local None 11.0\n")
        assert "CPU capability usage: DEFAULT" in said
        assert "CXX_FLAGS=-mno-avx -msse4.2," in said and "USE_MKLDNN=OFF" in said

    @pytest.mark.network
    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            ({"PYTORCH_BUILD_VERSION": "2.9.0"}, "PYTORCH_BUILD_NUMBER is not"),
            ({"USE_CUDA": "1", "CUDA_HOME": "/nowhere"}, "there is no nvcc in /nowhere/bin"),
        ],
    )
    def test_refuses(self, python: Path, tmp_path: Path, given: dict[str, str], reason: str) -> None:
        tree = pytorch_tree(tmp_path / "tree", "2.9.0")
        argv = [str(python), "setup.py", "--quiet", "build"]
        done = subprocess.run(argv, cwd=tree, env=clean(**given), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert reason in done.stderr


@pytest.mark.bazel
@pytest.mark.docker
@pytest.mark.slow
def test_a_builder_builds_without_a_network(box: Callable[..., Box], tmp_path: Path) -> None:
    """The image for hosts with a toolchain has all that the tree needs, for a user who is not root."""
    host = box("builder", network=False, init=True)  # without an init, a Bazel server that ended stays a zombie
    host.copy(tensorflow_tree(tmp_path / "tree", "2.21.0", "4.2.3"), "/home/me/tree", owner=1000)
    host.sh(
        "chown me /home/me/tree; cd /home/me/tree; mkdir /home/me/bin; ln -s /usr/bin/bazel-4 /home/me/bin/bazel;"
        "su me -c 'PATH=$HOME/bin:$PATH TF_NEED_CLANG=0 ./configure' </dev/null;"
        "su me -c 'bazel-4 build --jobs=2 --curses=no //tensorflow/tools/pip_package:wheel; bazel-4 shutdown'"
    )
    wheels = host.sh("ls /home/me/tree/bazel-bin/tensorflow/tools/pip_package/wheel_house")
    assert wheels == "tensorflow-2.21.0.dev0+selfbuilt-cp311-cp311-linux_x86_64.whl\n"
