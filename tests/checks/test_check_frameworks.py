"""The checks in environments that really hold the frameworks."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.frameworks

HERE = Path(__file__).resolve().parent
NEHALEM = "model name\t: Intel(R) Core(TM) i7 CPU 950\nflags\t\t: fpu sse sse2 pni ssse3 cx16 sse4_1 sse4_2 popcnt\n"
MODULES = {"pytorch": "torch"}


def test_it_imports(check_in, framework: str) -> None:
    answer = check_in(framework)("framework_import.py", "--framework", framework).data
    assert answer["status"] == "pass"
    assert answer["data"]["version"] in answer["what"]
    assert answer["data"]["import_s"] > 0


def test_another_version_than_planned(check_in) -> None:
    answer = check_in("numpy")("framework_import.py", "--framework", "numpy", "--version", "1.2").data
    assert answer["status"] == "fail"
    assert answer["why"] == f"planned 1.2, installed {answer['data']['version']}"


def test_its_baseline_fits_this_cpu(check_in, framework: str) -> None:
    answer = check_in(framework)("isa_baseline.py", "--framework", framework).data
    assert answer["status"] == "pass"
    if os.uname().machine == "x86_64":
        baseline = {"tensorflow": "avx", "jax": "avx", "pytorch": "sse2"}.get(framework)
        assert baseline is None or baseline in answer["data"]["baseline"]
        assert answer["data"]["baseline"]


def test_it_computes_on_the_cpu_and_sees_no_gpu(check_in, framework: str) -> None:
    checks = check_in(framework)
    answer = checks("device_visible.py", "--framework", framework, "--device", "cpu").data
    assert (answer["status"], answer["data"]["ran_on"]) == ("pass", "cpu")
    answer = checks("device_visible.py", "--framework", framework, "--device", "cuda").data
    assert (answer["status"], answer["what"]) == ("fail", f"{framework} sees no GPU")
    assert answer["why"] in {"the wheel is for CPUs alone", "NumPy computes on the CPU alone"}


def test_a_plan_for_a_gpu_does_not_train_on_the_cpu(check_in, framework: str) -> None:
    answer = check_in(framework)("mnist.py", "--framework", framework, "--synthetic", "--device", "cuda").data
    assert answer["status"] == "fail"
    assert answer["what"] == f"{framework} sees no GPU"
    assert answer["why"] == "planned cuda; it would train on the CPU"


def test_kernels_of_a_cpu_wheel(check_in, framework: str) -> None:
    answer = check_in(framework)("native_kernels.py", "--framework", framework, "--device", "cuda").data
    assert answer["status"] == "skip"


# --- blas ------------------------------------------------------------------------------------------------------------


def test_numpys_blas(check_in) -> None:
    answer = check_in("numpy")("blas.py").data
    assert answer["status"] == "pass"
    assert answer["data"]["library"] == "OpenBLAS"
    assert answer["data"]["kernel"] == answer["data"]["kernel_unpinned"]
    assert answer["data"]["threads"] >= 1


def test_a_pinned_kernel_is_found(check_in) -> None:
    kernel = check_in("numpy")("blas.py").data["data"]["kernel"]
    if kernel not in {"SkylakeX", "Cooperlake", "SapphireRapids", "Haswell", "Zen"}:
        pytest.skip(f"no kernel to pin below {kernel}")
    answer = check_in("numpy")("blas.py", env={"OPENBLAS_CORETYPE": "Nehalem"}).data
    assert answer["status"] == "fail"
    assert answer["what"] == "an environment variable pins kernels below this CPU"
    assert answer["why"] == f"OPENBLAS_CORETYPE=Nehalem runs OpenBLAS's Nehalem kernel, not {kernel}"
    assert answer["hint"].startswith("unset OPENBLAS_CORETYPE ")
    assert answer["data"]["pins"][0]["variable"] == "OPENBLAS_CORETYPE"


def test_the_kernel_it_has_anyway_is_no_pin(check_in) -> None:
    kernel = check_in("numpy")("blas.py").data["data"]["kernel"]
    assert check_in("numpy")("blas.py", env={"OPENBLAS_CORETYPE": kernel}).data["status"] == "pass"


def test_numpys_own_features_switched_off(check_in) -> None:
    features = check_in("numpy")("blas.py").data["data"]["features"]
    if not features:
        pytest.skip("this CPU has none that NumPy dispatches on")
    answer = check_in("numpy")("blas.py", env={"NPY_DISABLE_CPU_FEATURES": features[-1]}).data
    assert answer["why"] == f"NPY_DISABLE_CPU_FEATURES keeps NumPy from {features[-1]}"


def test_few_threads_are_a_remark(check_in) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one CPU")
    answer = check_in("numpy")("blas.py", env={"OMP_NUM_THREADS": "1"}).data
    assert answer["status"] == "pass"
    assert answer["why"] == f"1 of {answer['data']['cpus']} CPUs, as OMP_NUM_THREADS=1 asks"


@pytest.mark.parametrize(
    ("name", "variable", "value", "modules"),
    [
        ("pytorch", "ATEN_CPU_CAPABILITY", "default", "torch"),
        ("pytorch", "ONEDNN_MAX_CPU_ISA", "SSE41", "torch"),
        ("tensorflow", "ONEDNN_MAX_CPU_ISA", "SSE41", "tensorflow"),
        ("jax", "XLA_FLAGS", "--xla_cpu_max_isa=SSE4_2", "jax"),
    ],
)
def test_a_pin_on_an_installed_framework(
    check_in, tmp_path: Path, name: str, variable: str, value: str, modules: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : sse2 sse4_1 sse4_2 avx avx2\n")
    answer = check_in(name)("blas.py", "--cpuinfo", cpuinfo, env={variable: value}).data
    assert answer["status"] == "fail"
    assert "which this CPU has" in answer["why"]
    assert f"({modules})" in answer["why"]
    assert f"unset {variable} " in answer["hint"]


def test_onednn_switched_off(check_in, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    off = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    cpuinfo.write_text("flags : sse2 avx avx2 avx512f avx512_vnni\n")
    assert "takes away oneDNN's kernels" in check_in("tensorflow")("blas.py", "--cpuinfo", cpuinfo, env=off).data["why"]
    cpuinfo.write_text("flags : sse2 avx avx2\n")  # off by default there
    assert check_in("tensorflow")("blas.py", "--cpuinfo", cpuinfo, env=off).data["status"] == "pass"


# --- CPUs that lack what the binary needs, by emulation --------------------------------------------------------------


@pytest.fixture
def nehalem(emulated: Callable[[str, str], Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a check in the environment NAME on a CPU without AVX."""
    cpuinfo = tmp_path / "nehalem"
    cpuinfo.write_text(NEHALEM)

    def run(name: str, script: str, *arguments: str, **options: Any) -> dict[str, Any]:
        answer: dict[str, Any] = emulated(name, "Nehalem")(script, *arguments, "--cpuinfo", cpuinfo, **options).data
        return answer

    return run


