"""quick_ops.py: every operation in the real frameworks, and what is said where one is wrong, crashes or is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHECKS = Path(__file__).resolve().parents[2] / "checks"

OPERATIONS = {
    "numpy": {"matrix product", "linalg.solve", "svd and eigh", "fft", "random", "npz file"},
    "tensorflow": {
        "convolution", "gradient", "tf.function", "jit_compile", "SavedModel", "tf.data", "LSTM", "fit", ".keras file",
    },
    "keras": {"convolution", "LSTM", "fit", ".keras file"},
    "pytorch": {
        "convolution", "LSTM", "gradient", "DataLoader", "save and load", "jit.script", "jit.trace",
        "torch.compile, eager", "torch.compile, inductor",
    },
    "jax": {"jit", "grad", "convolution", "LSTM (scan)", "vmap"},
}  # fmt: skip


@pytest.mark.frameworks
def test_every_operation_gives_the_result_that_was_computed_without_it(check_in: Any, framework: str) -> None:
    answer = check_in(framework)("quick_ops.py", "--framework", framework, "--device", "cpu")
    assert answer.status == 0, answer.data
    ops = {op["op"]: op for op in answer.data["data"]["ops"]}
    assert set(ops) == OPERATIONS[framework]
    assert all(op["ok"] for op in ops.values())
    assert answer.data["what"] == f"{framework}: {len(ops)} operations give NumPy's results on cpu"


@pytest.mark.frameworks
def test_without_a_compiler_torch_compile_refuses_and_that_is_named(check_in: Any, tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path)}
    answer = check_in("pytorch")("quick_ops.py", "--framework", "pytorch", env=nothing)
    assert answer.status == 0, answer.data
    assert answer.data["why"] == ("torch.compile, inductor: refused, as it should be: no C++ compiler is installed")


@pytest.mark.frameworks
def test_an_operation_that_computes_wrongly_is_named(environment_of: Callable[[str], str], tmp_path: Path) -> None:
    """NumPy's solver replaced by one that is a little off, by a module that Python imports at its start."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if '--inside' in getattr(sys, 'orig_argv', ()):\n"
        "    import numpy\n"
        "    right = numpy.linalg.solve\n"
        "    numpy.linalg.solve = lambda a, b: right(a, b) * 1.001\n"
    )
    done = run(environment_of("numpy"), tmp_path)
    assert done["status"] == "fail"
    assert done["what"] == "numpy: 1 of 6 operations fail: linalg.solve"
    assert done["why"].startswith("linalg.solve: differs from NumPy's result by ")


@pytest.mark.frameworks
def test_an_operation_that_kills_the_process_is_named(environment_of: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if '--inside' in getattr(sys, 'orig_argv', ()):\n"
        "    import numpy, os\n"
        "    numpy.fft.fft = lambda *_: os.kill(os.getpid(), 4)\n"
    )
    done = run(environment_of("numpy"), tmp_path)
    assert (done["status"], done["what"], done["why"]) == ("fail", "numpy: fft crashed", "ended by SIGILL")


def run(python: str, more: Path) -> dict[str, Any]:
    command = [python, str(CHECKS / "quick_ops.py"), "--framework", "numpy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={"PYTHONPATH": str(more)})
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_framework_that_is_not_there_cannot_be_tried(bare: Any) -> None:
    answer = bare("quick_ops.py", "--framework", "numpy")
    assert answer.status in (1, 2)
    assert "No module named 'numpy'" in answer.data["why"] or "not installed" in answer.data["why"]


def test_that_no_gpu_is_seen_is_an_answer(load: Callable[[str], ModuleType]) -> None:
    found = load("quick_ops").heard('noise\n{"quick_ops": {"version": "2.4.6"}}\n{"quick_ops": {"no_gpu": true}}\n')
    assert found == {"ops": [], "running": None, "version": "2.4.6", "no_gpu": True}


def test_what_was_running_when_it_died_is_known(load: Callable[[str], ModuleType]) -> None:
    lines = [{"begins": "fft"}, {"op": "fft", "ok": True, "why": ""}, {"begins": "random"}]
    found = load("quick_ops").heard("\n".join(json.dumps({"quick_ops": line}) for line in lines))
    assert [op["op"] for op in found["ops"]] == ["fft"]
    assert found["running"] == "random"


def test_it_stands_alone_with_the_files_that_are_sent_along(tmp_path: Path) -> None:
    for path in CHECKS.glob("quick_ops*.py"):
        shutil.copy(path, tmp_path)
    command = [sys.executable, str(tmp_path / "quick_ops.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--framework" in done.stdout
