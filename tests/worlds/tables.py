"""A small catalog with the shapes of the real one."""

from __future__ import annotations

from typing import Any

from provision.catalog.nvidia import package_table
from provision.model.catalog import (
    Catalog,
    CompilerFlag,
    CpuLevel,
    CudaRelease,
    DriverBranch,
    KernelRules,
    Pin,
    Release,
    ReleasePin,
    WheelBuild,
)
from provision.model.chips import Chip, Chips
from provision.model.recipes import (
    BuildOption,
    BuildTable,
    BuildTool,
    BuildVariable,
    ConfiguredLine,
    SourceRecipe,
    When,
)

SOURCE = ("a page",)


def build(name: str, device: Any, line: str, **more: Any) -> WheelBuild:
    return WheelBuild(
        **{
            "name": name,
            "device": device,
            "requirements": (line,),
            "index": None,
            "archs": ("x86_64",),
            "confidence": "binary",
            "source": SOURCE,
            **more,
        }
    )


def release(framework: str, version: str, builds: tuple[WheelBuild, ...], **more: Any) -> Release:
    return Release(
        **{
            "framework": framework,
            "version": version,
            "series": ".".join(version.split(".")[:2]),
            "points": (version,),
            "pythons": ("3.10", "3.11", "3.12", "3.13"),
            "cpu_flags": {},
            "glibc": "2.17",
            "builds": builds,
            "pins": (),
            "source": SOURCE,
            **more,
        }
    )


def tensorflow(version: str, kernels: tuple[str, ...], **more: Any) -> Release:
    cuda = {"cuda": "12.5.1", "cudnn": "9.3", "bundles_cuda": True, "driver_minimum": "525.60.13"}
    cuda |= more.pop("cuda", {})
    pinned = tuple(ReleasePin(requirement=line, why=f"{line} is why", source=SOURCE) for line in more.get("pins", ()))
    extra = "tensorflow[and-cuda]" if cuda["bundles_cuda"] else "tensorflow"
    return release(
        "tensorflow",
        version,
        (
            build("cpu", "cpu", f"tensorflow-cpu=={version}"),
            build("arm", "cpu", f"tensorflow=={version}", archs=("aarch64",)),
            build("and-cuda", "cuda", f"{extra}=={version}", kernels=kernels, **cuda),
        ),
        **{
            "cpu_flags": {"x86_64": ("avx",)},
            "recipe": SourceRecipe(
                bazel="7.4.1",
                compiler="Clang 18.1.8",
                cuda="12.5",
                cudnn="9.3",
                values={},
                repository="https://example.org/tensorflow.git",
                target="//tensorflow/tools/pip_package:wheel",
                distributions=("tensorflow", "tensorflow-cpu"),
                hermetic_cuda=True,
                hermetic_compiler=True,
                hermetic_python=True,
                source=SOURCE,
            ),
            "pin_reasons": pinned,
            **more,
        },
    )


def torch(version: str, *builds: tuple[str, str, tuple[str, ...], str], **more: Any) -> Release:
    """``builds``: name, CUDA release, kernels, confidence."""
    made = [build("cpu", "cpu", f"torch=={version}+cpu", index="https://download.pytorch.org/whl/cpu")]
    for name, cuda, kernels, confidence in builds:
        floor = "525.60.13" if cuda.startswith("12") else "580.65.06"
        made.append(
            build(
                name,
                "cuda",
                f"torch=={version}+{name}",
                index=f"https://download.pytorch.org/whl/{name}",
                archs=("x86_64", "aarch64") if cuda.startswith("13") else ("x86_64",),
                cuda=cuda,
                cudnn="9.10.2.21" if cuda == "12.6" else "9.26",
                bundles_cuda=True,
                kernels=kernels,
                driver_minimum=floor,
                confidence=confidence,
            )
        )
    return release("pytorch", version, tuple(made), **{"glibc": "2.28", **more})


OLD = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
NEW = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
TENSORFLOW = ("sm_60", "sm_70", "sm_80", "sm_89", "compute_90")