def test_tensorflow_without_avx(nehalem) -> None:
    answer = nehalem("tensorflow", "framework_import.py", "--framework", "tensorflow")
    assert answer["status"] == "fail"
    assert answer["why"].startswith("illegal instruction: TensorFlow's wheels are compiled for AVX since 1.6")
    assert answer["hint"] == "build TensorFlow from source for this CPU, or use PyTorch"
    assert answer["data"]["signal"] == "SIGILL"
    answer = nehalem("tensorflow", "isa_baseline.py", "--framework", "tensorflow")
    assert answer["what"] == "tensorflow is compiled for instructions that this CPU lacks"
    assert answer["why"].endswith("this CPU has: sse sse2 pni ssse3 sse4_1 sse4_2")


def test_jax_without_avx(nehalem) -> None:
    answer = nehalem("jax", "framework_import.py", "--framework", "jax")
    assert answer["why"] == "the jaxlib wheel is compiled for AVX, which this CPU lacks"
    assert nehalem("jax", "isa_baseline.py", "--framework", "jax")["data"]["baseline"] == ["avx"]


def test_numpy_without_avx(nehalem) -> None:
    assert nehalem("numpy", "framework_import.py", "--framework", "numpy")["status"] == "pass"
    answer = nehalem("numpy", "blas.py")
    assert (answer["status"], answer["data"]["kernel"]) == ("pass", "Nehalem")


