"""Source builds, with the real catalog: what is built, by which compiler, told what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worlds.hosts import AVX, V1, V2, V3, V4, host

from provision.catalog.load import catalog, chips
from provision.detect import host_facts
from provision.errors import NoStackFits
from provision.model.build import Build, Compiler, Source
from provision.model.data import from_data, to_data
from provision.model.facts import Facts
from provision.model.plan import Plan
from provision.resolve import plan_for
from provision.resolve.plan import fingerprint
from provision.resolve.request import parse_request
from provision.run.dump import read_dump

GCC12 = Compiler(family="gcc", version="12.2.0", path="/usr/bin/gcc-12")
GCC9 = Compiler(family="gcc", version="9.4.0", path="/usr/bin/gcc-9")
GCC14 = Compiler(family="gcc", version="14.2.0", path="/usr/bin/gcc-14")
CLANG16 = Compiler(family="clang", version="16.0.6", path="/usr/lib/llvm-16/bin/clang")
CLANG19 = Compiler(family="clang", version="19.1.7", path="/usr/lib/llvm-19/bin/clang")
MACS = {"apple-m1-macos", "intel-ivybridge-macos"}
FP16 = (*V4, "avx512_fp16")


def box(*compilers: Compiler, **more: Any) -> Facts:
    facts = host(**{"flags": V3, **more})
    return replace(facts, system=replace(facts.system, compilers=compilers))


def plan(facts: Facts, framework: str, **asked: Any) -> Plan:
    request = parse_request(frameworks=(framework,), catalog=catalog(), **{"origin": "source", **asked})
    return plan_for(facts, request, catalog())


def built(facts: Facts, framework: str, **asked: Any) -> Build:
    return plan(facts, framework, **asked).builds[0]


def text(made: Plan, rule: str) -> str:
    return " | ".join(reason.text for reason in made.reasons if reason.rule == rule)


def refused(facts: Facts, framework: str, **asked: Any) -> str:
    with pytest.raises(NoStackFits) as caught:
        plan(facts, framework, **asked)
    return " | ".join(f"{each.what}: {each.why} ({each.hint})" for each in caught.value.details)


# --- TensorFlow ------------------------------------------------------------------------------------------------------


def test_a_cpu_build_of_2_12_is_told_everything() -> None:
    build = built(box(GCC12), "tensorflow==2.12")
    assert (build.engine, build.version, build.device, build.compiler) == ("bazel", "2.12.1", "cpu", GCC12)
    assert str(build.source) == "https://github.com/tensorflow/tensorflow.git@v2.12.1"
    assert dict(build.environment) == {
        "PYTHON_BIN_PATH": "{python}",
        "PYTHON_LIB_PATH": "{site}",
        "USE_DEFAULT_PYTHON_LIB_PATH": "1",
        "TF_NEED_ROCM": "0",
        "TF_NEED_CUDA": "0",
        "CC_OPT_FLAGS": "-Wno-sign-compare",
        "TF_SET_ANDROID_WORKSPACE": "0",
        "TF_CONFIGURE_IOS": "0",
        "TF_DOWNLOAD_CLANG": "0",
        "CC": "/usr/bin/gcc-12",
    }
    assert build.configure is not None
    assert build.configure.argv == ("{python}", "configure.py")
    assert build.configure.expected == (
        'build --action_env PYTHON_BIN_PATH="{python}"',
        'build --action_env PYTHON_LIB_PATH="{site}"',
        'build --python_path="{python}"',
        "build:opt --copt=-Wno-sign-compare",
        "build:opt --host_copt=-Wno-sign-compare",
    )
    assert build.configure.forbidden == ("-march=native", "--config=cuda", "--config=rocm")
    assert build.bazel is not None
    assert build.bazel.options[:2] == ("--config=opt", "--repo_env=CC=/usr/bin/gcc-12")
    assert "--copt=-mavx2" in build.bazel.options
    assert "--host_copt=-mavx2" in build.bazel.options  # the release compiles its tools with the target's options
    assert (build.bazel.version, build.bazel.target) == ("5.3.0", "//tensorflow/tools/pip_package:build_pip_package")
    assert build.bazel.wheel_argv[-1] == "{wheels}"
    assert "numpy>=1.22,<1.24" in build.build_requirements
    assert [tool.name for tool in build.needs.tools] == ["git", "unzip", "zip", "patchelf"]
    assert (build.needs.disk_mib, build.needs.memory_mib_per_job) == (40960, 2048)
    assert build.shared_tools
    assert build.runs_here
    assert set(build.expect) == {"avx", "avx2", "fma"}
    assert {"avx2", "sse2", "sse4_2"} <= set(build.allow)
    assert "avx512f" not in build.allow


def test_a_build_for_another_machine_keeps_its_options_off_the_tools() -> None:
    made = plan(box(GCC12), "tensorflow==2.12", cpu="x86-64-v4")
    build = made.builds[0]
    assert not build.runs_here
    assert build.bazel is not None
    assert "--distinct_host_configuration=true" in build.bazel.options
    assert not [option for option in build.bazel.options if option.startswith("--host_copt=-m")]
    assert "built for another machine: this CPU lacks avx512bw" in text(made, "copts.elsewhere")
    assert "the smoke test is refused here" in text(made, "copts.elsewhere")
    assert made.stock is None
    here = built(box(GCC12), "tensorflow==2.12", cpu="x86-64-v3")
    assert here.bazel is not None
    assert "--distinct_host_configuration=true" not in here.bazel.options


def test_clang_from_2_14_on_is_what_configure_is_told() -> None:
    build = built(box(GCC12, CLANG16, CLANG19), "tensorflow==2.14")
    assert build.compiler == CLANG16
    assert build.environment["TF_NEED_CLANG"] == "1"
    assert build.environment["CLANG_COMPILER_PATH"] == CLANG16.path
    assert build.configure is not None
    assert f"build --repo_env=CC={CLANG16.path}" in build.configure.expected
    assert build.bazel is not None
    assert "--copt=-Wno-gnu-offsetof-extensions" in build.bazel.options
    assert "--repo_env=TF_PYTHON_VERSION=3.11" in build.bazel.options


def test_gcc_in_the_place_of_clang_does_without_what_it_does_not_know() -> None:
    build = built(box(GCC9), "tensorflow==2.20")
    assert build.environment["TF_NEED_CLANG"] == "0"
    assert build.bazel is not None
    assert {
        "--define=xnn_enable_avx512fp16=false",
        "--define=xnn_enable_avxvnniint8=false",
        "--define=xnn_enable_avx512amx=false",
    } <= set(build.bazel.options)
    newer = built(box(GCC14), "tensorflow==2.20")
    assert newer.bazel is not None
    assert not [option for option in newer.bazel.options if option.startswith("--define=xnn")]


def test_2_21_brings_its_own_compiler_unless_one_is_named() -> None:
    own = built(box(GCC12, CLANG19), "tensorflow==2.21")
    assert own.compiler is None
    assert own.bazel is not None
    assert "--config=clang_local" not in own.bazel.options
    assert {"--repo_env=HERMETIC_PYTHON_VERSION=3.11", "--repo_env=ML_WHEEL_TYPE=release"} <= set(own.bazel.options)
    named = built(box(GCC12, CLANG19), "tensorflow==2.21", compiler="clang-19")
    assert named.compiler == CLANG19
    assert named.bazel is not None
    assert {"--config=clang_local", f"--repo_env=CC={CLANG19.path}", "--copt=-Wno-c23-extensions"} <= set(
        named.bazel.options
    )


def test_a_cuda_build_names_its_capabilities_everywhere() -> None:
    facts = replace(host("GeForce RTX 3090", flags=V3, driver="580.95.05"), system=box(GCC12).system)
    build = built(facts, "tensorflow==2.21", device="cuda")
    assert build.environment["HERMETIC_CUDA_COMPUTE_CAPABILITIES"] == "sm_86"
    assert build.configure is not None
    assert 'build:cuda --repo_env HERMETIC_CUDA_COMPUTE_CAPABILITIES="sm_86"' in build.configure.expected
    assert 'COMPUTE_CAPABILITIES="3.5,7.0"' in build.configure.forbidden
    assert build.bazel is not None
    options = build.bazel.options
    assert {"--config=cuda", "--config=cuda_wheel"} <= set(options)
    last = "--repo_env=HERMETIC_CUDA_COMPUTE_CAPABILITIES=sm_86"
    assert options.index(last) > max(number for number, text in enumerate(options) if text.startswith("--config"))
    assert build.needs.disk_mib == 81920
    older = replace(facts, system=box(GCC9).system)
    old = built(older, "tensorflow==2.12", device="cuda", cuda_compute_capabilities="8.6+PTX")
    assert old.environment["TF_CUDA_COMPUTE_CAPABILITIES"] == "compute_86"
    assert old.environment["GCC_HOST_COMPILER_PATH"] == "/usr/bin/gcc-9"
    said = refused(facts, "tensorflow==2.12", device="cuda")
    assert "GCC 12.2.0 (/usr/bin/gcc-12) does not fit: CUDA 11.8 takes GCC up to 11 as its host compiler" in said


def test_on_arm_there_is_one_option_and_none_for_xnnpack() -> None:
    flags = ("asimd", "crc32", "aes", "pmull", "sha1", "sha2", "atomics", "fphp", "asimdhp", "asimddp", "i8mm")
    build = built(box(GCC12, flags=flags, arch="aarch64"), "tensorflow==2.15")
    option = "-march=armv8.2-a+crc+crypto+fp16+dotprod+i8mm"
    assert [each.option for each in build.copts] == [option]
    assert build.bazel is not None
    assert [text for text in build.bazel.options if "march" in text] == [f"--per_file_copt=-.*XNNPACK/.*@{option}"]


@pytest.mark.parametrize("release", ["2.21", "2.12"])
def test_every_shared_host_plans_a_build(shared: Path, release: str) -> None:
    refused = set()
    for folder in sorted(path for path in (shared / "hosts").iterdir() if path.is_dir()):
        facts = host_facts(read_dump(folder), chips(), host=folder.name)
        try:
            made = plan(facts, f"tensorflow=={release}", device="cpu")
        except NoStackFits as error:
            assert error.details or (error.why and error.hint)
            refused.add(folder.name)
            continue
        assert len(made.builds) == 1
        assert from_data(Plan, to_data(made)) == made
        if facts.cpu.flags and facts.cpu.arch == "x86_64":
            assert set(made.builds[0].expect) <= set(facts.cpu.flags), folder.name
    assert refused == MACS


@pytest.mark.parametrize(
    "series", ["2.9", "2.10", "2.11", "2.13", "2.15", "2.16", "2.17", "2.18", "2.19", "2.20", "2.8", "2.4"]
)
@pytest.mark.parametrize("family", ["gcc", "clang"])
def test_no_brace_is_left_for_the_target_that_it_does_not_know(series: str, family: str) -> None:
    known = {"{python}", "{site}", "{tree}", "{wheels}", "{jobs}", "{bazel}"}
    facts = box(GCC12, CLANG16, pythons=("3.8.10", "3.10.12", "3.11.2"))
    data = str(to_data(built(facts, f"tensorflow=={series}", compiler=family)))
    words = {f"{{{part.split('}')[0]}}}" for part in data.split("{")[1:] if part.split("}")[0].isidentifier()}
    assert words <= known


# --- compilers -------------------------------------------------------------------------------------------------------


def test_the_compiler_nearest_to_the_releases_own_is_taken() -> None:
    made = plan(box(GCC9, GCC12), "tensorflow==2.12")
    assert made.builds[0].compiler == GCC9
    assert text(made, "compiler") == (
        "tensorflow is compiled by GCC 9.4.0 (/usr/bin/gcc-9), the nearest here to GCC 9.3.1, which the release was "
        "built with; also here: GCC 12.2.0"
    )


def test_no_compiler_fits() -> None:
    said = refused(box(GCC14, CLANG19), "tensorflow==2.12")
    assert "no compiler here builds it: wanted: GCC 9.3.1 or newer and older than 13, or Clang older than 17" in said
    assert (
        "found: GCC 14.2.0 (/usr/bin/gcc-14) does not fit: GCC newer than 9.3.0 needed; GCC 13 and newer fail" in said
    )
    assert "apt install gcc-12 g++-12" in said


def test_a_compiler_that_is_not_there() -> None:
    said = refused(box(GCC12), "tensorflow==2.12", compiler="clang-16")
    assert "--compiler clang-16 is not on this host: it has GCC 12.2.0 (/usr/bin/gcc-12)" in said
    assert "apt install clang-16" in said


def test_a_compiler_off_the_path_is_taken_at_its_word() -> None:
    build = built(box(GCC12), "tensorflow==2.15", compiler="/opt/llvm/bin/clang")
    assert build.compiler == Compiler(family="clang", version="", path="/opt/llvm/bin/clang")
    assert build.configure is not None
    assert not [line for line in build.configure.expected if "/opt/llvm" in line]  # it may be a link


def test_flags_that_the_compiler_is_too_old_for_are_left_out() -> None:
    made = plan(box(GCC9, flags=FP16), "tensorflow==2.12")
    assert "-mavx512fp16" not in made.stack[0].copts
    assert (
        "GCC 9.4.0 does not take -mavx512fp16 (GCC 12 and newer): left out, though the target has avx512_fp16"
        in text(made, "copts.compiler")
    )


def test_flags_by_name_are_not_left_out() -> None:
    said = refused(box(GCC9, flags=FP16), "tensorflow==2.12", cpu="avx2,avx512_fp16")
    assert "GCC 9.4.0 is too old for avx512_fp16: it does not take -mavx512fp16 (GCC 12 and newer)" in said
    assert "drop avx512_fp16 from --cpu" in said
    said = refused(box(GCC12), "tensorflow==2.12", cpu="avx512f")
    assert "this CPU lacks avx512f: --cpu avx512f asks for it" in said


# --- what it is measured against -------------------------------------------------------------------------------------


def test_the_stock_wheel_of_the_same_release_stands_beside_it() -> None:
    made = plan(box(GCC12), "tensorflow==2.15")
    assert made.stock is not None
    assert (made.stock.stack[0].version, made.stock.stack[0].origin) == ("2.15.1", "wheel")
    assert made.stock.stack[0].python == made.stack[0].python
    assert made.stock.builds == ()
    assert "both are measured in turn, and the faster one is kept (--keep faster)" in text(made, "comparison")
    assert made.steps[-1].id == "comparison"
    assert plan(box(GCC12), "tensorflow==2.15", keep="build").steps[-1].id == "verification"
    assert plan(box(GCC12, flags=V2), "tensorflow==2.15").stock is None


def test_the_fingerprint_is_of_what_is_built_and_not_of_where() -> None:
    def tree(path: str, sha: str) -> Source:
        return Source(kind="tree", location=path, sha256=sha * 64, version="2.15.1")

    def print_of(facts: Facts, **asked: Any) -> str:
        return plan(facts, "tensorflow", **asked).fingerprint

    one = print_of(box(GCC12), source=tree("/a", "0"))
    assert print_of(box(replace(GCC12, path="/opt/gcc/bin/gcc-12")), source=tree("/b", "0")) == one
    assert print_of(box(GCC12), source=tree("/a", "1")) != one
    assert print_of(box(GCC9), source=tree("/a", "0")) != one
    assert print_of(box(GCC12, flags=V4), source=tree("/a", "0")) != one
    made = plan(box(GCC12), "tensorflow", source=tree("/a", "0"))
    reworded = tuple(replace(copt, reason="said in other words") for copt in made.builds[0].copts)
    assert fingerprint(replace(made, builds=(replace(made.builds[0], copts=reworded),))) == one


@pytest.mark.parametrize(
    ("asked", "tree", "version"),
    [
        ("tensorflow", "2.15.0", "2.15.0"),
        ("tensorflow==2.15.0", "2.15.0", "2.15.0"),
        ("tensorflow==2.15.0", None, "2.15.0"),
        ("tensorflow==2.15", None, "2.15.1"),
        ("tensorflow", "2.15.0rc1", "2.15.0rc1"),
    ],
)
def test_what_is_built_is_called_as_its_source_calls_itself(asked: str, tree: str | None, version: str) -> None:
    source = Source(kind="tree", location="/a", sha256="0" * 64, version=tree) if tree else None
    made = plan(box(GCC12), asked, source=source)
    assert (made.builds[0].version, made.stack[0].version) == (version, version)
    assert made.stack[0].requirements[0] == f"tensorflow=={version}"
    assert made.builds[0].source.ref in (None, f"v{version}")


def test_a_level_that_this_cpu_has_is_measured_as_native_is() -> None:
    made = plan(box(GCC12, flags=V4), "tensorflow==2.15", cpu="x86-64-v3", origin="auto")
    assert "because --cpu x86-64-v3 asks for a build for exactly that CPU" in text(made, "origin")
    assert made.stock is not None
    assert "both are measured in turn, and the faster one is kept (--keep faster)" in text(made, "comparison")
    assert made.steps[-1].id == "comparison"
    kept = plan(box(GCC12, flags=V4), "tensorflow==2.15", cpu="x86-64-v3", keep="build")
    assert "the build is kept whichever is faster" in text(kept, "comparison")
    assert kept.steps[-1].id == "verification"


def test_a_small_tree_needs_little_disk() -> None:
    def disk(**more: Any) -> int:
        source = Source(kind="tree", location="/a", sha256="0" * 64, version="2.15.1", **more)
        return built(box(GCC12), "tensorflow", source=source).needs.disk_mib

    assert (disk(), disk(size_mib=1), disk(size_mib=100), disk(size_mib=400)) == (4096, 2048, 12800, 40960)


# --- PyTorch and NumPy -----------------------------------------------------------------------------------------------


def test_pytorch_for_a_cpu_without_avx() -> None:
    build = built(box(GCC12, flags=V1), "pytorch==2.5")
    told = build.environment
    assert (build.engine, build.distributions) == ("setuptools", ("torch",))
    assert str(build.source) == "https://github.com/pytorch/pytorch.git@v2.5.1"
    assert {told[name] for name in ("USE_FBGEMM", "USE_NNPACK", "USE_XNNPACK", "USE_MKLDNN", "USE_CUDA")} == {"0"}
    assert told["CXXFLAGS"] == "-mno-avx"
    assert (told["CC"], told["CXX"], told["MAX_JOBS"]) == ("/usr/bin/gcc-12", "/usr/bin/g++-12", "{jobs}")
    assert (told["PYTORCH_BUILD_VERSION"], told["PYTORCH_BUILD_NUMBER"]) == ("2.5.1", "1")
    assert build.expect == ()
    newer = built(box(GCC12), "pytorch==2.5").environment
    assert (newer["USE_FBGEMM"], newer["USE_MKLDNN"]) == ("1", "1")
    assert "-mavx2" in newer["CFLAGS"]


def test_pytorch_says_why_for_each_variable() -> None:
    made = plan(box(GCC12, flags=V1), "pytorch==2.13.0")
    assert "numpy<2.4" in made.builds[0].build_requirements  # the build loads it on this CPU
    said = next(step for step in made.steps if step.id == "source_build").changes
    assert "USE_FBGEMM=0: its kernels need AVX2, which the target lacks" in said
    assert "USE_MKLDNN=0: oneDNN is compiled with SSE4.1, which the target lacks" in said
    assert "CXXFLAGS: no AVX outside the files that are chosen at run time" in said
    assert "MAX_JOBS={jobs}: from memory and cores: the compiler is killed where it is too many" in said
    numpy = next(step for step in plan(box(GCC12), "numpy==2.3").steps if step.id == "source_build").changes
    assert "setup-args=-Dblas=openblas: the BLAS of the plan" in numpy


def test_pytorch_for_gpus_is_told_which() -> None:
    facts = replace(host("GeForce GTX 960", flags=V3, driver="580.95.05"), system=box(GCC12).system)
    build = built(facts, "pytorch==2.7", device="cuda")
    assert build.environment["TORCH_CUDA_ARCH_LIST"] == "5.2"
    assert (build.environment["USE_CUDA"], build.environment["CUDAHOSTCXX"]) == ("1", "/usr/bin/g++-12")


def test_numpy_against_the_blas_of_choice() -> None:
    build = built(box(GCC12), "numpy==2.3")
    assert build.build_requirements == ("Cython>=3.0.6", "meson-python>=0.18", "ninja")
    assert built(box(GCC12), "numpy==1.26").build_requirements[1] == "meson-python>=0.15,<0.16"
    assert (build.engine, build.blas, str(build.source)) == ("uv", "openblas", "numpy==2.3.5")
    assert "setup-args=-Dblas=openblas" in build.config_settings
    assert "setup-args=-Dcpu-baseline=SSE3 SSSE3 SSE41 POPCNT SSE42 AVX F16C FMA3 AVX2" in build.config_settings
    assert "setup-args=-Dcpu-dispatch=none" in build.config_settings
    newer = built(box(GCC12, flags=V4), "numpy==2.4").config_settings
    assert "setup-args=-Dcpu-baseline=X86_V2 X86_V3 X86_V4" in newer
    assert "setup-args=-Dcpu-baseline=none" in built(box(GCC12, flags=V1), "numpy==2.4").config_settings
    generic = built(box(GCC12), "numpy==2.4", cpu="generic").config_settings
    assert {"setup-args=-Dcpu-baseline=min", "setup-args=-Dcpu-dispatch=max"} <= set(generic)


def test_numpy_against_mkl() -> None:
    made = plan(box(GCC12), "numpy==2.4", blas="mkl", accept_mkl_license=True)
    build = made.builds[0]
    assert "setup-args=-Dblas=mkl" in build.config_settings
    assert {"mkl", "mkl-devel", "meson-python>=0.18"} <= set(build.build_requirements)
    assert "mkl" in made.stack[0].requirements
    assert made.stock is not None
    assert "mkl" not in made.stock.stack[0].requirements


def test_numpy_that_is_compiled_here_needs_no_older_one() -> None:
    """The pin for old CPUs is about NumPy's wheels: beside "numpy==2.4.6" nothing could be installed."""
    assert plan(box(GCC12, flags=V1), "numpy==2.4").stack[0].requirements == ("numpy==2.4.6",)
    assert "numpy<2.4" in plan(box(GCC12, flags=V1), "pytorch", origin="wheel").stack[0].requirements


def test_numpy_of_the_old_build_has_no_recipe() -> None:
    with pytest.raises(NoStackFits) as caught:
        plan(box(GCC12), "numpy==1.25")
    assert caught.value.what == "nothing in the catalog is a source of numpy==1.25"


# --- what a wheel cannot do here -------------------------------------------------------------------------------------


def test_a_wheel_that_cannot_make_float16_on_this_cpu_says_so() -> None:
    said = text(plan(box(GCC12, flags=AVX), "tensorflow==2.21", origin="wheel"), "wheel.fault")
    assert said.startswith(
        "this CPU lacks f16c: with the wheel of tensorflow 2.21.0 converting to float16 ends the process (SIGILL)"
    )
    assert text(plan(box(GCC12), "tensorflow==2.21", origin="wheel"), "wheel.fault") == ""
    assert text(plan(box(GCC12, flags=AVX), "tensorflow==2.21"), "wheel.fault") == ""
    assert text(plan(box(GCC12, flags=()), "tensorflow==2.21", origin="wheel"), "wheel.fault") == ""
