"""A tree's configure: run with a clean slate, and its answer read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import provision_bazel as bazel
from ansible.module_utils import provision_build_configure as configuring
from ansible.module_utils.provision_build_context import Context
from ansible.module_utils.provision_failure import Failure
from hypothesis import given
from hypothesis import strategies as st
from playbook_bazel import build_data, context

# Written by the configure of 2.15.0, run with Clang 16 and without CUDA.
WRITTEN = """\
build --action_env PYTHON_BIN_PATH="/usr/bin/python3"
build --action_env PYTHON_LIB_PATH="/usr/lib/python3/dist-packages"
build --python_path="/usr/bin/python3"
build --action_env CLANG_COMPILER_PATH="/usr/lib/llvm-16/bin/clang"
build --repo_env=CC=/usr/lib/llvm-16/bin/clang
build:opt --copt=-Wno-sign-compare
build:opt --host_copt=-Wno-sign-compare
build:cuda --repo_env HERMETIC_CUDA_COMPUTE_CAPABILITIES="3.5,7.0"
"""

# In the manner of TensorFlow's: looks into the environment, asks where it finds nothing, takes a default at the end of
# input, wants a Bazel, and writes one file.
CONFIGURE = """
import os, subprocess, sys
def answer(name, default):
    if os.environ.get(name):
        return os.environ[name]
    print(f"Please specify {name} [Default is: {default}]: ", end="")
    try:
        return input() or default
    except EOFError:
        print()
        return default
print("You have", subprocess.run(["bazel", "--version"], capture_output=True, text=True).stdout.strip(), "installed.")
open("inherited", "w").write("\\n".join(sorted(os.environ)))
ask = answer("CC_OPT_FLAGS", "-march=native")
capabilities = answer("CAPABILITIES", "3.5,7.0")
if any("." not in one for one in capabilities.split(",")):
    print("Invalid compute capability", capabilities)
    capabilities = "3.5,7.0"
if os.environ.get("FAIL"):
    open(".tf_configure.bazelrc", "w").write("build --half\\n")
    for _ in range(10):
        print("Please specify the CUDA paths: ")
        print("Could not find any cuda.h matching version '12.2'")
    for number in range(20):
        print("Traceback, line", number)
    sys.exit(1)
