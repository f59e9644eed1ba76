"""Build the wheel: `python setup.py bdist_wheel`. What is built is asked of the environment:

PYTORCH_BUILD_VERSION and PYTORCH_BUILD_NUMBER (always together) name the version, else version.txt does; CFLAGS and
CXXFLAGS are the compiler's; MAX_JOBS compilers run at once; USE_CUDA, USE_CUDNN, USE_MKLDNN, USE_OPENMP … switch parts
(0, OFF, NO and FALSE are off); TORCH_CUDA_ARCH_LIST lists compute capabilities, and is needed with USE_CUDA=1.
"""

import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PARTS = ("CUDA", "CUDNN", "NCCL", "MKLDNN", "MKL", "OPENMP", "FBGEMM", "QNNPACK", "XNNPACK", "DISTRIBUTED")
OFF = ("0", "OFF", "NO", "FALSE", "N")


def version():
    number = os.environ.get("PYTORCH_BUILD_NUMBER")
    named = os.environ.get("PYTORCH_BUILD_VERSION")
    if named:
        if number is None:
            sys.exit("PYTORCH_BUILD_VERSION is set, and PYTORCH_BUILD_NUMBER is not")
        return named + (".post" + number if int(number) > 1 else "")
    text = (ROOT / "version.txt").read_text().strip()
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
    )
    inside = commit.returncode == 0 and (ROOT / ".git").exists()
    return text + "+git" + commit.stdout.decode()[:7] if inside else text


def parts():
    """What is on: CUDA only where its compiler is found, the rest unless it was switched off."""
    found = {}
    for name in PARTS:
        value = os.environ.get("USE_" + name, "").upper()
        found[name] = value not in OFF if value else name not in ("CUDA", "CUDNN", "NCCL", "MKL")
    if found["CUDA"]:
        home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH") or "/usr/local/cuda"
        if not os.path.exists(os.path.join(home, "bin/nvcc")):
            sys.exit("USE_CUDA=1, and there is no nvcc in %s/bin: set CUDA_HOME" % home)
    else:
        found["CUDNN"] = found["NCCL"] = False
    return found


def capabilities():
    """["8.0", "9.0+PTX"]. Raises SystemExit for an entry that is none."""
    text = os.environ.get("TORCH_CUDA_ARCH_LIST", "")
    found = [entry for entry in re.split(r"[;\s]+", text) if entry]
    for entry in found:
        if not re.fullmatch(r"\d+\.\d[af]?(\+PTX)?", entry):
            sys.exit("Unknown CUDA arch (%s) or GPU not supported" % entry)
    return found


def cuda_version():
    header = Path(os.environ.get("CUDA_HOME") or "/usr/local/cuda", "include/cuda.h")
    number = int(re.search(r"#define\s+CUDA_VERSION\s+(\d+)", header.read_text()).group(1))
    return "%d.%d" % (number // 1000, number % 1000 // 10)


class BuildExtension(build_ext):
    def run(self):
        self.write_record()
        super().run()

    def write_record(self):
        """torch/version.py and the header that torch.__config__.show() prints."""
        flags = " ".join(os.environ.get(name, "") for name in ("CPPFLAGS", "CFLAGS", "CXXFLAGS")).split()
        on = parts()
        lines = [
            "__version__ = %r" % version(),
            "cuda = %r" % (cuda_version() if on["CUDA"] else None),
            "arch_list = %r" % (capabilities() if on["CUDA"] else []),
            "cxx_flags = %r" % " ".join(flags),
            "parts = %r" % {"USE_" + name: "ON" if value else "OFF" for name, value in sorted(on.items())},
            "",
        ]
        folder = Path(self.build_lib, "torch")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "version.py").write_text("\n".join(lines))

    def build_extensions(self):
        """Sources are compiled MAX_JOBS at a time, which setuptools does one by one."""
        jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        compile_one = self.compiler.compile

        def compile_all(sources, **options):
            with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
                made = list(pool.map(lambda source: compile_one([source], **options), sources))
            return [item for items in made for item in items]

        self.compiler.compile = compile_all
        super().build_extensions()


flags = ["-std=c++17", "-O2", *os.environ.get("CXXFLAGS", "").split()]
sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "torch/csrc").glob("*.cpp"))
extension = Extension("torch._C", sources, include_dirs=["torch/csrc"], extra_compile_args=flags, language="c++")

setup(
    name="torch",
    version=version(),
    description="A small tree with the shape of PyTorch's, for tests",
    packages=find_packages(),
    ext_modules=[extension],
    cmdclass={"build_ext": BuildExtension},
    python_requires=">=3.9",
    zip_safe=False,
)
