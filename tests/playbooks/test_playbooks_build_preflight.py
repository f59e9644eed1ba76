"""What would stop a build is told first, all of it, with numbers and what to do."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_build_resources as resources
from ansible.module_utils import provision_build_toolchain as toolchain
from ansible.module_utils.provision_build_preflight import Found, flags, preflight
from ansible.module_utils.provision_failure import Failure
from playbook_builds import Builds, build
from playbook_target import PYTHON, Target

GCC = shutil.which("gcc") or ""
CLANG = shutil.which("clang-16") or shutil.which("clang") or ""


def compiler(**changes: Any) -> dict[str, Any]:
    if not GCC:
        pytest.skip("there is no gcc here")
    return {"family": "gcc", "version": toolchain.version_of("gcc", GCC), "path": GCC, **changes}


def copt(option: str, flag: str) -> dict[str, str]:
    return {"option": option, "flag": flag, "reason": ""}


def looked(wanted: Mapping[str, Any], folder: Path, **settings: Any) -> Found:
    return preflight(wanted, settings, folder / "not" / "there", Path(sys.executable), "/usr/bin:/bin", folder)


def refused(wanted: Mapping[str, Any], folder: Path, **settings: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        looked(wanted, folder, **settings)
    assert caught.value.kind == "preflight"
    assert caught.value.what == "demo 1.0 cannot be built on this machine as it is"
    return caught.value


def test_a_machine_that_has_all_of_it(tmp_path: Path) -> None:
    found = looked(build(compiler=compiler(), copts=[copt("-msse2", "")], needs={"headers": ["stdio.h"]}), tmp_path)
    assert found.jobs == resources.cores()
    assert (found.problems, found.notes) == ([], [])


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    tools = [
        {"name": "no-such-patchelf", "why": "the wheel step rewrites RPATHs with it", "package": "patchelf"},
        {"name": "no-such-git", "why": "the build asks it for the version", "package": "git"},
    ]
    much = 1 << 40
    needs = {"disk_mib": much, "tmp_mib": 10, "memory_mib_per_job": much, "tools": tools, "headers": ["no/such.h"]}
    told = refused(build(compiler=compiler(), needs=needs), tmp_path)
    memory, disk, patchelf, git, header = told.why.splitlines()
    assert memory.endswith(f" MiB are available, and one job needs {much} MiB")
    assert disk.startswith("disk: ")
    assert disk.endswith(f"MiB are free in {tmp_path}/not/there, and the build needs {much} MiB")
    assert patchelf == "no-such-patchelf is missing: the wheel step rewrites RPATHs with it"
    assert git == "no-such-git is missing: the build asks it for the version"
    assert header == "no/such.h is missing"
    assert told.hint.startswith("apt install patchelf git; close other programs")
    assert "--build-folder" in told.hint


def test_jobs_from_memory_and_as_asked(tmp_path: Path) -> None:
    assert resources.jobs_for(processors=16, memory_mib=9000, per_job_mib=2000) == 4
    assert resources.jobs_for(processors=2, memory_mib=9000, per_job_mib=2000) == 2
    assert resources.jobs_for(processors=2, memory_mib=100, per_job_mib=2000) == 1
    each = resources.available_mib() // 2 - 200
    assert looked(build(), tmp_path, memory_mib_per_job=each).jobs == min(2, resources.cores())
    found = looked(build(), tmp_path, memory_mib_per_job=each, jobs=64)
    assert found.jobs == 64
    assert found.notes[0].startswith(f"64 jobs were asked for: at {each} MiB each they may need {64 * each} MiB, and ")


def test_bazel_takes_no_folder_with_a_space(tmp_path: Path) -> None:
    told = refused(build(engine="bazel"), tmp_path / "my disk")
    assert told.why == f"Bazel cannot work in {tmp_path}/my disk/not/there: there is a space in it"
    assert told.hint == "name another with --build-folder"
    assert looked(build(), tmp_path / "my disk").problems == []


def test_temporary_files_need_room_too(tmp_path: Path) -> None:
    told = refused(build(needs={"tmp_mib": 1 << 40}), tmp_path)
    assert f"MiB are free in TMPDIR, {tmp_path}, and the build needs {1 << 40} MiB" in told.why
    assert "set TMPDIR to a folder on a larger disk" in told.hint


def test_what_an_earlier_try_has_written_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "not" / "there" / "bazel"
    made.mkdir(parents=True)
    with (made / "output").open("wb") as file:
        file.write(b"x" * (64 << 20))
        os.fsync(file.fileno())
    monkeypatch.setattr(resources, "free_mib", lambda path: 1000)
    assert looked(build(needs={"disk_mib": 1064}), tmp_path).jobs
    told = refused(build(needs={"disk_mib": 1100}), tmp_path)
    there = f"{tmp_path}/not/there besides the 64 MiB of earlier builds"
    assert told.why == f"disk: 1000 MiB are free in {there}, and the build needs 1100 MiB"


# ── the compiler ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_compiler_that_is_gone_or_was_replaced(tmp_path: Path) -> None:
    told = refused(build(compiler=compiler(path="/no/gcc-99", version="99.1.0")), tmp_path)
    assert told.why == "GCC 99.1.0 (/no/gcc-99) is what the plan compiles with, and it is not there"
    never_seen = build(compiler=compiler(path="/no/gcc", version=""), needs={"headers": ["cblas.h"]})
    told = refused(never_seen, tmp_path)
    assert told.why == "GCC (/no/gcc) is what the plan compiles with, and it is not there"
    assert told.hint.startswith("apt install g++ libopenblas-dev")
    told = refused(build(compiler=compiler(version="4.8.5")), tmp_path)
    assert told.why == f"{GCC} is version {toolchain.version_of('gcc', GCC)} now, and the plan was made for 4.8.5"
    assert told.hint == "plan again"
    assert looked(build(compiler=compiler(version="")), tmp_path).problems == []


def test_an_option_that_the_compiler_does_not_take(tmp_path: Path) -> None:
    copts = [copt("-msse2", ""), copt("-mavx9000", "avx9000")]
    told = refused(build(compiler=compiler(), copts=copts, runs_here=False), tmp_path)
    version = toolchain.version_of("gcc", GCC)
    assert told.why.startswith(f"GCC {version} ({GCC}) does not take -mavx9000: ")
    assert "error: unrecognized" in told.why
    assert told.hint == "take a newer compiler with --compiler, or leave avx9000 out of --cpu"


@pytest.mark.skipif(not CLANG, reason="there is no clang here")
def test_clang_and_its_own_refusals(tmp_path: Path) -> None:
    clang = {"family": "clang", "version": toolchain.version_of("clang", CLANG), "path": CLANG}
    assert looked(build(compiler=clang, copts=[copt("-msse2", "")]), tmp_path).jobs
    told = refused(build(compiler=clang, copts=[copt("-mfpmath=both", "sse")]), tmp_path)
    assert "does not take -mfpmath=both: error: unknown FP unit 'both'" in told.why


def test_a_flag_that_this_processor_lacks_is_refused_only_for_this_processor() -> None:
    wanted = build(copts=[copt("-mavx2", "avx2"), copt("-mavx512f", "avx512f"), copt("-O3", "")])
    found = Found(jobs=1)
    flags(wanted, frozenset({"sse", "avx2"}), found)
    assert found.problems == ["this CPU has no avx512f, which -mavx512f lets the compiler use"]
    arm = Found(jobs=1)
    flags(build(copts=[copt("-march=armv8.2-a+dotprod", "atomics,asimddp")]), frozenset({"atomics"}), arm)
    assert arm.problems == ["this CPU has no asimddp, which -march=armv8.2-a+dotprod lets the compiler use"]
    assert found.hints == ["plan again on this machine, or name the CPU that it is for with --cpu"]
    found = Found(jobs=1)
    flags({**wanted, "runs_here": False}, frozenset({"sse"}), found)
    assert found.problems == []


@pytest.mark.parametrize(
    ("path", "plus"),
    [
        ("/usr/bin/gcc-12", "/usr/bin/g++-12"),
        ("/usr/bin/clang-16", "/usr/bin/clang++-16"),
        ("/usr/bin/x86_64-linux-gnu-gcc-12", "/usr/bin/x86_64-linux-gnu-g++-12"),
        ("/opt/gcc-13/bin/gcc", "/opt/gcc-13/bin/g++"),
        ("cc", "c++"),
    ],
)
def test_the_companion_of_a_c_compiler(path: str, plus: str) -> None:
    assert toolchain.companion(path) == plus


def test_headers_of_python(tmp_path: Path) -> None:
    # a "python" that names a folder without Python.h
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\necho {tmp_path}\necho {tmp_path}\n")
    fake.chmod(0o755)
    wanted = build(compiler=compiler(), needs={"headers": ["Python.h"]})
    with pytest.raises(Failure) as caught:
        preflight(wanted, {}, tmp_path, fake, "/usr/bin:/bin", tmp_path)
    assert caught.value.why == f"Python.h of Python {PYTHON} is missing (looked into {tmp_path})"
    assert caught.value.hint == f"apt install python{PYTHON}-dev"


# ── what keys a build ────────────────────────────────────────────────────────────────────────────────────────────────


def test_key_and_silo_tell_apart_what_must_not_be_mixed() -> None:
    who = {"machine": "x86_64", "libc": "2.36", "compiler": "gcc 12.2.0"}
    one = build(copts=[copt("-mavx2", "avx2"), copt("-mfma", "fma")])
    key = toolchain.key(one, who, "a" * 64)
    reasons = [{**each, "reason": "another text"} for each in one["copts"]]
    moved = {**one["source"], "location": "/elsewhere"}
    assert toolchain.key({**one, "copts": reasons, "source": moved}, who, "a" * 64) == key
    other = [
        ({**one, "copts": one["copts"][:1]}, who, "a" * 64),
        (one, {**who, "libc": "2.31"}, "a" * 64),
        (one, {**who, "compiler": "gcc 13.1.0"}, "a" * 64),
        (one, who, "b" * 64),
        ({**one, "environment": {"USE_CUDA": "0"}}, who, "a" * 64),
        ({**one, "version": "1.1"}, who, "a" * 64),
    ]
    keys = [toolchain.key(*each) for each in other]
    assert len({key, *keys}) == 7
    assert {len(each) for each in keys} == {20}
    options = ["-mavx2", "-mfma"]
    silo = toolchain.silo(who, options)
    assert len(silo) == 16
    others = [
        toolchain.silo(who, options[:1]),
        toolchain.silo({**who, "libc": "2.31"}, options),
        toolchain.silo({**who, "compiler": "clang"}, options),
    ]
    assert len({silo, *others}) == 4


# ── limits of containers and network file systems ────────────────────────────────────────────────────────────────────


def machine(root: Path, files: Mapping[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root / "proc", root / "sys"


def test_memory_and_processors_of_a_container(tmp_path: Path) -> None:
    meminfo = "MemTotal: 65536000 kB\nMemFree: 1024 kB\nMemAvailable:   32768000 kB\n"
    where = machine(
        tmp_path / "two",
        {
            "proc/meminfo": meminfo,
            "proc/self/cgroup": "0::/user.slice/build.scope\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{8 << 30}\n",
            "sys/fs/cgroup/user.slice/memory.current": f"{3 << 30}\n",
            "sys/fs/cgroup/user.slice/memory.stat": f"anon 5\ninactive_file {1 << 30}\n",
            "sys/fs/cgroup/user.slice/build.scope/memory.max": "max\n",
            "sys/fs/cgroup/user.slice/build.scope/cpu.max": "150000 100000\n",
        },
    )
    assert resources.available_mib(*where) == 6144
    assert resources.cores(*where) == 1
    where = machine(
        tmp_path / "one",
        {
            "proc/meminfo": meminfo,
            "proc/self/cgroup": "9:memory:/docker/4f\n8:cpu,cpuacct:/docker/4f\n",
            "sys/fs/cgroup/memory/docker/4f/memory.limit_in_bytes": f"{4 << 30}\n",
            "sys/fs/cgroup/memory/docker/4f/memory.usage_in_bytes": f"{1 << 30}\n",
        },
    )
    assert resources.available_mib(*where) == 3072
    bare = machine(tmp_path / "bare", {"proc/meminfo": meminfo})
    assert resources.available_mib(*bare) == 32000


def test_network_file_systems_are_known() -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /home rw - nfs4 server:/home rw\n"
        "31 30 8:2 / /home/my\\040disk rw - xfs /dev/sdb rw\n"
    )
    kinds = [resources.filesystem(Path(path), mounts) for path in ("/var/x", "/home/me/.cache", "/home/my disk/x")]
    assert kinds == ["ext4", "nfs4", "xfs"]


def test_a_build_folder_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "filesystem", lambda path: "nfs4")
    told = refused(build(), tmp_path)
    assert told.why.splitlines() == [
        f"disk: {tmp_path}/not/there is on a network file system (nfs4), where builds hang or break",
        f"disk: TMPDIR, {tmp_path}, is on a network file system",
    ]
    assert told.hint == "name a folder on a local disk with --build-folder; set TMPDIR to a folder on a local disk"


def test_the_module_goes_no_further_than_the_preflight(target: Target, tmp_path: Path) -> None:
    builds = Builds(target, tmp_path / "builds")
    shipped = builds.script("touch built")
    result = builds.made(builds.params(build(), shipped, until="preflight", jobs=2))
    assert (result["changed"], result["builds"], result["jobs"]) == (False, [], 2)
    assert not list(builds.cache.glob("trees/*"))
    wanted = build(needs={"memory_mib_per_job": 1 << 40})
    told = builds.made(builds.params(wanted, shipped))
    assert told["kind"] == "preflight"
    assert f"one job needs {1 << 40} MiB" in told["why"]