if not os.environ.get("SILENT"):
    with open(".tf_configure.bazelrc", "w") as file:
        for word in ask.split():
            file.write(f"build:opt --copt={word}\\n")
        file.write(f'build   --action_env TF_CUDA_COMPUTE_CAPABILITIES="{capabilities}"\\n')
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A context whose tree has that configure, no Bazel anywhere, and a user with variables of their own."""
    monkeypatch.setenv("CAPABILITIES", "9.0")
    monkeypatch.setenv("TF_NEED_CUDA", "1")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "configure.py").write_text(CONFIGURE)
    (tree / ".bazelversion").write_text("6.1.0\n# NOTE: a comment, as from 2.10 on\n")

    def make(expected: list[str], forbidden: tuple[str, ...] = (), **environment: str) -> Context:
        asked = {
            "argv": ["/usr/bin/python3", "configure.py"], "environment": environment,
            "writes": ".tf_configure.bazelrc", "expected": expected, "forbidden": forbidden,
        }  # fmt: skip
        found = context(tmp_path / "box", tree, build_data(configure=asked, compiler=None), bazel="")
        found.environment["PATH"] = "/nowhere"
        found.settings["until"] = "configure"  # type: ignore[index]
        return found

    return make


def test_what_was_asked_is_written_and_told(made: Any) -> None:
    context = made(
        ["build:opt --copt=-mavx2", 'build --action_env  TF_CUDA_COMPUTE_CAPABILITIES="8.6"'],
        ('"3.5,7.0"',), CC_OPT_FLAGS="-mavx2 -mfma", CAPABILITIES="8.6",
    )  # fmt: skip
    done = bazel.configure(context)
    assert done.file == ".tf_configure.bazelrc"
    assert done.text.splitlines()[:2] == ["build:opt --copt=-mavx2", "build:opt --copt=-mfma"]


def test_configure_runs_without_any_bazel_and_says_so(made: Any) -> None:
    context = made([], CC_OPT_FLAGS="-O2", CAPABILITIES="8.6")
    bazel.configure(context)
    assert "You have bazel 6.1.0 installed." in context.log.read_text()
    (note,) = context.notes
    assert note.startswith("no Bazel 6.1.0 is here (there is no Bazel 6.1.0 for demo 1.0, and none could be brought)")
    assert note.endswith("configure was told that there is one")


def test_nothing_of_the_user_reaches_it(made: Any) -> None:
    context = made([], CC_OPT_FLAGS="-O2", CAPABILITIES="8.6")
    bazel.configure(context)
    inherited = set((context.tree / "inherited").read_text().split())
    assert {"PATH", "HOME", "CAPABILITIES"} <= inherited
    assert not {"TF_NEED_CUDA", "OPENBLAS_CORETYPE", "PYTHONPATH"} & inherited


def test_a_silent_default_is_an_error(made: Any) -> None:
    context = made(
        ["build:opt --copt=-O2", 'build --action_env TF_CUDA_COMPUTE_CAPABILITIES="8.6,9"'], ('"3.5,7.0"',),
        CC_OPT_FLAGS="-O2", CAPABILITIES="8.6,9",
    )  # fmt: skip
    with pytest.raises(Failure) as caught:
        bazel.configure(context)
    assert caught.value.kind == "configure"
    assert caught.value.what == "configure wrote something else into .tf_configure.bazelrc than what was asked"
    assert caught.value.why.splitlines() == [
        'asked: build --action_env TF_CUDA_COMPUTE_CAPABILITIES="8.6,9"',
        'written: build --action_env TF_CUDA_COMPUTE_CAPABILITIES="3.5,7.0"',
        'not asked for ("3.5,7.0"): build --action_env TF_CUDA_COMPUTE_CAPABILITIES="3.5,7.0"',
    ]


def test_one_that_fails_says_each_thing_once_and_that_its_file_is_cut(made: Any) -> None:
    context = made([], CC_OPT_FLAGS="-O2", CAPABILITIES="8.6", FAIL="1")
    with pytest.raises(Failure) as caught:
        bazel.configure(context)
    assert caught.value.what == "configure failed"
    lines = caught.value.why.splitlines()
    assert lines[0] == "`/usr/bin/python3 configure.py` ended with status 1"
    assert lines[1] == ".tf_configure.bazelrc is cut short"
    assert lines[2] == "Could not find any cuda.h matching version '12.2'"
    assert lines.count(lines[2]) == 1
    assert caught.value.hint.startswith("name the CUDA toolkit's root folders")


def test_one_that_ends_well_without_writing_is_an_error_even_after_a_good_run(made: Any) -> None:
    bazel.configure(made([], CC_OPT_FLAGS="-O2", CAPABILITIES="8.6"))
    with pytest.raises(Failure) as caught:
        bazel.configure(made([], CC_OPT_FLAGS="-O2", CAPABILITIES="8.6", SILENT="1"))
    assert caught.value.what == "configure ended well, and wrote no .tf_configure.bazelrc"


def test_a_tree_without_configure(made: Any, tmp_path: Path) -> None:
    context = made([])
    (tmp_path / "tree" / "configure.py").unlink()
    with pytest.raises(Failure) as caught:
        bazel.configure(context)
    assert caught.value.what == "configure failed"
    assert "No such file or directory" in caught.value.why


# ── reading back ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_line_that_was_written_is_found_again() -> None:
    assert configuring.differences(WRITTEN, WRITTEN.splitlines(), ()) == []
    assert configuring.differences(WRITTEN, ['build   --python_path="/usr/bin/python3" '], ()) == []


@given(st.lists(st.sampled_from(WRITTEN.splitlines())), st.randoms())
def test_order_and_blanks_do_not_matter(expected: list[str], random: Any) -> None:
    lines = WRITTEN.splitlines()
    random.shuffle(lines)
    assert configuring.differences("\n".join(lines), [line.replace(" ", "   ") for line in expected], ()) == []


@pytest.mark.parametrize("line", WRITTEN.splitlines())
def test_each_line_that_is_missing_is_told(line: str) -> None:
    text = WRITTEN.replace(line + "\n", "")
    assert configuring.differences(text, [line], ())[0] == f"asked: {line}"


def test_a_compiler_is_the_same_by_its_real_path(tmp_path: Path) -> None:
    """TensorFlow's configure resolves GCC_HOST_COMPILER_PATH, and leaves CLANG_COMPILER_PATH as it is."""
    (tmp_path / "x86_64-linux-gnu-gcc-12").touch()
    (tmp_path / "gcc-12").symlink_to("x86_64-linux-gnu-gcc-12")
    written = f'build --action_env GCC_HOST_COMPILER_PATH="{tmp_path}/x86_64-linux-gnu-gcc-12"\n'
    asked = f'build --action_env GCC_HOST_COMPILER_PATH="{tmp_path}/gcc-12"'
    assert configuring.differences(written, [asked], ()) == []
    assert configuring.differences(written, [asked.replace("gcc-12", "gcc-11")], ()) == [
        f'asked: build --action_env GCC_HOST_COMPILER_PATH="{tmp_path}/gcc-11"',
        f'written: build --action_env GCC_HOST_COMPILER_PATH="{tmp_path}/x86_64-linux-gnu-gcc-12"',
    ]


def test_what_is_there_instead_is_shown() -> None:
    found = configuring.differences(
        WRITTEN, ["build --repo_env=CC=/usr/bin/clang-19", "build --config=cuda", "build:opt --copt=-mavx2"], ("sign-",)
    )
    assert found == [
        "asked: build --repo_env=CC=/usr/bin/clang-19", "written: build --repo_env=CC=/usr/lib/llvm-16/bin/clang",
        "asked: build --config=cuda", "written: no such line",
        "asked: build:opt --copt=-mavx2", "written: build:opt --copt=-Wno-sign-compare",
        "not asked for (sign-): build:opt --copt=-Wno-sign-compare",
        "not asked for (sign-): build:opt --host_copt=-Wno-sign-compare",
    ]  # fmt: skip