RELEASES = (
    tensorflow("2.21.0", TENSORFLOW, glibc="2.27"),
    tensorflow("2.20.0", TENSORFLOW, pythons=("3.9", "3.10", "3.11", "3.12", "3.13")),
    tensorflow(
        "2.16.2",
        ("sm_50", "sm_60", "sm_70", "sm_80", "compute_90"),
        points=("2.16.1", "2.16.2"),
        pythons=("3.9", "3.10", "3.11", "3.12"),
        pins=("numpy<2",),
        cuda={"cuda": "12.3", "cudnn": "8.9"},
    ),
    tensorflow(
        "2.3.4",
        ("sm_35", "sm_52", "sm_61", "compute_70"),
        pythons=("3.6", "3.7", "3.8"),
        pins=("numpy<1.19",),
        cuda={"cuda": "10.1", "cudnn": "7.6", "bundles_cuda": False, "driver_minimum": "418.39"},
    ),
    torch(
        "2.15.0",
        ("cu130", "13.0", NEW, "script"),
        ("cu132", "13.2", NEW, "binary"),
        pythons=("3.11", "3.12", "3.13", "3.14"),
    ),
    torch("2.14.1", ("cu126", "12.6", OLD, "script"), ("cu130", "13.0", NEW, "binary"), points=("2.14.0", "2.14.1")),
    torch("2.6.0", ("cu118", "12.4", ("sm_37", *OLD), "inferred"), glibc="2.17"),
    release(
        "jax",
        "0.12.0",
        (
            build("cpu", "cpu", "jax==0.12.0"),
            build("cuda12", "cuda", "jax[cuda12]==0.12.0", cuda="12.9", bundles_cuda=True, driver_minimum="525.60.13"),
        ),
        pythons=("3.12", "3.13"),
        cpu_flags={"x86_64": ("avx",)},
    ),
    release(
        "jax",
        "0.10.2",
        (
            build("cpu", "cpu", "jax==0.10.2"),
            build(
                "cuda12",
                "cuda",
                "jax[cuda12]==0.10.2",
                cuda="12.9",
                bundles_cuda=True,
                driver_minimum="525.60.13",
                kernels=("sm_50", "sm_60", "sm_70", "sm_80", "sm_90", "sm_100", "compute_120"),
            ),
            build(
                "cuda13",
                "cuda",
                "jax[cuda13]==0.10.2",
                cuda="13.0",
                bundles_cuda=True,
                driver_minimum="580.65.06",
                kernels=("sm_75", "sm_80", "sm_90", "sm_100", "compute_120"),
            ),
        ),
        pythons=("3.11", "3.12", "3.13"),
        cpu_flags={"x86_64": ("avx",)},
    ),
    release("keras", "3.15.1", (build("any", "cpu", "keras==3.15.1", archs=("x86_64", "aarch64")),), glibc=None),
    release("keras", "2.3.1", (build("any", "cpu", "keras==2.3.1"),), glibc=None, pythons=("3.8", "3.11")),
    release("numpy", "2.4.6", (build("cpu", "cpu", "numpy==2.4.6"),), cpu_flags={"x86_64": ("sse4_2",)}),
    release("numpy", "2.3.5", (build("cpu", "cpu", "numpy==2.3.5"),)),
)


def branch(
    name: str, kind: Any, oldest: str, newest: str | None, seen: str | None, api: str, supported: bool = False
) -> DriverBranch:
    return DriverBranch(
        branch=name,
        status=kind,
        supported=supported,
        kind=kind,
        oldest_architecture=oldest,
        newest_architecture=newest,
        newest_seen=seen,
        cuda_api_version=api,
        source=SOURCE,
    )


BRANCHES = (
    branch("390", "legacy", "Fermi", "Volta", "390.157", "9.1", supported=True),
    branch("430", "eol", "Kepler", "Turing", "430.40", "10.1"),
    branch("470", "legacy", "Kepler", "Ampere", "470.256.02", "11.4", supported=True),
    branch("525", "eol", "Maxwell", "Hopper", "525.147.05", "12.0"),
    branch("535", "eol", "Maxwell", "Hopper", "535.288.01", "12.2"),
    branch("570", "eol", "Maxwell", "Blackwell", "570.211.01", "12.8"),
    branch("580", "lts", "Maxwell", "Blackwell", "580.178.04", "13.0", supported=True),
    branch("595", "production", "Turing", "Blackwell", "595.84", "13.2", supported=True),
    branch("610", "new-feature", "Turing", "Blackwell", "610.43.02", "13.3"),
    branch("615", "unconfirmed", "Turing", None, None, "13.4"),
)


def cuda(version: str, full: str | None, floor: str | None, capabilities: str) -> CudaRelease:
    return CudaRelease(
        version=version,
        driver_minimum=full,
        driver_minor_compat=floor,
        gcc_max="13",
        capabilities=tuple(capabilities.split()),
        source=SOURCE,
    )


CUDA = (
    cuda("10.1", "418.39", None, "3.0 3.5 3.7 5.0 5.2 6.0 6.1 7.0 7.5"),
    cuda("12.3", "545.23.06", "525.60.13", "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0"),
    cuda("12.4", "550.54.14", "525.60.13", "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0"),
    cuda("12.5", "555.42.02", "525.60.13", "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0"),
    cuda("12.6", "560.28.03", "525.60.13", "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0"),
    cuda("12.9", "575.51.03", "525.60.13", "5.0 5.2 6.0 6.1 7.0 7.5 8.0 8.6 8.9 9.0 10.0 12.0 12.1"),
    cuda("13.0", "580.65.06", "580.65.06", "7.5 8.0 8.6 8.7 8.9 9.0 10.0 11.0 12.0 12.1"),
    cuda("13.2", "595.45.04", "580.65.06", "7.5 8.0 8.6 8.7 8.9 9.0 10.0 11.0 12.0 12.1"),
)


def chip(match: str, architecture: str, capability: str, opens: bool, last: str | None) -> Chip:
    return Chip(
        match=match,
        architecture=architecture,
        compute_capability=capability,
        open_kernel_modules=opens,
        last_driver_branch=last,
        source=SOURCE,
    )


