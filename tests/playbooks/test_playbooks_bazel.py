"""Real builds of a small workspace: what is built, counted, kept apart and told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.module_utils import provision_bazel as bazel
from ansible.module_utils.provision_build_context import BuildFailure, Context
from ansible.module_utils.provision_failure import Failure
from playbook_bazel import ACTIONS, COMPILES, FILES, Said, build_data, compiler, context, needs_bazel, workspace
from playbook_target import kill_marked

pytestmark = pytest.mark.bazel

EXCHANGED = """#!/bin/sh
[ "$*" = --version ] && echo "gcc (Debian {version}) 12.2.0" && exit
exec /usr/bin/gcc-12 "$@"
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    needs_bazel()
    yield tmp_path
    kill_marked(str(tmp_path))


def servers(made: Context) -> list[int]:
    """Processes of this box's Bazel."""
    mark = os.fsencode(made.build_folder / "bazel")
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_wheel_is_built_and_every_action_counted(box: Path) -> None:
    made = context(box, workspace(box / "tree"))
    done = bazel.build(made)
    assert [path.name for path in done.folder.iterdir()] == ["demo-1.0-py3-none-any.whl"]
    assert (done.cache_hits, done.compile_actions, done.remote_cache) == (0, COMPILES, "")
    assert done.actions is not None
    assert done.actions >= ACTIONS
    assert done.tool == "bazel (no version number)"
    assert made.notes == ["/usr/bin/bazel-4 says no version number; demo 1.0 asks for Bazel of any version"]
    assert isinstance(made.report, Said)
    assert {"done", "total", "cached", "running", "elapsed_s", "remaining_s", "guess"} == set(made.report.builds[-1])
    for each in made.afterwards:
        each()
    assert servers(made) == []
    assert stat.S_IMODE((made.folder / "bep.json").stat().st_mode) == 0o600
    assert not (made.scratch / "bep.json").exists()


def test_a_home_whose_name_is_not_ascii(box: Path) -> None:
    """Bazel 4.2.3 cannot open its events there: "Bazel's server died" was all that came of it."""
    made = context(box, workspace(box / "tree"))
    made.folder = box / "data h\u00f4me"
    made.folder.mkdir()
    assert bazel.build(made).compile_actions == COMPILES
    assert (made.folder / "bep.json").stat().st_size > 1000


def test_a_sandboxed_build_is_counted_too(box: Path) -> None:
    assert bazel.build(context(box, workspace(box / "tree", strategy="sandboxed"))).compile_actions == COMPILES


def test_what_is_in_the_tree_is_not_built_again_and_a_new_tree_takes_it_from_the_disk_cache(box: Path) -> None:
    bazel.build(context(box, workspace(box / "tree")))
    again = bazel.build(context(box, box / "tree"))
    assert (again.compile_actions, again.cache_hits) == (0, 0)
    elsewhere = bazel.build(context(box, workspace(box / "other")))
    assert (elsewhere.compile_actions, elsewhere.cache_hits) == (0, ACTIONS)


def test_another_compiler_or_flag_is_never_served(box: Path) -> None:
    tree = workspace(box / "tree")
    flagged = build_data(copts=[{"option": "-O3"}])
    flagged["bazel"]["options"] = ["-c", "opt", "--copt=-O3"]
    clang = build_data(compiler=compiler("/usr/bin/clang-16", "clang"))
    for build in (build_data(), flagged, clang):
        done = bazel.build(context(box, tree, build))
        assert (done.cache_hits, done.compile_actions) == (0, COMPILES)
    back = bazel.build(context(box, tree))
    assert (back.cache_hits, back.compile_actions) == (ACTIONS, 0)


def test_a_compiler_that_was_exchanged_at_its_place_is_another_one(box: Path) -> None:
    """Bazel alone does not see it: the key of its actions has the compiler's path, not its content."""
    program = box / "gcc"
    # as an update of the distribution's package does it: the same path says another version
    for version in ("12.2.0-14", "12.2.0-15"):
        program.write_text(EXCHANGED.format(version=version))
        program.chmod(0o755)
        done = bazel.build(context(box, box / "tree" if version.endswith("15") else workspace(box / "tree"),
                                   build_data(compiler=compiler(str(program)))))  # fmt: skip
        assert (done.cache_hits, done.compile_actions) == (0, COMPILES)


