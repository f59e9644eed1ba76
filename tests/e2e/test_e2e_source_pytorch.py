"""`provision up --origin source` for PyTorch on this machine: a tree of its shape, built, installed and asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.trees import pytorch_tree

pytestmark = [pytest.mark.slow, pytest.mark.network]

VERSION = "2.9.1"
Up = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a tag of PyTorch is: its version.txt says the alpha of the series. setup.py writes down what it was told."""
    folder = pytorch_tree(tmp_path_factory.mktemp("source") / "pytorch", VERSION)
    (folder / "version.txt").write_text("2.9.0a0\n")
    setup = folder / "setup.py"
    told = 'import json, os; open("told.json", "w").write(json.dumps(dict(os.environ)))\n'
    setup.write_text(setup.read_text().replace("import concurrent", told + "import concurrent", 1))
    return folder


@pytest.fixture
def up(tmp_path: Path, tree: Path) -> Up:
    home = tmp_path / "home"
    home.mkdir()
    cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "PROVISION_"))}
    environment = {**kept, "HOME": str(home), "UV_CACHE_DIR": cache}

    def run(*more: str) -> dict[str, Any]:
        words = ["--framework", f"pytorch=={VERSION}", "--origin", "source", "--source", str(tree), "--python", "3.11"]
        argv = [sys.executable, "-m", "provision", "up", *words, "--cpu", "x86-64-v2", "--yes", "--json", *more]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=900, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    return run


def test_what_the_plan_says_gets_into_the_wheel(up: Up, tmp_path: Path) -> None:
    report = up("--until", "build", "--memory-per-job", "1024", "--jobs", "3")
    (built,) = report["builds"]
    assert (built["version"], built["jobs"]) == (VERSION, 3)
    told = json.loads(next((tmp_path / "home/.cache/provision/build/trees").glob("*/told.json")).read_text())
    assert told["MAX_JOBS"] == "3"
    assert (told["PYTORCH_BUILD_VERSION"], told["PYTORCH_BUILD_NUMBER"]) == (VERSION, "1")
    assert {told[name] for name in ("USE_FBGEMM", "USE_XNNPACK", "USE_PYTORCH_QNNPACK", "USE_CUDA")} == {"0"}
    assert (told["USE_MKLDNN"], told["BLAS"]) == ("1", "OpenBLAS")
    report = up("--no-verify")
    assert report["builds"][0]["built"] is False, "the wheel of before is taken"
    python = Path(report["environment"]["path"]) / "current/venv/bin/python"
    code = "import torch; print(torch.__version__); print(torch.dot([1.0], [2.0])); print(torch.__config__.show())"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[:2] == [VERSION, "2.0"]
    assert "-msse4.2" in said
    assert "-mno-avx" in said
    assert "CPU capability usage: DEFAULT" in said
    state = json.loads((python.parents[2] / "state.json").read_text())
    assert state["summary"] == f"pytorch {VERSION} · source · cpu · python 3.11"
    assert up("--no-verify")["changed"] == 0
