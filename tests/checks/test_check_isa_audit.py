"""The audit of real compiled libraries: what is there, what is missing, what should not be, and what cannot be told."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="instructions are told apart for x86-64 alone"),
    pytest.mark.skipif(not shutil.which("gcc") or not shutil.which("objdump"), reason="needs GCC and binutils"),
]

SCALE = "void scale(int *a) { for (int i = 0; i < 64; i++) a[i] = a[i] * 3 + 1; }\n"
MULTIPLY = "float multiply(float a, float b, float c) { return a * b + c; }\n"
WIDE = '__attribute__((target("avx512f,prefer-vector-width=512"))) '
LOOP = "(float *a) { for (int i = 0; i < 256; i++) a[i] = a[i] * 3 + 1; }\n"
V3 = "sse4_2,avx,avx2,fma,bmi1,bmi2,f16c,popcnt,abm,movbe"
MATCHED = ("-mavx2", "-mfma", "-mbmi2")

Compile = Callable[..., Path]
Audit = Callable[..., dict[str, Any]]


@pytest.fixture
def library(tmp_path: Path) -> Compile:
    def make(source: str, *options: str, name: str = "libone.so") -> Path:
        folder = tmp_path / "libraries"
        folder.mkdir(exist_ok=True)
        (tmp_path / "one.c").write_text(source)
        command = ["gcc", "-O3", "-ffast-math", "-shared", "-fPIC", *options, "-o", str(folder / name)]
        subprocess.run([*command, str(tmp_path / "one.c")], check=True)
        return folder / name

    return make


@pytest.fixture
def audit(check: Any) -> Audit:
    def run(path: Path, expect: str = "avx2,fma", allow: str = V3, **more: Any) -> dict[str, Any]:
        arguments = ("--framework", "tensorflow", "--path", path, "--expect", expect, "--allow", allow)
        found: dict[str, Any] = check("isa_audit.py", *arguments, **more).data
        return found

    return run


def test_a_matched_build(library: Compile, audit: Audit) -> None:
    answer = audit(library(SCALE + MULTIPLY, *MATCHED))
    assert (answer["status"], answer["id"]) == ("pass", "isa_audit:tensorflow")
    assert answer["what"] == "tensorflow holds the instructions that it was to have, and no others"
    assert answer["why"].startswith("expected and found: avx2 (")
    total = answer["data"]["total"]
    assert total["own"]["avx2"] > 0 and total["own"]["fma"] == 1
    assert total["bytes"] > 0 and total["bytes_left_out"] == 0 and total["instructions"] > 20
    assert [row["library"] for row in answer["data"]["libraries"]] == ["libone.so"]


def test_a_generic_build_lacks_what_was_asked_for(library: Compile, audit: Audit) -> None:
    answer = audit(library(SCALE + MULTIPLY))
    assert answer["status"] == "fail"
    assert answer["what"] == "tensorflow lacks instructions of avx2, fma"
    assert answer["why"] == "expected, and found in code that every CPU runs: avx2 0, fma 0"
    assert answer["hint"] == "the build's options did not reach the compiler: look for them in the build's log"


def test_kernels_that_are_chosen_at_run_time_are_not_what_was_asked_for(library: Compile, audit: Audit) -> None:
    """A generic build with one AVX2 kernel, as the stock wheels have them."""
    kernel = '__attribute__((target("avx2,fma"))) void scale_avx2(int *a) { for (int i = 0; i < 64; i++) a[i] *= 3; }\n'
    answer = audit(library(SCALE + kernel), expect="avx2")
    assert answer["what"] == "tensorflow lacks instructions of avx2"
    assert answer["data"]["total"]["dispatched"]["avx2"] > 0


def test_instructions_that_are_not_allowed(library: Compile, audit: Audit) -> None:
    answer = audit(library(SCALE + MULTIPLY + f"{WIDE}void surprise{LOOP}", *MATCHED))
    assert answer["status"] == "fail"
    assert answer["what"] == "tensorflow holds instructions of avx512f, which are not allowed"
    assert answer["why"].startswith("outside code that is chosen at run time: avx512f ")
    assert answer["why"].endswith(", in surprise")
    assert "look for its own in the build's log" in answer["hint"]
    assert answer["data"]["total"]["foreign"]["avx512f"][0][0] == "surprise"


def test_both_faults_are_named(library: Compile, audit: Audit) -> None:
    answer = audit(library(SCALE + f"{WIDE}void surprise{LOOP}"))
    assert answer["what"].startswith("tensorflow lacks instructions of avx2, fma and holds instructions of avx512f")


@pytest.mark.parametrize(
    ("source", "how"),
    [
        (f"{WIDE}void scale_avx512f{LOOP}", "name"),
        (
            f"{WIDE}__attribute__((noinline)) static void inner{LOOP}{WIDE}void outer_skx(float *a) {{ inner(a); }}\n",
            "callers",
        ),
        (
            f"{WIDE}static void wide{LOOP}static void narrow{LOOP}"
            "static void *pick(void) { __builtin_cpu_init();"
            ' return __builtin_cpu_supports("avx512f") ? (void *)wide : (void *)narrow; }\n'
            'void any(float *a) __attribute__((ifunc("pick")));\n',
            "ifunc",
        ),
        (
            f"{WIDE}void asks(float *a) {{ unsigned b, c, d, e = 7;\n"
            '__asm__ volatile("cpuid" : "+a"(e), "=b"(b), "=c"(c), "=d"(d) : "c"(0));\n'
            "if (b & 65536) for (int i = 0; i < 256; i++) a[i] = a[i] * 3 + 1; }\n",
            "guard",
        ),
        ('__attribute__((target_clones("avx512f", "default"))) void clone' + LOOP, "name"),
    ],
)  # fmt: skip
def test_code_that_is_chosen_at_run_time(library: Compile, audit: Audit, source: str, how: str) -> None:
    answer = audit(library(SCALE + MULTIPLY + source, *MATCHED, "-mprefer-vector-width=512"))
    assert answer["status"] == "pass", answer
    total = answer["data"]["total"]
    assert total["dispatched"]["avx512f"] > 0
    assert how in total["evidence"]
    assert "chosen at run time: avx512" in answer["why"]


def test_a_library_that_chooses_its_kernels_itself(library: Compile, audit: Audit) -> None:
    source = SCALE + MULTIPLY + f"{WIDE}void surprise{LOOP}"
    assert audit(library(source, *MATCHED, "-s", name="libopenblas.so.0"), expect="")["status"] == "pass"


def test_a_name_counts_up_to_what_it_promises(library: Compile, audit: Audit) -> None:
    answer = audit(library(SCALE + MULTIPLY + f"{WIDE}void scale_avx2{LOOP}", *MATCHED))
    assert answer["what"].endswith("holds instructions of avx512f, which are not allowed")


def test_a_caller_that_runs_everywhere_spoils_it(library: Compile, audit: Audit) -> None:
    """The same helper, called by a kernel and by code that every CPU runs."""
    helper = f"{WIDE}__attribute__((noinline)) static void inner{LOOP}"
    callers = f"{WIDE}void outer_skx(float *a) {{ inner(a); }}\nvoid common(float *a) {{ inner(a); }}\n"
    answer = audit(library(SCALE + MULTIPLY + helper + callers, *MATCHED))
    assert (answer["status"], answer["data"]["total"]["foreign"]["avx512f"][0][0]) == ("fail", "inner")


def test_without_symbols_nobody_can_tell(library: Compile, audit: Audit) -> None:
    hidden = f'{WIDE}__attribute__((noinline, visibility("hidden"))) void scale_avx512f{LOOP}'
    source = SCALE + MULTIPLY + hidden + "void any(float *a, int wide) { if (wide) scale_avx512f(a); }\n"
    assert audit(library(source, *MATCHED))["status"] == "pass"
    answer = audit(library(source, *MATCHED, "-s"))
    assert (answer["status"], answer["what"]) == ("skip", "tensorflow holds instructions that are not allowed, perhaps")
    assert "avx512f" in answer["why"] and "functions without a symbol" in answer["why"]
    assert "keep the symbols" in answer["hint"]
    assert answer["data"]["total"]["unattributed"]["avx512f"] > 0


def test_code_by_name_is_no_fault_of_the_options(library: Compile, audit: Audit) -> None:
    source = (
        "#include <wmmintrin.h>\n"
        '__attribute__((target("aes"))) __m128i seal(__m128i a, __m128i b) { return _mm_aesenc_si128(a, b); }\n'
    )
    answer = audit(library(SCALE + MULTIPLY + source, *MATCHED))
    assert (answer["status"], answer["data"]["total"]["counts"]["aes"]) == ("pass", 1)


def test_an_expected_flag_may_be_outdone_by_a_newer_one(library: Compile, audit: Audit) -> None:
    """With -mavx a compiler writes no SSE encoding: SSE4.1 is there as AVX."""
    source = SCALE + "double down(double a) { return __builtin_floor(a); }\n"
    assert audit(library(source, "-mavx"), expect="sse4_1,avx", allow="avx")["status"] == "pass"


def test_time_that_is_too_short_is_said(library: Compile, audit: Audit, check: Any) -> None:
    arguments = ("--framework", "numpy", "--path", library(SCALE, *MATCHED), "--expect", "avx2", "--seconds", "0")
    answer = check("isa_audit.py", *arguments).data
    assert answer["status"] == "skip"
    assert answer["why"] == "none of the code was read within 0 s"


def test_no_objdump(library: Compile, audit: Audit, tmp_path: Path) -> None:
    answer = audit(library(SCALE), env={"PATH": str(tmp_path)})
    assert (answer["status"], answer["what"]) == ("skip", "there is no objdump to disassemble with")
    assert answer["hint"].startswith("install binutils")


def test_a_framework_that_is_not_there(bare: Any) -> None:
    answer = bare("isa_audit.py", "--framework", "pytorch", "--expect", "avx2").data
    assert (answer["status"], answer["what"]) == ("skip", f"pytorch is not installed for {bare.python}")
    assert answer["why"].startswith("no folder torch in ")


def test_the_installed_package_is_found_and_not_loaded(library: Compile, bare: Any) -> None:
    site = subprocess.run(
        [bare.python, "-c", "import sysconfig; print(sysconfig.get_paths()['platlib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    package = Path(site) / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('loaded')\n")
    shutil.copy(library(SCALE + MULTIPLY, *MATCHED), package / "libtensorflow_cc.so.2")
    (package / "libtensorflow_cc.so").symlink_to("libtensorflow_cc.so.2")
    (package / "notes.so.txt").write_text("no library\n")
    answer = bare("isa_audit.py", "--framework", "tensorflow", "--expect", "avx2", "--allow", V3).data
    assert answer["status"] == "pass"
    assert [row["library"] for row in answer["data"]["libraries"]] == ["tensorflow/libtensorflow_cc.so.2"]


def test_a_package_of_python_alone(bare: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answer = bare("isa_audit.py", "--framework", "keras", "--path", tmp_path / "empty").data
    assert (answer["status"], answer["why"]) == ("skip", f"{tmp_path / 'empty'} holds Python alone")
    answer = bare("isa_audit.py", "--framework", "keras", "--path", tmp_path / "none").data
    assert answer["what"] == f"there is no {tmp_path / 'none'}"


def test_another_machines_library(library: Compile, audit: Audit) -> None:
    path = library(SCALE)
    code = bytearray(path.read_bytes())
    code[18:20] = (183).to_bytes(2, "little")
    path.write_bytes(code)
    answer = audit(path)
    assert (answer["status"], answer["what"]) == ("skip", "libone.so is for aarch64")
    assert answer["why"] == "instructions are told apart for x86-64 alone"


@pytest.mark.parametrize("keep", [20, 200, 5000])
def test_a_broken_library(library: Compile, audit: Audit, keep: int) -> None:
    path = library(SCALE)
    path.write_bytes(path.read_bytes()[:keep])
    answer = audit(path)
    assert (answer["status"], answer["what"]) == ("skip", "tensorflow could not be disassembled")
    assert answer["why"].startswith("libone.so")


def test_flags_that_are_not_told_apart_are_said(library: Compile, audit: Audit) -> None:
    data = audit(library(SCALE, *MATCHED), expect="avx2,lahf_lm")["data"]
    assert (data["expect"], data["not_told_apart"]) == (["avx2"], ["lahf_lm"])


def test_pieces_give_the_same_counts_as_the_whole(library: Compile, load: Any, tmp_path: Path) -> None:
    files: ModuleType = load("isa_files")
    read = files.read(library(SCALE + MULTIPLY + f"{WIDE}void wide{LOOP}", "-mavx2"))
    one, many = (list(files.pieces(read, [], most)) for most in (1 << 30, 1))
    assert len(many) > len(one)
    whole, apart = ([files.survey(piece, "objdump", tmp_path) for piece in pieces] for pieces in (one, many))
    assert sum(found["instructions"] for found in whole) == sum(found["instructions"] for found in apart)
    assert added(whole) == added(apart)
    assert added(whole)["avx512f"] > 0
    assert {piece["address"] for piece in many} <= set(read.starts)


def added(found: Sequence[Mapping[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for one in found:
        total.update(one["counts"])
    return total


NAMES: Mapping[str, int] = {
    "xnn_f32_gemm_minmax_ukernel_7x16__avx512f_broadcast": 3,
    "xnn_qs8_packw_gemm_goi_ukernel_x16c8__avx256vnni_prfm": 3,
    "_ZN4dnnl4impl3cpu3x6422jit_avx512_core_bf16_foo": 3,
    "_ZN3jxl6N_AVX313_GLOBAL__N_15DCT1DE": 3,
    "LONG_add_X86_V4": 3,
    "DOUBLE_tanh_X86_V3": 2,
    "sgemm_kernel_SKYLAKEX": 3,
    "sgemm_kernel_HASWELL": 2,
    "_ZN6fbgemm8internal17SparseDenseMMAvx2EiiPKi": 3,
    "FbgemmI8Depthwise3DAvx2.cc": 2,
    "FusedSGDKernel.cpp.AVX512.cpp": 3,
    "scale.avx2": 2,
    "loops_exponent_log.dispatch.c": 3,
    "mkl_blas_avx512_sgemm": 3,
    "__svml_exp16": 3,
    "has_sse41_kernel": 1,
    "_ZN6fbgemm15trRequantizeOptILb1EEEv": 3,
    "_ZN5Eigen8internal11gebp_kernelIffE": 0,
    "navxtra": 0,
    "scaleFMA": 2,
    "enigma": 0,
    "lozenge": 0,
    "format": 0,
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name(load: Any, name: str) -> None:
    assert load("isa_dispatch").tier_of_name(name) == NAMES[name]


@pytest.mark.parametrize(
    ("callers", "stored", "learnt"),
    [
        ({2: {1}}, (), {2}),
        ({2: {1, 9}}, (), set()),
        ({2: {1}}, (2,), set()),
        ({2: {1}, 3: {2}}, (), {2, 3}),
        ({2: {1, 3}, 3: {2, 9}}, (), set()),
        ({2: {3}, 3: {2}}, (), set()),  # they call each other, and nobody them
        ({2: {2, 1}}, (), {2}),
        ({}, (), set()),
    ],
)
def test_callers(load: Any, callers: Mapping[int, Collection[int]], stored: Collection[int], learnt: set[int]) -> None:
    """1 is dispatched by its name, 9 is common code."""
    dispatch = load("isa_dispatch")
    evidence = dispatch.Evidence("libone.so", {1: ["kernel_avx512"], 9: ["common"]}, (), [], (), ())
    dispatch.by_callers(evidence, {2: 3, 3: 3}, callers, stored)
    assert {function for function in (2, 3) if evidence.of(function)[1] == "callers"} == learnt


def test_neighbours(load: Any) -> None:
    names = {10: ["mkl_a"], 15: ["inner"], 20: ["mkl_b"], 25: ["other"], 30: ["common"]}
    evidence = load("isa_dispatch").Evidence("libone.so", names, {15, 25}, [10, 20, 30], (), ())
    assert evidence.of(15) == (3, "neighbours")
    assert evidence.of(25) == (0, "")
    names[15] = ["block_fma"]
    assert load("isa_dispatch").Evidence("libone.so", names, {15}, [10, 20], (), ()).of(15) == (3, "neighbours")


STOCK = {
    "numpy": ("sse4_2", "pni,ssse3,sse4_1,sse4_2,popcnt"),
    "tensorflow": ("avx", "avx,f16c"),
    "pytorch": ("sse2", "sse2"),
}


@pytest.mark.frameworks
@pytest.mark.slow
@pytest.mark.parametrize("framework", STOCK)
def test_a_stock_wheel_holds_what_it_is_said_to_hold(check_in: Any, framework: str) -> None:
    expect, allow = STOCK[framework]
    answer = check_in(framework)("isa_audit.py", "--framework", framework, "--expect", expect, "--allow", allow).data
    assert answer["status"] == "pass", json.dumps({**answer, "data": answer["data"]["total"]})
    assert answer["data"]["total"]["dispatched"]["avx512f"] > 10_000
