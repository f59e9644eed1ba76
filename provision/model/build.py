"""A build: everything that makes one framework's wheel from source, as data, before any of it is done.

The resolver writes it (provision/resolve/build.py), the target carries it out (playbooks/roles/source_build). What only
the target knows stands as a placeholder in braces: see PLACEHOLDERS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SourceKind = Literal["tree", "git", "tarball", "index"]
Engine = Literal["bazel", "setuptools", "uv"]
Keep = Literal["faster", "build", "wheel"]

PLACEHOLDERS = {
    "python": "the build environment's interpreter",
    "site": "the first site-packages folder of that interpreter",
    "tree": "the unpacked source tree",
    "wheels": "the folder that wheels are put into",
    "jobs": "how many actions or compilers run at once, from memory and cores",
    "bazel": "a program called bazel that is the Bazel to be used",
}
"""What may stand in braces in ``Build`` texts; no other braces are filled in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the source comes from. All but "index" is fetched on the controller and sent as one archive."""

    kind: SourceKind
    location: str
    """tree: an absolute folder on the controller. tarball: an absolute file or an https address. git: the address.
    index: the requirement of the source distribution, "numpy==2.4.6"."""
    ref: str | None = None
    """git: the tag, branch or commit."""
    sha256: str | None = None
    """tree: over its files' names, modes and contents. tarball: of the file. Else None."""
    version: str | None = None
    """The version that the tree says it is; None where it was not looked into."""
    bazel: str | None = None
    """What its .bazelversion names; None likewise."""
    size_mib: int | None = None
    """tree, tarball: of the unpacked files; None where it was not looked into. Scales the disk that is asked for."""

    def __str__(self) -> str:
        return f"{self.location}@{self.ref}" if self.ref else self.location


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiler:
    """A compiler of the target."""

    family: Literal["gcc", "clang"]
    version: str
    """"12.2.0"; empty where nobody has asked it yet: the target does."""
    path: str
    """"/usr/bin/gcc-12": the C compiler; its C++ companion lies beside it (g++-12, clang++-16)."""

    def __str__(self) -> str:
        return f"{'GCC' if self.family == 'gcc' else 'Clang'} {self.version}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copt:
    """One compiler option with the reason for it."""

    option: str
    """"-mavx2"."""
    flag: str
    """The CPU flag it uses, by the kernel's name."""
    reason: str
    """"this CPU has avx2; GCC 12.2.0 takes it (GCC 4.8 and newer)"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """A tree's own configure, run with every variable set and stdin closed, its answer read back."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    writes: str
    """The file it writes, relative to the tree: ".tf_configure.bazelrc"."""
    expected: tuple[str, ...]
    """Lines that must be in it (runs of blanks count as one)."""
    forbidden: tuple[str, ...] = ()
    """Texts that must not be in any line: a silent default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BazelCall:
    version: str | None
    """What the release's row says; the tree's own .bazelversion beats it."""
    options: tuple[str, ...]
    """Of `bazel build`, without caches, jobs and reporting, which the target adds."""
    target: str
    """"//tensorflow/tools/pip_package:wheel"."""
    wheel_argv: tuple[str, ...] = ()
    """What packs the wheel after the build, up to TensorFlow 2.16; empty where the target is the wheel itself."""
    wheel_folder: str = "{wheels}"
    """Where the wheel then lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that must be on PATH before hours are spent."""

    name: str
    why: str
    """"the wheel step rewrites RPATHs with it, at the very end"."""
    package: str
    """Debian's and Ubuntu's package, for the hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The preflight: what is measured on the target before anything long is started."""

    memory_mib_per_job: int
    disk_mib: int
    tmp_mib: int
    tools: tuple[Tool, ...] = ()
    headers: tuple[str, ...] = ()
    """C headers that must be found by the compiler: "Python.h", "cblas.h"."""
    network: bool = False
    """The build downloads its own dependencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    framework: str
    version: str
    device: Literal["cpu", "cuda"]
    engine: Engine
    source: Source
    python: str
    """"3.11": the interpreter that the wheel is for."""
    distributions: tuple[str, ...]
    """Names the wheel may have: ("tensorflow", "tensorflow-cpu")."""
    compiler: Compiler | None
    """None: the build brings its own (TensorFlow 2.21's hermetic LLVM)."""
    cpu: str
    """As asked: "native", "x86-64-v3", "fleet"."""
    copts: tuple[Copt, ...]
    expect: tuple[str, ...]
    """CPU flags whose instructions the audit must find in the binary."""
    allow: tuple[str, ...]
    """CPU flags whose instructions may be there outside run-time dispatch: those of ``copts`` and what they imply."""
    runs_here: bool
    """Whether this host has every flag of ``copts``: otherwise it is a build for another machine, and not tested."""
    environment: Mapping[str, str]
    """For configure and the build alike: TF_NEED_CUDA, USE_CUDA, CFLAGS …"""
    build_requirements: tuple[str, ...] = ()
    """Packages that uv puts into the build environment."""
    configure: Configure | None = None
    bazel: BazelCall | None = None
    argv: tuple[str, ...] = ()
    """Engine "setuptools": the build command, run in the tree."""
    config_settings: tuple[str, ...] = ()
    """Engine "uv": passed on to the build backend (`uv build --config-setting`)."""
    needs: Needs
    blas: str | None = None
    """NumPy: "openblas" or "mkl"."""
    shared_tools: bool = False
    """Tools of the build get the target's options too, unless told otherwise (TensorFlow 2.6 to 2.12)."""