CHIPS = Chips(
    chips=(
        chip("^GF104", "Fermi", "2.1", False, "390"),
        chip("^GK104", "Kepler", "3.0", False, "470"),
        chip("^GK210", "Kepler", "3.7", False, "470"),
        chip("^GM206", "Maxwell", "5.2", False, "580"),
        chip("^GP10[28]", "Pascal", "6.1", False, "580"),
        chip("^TU102", "Turing", "7.5", True, None),
        chip("^GA102", "Ampere", "8.6", True, None),
        chip("^GA10B", "Ampere", "8.7", True, None),
        chip("^AD102", "Ada Lovelace", "8.9", True, None),
        chip("^GH100", "Hopper", "9.0", True, None),
        chip("^GB100", "Blackwell", "10.0", True, None),
        chip("^GB20B", "Blackwell", "12.1", True, None),
        chip("^GB202", "Blackwell", "12.0", True, None),
    ),
    ranges=(),
)


def flag(name: str, option: str, level: str | None, gcc: str | None, clang: str | None, **more: Any) -> CompilerFlag:
    return CompilerFlag(
        arch="x86_64", flag=name, option=option, level=level, gcc=gcc, clang=clang, source=SOURCE, **more
    )


FLAGS = (
    flag("pni", "-msse3", "x86-64-v2", "4.6", "3.9"),
    flag("sse4_2", "-msse4.2", "x86-64-v2", "4.6", "3.9"),
    flag("avx", "-mavx", "x86-64-v3", "4.8", "3.9"),
    flag("avx2", "-mavx2", "x86-64-v3", "4.8", "3.9"),
    flag("fma", "-mfma", "x86-64-v3", "4.8", "3.9"),
    flag("xsave", "-mxsave", "x86-64-v3", None, None, usable=False),
    flag("avx512f", "-mavx512f", "x86-64-v4", "6.0", "3.9"),
    flag("avx512_vnni", "-mavx512vnni", None, "8.0", "6.0"),
    flag("avx512_fp16", "-mavx512fp16", None, "12", "14"),
    flag("amx_complex", "-mamx-complex", None, None, "19.1"),
)
LEVELS = tuple(
    CpuLevel(
        name=name,
        adds=tuple(row.flag for row in FLAGS if row.level == name),
        option=f"-march={name}",
        gcc="11.1",
        clang="12.0",
        fallback=(),
        fallback_gcc=None,
        fallback_clang=None,
        source=SOURCE,
    )
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4")
)

PINS = (
    Pin(
        id="numpy-below-v2",
        requirement="numpy<2.4",
        frameworks=(),
        below_level="x86-64-v2",
        why="NumPy 2.4 is compiled for x86-64-v2",
        source=SOURCE,
    ),
    Pin(
        id="cudnn-pre-turing",
        requirement="nvidia-cudnn-cu12<=9.10.2.21",
        frameworks=(),
        below_compute_capability="7.5",
        cuda_major=12,
        why="cuDNN 9.11 and newer start at compute capability 7.5",
        source=SOURCE,
    ),
)

TOLD = BuildTable(
    variables=(
        BuildVariable(name="PYTHON_BIN_PATH", value="{python}", why="its Python", source=SOURCE),
        BuildVariable(name="TF_NEED_CUDA", value="1", why="CUDA", source=SOURCE, when=When(device="cuda")),
        BuildVariable(name="TF_NEED_CUDA", value="0", why="no CUDA", source=SOURCE, when=When(device="cpu")),
    ),
    options=(
        BuildOption(option="--config=opt", why="what configure wrote", source=SOURCE),
        BuildOption(
            option="--repo_env=HERMETIC_CUDA_COMPUTE_CAPABILITIES={words}",
            why="those of the GPUs",
            source=SOURCE,
            when=When(device="cuda"),
        ),
    ),
    lines=(ConfiguredLine(line='build --action_env PYTHON_BIN_PATH="{python}"', source=SOURCE),),
    tools=(BuildTool(name="patchelf", why="the wheel step calls it", package="patchelf", source=SOURCE),),
    forbidden=(ConfiguredLine(line='"3.5,7.0"', source=SOURCE, when=When(device="cuda")),),
)

CATALOG = Catalog(
    packages=package_table,
    releases=RELEASES,
    pins=PINS,
    cuda=CUDA,
    cudnn=(),
    branches=BRANCHES,
    architectures=(
        "Fermi",
        "Kepler",
        "Maxwell",
        "Pascal",
        "Volta",
        "Turing",
        "Ampere",
        "Ada Lovelace",
        "Hopper",
        "Blackwell",
    ),
    chips=CHIPS,
    compiler_flags=FLAGS,
    levels=LEVELS,
    kernel_rules=KernelRules(
        only_themselves=("5.3", "6.2", "7.2", "8.7"), same_chip=(("10.1", "11.0"),), source=SOURCE
    ),
    aliases={"tf": "tensorflow", "torch": "pytorch"},
    builds={"tensorflow": TOLD},
)
