"""The check scripts as programs, and what they answer where no framework is needed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKS = Path(__file__).resolve().parents[2] / "checks"
SCRIPTS = sorted(path.name for path in CHECKS.glob("*.py") if path.read_text().startswith("#!"))
PARTS = {"isa_dispatch.py", "isa_files.py", "isa_tables.py", "mnist_data.py", "mnist_nets.py"}
PARTS |= {"gpu_nvml.py", "gpu_visible.py", "gpu_work.py", "mnist_devices.py", "mnist_fast.py"}
PARTS |= {f"quick_ops_{name}.py" for name in ("jax", "numpy", "pytorch", "results", "tensorflow")}
FRAMEWORKS = {"tensorflow", "keras", "torch", "jax", "numpy", "jaxlib"}

HASWELL = "model name\t: Some CPU\nflags\t\t: fpu sse sse2 pni ssse3 sse4_1 sse4_2 popcnt avx avx2 fma f16c\n\n"


def test_every_script_is_here() -> None:
    assert SCRIPTS == [
        "blas.py",
        "cpu_flags.py",
        "device_visible.py",
        "framework_import.py",
        "gpu_compute.py",
        "gpu_driver.py",
        "gpu_state.py",
        "isa_audit.py",
        "isa_baseline.py",
        "matmul.py",
        "memory_disk.py",
        "mnist.py",
        "native_kernels.py",
        "quick_ops.py",
        "speed_up.py",
    ]
    assert {path.name for path in CHECKS.glob("*.py")} == {*SCRIPTS, *PARTS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_the_question_an_example_and_the_exit_codes(script: str) -> None:
    done = subprocess.run([sys.executable, CHECKS / script, "--help"], capture_output=True, text=True, check=True)
    text = " ".join(done.stdout.split())
    assert "?" in text
    assert "Exit 0 yes, 1 no, 2 cannot tell" in text
    assert re.search(rf"python3? {script}", text)
    assert "--inside" not in text


@pytest.mark.parametrize("script", [*SCRIPTS, *sorted(PARTS)])
def test_a_script_needs_the_standard_library_and_what_it_checks_alone(script: str) -> None:
    source = (CHECKS / script).read_text()
    assert '# /// script\n# requires-python = ">=3.9"\n' in source
    names = set()
    for node in ast.walk(ast.parse(source, feature_version=(3, 9))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    assert names <= sys.stdlib_module_names | FRAMEWORKS | {part.removesuffix(".py") for part in PARTS}


@pytest.mark.parametrize("script", [*SCRIPTS, *sorted(PARTS)])
def test_no_framework_is_loaded_with_the_script(script: str) -> None:
    """Only its child process loads one, since loading can kill."""
    tree = ast.parse((CHECKS / script).read_text())
    top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    assert not names & FRAMEWORKS


# --- cpu_flags -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cpuinfo(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        return path

    return write


def test_all_flags_there(check, cpuinfo) -> None:
    answer = check("cpu_flags.py", "--need", "avx,FMA,sse4.2,sse3", "--cpuinfo", cpuinfo(HASWELL)).data
    assert answer["status"] == "pass"
    assert answer["what"] == "Some CPU has every flag that is needed"
    assert answer["data"]["need"] == ["avx", "fma", "pni", "sse4_2"]


def test_a_missing_flag_is_named(check, cpuinfo) -> None:
    """The first document's Xeon E5-1650: AVX, and neither AVX2 nor FMA in its first version."""
    text = HASWELL.replace("avx2 fma ", "")
    answer = check("cpu_flags.py", "--need", "avx,avx2,fma", "--cpuinfo", cpuinfo(text)).data
    assert answer["status"] == "fail"
    assert answer["what"] == "Some CPU lacks avx2, fma"
    assert answer["why"] == "needed: avx, avx2, fma"
    assert "choose a build for fewer flags" in answer["hint"]


def test_a_guest_is_told_about_its_host(check, cpuinfo) -> None:
    text = HASWELL.replace("flags\t\t:", "flags\t\t: hypervisor")
    answer = check("cpu_flags.py", "--need", "avx512f", "--cpuinfo", cpuinfo(text)).data
    assert "let the guest see the host's CPU" in answer["hint"]


