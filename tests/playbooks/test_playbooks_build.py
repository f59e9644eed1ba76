"""A build from its archive to its wheel, with a shell script in place of a compiler."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.provision_build_old import all_builds, clear_old
from playbook_builds import Builds, archive, build
from playbook_target import Target


@pytest.fixture
def builds(target: Target, tmp_path: Path) -> Builds:
    return Builds(target, tmp_path / "builds")


def test_a_build_leaves_a_wheel_with_what_it_says_of_itself(builds: Builds) -> None:
    shipped = builds.script(
        'echo "[1/2] Building CXX object a.o"; echo "[2/2] Linking"; echo "$MAX_JOBS" > jobs\n'
        'echo "[1/1] /w/output/a.o"'  # what a packer counts is no action
    )
    result = builds.made(builds.params(build(), shipped, jobs=3))
    assert result.get("changed") is True, result
    (made,) = result["builds"]
    wheel = Path(made["wheel"])
    assert wheel.name == made["file"] == "demo-1.0-py3-none-any.whl"
    assert made["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert builds.target.root / made["folder"] == wheel.parent
    assert (made["distribution"], made["wheel_version"], made["tags"]) == ("demo", "1.0", ["py3-none-any"])
    assert (made["requires"], made["provides_extra"], made["built"], made["jobs"]) == ([], [], True, 3)
    assert (made["actions"], made["compile_actions"], made["cache_hits"]) == (2, 1, None)
    assert "[2/2] Linking" in Path(made["log"]).read_text()
    assert (builds.cache / "trees" / made["tree"] / "jobs").read_text() == "3\n"
    # and a second time there is nothing to do
    again = builds.made(builds.params(build(), shipped, jobs=2))
    assert again == {"changed": False, "builds": [{**made, "built": False}]}


def test_a_build_does_not_see_what_would_change_it(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CFLAGS", "LD_LIBRARY_PATH", "USE_CUDA", "MAKEFLAGS"):
        monkeypatch.setenv(name, "from outside")
    shipped = builds.script('env > environment; command -v python > python; echo "$HERE"')
    wanted = build(environment={"HERE": "{tree} {jobs} {bazel} {other}"}, build_requirements=[])
    (made,) = builds.made(builds.params(wanted, shipped, jobs=2))["builds"]
    tree = builds.cache / "trees" / made["tree"]
    variables = dict(line.split("=", 1) for line in (tree / "environment").read_text().splitlines() if "=" in line)
    assert "from outside" not in variables.values()
    assert variables["PROVISION_RUN"] == str(builds.target.root)
    assert variables["HERE"] == f"{tree} 2 {{bazel}} {{other}}"
    assert (tree / "python").read_text().strip() == str(builds.cache / "venvs" / made["venv"] / "bin" / "python")


def test_a_build_with_other_flags_is_another_build_in_the_same_environment(builds: Builds) -> None:
    shipped = builds.script('echo "$CFLAGS"')
    made = [
        builds.made(builds.params(build(environment={"CFLAGS": flags}), shipped))["builds"][0]
        for flags in ("-O2", "-O3")
    ]
    assert made[0]["wheel"] != made[1]["wheel"]
    assert made[0]["tree"] != made[1]["tree"], "a setuptools build leaves its output in the tree"
    assert made[0]["venv"] == made[1]["venv"]


def test_a_failed_build_keeps_its_log_and_the_next_one_its_tree(builds: Builds) -> None:
    text = (
        'echo x >> tries; echo loading >&2; if [ "$(wc -l < tries)" -lt 2 ]; then echo "Error: no luck" >&2; exit 3; fi'
    )
    params = builds.params(build(), builds.script(text))
    told = builds.made(params)
    assert (told["kind"], told["what"], told["why"]) == ("build", "building demo 1.0 failed", "Error: no luck")
    assert told["log_tail"] == "loading\nError: no luck"
    assert told["command"].startswith("sh build.sh ")
    assert Path(told["log"]).read_text().splitlines()[-1] == "Error: no luck"
    (made,) = builds.made(params)["builds"]
    assert (builds.cache / "trees" / made["tree"] / "tries").read_text() == "x\nx\n"


def test_a_build_whose_command_says_nothing(builds: Builds) -> None:
    told = builds.made(builds.params(build(), builds.script("exit 3")))
    assert told["why"] == "sh ended with status 3"
    told = builds.made(builds.params(build(argv=["no-such-program"]), builds.script("")))
    assert (told["kind"], told["why"]) == ("build", "no-such-program cannot be run: No such file or directory")
    told = builds.made(builds.params(build(argv=[]), builds.script("")))
    assert told["what"] == "the plan names no build command for demo"


def test_a_build_that_makes_another_wheel_is_not_there_afterwards(builds: Builds) -> None:
    told = builds.made(builds.params(build(version="2.0"), builds.script("")))
    assert (told["kind"], told["what"]) == ("wheel", "the source is not demo 2.0")
    (folder,) = builds.folders
    assert not (folder / "build.json").exists()


def test_a_wheel_that_was_taken_away_is_built_again(builds: Builds) -> None:
    params = builds.params(build(), builds.script("echo x >> tries"))
    (made,) = builds.made(params)["builds"]
    Path(made["wheel"]).unlink()
    assert builds.made(params)["changed"] is True
    assert Path(made["wheel"]).is_file()
    assert len((builds.cache / "trees" / made["tree"] / "tries").read_text().splitlines()) == 2


def test_what_a_build_needs_is_brought_first(builds: Builds) -> None:
    """From a folder, as an index would give it."""
    from playbook_wheels import wheel

    wheel(builds.target.wheels, "helper", "1.0", {"helper.py": "print('helped')"})
    shipped = builds.script("python -m helper")
    variables = {"UV_OFFLINE": "1", "UV_FIND_LINKS": str(builds.target.wheels)}
    wanted = build(build_requirements=["helper>=1"])
    (made,) = builds.made(builds.params(wanted, shipped, uv_environment=variables))["builds"]
    assert "helped" in Path(made["log"]).read_text().splitlines()
    told = builds.made(builds.params(build(build_requirements=["no-such-helper"]), shipped, uv_environment=variables))
    assert told["what"].startswith("could not make the environment that demo is built in: ")


def test_a_build_folder_that_nothing_can_be_written_in(builds: Builds) -> None:
    (builds.folder / "file").write_text("")
    told = builds.made(builds.params(build(), builds.script(""), build_folder=str(builds.folder / "file" / "build")))
    assert (told["kind"], told["what"]) == (
        "preflight", f"nothing can be written in the build folder {builds.folder}/file/build",
    )  # fmt: skip
    assert told["why"].endswith("Not a directory")
    assert told["hint"] == "name a folder that this user may write to with --build-folder (provision_build_folder)"


def test_a_build_folder_must_be_a_place_of_its_own(builds: Builds) -> None:
    told = builds.made(builds.params(build(), builds.script(""), build_folder="relative/folder"))
    assert told["what"] == "the build folder 'relative/folder' is not an absolute path"
    (made,) = builds.made(builds.params(build(), builds.script(""), build_folder="~/built here"))["builds"]
    assert (builds.target.home / "built here" / "trees" / made["tree"]).is_dir()


def test_check_mode_and_what_is_there(builds: Builds) -> None:
    from ansible.module_utils.provision_build import present
    from ansible.module_utils.provision_progress import Progress

    params = builds.params(build(), builds.script(""))
    progress = Progress(builds.target.layout.runs, "", "source_build")
    assert present(builds.target.layout, params, progress, True) == {"changed": True, "builds": []}
    assert not builds.target.layout.builds.exists()
    (made,) = builds.made(params)["builds"]
    assert present(builds.target.layout, params, progress, True)["builds"] == [{**made, "built": False}]


def old(builds: Builds, number: int, **changes: Any) -> dict[str, Any]:
    """A complete build as it lies there, made at second ``number``."""
    key = f"{number:020x}"
    folder = builds.target.layout.builds / key
    (folder / "wheels").mkdir(parents=True)
    wheel = folder / "wheels" / "demo-1.0-py3-none-any.whl"
    wheel.write_text(key)
    record = {
        "key": key, "framework": "demo", "version": "1.0", "wheel": str(wheel), "tree": f"t{number}", "venv": "v",
        "sha256": hashlib.sha256(key.encode()).hexdigest(), **changes,
    }  # fmt: skip
    (folder / "build.json").write_text(json.dumps(record))
    os.utime(folder / "build.json", (number, number))
    for place in (f"trees/{record['tree']}", f"venvs/{record['venv']}", f"work/{key}"):
        (builds.cache / place).mkdir(parents=True, exist_ok=True)
    return record


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_only_the_newest_builds_are_kept(builds: Builds) -> None:
    layout = builds.target.layout
    records = [old(builds, number, venv="v0" if number == 2 else "v1") for number in range(1, 8)]
    other = old(builds, 100, framework="other", tree="t1", venv="v1")
    # somebody has installed the first one, and the third is at work right now
    generation = layout.environment("lab") / "generations" / "1"
    generation.mkdir(parents=True)
    (generation / "lock.txt").write_text(f"demo==1.0 --hash=sha256:{records[0]['sha256']}\n")
    lock = layout.builds / f"{records[2]['key']}.lock"
    with subprocess.Popen(["flock", str(lock), "sleep", "60"]) as process:
        while subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode == 0:
            time.sleep(0.01)
        removed = clear_old(layout, builds.cache, build(), records[6]["key"])
        process.terminate()
    assert removed == [records[3]["key"], records[1]["key"]]
    assert [one["key"] for one in all_builds(layout)] == [
        other["key"], *(records[number]["key"] for number in (6, 5, 4, 2, 0))
    ]  # fmt: skip
    assert names(builds.cache / "trees") == ["t1", "t3", "t5", "t6", "t7"]
    assert names(builds.cache / "venvs") == ["v1"]
    assert names(builds.cache / "work") == sorted(names(layout.builds))


def test_a_first_build_removes_nothing(builds: Builds) -> None:
    result = builds.made(builds.params(build(), builds.script("")))
    assert result["removed"] == []


@pytest.mark.network
def test_a_setuptools_project_with_an_extension(builds: Builds) -> None:
    """As PyTorch's: `pip wheel` of the tree, with a compiler and a flag that the result tells."""
    from test_playbooks_build_preflight import compiler

    files = {
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
        "setup.py": "from setuptools import Extension, setup\n"
        'setup(name="demo", version="1.0", ext_modules=[Extension("demo", ["demo.c"])])\n',
        "demo.c": """
#include <Python.h>
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "demo", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_demo(void) {
  PyObject *module = PyModule_Create(&definition);
#ifdef __AVX2__
  PyModule_AddIntConstant(module, "avx2", 1);
#endif
  return module;
}
""",
    }
    wanted = build(
        compiler=compiler(), runs_here=False, copts=[{"option": "-mavx2", "flag": "avx2", "reason": ""}],
        environment={"CFLAGS": "-O2 -mavx2"}, build_requirements=["setuptools>=77", "pip"],
        argv=["{python}", "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", "{wheels}", "."],
        needs={"headers": ["Python.h"]},
    )  # fmt: skip
    result = builds.made(builds.params(wanted, builds.shipped(files)))
    assert result.get("changed") is True, result
    (made,) = result["builds"]
    assert made["tags"] != ["py3-none-any"]
    symbols = subprocess.run(["unzip", "-p", made["wheel"]], check=True, capture_output=True).stdout
    assert b"avx2" in symbols


