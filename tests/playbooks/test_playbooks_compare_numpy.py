"""Real NumPy, really trained, in two generations: the one whose BLAS is held back loses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import uv
from ansible.module_utils import provision_generations as generations
from ansible.module_utils.provision_compare import compare
from ansible.module_utils.provision_progress import Progress
from playbook_target import Target

from provision.run.checks import Check, check_files

COMMAND = {"id": "mnist:numpy", "argv": ["mnist.py", "--framework", "numpy", "--synthetic"], "timeout_s": 600.0}
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}

pytestmark = [pytest.mark.frameworks, pytest.mark.network, pytest.mark.slow]


def generation(target: Target, number: int, variables: dict[str, str]) -> None:
    """NumPy's wheel, with the variables that its plan sets."""
    path = target.generation(number)
    venv = path / "venv"
    tool = [uv.find_uv_bin(), "--quiet"]
    subprocess.run([*tool, "venv", "--python", sys.executable, venv], check=True)
    python = str(venv / "bin" / "python")
    subprocess.run([*tool, "pip", "install", "--compile-bytecode", "--python", python, "numpy"], check=True)
    stack = {"framework": "numpy", "version": "2", "device": "cpu", "python": "3", "environment": variables}
    (path / "plan.json").write_text(json.dumps({"stack": [stack]}))
    names = generations.packages(venv)
    state = {"complete": True, "fingerprint": f"f{number}", "packages_sha256": generations.packages_sha256(names)}
    (path / "state.json").write_text(json.dumps(state))


def compared(target: Target, **changes: Any) -> dict[str, Any]:
    scripts = check_files([Check(id="mnist:numpy", argv=("mnist.py",))])
    params = {
        **target.params(), "build_generation": 2, "wheel_generation": 1, "framework": "numpy", "fingerprint": "f2",
        "scripts": scripts, "command": COMMAND, "pairs": 3, "keep": "faster", **changes,
    }  # fmt: skip
    return compare(target.layout, params, Progress(target.layout.runs, "", "comparison"))


def has(flag: str) -> bool:
    return flag in Path("/proc/cpuinfo").read_text().split()


@pytest.mark.skipif(not has("avx2"), reason="without AVX2 no kernel of OpenBLAS is much below another")
def test_a_build_that_is_slower_is_not_kept(target: Target) -> None:
    target.environment.mkdir(parents=True)
    generation(target, 1, ONE_THREAD)
    generation(target, 2, {**ONE_THREAD, "OPENBLAS_CORETYPE": "Prescott"})
    result = compared(target)
    comparison = result["comparison"]
    assert (comparison["kept"], comparison["decided_by"], result["generation"]) == ("wheel", "figures", 1)
    assert comparison["ratio"] < 1
    assert all(pair["build"] > 0 and pair["wheel"] > 0 for pair in comparison["pairs"])
    assert json.loads((target.generation(1) / "state.json").read_text())["answers"] == ["f2"]
    swapped = compared(target, build_generation=1, wheel_generation=2, fingerprint="f1", pairs=1)
    assert (swapped["comparison"]["kept"], swapped["generation"], swapped["changed"]) == ("build", 1, False)
