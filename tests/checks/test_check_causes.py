"""Messages, flags and variables to causes and remedies: the pure functions of the check scripts."""

from __future__ import annotations

from typing import Literal

import pytest

from provision.catalog.diagnostics import diagnostics
from provision.detect.doctor import explained
from provision.model.report import CheckOutcome

# --- causes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "RuntimeError: This version of jaxlib was built using AVX instructions, which your CPU and/or",
            "jaxlib wheel",
        ),
        (
            "The TensorFlow library was compiled to use AVX2 FMA instructions, but these aren't available",
            "for AVX2 FMA",
        ),
        (
            "RuntimeError: NumPy was built with baseline optimizations: \n(X86_V2) but your machine doesn't support:",
            "this NumPy is compiled for X86_V2",
        ),
        (
            "ValueError: numpy.dtype size changed, may indicate binary incompatibility.",
            "another major version of NumPy",
        ),
        ("libm.so.6: version `GLIBC_2.28' not found (required by x)", "needs GLIBC_2.28"),
        ("undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink.so.12", "older CUDA in LD_LIBRARY_PATH"),
        ("ImportError: libcudnn.so.9: cannot open shared object file: No such file", "library libcudnn.so.9 is not"),
        ("symbol x, version libcudnn_ops_infer.so.8 not defined in file libcudnn_ops_infer.so.8", "cuDNN are mixed"),
        ("ImportError: cannot allocate memory in static TLS block", "exhausts thread-local memory"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "memory ran out"),
    ],
)
def test_known_messages_have_a_cause_and_a_remedy(load, text: str, why: str) -> None:
    found = load("framework_import").cause_of_text(text)
    assert found is not None
    assert why in found[0]
    assert found[1]


def test_keras_without_its_backend(load) -> None:
    from argparse import Namespace

    options = Namespace(framework="keras", timeout=1.0)
    error = "ModuleNotFoundError: No module named 'tensorflow'"
    why, hint = load("framework_import").why_it_died(1, error, options, set())
    assert why == "Keras is configured for the backend tensorflow, which is not installed"
    assert "KERAS_BACKEND" in hint