@pytest.mark.network
def test_a_source_distribution_is_built_by_its_own_backend(builds: Builds) -> None:
    """From a folder, as an index would give it; its backend comes from the index, into an environment of the moment."""
    project = {
        "PKG-INFO": "Metadata-Version: 2.2\nName: demo\nVersion: 1.0\n",
        "pyproject.toml": '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "demo"\nversion = "1.0"\n',
        "demo.py": "",
        "setup.py": "import os\nfrom setuptools import setup\nprint('heard', os.environ['CFLAGS'])\nsetup()\n",
    }
    archive(builds.target.wheels, project, "demo-1.0.tar.gz", folder="demo-1.0")
    wanted = build(
        engine="uv", argv=[], environment={"CFLAGS": "-O3 -mavx2"},
        source={"kind": "index", "location": "demo==1.0", "sha256": None},
    )  # fmt: skip
    variables = {"UV_FIND_LINKS": str(builds.target.wheels)}
    result = builds.made(builds.params(wanted, {}, uv_environment=variables))
    assert result.get("changed") is True, result
    (made,) = result["builds"]
    assert "heard -O3 -mavx2" in Path(made["log"]).read_text().splitlines()
    assert made["file"] == "demo-1.0-py3-none-any.whl"
    missing = {**wanted, "source": {**wanted["source"], "location": "demo==7.0"}, "version": "7.0"}
    told = builds.made(builds.params(missing, {}, uv_environment=variables))
    assert (told["kind"], told["what"].partition(":")[0]) == (
        "no_such_package",
        "could not find the source of demo==7.0",
    )
