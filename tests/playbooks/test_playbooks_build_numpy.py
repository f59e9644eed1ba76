"""NumPy from its source distribution with the distribution's OpenBLAS, by the engine that does it for users."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from playbook_builds import Builds, answer, build
from playbook_target import Target

VERSION = "2.3.5"


@pytest.mark.network
@pytest.mark.slow
def test_numpy_with_a_blas_of_our_choice(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    builds = Builds(target, tmp_path / "builds")
    settings = ["blas=openblas", "lapack=openblas", "cpu-baseline=AVX2,FMA3", "cpu-dispatch=AVX512F,AVX512_SKX"]
    wanted = build(
        framework="numpy", version=VERSION, engine="uv", distributions=["numpy"], blas="openblas", argv=[],
        source={"kind": "index", "location": f"numpy=={VERSION}", "sha256": None},
        compiler={"family": "gcc", "version": gcc_version(), "path": "/usr/bin/gcc-12"},
        build_requirements=["meson-python>=0.18", "Cython>=3.0.6", "ninja"],
        config_settings=[f"setup-args=-D{one}" for one in settings],
        copts=[{"option": "-mavx2", "flag": "avx2", "reason": ""}, {"option": "-mfma", "flag": "fma", "reason": ""}],
        environment={"CFLAGS": "-O3 -mavx2 -mfma", "CXXFLAGS": "-O3 -mavx2 -mfma"},
        needs={"headers": ["cblas.h", "Python.h"]},
    )  # fmt: skip
    with builds.start(builds.params(wanted, {}, jobs=2)) as process:
        result = answer(process, timeout_s=1800)
    assert result.get("changed") is True, result
    (made,) = result["builds"]
    assert made["compile_actions"] > 100
    assert made["tool"].startswith("uv ")
    venv = tmp_path / "venv"
    uv = str(target.layout.uv("here"))
    subprocess.run([uv, "venv", "-q", "--python", wanted["python"], str(venv)], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--no-deps", "--python", str(venv), made["wheel"]], check=True)
    code = """
import json, numpy
shown = numpy.show_config(mode="dicts")
blas = shown["Build Dependencies"]["blas"]["name"]
print(json.dumps([numpy.__version__, blas, shown["SIMD Extensions"]["baseline"]]))
"""
    said = subprocess.run([venv / "bin" / "python", "-c", code], check=True, capture_output=True, text=True).stdout
    version, blas, baseline = json.loads(said)
    assert (version, blas) == (VERSION, "openblas")
    assert {"AVX2", "FMA3"} <= set(baseline)
    library = next(venv.glob("lib/python*/site-packages/numpy/_core/_multiarray_umath*.so"))
    assert "libopenblas" in subprocess.run(["ldd", str(library)], check=True, capture_output=True, text=True).stdout


def gcc_version() -> str:
    if not os.access("/usr/bin/gcc-12", os.X_OK):
        pytest.skip("gcc-12 is not installed here")
    argv = ["/usr/bin/gcc-12", "-dumpfullversion"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
