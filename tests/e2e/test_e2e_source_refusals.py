"""What `provision up --origin source` says to bad input, on this machine, up to the module that refuses it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.fleet import REPOSITORY
from harness.places import without_pins
from harness.trees import tensorflow_tree

pytestmark = [pytest.mark.bazel, pytest.mark.network, pytest.mark.slow]

Say = Callable[..., str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home; beside it a tree of TensorFlow's, a repository of it with one tag, and a folder of something else."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "serving" / "tensorflow_serving").mkdir(parents=True)
    tree = tensorflow_tree(folder / "tree", "2.15.1")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"], ["tag", "v2.15.1"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tree, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(tree), str(folder / "tf.git")], check=True)
    return folder


@pytest.fixture(scope="module")
def say(place: Path) -> Say:
    own = {"HOME": f"{place}/home", "XDG_DATA_HOME": f"{place}/home/data", "XDG_CACHE_HOME": f"{place}/home/cache"}
    uv_cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    env = {**without_pins(os.environ), **own, "UV_CACHE_DIR": uv_cache, "PYTHONPATH": str(REPOSITORY)}
    (place / "home").mkdir()

    def said(code: int, *words: str) -> str:
        """The report from its first error on."""
        argv = ["up", "--framework", "tensorflow==2.15.1", "--origin", "source", "--python", "3.11", "--yes"]
        usual = {"--source": f"{place}/tree", "--bazel": "/usr/bin/bazel-4", "--compiler": "gcc-12", "--jobs": "2"}
        argv += [each for pair in usual.items() if pair[0] not in words for each in pair]
        done = subprocess.run(
            [sys.executable, "-m", "provision", *argv, *words], env=env, cwd=place, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=300, check=False,
        )  # fmt: skip
        text = done.stderr + done.stdout
        assert done.returncode == code, text
        return text[text.rindex("\nerror: ") + 1 :] if "\nerror: " in text else text

    return said


@pytest.mark.parametrize(
    ("code", "words", "lines"),
    [
        (2, ["--source", "{place}/serving"],
         ["error: {place}/serving is not a source tree of TensorFlow", "it looks like TensorFlow Serving"]),
        (2, ["--source", "{place}/tf.git@v9.9.9"],
         ["error: {place}/tf.git has no tag or branch v9.9.9", "its only tag is v2.15.1"]),
        (2, ["--source", "file://{place}/tf.git@v9.9.9"], ["error: {place}/tf.git has no tag or branch v9.9.9"]),
        (5, ["--bazel", "/usr/bin/bazel"],
         ["error: /usr/bin/bazel has no Bazel 6.1.0, which tensorflow 2.15.1 is built with", "/usr/bin/bazel-4"]),
        (5, ["--bazel", "{place}/no/bazel"], ["error: there is no program {place}/no/bazel"]),
        (3, ["--cpu", "fma4,tbm,xop"], ["this CPU lacks ", "--cpu native; or name the machine that it is for"]),
        (3, ["--cpu", "avx_ifma"],
         ["GCC 12.2.0 is too old for avx_ifma", "it does not take -mavxifma", "drop avx_ifma from --cpu"]),
        (5, ["--memory-per-job", "999999999", "--until", "preflight"],
         ["MiB are available, and one job needs 999999999 MiB", "--memory-per-job"]),
        (5, ["--build-folder", "{place}/tree/WORKSPACE/x", "--until", "preflight"],
         ["error: nothing can be written in the build folder {place}/tree/WORKSPACE/x", "--build-folder"]),
        (5, ["--build-folder", "{place}/with blank", "--until", "preflight"],
         ["Bazel cannot work in {place}/with blank: there is a space in it"]),
    ],
    ids=["tree", "tag", "tag by address", "wrapper", "no bazel", "lacks", "old", "memory", "read only", "blank"],
)  # fmt: skip
def test_bad_input_and_its_message(place: Path, say: Say, code: int, words: list[str], lines: list[str]) -> None:
    text = say(code, *[word.format(place=place) for word in words])
    for line in lines:
        assert line.format(place=place) in text
    assert "hint: " in text


def test_a_tag_of_a_repository_is_configured(place: Path, say: Say) -> None:
    text = say(0, "--source", f"file://{place}/tf.git@v2.15.1", "--cpu", "generic", "--until", "configure")
    assert "verdict: the tree is configured as it was asked; nothing was built (--until configure)" in text