def test_a_kernel_pinned_above_the_cpu(nehalem) -> None:
    pin = {"OPENBLAS_CORETYPE": "Haswell"}
    answer = nehalem("numpy", "framework_import.py", "--framework", "numpy", env=pin)
    assert answer["why"] == "illegal instruction: OPENBLAS_CORETYPE=Haswell asks for kernels that this CPU lacks"
    assert answer["hint"] == "unset OPENBLAS_CORETYPE"
    answer = nehalem("numpy", "blas.py", env=pin)
    assert answer["what"] == "NumPy dies in its BLAS"
    assert "without it NumPy works (Nehalem)" in answer["why"]


# --- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "framework", ["tensorflow", "pytorch", "jax", "numpy", pytest.param("keras", marks=pytest.mark.slow)]
)
def test_it_trains_mnist(check_in, framework: str, mnist_folder: Path) -> None:
    answer = check_in(framework)("mnist.py", "--framework", framework, "--data", mnist_folder, "--json-extra").data
    assert answer["status"] == "pass", answer
    data = answer["data"]
    assert (data["framework"], data["dataset"], data["ran_on"]) == (framework, "mnist", "cpu")
    assert data["accuracy"] >= data["bound"] == (0.96 if framework == "numpy" else 0.97)
    assert data["samples_per_s"] == pytest.approx(data["samples"] / data["train_s"], rel=0.01)
    assert 0 < data["peak_fraction"] < 1
    assert len(data["losses"]) == data["epochs"]


@pytest.mark.parametrize(
    "framework", ["numpy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tensorflow", "pytorch", "jax"))]
)
def test_it_trains_generated_digits(check_in, framework: str) -> None:
    answer = check_in(framework)("mnist.py", "--framework", framework).data
    assert answer["status"] == "pass", answer
    assert answer["data"]["dataset"] == "synthetic"
    assert "synthetic digits" in answer["what"]
    assert "no MNIST in" in answer["data"]["dataset_note"]


# --- the generator ---------------------------------------------------------------------------------------------------

PROPERTIES = """
import hashlib, json, sys
sys.path.insert(0, sys.argv[1])
import mnist_data, numpy as np
first, again, other = (mnist_data.synthetic(3000, 1000, seed) for seed in (0, 0, 1))
images, labels = first.train_images, first.train_labels
means = np.stack([images[labels == digit].mean(0) for digit in range(10)]).reshape(10, -1)
nearest = ((first.test_images.reshape(-1, 1, 784) - means) ** 2).sum(2).argmin(1)
print(json.dumps({
    "shapes": [list(part.shape) for part in (images, labels, first.test_images, first.test_labels)],
    "types": [str(part.dtype) for part in (images, labels)],
    "range": [int(images.min()), int(images.max())],
    "counts": [np.bincount(part, minlength=10).tolist() for part in (labels, first.test_labels)],
    "again": bool((images == again.train_images).all() and (first.test_labels == again.test_labels).all()),
    "other": bool((images == other.train_images).all()),
    "sorted": bool((np.diff(labels.astype(int)) >= 0).all()),
    "twins": 3000 - len({image.tobytes() for image in images}),
    "in_both": len({image.tobytes() for image in images} & {image.tobytes() for image in first.test_images}),
    "nearest_mean": float((nearest == first.test_labels).mean()),
    "background": float((images[:, 0, 0] < 64).mean()),
}))
"""


def test_generated_digits(check_in) -> None:
    checks = check_in("numpy")
    done = subprocess.run(
        [checks.python, "-c", PROPERTIES, str(HERE.parents[1] / "checks")],
        capture_output=True, text=True, env=checks.environment(), check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["shapes"] == [[3000, 28, 28], [3000], [1000, 28, 28], [1000]]
    assert found["types"] == ["uint8", "uint8"]
    assert found["range"] == [0, 255]
    assert found["counts"] == [[300] * 10, [100] * 10]
    assert found["again"], "the same seed draws the same digits"
    assert not found["other"], "another seed draws others"
    assert not found["sorted"]
    assert found["twins"] == found["in_both"] == 0
    assert 0.2 < found["nearest_mean"] < 0.85, "neither random nor solved by comparing with the mean of each digit"
    assert found["background"] > 0.95
