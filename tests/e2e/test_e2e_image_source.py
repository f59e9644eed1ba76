"""`provision image build --origin source`, as a lab types it: a tree of TensorFlow's shape becomes an image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import ImageNotFound
from harness.engine import Engine
from harness.fleet import REPOSITORY
from harness.trees import tensorflow_tree

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.bazel, pytest.mark.slow]

VERSION = "2.15.1"


def test_a_tree_becomes_an_image(engine: Engine, debian_image: Callable[[str], str], tmp_path: Path) -> None:
    tree, tag = tensorflow_tree(tmp_path / "tensorflow", VERSION), f"provision-tests-source:{os.urandom(4).hex()}"
    argv = [
        sys.executable, "-m", "provision", "image", "build", "--framework", f"tensorflow=={VERSION}",
        "--origin", "source", "--source", str(tree), "--compiler", "gcc-12", "--bazel", "/usr/bin/bazel-4",
        "--base", debian_image("builder"), "--cpu", "x86-64-v2", "--tag", tag,
        # the tree has the names that the smoke test uses, and not all of TensorFlow's that quick tests try
        "--no-verify", "--yes", "--json",
    ]  # fmt: skip
    env = {**os.environ, **engine.environment(), "PYTHONPATH": str(REPOSITORY), "XDG_CACHE_HOME": str(tmp_path / "c")}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=900, check=False)
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        (image,) = json.loads(done.stdout)["images"]
        assert image["stack"][0]["origin"] == "source"
        said = engine.client.containers.run(
            tag, ["python", "-c", "import tensorflow as tf; print(tf.__version__, tf.__file__)"], remove=True,
            network_disabled=True,
        )  # fmt: skip
        assert said.decode().split()[0] == VERSION
        assert "/opt/provision/venv/" in said.decode()
    finally:
        with suppress(ImageNotFound):
            engine.client.images.remove(tag, force=True)
