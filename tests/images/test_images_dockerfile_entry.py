"""The scripts that run before Python in an image: whether this CPU will do, and what is said to one that will not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from provision.assets import folder

FILES = folder("dockerfiles") / "files"
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
SHELLS = [["dash"], ["busybox", "sh"]]

V3 = """\
need avx avx2 fma
instead me/tf:v2 pni popcnt
instead me/tf:v1 sse2
"""
# what Nehalem and Haswell say, by `ld.so --list-diagnostics` of glibc 2.36 under qemu
NEHALEM = """\
version="2.36"
x86.cpu_features.features[0x0].cpuid[0x2]=0x80982201
x86.cpu_features.features[0x0].cpuid[0x3]=0x78bfbfd
x86.cpu_features.features[0x0].active[0x2]=0x982201
x86.cpu_features.features[0x1].cpuid[0x1]=0x0
x86.cpu_features.features[0x2].cpuid[0x2]=0x1
"""
HASWELL = """\
x86.cpu_features.features[0x0].cpuid[0x2]=0xfed83203
x86.cpu_features.features[0x0].cpuid[0x3]=0x1f8bfbff
x86.cpu_features.features[0x0].active[0x2]=0x7ed83203
x86.cpu_features.features[0x1].cpuid[0x1]=0x7ab
x86.cpu_features.features[0x1].active[0x1]=0x728
x86.cpu_features.features[0x2].cpuid[0x2]=0x21
"""


class Cpu:
    """A CPU as check-cpu sees it: files that stand for the loader and /proc/cpuinfo."""

    def __init__(self, place: Path, shell: list[str]) -> None:
        self.place, self.shell = place, shell

    def check(self, asked: str, *, loader: str = "", cpuinfo: str = "", program: Path | None = None) -> tuple[int, str]:
        need, told, info = self.place / "cpu", self.place / "loader", self.place / "cpuinfo"
        need.write_text(asked)
        info.write_text(cpuinfo)
        (self.place / "told").write_text(loader)
        told.write_text(f'#!/bin/sh\n[ "$1" = --list-diagnostics ] && cat {self.place}/told\n')
        told.chmod(0o755)
        done = subprocess.run(
            [*self.shell, str(FILES / "check-cpu"), str(need), str(program or told), str(info)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == ""
        return done.returncode, done.stderr


@pytest.fixture(params=SHELLS, ids=["dash", "busybox"])
def cpu(request: pytest.FixtureRequest, tmp_path: Path) -> Cpu:
    if shutil.which(request.param[0]) is None:
        pytest.skip(f"there is no {request.param[0]} here")
    return Cpu(tmp_path, request.param)


def test_a_cpu_with_every_flag_is_let_through(cpu: Cpu) -> None:
    assert cpu.check(V3, loader=HASWELL) == (0, "")


def test_a_lesser_cpu_is_told_what_it_lacks_and_what_to_take(cpu: Cpu) -> None:
    code, said = cpu.check(V3, loader=NEHALEM)
    assert code == 78
    assert said == (
        "error: this image needs a CPU with avx, avx2, fma\n"
        "  this CPU lacks avx, avx2, fma\n"
        "  hint: take me/tf:v2 instead\n"
    )


def test_the_first_image_that_fits_is_named(cpu: Cpu) -> None:
    asked = "need avx512f\ninstead me/tf:v3 avx2\ninstead me/tf:v2 sse4_2\ninstead me/tf:v1 sse2\n"
    assert "take me/tf:v2 instead" in cpu.check(asked, loader=NEHALEM)[1]


def test_where_none_of_the_family_fits_it_says_how_to_build_one(cpu: Cpu) -> None:
    code, said = cpu.check("need avx2\ninstead me/tf:v2 avx\n", loader=NEHALEM)
    assert code == 78
    assert "no image that was built with this one fits this CPU" in said
    assert "provision image build --cpu generic --tag NAME" in said


def test_registers_that_the_system_has_not_switched_on_do_not_count(cpu: Cpu) -> None:
    off = HASWELL.replace("active[0x2]=0x7ed83203", "active[0x2]=0x6ed83203")
    assert "this CPU lacks avx, avx2, fma\n" in cpu.check(V3, loader=off)[1]


def test_cpuinfo_is_read_where_the_loader_cannot_tell(cpu: Cpu) -> None:
    older = "version=2.31\n"
    assert cpu.check(V3, loader=older, cpuinfo="model name\t: A\nflags\t\t: sse2 fma avx avx2\n") == (0, "")
    code, said = cpu.check(V3, loader=older, cpuinfo="model name\t: A\nflags\t\t: sse2 popcnt pni avx\n")
    assert (code, "this CPU lacks avx2, fma\n" in said, "take me/tf:v2 instead" in said) == (78, True, True)


def test_an_emulated_cpu_is_believed_over_the_hosts_cpuinfo(cpu: Cpu) -> None:
    code, _ = cpu.check(V3, loader=NEHALEM, cpuinfo="flags\t\t: avx avx2 fma popcnt pni\n")
    assert code == 78


def test_a_flag_that_the_table_does_not_have_is_looked_for_in_cpuinfo(cpu: Cpu) -> None:
    assert cpu.check("need brand_new\n", loader=HASWELL, cpuinfo="flags\t\t: avx brand_new\n")[0] == 0
    assert "lacks brand_new" in cpu.check("need brand_new\n", loader=HASWELL, cpuinfo="flags\t\t: avx\n")[1]


def test_a_cpu_that_nobody_can_tell_of_is_let_through(cpu: Cpu) -> None:
    assert cpu.check(V3, loader="", cpuinfo="") == (0, "")


def test_no_flag_asked_for_fits_any_cpu(cpu: Cpu) -> None:
    assert cpu.check("need\n", loader=NEHALEM) == (0, "")


@pytest.mark.parametrize("word", ["*", "$(touch oops)", "`id`", "../x"])
def test_words_of_the_file_stay_data(cpu: Cpu, word: str) -> None:
    code, said = cpu.check(f"need avx2 {word}\n", loader=NEHALEM, cpuinfo="flags\t\t: sse2\n")
    assert code == 78
    assert not (Path.cwd() / "oops").exists()
    assert "avx2" in said


@pytest.mark.skipif(not LOADER.exists(), reason="not x86-64 with glibc")
def test_the_loader_and_the_kernel_agree_on_this_cpu(cpu: Cpu) -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    match = re.search(r"^flags\s*: (.*)", cpuinfo, re.MULTILINE)
    if match is None or "x86.cpu_features.features[0x0].cpuid" not in diagnostics():
        pytest.skip("the kernel lists no flags, or the loader is of a glibc before 2.33")
    known = set(re.findall(r"\b([a-z0-9_]+)\) set --", (FILES / "check-cpu").read_text()))
    has = set(match[1].split())
    assert cpu.check(f"need {' '.join(sorted(known & has))}\n", program=LOADER) == (0, "")
    lacking = sorted(known - has)
    if lacking:
        code, said = cpu.check(f"need {' '.join(lacking)}\n", program=LOADER)
        assert (code, f"  this CPU lacks {', '.join(lacking)}\n" in said) == (78, True)


@pytest.mark.parametrize(("model", "lacks"), [("Nehalem", "avx, avx2, fma"), ("Opteron_G5", "avx2"), ("Haswell", None)])
def test_under_qemu_the_emulated_cpu_is_asked(cpu: Cpu, model: str, lacks: str | None) -> None:
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None or not LOADER.exists():
        pytest.skip("there is no qemu-x86_64-static here")
    # qemu's user emulation does not follow execve, so the loader itself is started under it
    program = cpu.place / "emulated"
    program.write_text(f'#!/bin/sh\nexec {qemu} -cpu {model} {LOADER} "$@"\n')
    program.chmod(0o755)
    code, said = cpu.check(V3, program=program, cpuinfo="flags\t\t: avx avx2 fma\n")
    assert code == (78 if lacks else 0)
    assert lacks is None or f"this CPU lacks {lacks}\n" in said


def diagnostics() -> str:
    return subprocess.run([str(LOADER), "--list-diagnostics"], capture_output=True, text=True, check=False).stdout


class Entry:
    """The entry point with /opt/provision elsewhere."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "bin").mkdir()
        text = (FILES / "entrypoint").read_text().replace("/opt/provision", str(place))
        (place / "bin" / "entrypoint").write_text(text)
        shutil.copy(FILES / "check-cpu", place / "bin" / "check-cpu")

    def start(self, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", str(self.place / "bin" / "entrypoint"), *command],
            env={"PATH": "/usr/bin:/bin", **environ}, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    return Entry(tmp_path)


def test_the_command_gets_its_arguments_as_they_are(entry: Entry) -> None:
    (entry.place / "cpu").write_text("need\n")
    done = entry.start("printf", "%s|", "a b", "$HOME", "'", "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b|$HOME|'||", "")


def test_a_lesser_cpu_never_starts_the_command(entry: Entry) -> None:
    (entry.place / "cpu").write_text("need no_cpu_has_this\n")
    done = entry.start("echo", "started")
    assert (done.returncode, done.stdout) == (78, "")
    assert "this CPU lacks no_cpu_has_this" in done.stderr


def test_the_check_can_be_left_out_and_it_says_so(entry: Entry) -> None:
    (entry.place / "cpu").write_text("need no_cpu_has_this\n")
    done = entry.start("echo", "started", PROVISION_SKIP_CPU_CHECK="1")
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert "PROVISION_SKIP_CPU_CHECK is set: the CPU was not checked" in done.stderr


def test_the_bases_variables_come_back_unless_they_are_set(entry: Entry) -> None:
    (entry.place / "cpu").write_text("need\n")
    (entry.place / "base-environment").write_text("A=from $(the) 'base'\nB=from the base\n")
    done = entry.start("sh", "-c", 'printf "%s|%s" "$A" "$B"', B="mine")
    assert done.stdout == "from $(the) 'base'|mine"