def test_a_driver_is_no_remedy_on_a_cpu(load, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cause = load("device_visible").cause
    said = "Could not find cuda drivers on your machine, GPU will not be used.\nAttributeError: ones"
    assert cause(said, "cpu") == ("AttributeError: ones", "make the environment anew", [])
    assert cause("no idea", "cuda") == ("no idea", "`nvidia-smi` must work first", ["no idea"])
    assert cause("", "cuda")[0] == "it does not say why"


def test_an_unknown_message_has_no_invented_cause(load) -> None:
    assert load("framework_import").cause_of_text("TypeError: no idea") is None


@pytest.mark.parametrize(
    ("framework", "flags", "why"),
    [
        ("tensorflow", "sse2 sse4_2", "TensorFlow's wheels are compiled for AVX since 1.6"),
        ("jax", "sse2 sse4_2", "jaxlib's wheels are compiled for AVX"),
        ("numpy", "sse2 ssse3", "NumPy 2.4 and newer are compiled for x86-64-v2"),
        ("numpy", "sse2 sse4_2 avx", "or that the virtual machine hides"),
    ],
)
def test_an_illegal_instruction_is_explained_by_the_flags(load, framework: str, flags: str, why: str) -> None:
    assert why in load("framework_import").cause_of_illegal_instruction(framework, set(flags.split()))[0]


@pytest.mark.parametrize(
    ("wanted", "found", "fits"),
    [
        ("2.21.0", "2.21.0", True),
        ("2.21", "2.21.0", True),
        ("2.2", "2.21.0", False),
        ("2.13.0", "2.13.0+cpu", True),
        ("2.13.0+cpu", "2.13.0+cpu", True),
        ("2.13.0+cu126", "2.13.0+cpu", False),
        ("2.15.0.post1", "2.15.0", True),
        ("2.15.0", "2.15.0.post1", True),
        ("2.15.1.post1", "2.15.0", False),
        ("2.21.0rc1", "2.21.0-rc1", True),
        ("2.21.0", "2.21.0-rc1", False),
        ("2.21.0", "2.21.0rc1", False),
    ],
)
def test_versions_that_fit(load, wanted: str, found: str, fits: bool) -> None:
    assert load("framework_import").version_fits(wanted, found) is fits


@pytest.mark.parametrize(
    ("text", "row", "remedy"),
    [
        ("The NVIDIA driver on your system is too old (found version 11040).", "driver-too-old", "a newer driver"),
        ("cuda.cc:1] CUDA driver version is insufficient for CUDA runtime version", "driver-too-old", "a newer driver"),
        ("OSError: libcudnn.so.9: cannot open shared object file: No such", "cuda-library-missing", "the build of it"),
        ("ImportError: libcuda.so.1: cannot open shared object file: No such", "library-missing", "install the"),
        ("Cannot dlopen some GPU libraries. Please make sure", "skips-gpu", "tensorflow[and-cuda]"),
        ("RuntimeError: Unable to load cuBLAS. Is it installed?", "library-path", "unset LD_LIBRARY_PATH"),
        ("undefined symbol: __nvJitLinkComplete_12_4, version lib", "library-path", "unset LD_LIBRARY_PATH"),
        ("CUDA error: no kernel image is available for execution on the device", "no-kernel-image", "provision plan"),
        ("NVIDIA GeForce GTX 960 with CUDA capability sm_52 is not compatible with the current PyTorch installation.",
         "no-kernel-image", "provision plan"),
        ("RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",
         "cuda-unknown-error", "`provision doctor`"),
        ("Could not find cuda drivers on your machine, GPU will not be used.", "no-cuda-drivers", "make nvidia-smi"),
        ("RuntimeError: Found no NVIDIA driver on your system. Please check", "no-cuda-device", "nvidia-smi first"),
        ("failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable", "no-cuda-device", "nvidia-smi first"),
        ("AssertionError: Torch not compiled with CUDA enabled", "cpu-wheel", "install it anew"),
        ("RuntimeError: CUDA error: out of memory", "gpu-memory", "a smaller batch"),
        ("jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 64 bytes",
         "gpu-memory", "a smaller batch"),
    ],
)  # fmt: skip
def test_why_no_gpu_is_seen(load, monkeypatch: pytest.MonkeyPatch, text: str, row: str, remedy: str) -> None:
    """The check brings the framework's words, and the table of known failures says what they mean."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    why, hint, log = load("device_visible").cause(f"I some_file.cc:12] loading\n{text}\nI some_file.cc:14] on with it")
    assert (why, hint) == ("I some_file.cc:14] on with it", "`nvidia-smi` must work first")
    check = CheckOutcome(
        id="device_visible:x", status="fail", what="x sees no GPU", why=why, hint=hint, data={"log": log}
    )
    found = explained(check, diagnostics())
    known = next(each for each in diagnostics() if each.id == row)
    assert found.data == {"log": log, "cause": row}
    assert found.why.splitlines() == [f"{known.what}: {known.cause}", text, why]
    assert found.hint == known.remedy
    assert found.hint.startswith(remedy)


@pytest.mark.parametrize(
    ("line", "why", "shown"),
    [
        ("RuntimeError: No CUDA GPUs are available", "No CUDA GPUs are available", [
            "RuntimeError: No CUDA GPUs are available"]),
        ("No CUDA GPUs are available", "it was ended by SIGABRT; No CUDA GPUs are available", [
            "it was ended by SIGABRT; No CUDA GPUs are available"]),
        ("No CUDA GPUs are available", "planned cuda", ["No CUDA GPUs are available", "planned cuda"]),
        ("No CUDA GPUs are available", "", ["No CUDA GPUs are available"]),
    ],
)  # fmt: skip
def test_a_line_is_shown_once(line: str, why: str, shown: list[str]) -> None:
    check = CheckOutcome(id="x", status="fail", what="no GPU", why=why, data={"log": [line]})
    assert explained(check, diagnostics()).why.splitlines()[1:] == shown


def test_words_that_nobody_knows_stay_as_they_are() -> None:
    def check(status: Literal["pass", "fail"], *log: str) -> CheckOutcome:
        return CheckOutcome(id="x", status=status, what="no GPU", why="no idea", hint="try", data={"log": list(log)})

    rows = diagnostics()
    for same in (
        check("fail", "TypeError: no idea"),
        check("fail", "Could not initialize NNPACK! Reason: Unsupported hardware."),  # a remark, not a cause
        check("pass", "RuntimeError: No CUDA GPUs are available"),
        check("fail"),
    ):
        assert explained(same, rows) == same
    bare = CheckOutcome(id="x", status="fail", what="no GPU")
    assert explained(bare, rows) == bare


def test_a_log_is_cut_to_its_end(load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    _, _, log = load("device_visible").cause("\n\n".join([*map(str, range(100)), "x" * 1000]), "cuda")
    assert len(log) == 60
    assert (log[0], log[-1]) == ("41", "x" * 500)


def test_a_hidden_gpu(load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = load("device_visible").cause("RuntimeError: No CUDA GPUs are available")
    assert found == ("CUDA_VISIBLE_DEVICES='' hides every GPU", "unset it", [])


def test_a_wheel_for_cpus(load) -> None:
    why, hint, log = load("device_visible").cause(load("device_visible").CPU_WHEEL)
    assert (why, log) == ("the wheel is for CPUs alone", [])
    assert "`provision plan` names it" in hint


# --- isa_baseline's reading of TensorFlow's log ----------------------------------------------------------------------

FLAGS = {"sse", "sse2", "pni", "sse4_1", "sse4_2", "avx", "avx2", "fma"}
BASELINE = ["sse", "sse2", "pni", "sse4_1", "sse4_2", "avx"]


@pytest.mark.parametrize(
    "log",
    [
        "This TensorFlow binary is optimized to use available CPU instructions in performance-critical operations.\n"
        "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate",
        "This TensorFlow binary is optimized with oneAPI Deep Neural Network Library (oneDNN) to use the following CPU "
        "instructions in performance-critical operations:  AVX2 FMA\nTo enable them in other operations, rebuild",
        "Your CPU supports instructions that this TensorFlow binary was not compiled to use: AVX2 FMA",
    ],
)
def test_the_baseline_is_what_the_guard_does_not_miss(load, log: str) -> None:
    found = load("isa_baseline").from_guard(log, FLAGS)
    assert found["baseline"] == BASELINE
    assert found["not_compiled_in"] == ["avx2", "fma"]


def test_a_silent_guard_means_that_all_is_compiled_in(load) -> None:
    found = load("isa_baseline").from_guard("oneDNN custom operations are on.", FLAGS)
    assert found["baseline"] == [*BASELINE, "avx2", "fma"]
    assert found["not_compiled_in"] == []


def test_the_guard_has_no_names_for_arm(load) -> None:
    assert load("isa_baseline").from_guard("", {"asimd", "sve"})["baseline"] is None


@pytest.mark.parametrize(
    ("framework", "flags", "stderr", "why"),
    [
        ("tensorflow", "sse2 sse4_2", "", "compiled for AVX since 1.6; this CPU has: sse2 sse4_2"),
        ("pytorch", "sse2 pni", "", "PyTorch 2.1 is compiled for SSE4.1"),
        ("numpy", "sse2 avx sse4_2", "", "ended by an illegal instruction; `dmesg` names the library"),
        (
            "tensorflow",
            "sse2 avx",
            "The TensorFlow library was compiled to use AVX2 FMA instructions, but these aren't available",
            "compiled for AVX2 FMA; this CPU has: sse2 avx",
        ),
    ],
)
def test_a_dead_child_is_explained(load, framework: str, flags: str, stderr: str, why: str) -> None:
    answer = load("isa_baseline").dead(framework, -4, stderr, set(flags.split()), {"framework": framework})
    assert answer["status"] == "fail"
    assert answer["what"] == f"{framework} is compiled for instructions that this CPU lacks"
    assert why in answer["why"]
    assert answer["hint"]


# --- blas's ladders --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "flags", "lost"),
    [
        ("ATEN_CPU_CAPABILITY", "avx2", "sse2 avx2 avx512bw", "AVX512"),
        ("ATEN_CPU_CAPABILITY", "avx2", "sse2 avx2", None),
        ("ATEN_CPU_CAPABILITY", "default", "sse2 avx2", "AVX2"),
        ("ATEN_CPU_CAPABILITY", "nonsense", "sse2 avx2", None),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", "avx512bw avx512_vnni", "AVX512_CORE_VNNI"),
        ("ONEDNN_MAX_CPU_ISA", "DEFAULT", "avx512bw avx512_vnni", None),
        ("MKL_ENABLE_INSTRUCTIONS", "AVX512_E4", "avx2 avx512f", None),
        ("MKL_ENABLE_INSTRUCTIONS", "AVX2", "avx2 avx512f", "AVX512"),
    ],
)
def test_a_pin_lowers_only_what_the_cpu_has(load, variable: str, value: str, flags: str, lost: str | None) -> None:
    blas = load("blas")
    why = blas.lowered(variable, value, blas.LADDERS[variable][1], set(flags.split()))
    assert why == (lost and f"{variable}={value} keeps it from {lost}, which this CPU has")


def test_kernels_are_ordered(load) -> None:
    blas = load("blas")
    upward = ["Prescott", "Nehalem", "Sandybridge", "Haswell", "SkylakeX"]
    assert sorted(upward, key=blas.level) == upward
    assert blas.level("Zen") == blas.level("Haswell") < blas.level("Cooperlake")
    assert blas.level("armv8") < blas.level("neoversev1")


def test_an_old_mkl_obeys_a_cpu_type_and_a_new_one_does_not(load) -> None:
    blas = load("blas")
    now = {"features": [], "mkl_version": [2020, 0]}
    pins = blas.numpy_pins({"MKL_DEBUG_CPU_TYPE": "4"}, now, now, {"avx", "avx2"})
    assert [pin["why"] for pin in pins] == ["MKL_DEBUG_CPU_TYPE=4 keeps it from avx2, which this CPU has"]
    newer = {**now, "mkl_version": [2020, 1]}
    assert blas.numpy_pins({"MKL_DEBUG_CPU_TYPE": "4"}, newer, newer, {"avx", "avx2"}) == []
