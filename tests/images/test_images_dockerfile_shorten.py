"""What --minimal does to names of C++ symbols: real libraries, compiled here, shortened and loaded."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from provision.assets import folder

FILES = folder("dockerfiles") / "files"
LONG = "a_name_that_is_as_long_as_those_which_templates_give_" * 3

WHOLE = "".join(
    f"""
int {LONG}{number}(int x) {{ return x + {number}; }}
"""
    for number in range(200)
)
WHOLE += f"""
#include <stdexcept>
struct {LONG}error : std::runtime_error {{ using std::runtime_error::runtime_error; }};
inline int &{LONG}counter() {{ static int here = 0; return here; }}
extern "C" int c_name(int x) {{ ++{LONG}counter(); return {LONG}7({LONG}8(x)); }}
void {LONG}throws() {{ throw {LONG}error("thrown"); }}
extern "C" int counted() {{ return {LONG}counter(); }}
extern "C" int caught() {{ try {{ {LONG}throws(); }} catch (const {LONG}error &) {{ return 1; }} return 0; }}
"""
USER = f"""
int {LONG}5(int);
inline int &{LONG}counter() {{ static int here = 0; return here; }}
extern "C" int used(int x) {{ ++{LONG}counter(); return {LONG}5(x); }}
"""
STRANGER = f"""
int {LONG}6(int);
extern "C" int used(int x) {{ return {LONG}6(x); }}
"""


@pytest.fixture
def shorten() -> Iterator[ModuleType]:
    """The script as a module; it finds slim.py beside it."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("shorten", FILES / "shorten.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    (tmp_path / "venv/lib/python3.11/site-packages").mkdir(parents=True)
    return tmp_path / "venv"


def library(venv: Path, name: str, text: str, *options: str) -> Path:
    where = venv / "lib/python3.11/site-packages"
    (where / "text.cc").write_text(text)
    argv = ["g++", "-shared", "-fPIC", "-O0", "-Wl,-z,now", "-o", name, "text.cc", *options]
    subprocess.run(argv, cwd=where, check=True)
    (where / "text.cc").unlink()
    return where / name


def shortening(venv: Path, shorten: ModuleType) -> str:
    """What main() does, but that the image is the environment alone."""
    rules = [{"remove": [], "strip": [], "shorten": ["libwhole.so"], "why": "names"}]
    (venv / "slim.json").write_text(json.dumps(rules))
    script = "import shorten, sys; shorten.EVERYWHERE = (sys.argv[2],); shorten.main()"
    argv = [sys.executable, "-c", script, str(venv / "slim.json"), str(venv)]
    env = {**os.environ, "PYTHONPATH": str(FILES), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert shorten.files([venv])
    return done.stdout


def answer(code: str, where: Path) -> str:
    """Of a fresh process: a library that was loaded before would be taken again."""
    code = "import ctypes; load = lambda name: ctypes.CDLL(name, ctypes.RTLD_GLOBAL); " + code
    done = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def test_a_shortened_library_works_alone_and_for_who_was_there(venv: Path, shorten: ModuleType) -> None:
    whole = library(venv, "libwhole.so", WHOLE)
    library(venv, "libuser.so", USER, "-L.", "-l:libwhole.so", "-Wl,-rpath,$ORIGIN")
    before = whole.stat().st_size
    said = shortening(venv, shorten)
    assert "MiB: names" in said
    assert before - whole.stat().st_size > 200 * len(LONG) * 0.8

    code = "one, two = load('./libwhole.so'), load('./libuser.so'); "
    # an exception crosses frames, a name that both have is one variable still
    code += "print(one.c_name(1), one.caught(), two.used(1), one.counted())"
    assert answer(code, whole.parent) == "16 1 6 2"

    names = shorten.names(whole)
    left = {name for name in names if LONG.encode() in name}
    assert any(name.endswith(b"5i") for name in left), "libuser asks for it"
    assert {b"c_name", b"caught"} <= names, "names of C stay: programs look for them by name"
    assert not any(name.endswith(b"6i") for name in left)


def test_a_library_that_comes_later_no_longer_finds_other_names(venv: Path, shorten: ModuleType) -> None:
    whole = library(venv, "libwhole.so", WHOLE)
    stranger = library(venv, "libstranger.so", STRANGER, "-L.", "-l:libwhole.so", "-Wl,-rpath,$ORIGIN")
    aside = stranger.rename(venv.parent / "libstranger.so")
    shortening(venv, shorten)
    shutil.move(aside, stranger)
    assert "undefined symbol" in answer("load('./libstranger.so')", whole.parent)


@pytest.mark.parametrize("option", ["--hash-style=sysv", "--hash-style=both", "-zmax-page-size=0x10000"])
def test_a_library_that_is_laid_out_in_another_way_is_left_as_it_was(
    venv: Path, shorten: ModuleType, option: str
) -> None:
    whole = library(venv, "libwhole.so", WHOLE, f"-Wl,{option}")
    before = whole.read_bytes()
    assert "left as it was: libwhole.so (" in shortening(venv, shorten)
    assert whole.read_bytes() == before


def test_a_new_name_has_the_hash_of_the_old_one(shorten: ModuleType) -> None:
    def gnu_hash(name: bytes) -> int:
        value = 5381
        for char in name:
            value = (value * 33 + char) & 0xFFFFFFFF
        return value

    for name in (b"_Z3foov", b"_ZN10tensorflow8OpKernelC1Ev", b"_ZTIN3tsl6StatusE"):
        found = list(shorten.aliases(gnu_hash(name)))
        assert len(set(found)) > 300
        assert {gnu_hash(each) for each in found} == {gnu_hash(name)}
        assert all(len(each) == 8 and b"\0" not in each for each in found)