def test_a_flag_must_be_on_every_processor(check, cpuinfo) -> None:
    text = HASWELL + HASWELL.replace(" avx2", "")
    assert check("cpu_flags.py", "--need", "avx2", "--cpuinfo", cpuinfo(text)).data["data"]["missing"] == ["avx2"]


def test_levels_are_cumulative(check, cpuinfo) -> None:
    answer = check("cpu_flags.py", "--need", "x86-64-v3", "--cpuinfo", cpuinfo(HASWELL)).data
    assert {"abm", "bmi1", "movbe", "cx16", "cmov"} <= set(answer["data"]["missing"])
    assert not {"avx2", "sse4_2"} & set(answer["data"]["missing"])


def test_an_arm_cpu_is_read(check, cpuinfo) -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd aes sve\n"
    assert check("cpu_flags.py", "--need", "neon,sve", "--cpuinfo", cpuinfo(text)).data["status"] == "pass"


@pytest.mark.parametrize("text", ["", "processor : 0\ncpu : POWER9, altivec supported\n"])
def test_unknown_flags_are_not_missing_flags(check, cpuinfo, text: str) -> None:
    answer = check("cpu_flags.py", "--need", "avx", "--cpuinfo", cpuinfo(text)).data
    assert answer["status"] == "skip"
    assert answer["why"] == "the cpuinfo text lists no flags"


def test_no_cpuinfo(check, tmp_path: Path) -> None:
    answer = check("cpu_flags.py", "--need", "avx", "--cpuinfo", tmp_path / "none").data
    assert answer["status"] == "skip"
    assert "No such file or directory" in answer["why"]


# --- memory_disk -----------------------------------------------------------------------------------------------------

MEMINFO = "MemTotal:       24000000 kB\nMemFree:         1024000 kB\nMemAvailable:    4096000 kB\n"


@pytest.fixture
def memory(check, tmp_path: Path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "cgroup").mkdir()

    def run(*arguments: object):
        files = ("--meminfo", tmp_path / "meminfo", "--cgroup", tmp_path / "cgroup")
        return check("memory_disk.py", *files, *arguments).data

    return run


def test_available_memory_counts(memory) -> None:
    assert memory("--memory-mib", 4000)["status"] == "pass"
    answer = memory("--memory-mib", 4001)
    assert answer["status"] == "fail"
    assert answer["why"] == "4000 MiB of memory available, 4001 MiB needed (machine)"
    assert answer["hint"] == "close programs, add memory, or train with less"