def test_a_compile_error_is_told_in_the_compilers_own_words(box: Path) -> None:
    build = build_data()
    build["bazel"]["target"] = "//src:broken"
    made = context(box, workspace(box / "tree"), build)
    with pytest.raises(BuildFailure) as caught:
        bazel.build(made)
    failure = caught.value
    assert failure.kind == "build"
    assert failure.what == "building demo 1.0 failed: compiling broken.cc"
    assert failure.why == "src/broken.cc:1:10: fatal error: nowhere.h: No such file or directory"
    assert failure.label == "//src:broken"
    assert failure.command.startswith("/usr/bin/gcc-12 ")
    assert failure.log_tail.splitlines()[-1] == "compilation terminated."
    assert Path(failure.log).read_text().count("nowhere.h: No such file") == 1
    assert servers(made) == []


def test_a_target_that_is_not_there_and_an_option_that_bazel_does_not_know(box: Path) -> None:
    tree = workspace(box / "tree")
    build = build_data()
    build["bazel"]["target"] = "//src:nosuch"
    with pytest.raises(BuildFailure) as caught:
        bazel.build(context(box, tree, build))
    assert caught.value.what == "Bazel could not build demo 1.0"
    assert "no such target '//src:nosuch'" in caught.value.why
    build["bazel"]["options"] = ["--no_such_flag"]
    with pytest.raises(Failure) as told:
        bazel.build(context(box, tree, build))
    assert (told.value.kind, told.value.what) == ("bazel", "Bazel does not understand how demo 1.0 is to be built")
    assert "Unrecognized option: --no_such_flag" in told.value.why


def test_a_folder_with_a_blank_in_its_name(box: Path) -> None:
    made = context(box / "my builds", workspace(box / "tree"))
    with pytest.raises(Failure) as caught:
        bazel.build(made)
    assert (caught.value.kind, caught.value.what) == ("bazel", f"Bazel cannot build below {made.build_folder}")
    assert caught.value.hint == "name another folder with --build-folder (provision_build_folder)"


def test_a_target_without_a_wheel(box: Path) -> None:
    build = build_data()
    build["bazel"]["target"] = "//src:app"
    with pytest.raises(Failure) as caught:
        bazel.build(context(box, workspace(box / "tree"), build))
    assert (caught.value.kind, caught.value.what) == ("wheel", "the target //src:app has made no wheel")
    assert "src/app" in caught.value.why


def test_the_wheel_step_of_old_releases_and_its_failure(box: Path) -> None:
    script = '#!/bin/sh\n[ -x bazel-bin/src/app ] && cp bazel-bin/src/app "$1/demo-1.0-py3-none-any.whl"\n'
    tree = workspace(box / "tree", {"pack.sh": script, "fail.sh": "#!/bin/sh\necho error: no patchelf >&2; exit 4\n"})
    build = build_data()
    build["bazel"].update(target="//src:app", wheel_argv=["sh", "pack.sh", "{wheels}"])
    done = bazel.build(context(box, tree, build))
    assert [path.name for path in done.folder.iterdir()] == ["demo-1.0-py3-none-any.whl"]
    build["bazel"]["wheel_argv"] = ["sh", "fail.sh"]
    with pytest.raises(BuildFailure) as caught:
        bazel.build(context(box, tree, build))
    assert (caught.value.what, caught.value.why) == ("packing the wheel of demo 1.0 failed", "error: no patchelf")


def test_what_the_user_has_in_their_own_bazelrc_does_not_steer_a_build(box: Path) -> None:
    (box / ".bazelrc").write_text("build --copt=-DNOT_IN_THE_PLAN --no_such_flag\n")
    made = context(box, workspace(box / "tree"))
    bazel.build(made)
    assert "NOT_IN_THE_PLAN" not in made.log.read_text()


def test_files_of_the_workspace_are_what_the_counts_above_say() -> None:
    assert sum(name.endswith(".cc") and "broken" not in name for name in FILES) == COMPILES