def test_old_kernels_have_no_memavailable(memory, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 1024000 kB\nBuffers: 1024 kB\nCached: 1024 kB\n")
    assert memory("--memory-mib", 1)["data"]["memory_mib"] == 1002


def test_a_control_group_limits_memory(memory, tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    (cgroup / "memory.max").write_text(f"{2048 << 20}\n")
    (cgroup / "memory.current").write_text(f"{1024 << 20}\n")
    (cgroup / "memory.stat").write_text(f"anon 1\ninactive_file {24 << 20}\n")
    answer = memory("--memory-mib", 2000)
    assert answer["why"] == "1048 MiB of memory available, 2000 MiB needed (control group)"


def test_a_control_group_without_limit(memory, tmp_path: Path) -> None:
    (tmp_path / "cgroup" / "memory.max").write_text("max\n")
    (tmp_path / "cgroup" / "memory").mkdir()
    (tmp_path / "cgroup" / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (tmp_path / "cgroup" / "memory" / "memory.usage_in_bytes").write_text("5\n")
    assert memory("--memory-mib", 1)["data"]["memory_limited_by"] == "machine"


def test_unreadable_memory_is_not_too_little(memory, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("nonsense\n")
    answer = memory("--memory-mib", 1)
    assert answer["status"] == "skip"
    assert answer["why"] == "the meminfo text has no MemAvailable and no MemFree line"


def test_disk_of_a_folder_that_is_not_there_yet(memory, tmp_path: Path) -> None:
    answer = memory("--disk-mib", 1, "--path", tmp_path / "not" / "yet")
    assert answer["status"] == "pass"
    assert answer["data"]["disk_path"] == str(tmp_path)


def test_too_little_disk(memory, tmp_path: Path) -> None:
    answer = memory("--disk-mib", 10**9, "--path", tmp_path)
    assert answer["status"] == "fail"
    assert re.fullmatch(
        rf"\d+ MiB free for this user at {re.escape(str(tmp_path))}, 1000000000 MiB needed", answer["why"]
    )
    assert "free space" in answer["hint"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(memory, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    assert "cannot be written by this user" in memory("--disk-mib", 1, "--path", closed)["why"]


def test_a_read_only_file_system(memory) -> None:
    """/proc/sys is mounted read-only in containers, /sys/firmware in others; take what is there."""
    found = [path for path in ("/proc/sys", "/sys/fs/cgroup", "/sys", "/boot") if read_only(path)]
    if not found:
        pytest.skip("no file system is mounted read-only here")
    answer = memory("--disk-mib", 1, "--path", found[0])
    assert answer["why"] == f"{found[0]} is on a file system that is mounted read-only"


def read_only(path: str) -> bool:
    return Path(path).is_dir() and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


# --- scripts for frameworks, in a Python that has none ---------------------------------------------------------------


@pytest.mark.parametrize("framework", ["tensorflow", "keras", "pytorch", "jax", "numpy"])
def test_a_framework_that_is_not_installed(bare, framework: str) -> None:
    module = {"pytorch": "torch"}.get(framework, framework)
    answer = bare("framework_import.py", "--framework", framework).data
    assert (answer["status"], answer["id"]) == ("fail", f"framework_import:{framework}")
    assert answer["what"] == f"{framework} is not installed"
    assert answer["why"] == f"no module {module} for {bare.python}"
    for script in ("isa_baseline.py", "device_visible.py"):
        arguments = ("--device", "cpu") if script == "device_visible.py" else ()
        answer = bare(script, "--framework", framework, *arguments).data
        assert (answer["status"], answer["id"]) == ("skip", f"{script.removesuffix('.py')}:{framework}")
        assert f"No module named '{module}'" in answer["why"]


TORCH = """
import sys
__version__ = "2.7.0+cu126"
class version: cuda = "12.6"
class cuda:
    device_count = staticmethod(lambda: 0)
    @staticmethod
    def is_available():
        print("UserWarning: CUDA initialization: CUDA unknown error - this may be due to", file=sys.stderr)
        return False
def zeros(*size, device):
    raise RuntimeError({words!r})
"""


def test_the_framework_s_words_travel_with_the_failure(check, tmp_path: Path) -> None:
    """On stderr too, for `provision doctor --log -`."""
    words = "No CUDA GPUs are available\n  in this process"
    (tmp_path / "torch.py").write_text(TORCH.format(words=words))
    found = check("device_visible.py", "--framework", "pytorch", "--device", "cuda", env={"PYTHONPATH": str(tmp_path)})
    said = ["UserWarning: CUDA initialization: CUDA unknown error - this may be due to", *words.splitlines()]
    assert (found.data["status"], found.data["what"]) == ("fail", "pytorch sees no GPU")
    assert found.data["data"]["log"] == said
    assert found.stderr.splitlines() == said
    assert found.data["why"] == said[-1]
    hidden = check(
        "device_visible.py", "--framework", "pytorch", "--device", "cuda",
        env={"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"},
    ).data  # fmt: skip
    assert hidden["why"] == "CUDA_VISIBLE_DEVICES='-1' hides every GPU"
    assert hidden["data"]["log"] == []


def test_blas_without_numpy(bare) -> None:
    answer = bare("blas.py").data
    assert answer["status"] == "skip"
    assert answer["what"] == f"NumPy is not installed for {bare.python}"


@pytest.mark.parametrize("arguments", [("--device", "cpu", "--framework", "jax"), ("--framework", "numpy")])
def test_kernels_for_gpus_do_not_matter_on_the_cpu(bare, arguments: tuple[str, ...]) -> None:
    answer = bare("native_kernels.py", *arguments).data
    assert answer["status"] == "skip"
    assert answer["why"].endswith("is to run on the CPU")


TORCH_WITH_OLD_DRIVER = """
__version__ = "2.13.0+cu130"
class version: cuda = "13.0"
class _C: _cuda_getArchFlags = lambda: "sm_75 sm_90 compute_90"
class cuda:
    is_available = lambda: False
    device_count = lambda: 1
    def get_device_name(index): raise RuntimeError("The NVIDIA driver on your system is too old (found version 12020)")
class ones:
    def __init__(self, *shape, device): cuda.get_device_name(0) if device == "cuda" else None
    device = type("", (), {"type": "cpu"})
    __matmul__ = lambda self, other: self
    __getitem__ = lambda self, place: 256.0
zeros = ones
"""


@pytest.fixture
def old_driver(bare, tmp_path: Path):
    """Asks a PyTorch whose GPU is counted by NVML and cannot be started by CUDA."""
    (tmp_path / "torch.py").write_text(TORCH_WITH_OLD_DRIVER)
    return lambda *asked: bare(*asked, "--framework", "pytorch", env={"PYTHONPATH": str(tmp_path)}).data


def test_a_gpu_that_cuda_cannot_start_is_missing_and_the_framework_is_not(old_driver) -> None:
    answer = old_driver("native_kernels.py")
    assert (answer["status"], answer["what"]) == ("skip", "pytorch sees no GPU")
    assert answer["hint"] == "device_visible.py says why"
    answer = old_driver("device_visible.py", "--device", "cuda")
    assert (answer["status"], answer["what"]) == ("fail", "pytorch sees no GPU")
    assert answer["why"] == "The NVIDIA driver on your system is too old (found version 12020)"


def test_a_gpu_that_cuda_cannot_start_does_not_matter_on_the_cpu(old_driver) -> None:
    answer = old_driver("device_visible.py", "--device", "cpu")
    assert (answer["status"], answer["what"]) == ("pass", "pytorch computes on cpu")


@pytest.mark.parametrize(
    ("archs", "capability", "status", "kernels"),
    [
        ("sm_50,sm_60,sm_70", "5.2", "pass", "sm_50"),
        ("sm_50,sm_60,sm_70", "7.5", "pass", "sm_70"),
        ("sm_75,sm_80,sm_86,sm_90,sm_100,sm_120", "5.2", "fail", None),
        ("sm_50,sm_60,sm_70,sm_75,sm_80,sm_86,sm_90", "12.0", "fail", None),
        ("sm_80,sm_90,compute_90", "12.0", "pass", "compute_90"),
        ("sm_80,compute_80,sm_90a", "9.0", "pass", "sm_90a"),
        ("sm_90a", "9.1", "fail", None),
        ("sm_100f", "10.3", "pass", "sm_100f"),
        ("sm_86", "8.0", "fail", None),
        ("compute_90", "8.6", "fail", None),
    ],
)
def test_kernels_against_a_gpu(check, archs: str, capability: str, status: str, kernels: str | None) -> None:
    answer = check("native_kernels.py", "--framework", "pytorch", "--arch-list", archs, "--capability", capability).data
    assert answer["status"] == status
    assert answer["data"]["gpus"] == [
        {
            "name": "GPU",
            "capability": [int(part) for part in capability.split(".")],
            "kernels": kernels,
            "code": kernels and ("sass" if kernels.startswith("sm_") else "ptx"),
        }
    ]


def test_native_code_and_ptx_are_told_apart_for_each_gpu(check) -> None:
    """A box with an H100 and an RTX 5090, and TensorFlow 2.18's list: PTX alone serves the newer card."""
    gpus = ("--capability", "9.0", "--capability", "12.0")
    archs = "sm_60,sm_70,sm_80,sm_89,sm_90,compute_90"
    answer = check("native_kernels.py", "--framework", "tensorflow", "--arch-list", archs, *gpus).data
    assert [gpu["code"] for gpu in answer["data"]["gpus"]] == ["sass", "ptx"]
    assert "at the first start, which takes minutes: GPU (compute capability 12.0) from compute_90" in answer["why"]
    assert answer["why"].endswith("native code: GPU (compute capability 9.0): sm_90")


def test_every_gpu_needs_kernels(check) -> None:
    """A box with an RTX 4090 and a GT 1030."""
    gpus = ("--capability", "8.9", "--capability", "6.1")
    answer = check("native_kernels.py", "--framework", "pytorch", "--arch-list", "sm_75,sm_86", *gpus).data
    assert answer["what"] == "pytorch has no kernels for GPU (compute capability 6.1)"
    assert answer["why"] == "the wheel holds sm_75 sm_86, and none of these runs there"
    assert "provision plan" in answer["hint"]


def test_ptx_is_a_remark(check) -> None:
    answer = check("native_kernels.py", "--framework", "jax", "--arch-list", "compute_80", "--capability", "8.6").data
    assert answer["what"] == "jax has PTX for every GPU, native code not for all"
    assert "compiled by the driver at the first start" in answer["why"]
