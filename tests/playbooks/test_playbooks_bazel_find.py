"""Which Bazel is taken: named, on PATH, or brought; and what is said where none fits."""

from __future__ import annotations

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.module_utils import provision_bazel_find as find
from ansible.module_utils.provision_build_context import Context
from ansible.module_utils.provision_failure import Failure
from playbook_bazel import BAZEL, build_data, context, needs_bazel

Make = Callable[..., Context]


@pytest.fixture
def box(tmp_path: Path) -> Make:
    """A context whose tree asks for Bazel 6.1.0, with only these programs on PATH."""

    def make(programs: dict[str, str] | None = None, version: str | None = "6.1.0", **settings: object) -> Context:
        tree, programs_folder = tmp_path / "tree", tmp_path / "programs"
        for folder in (tree, programs_folder):
            folder.mkdir(exist_ok=True)
        (tree / "WORKSPACE").touch()
        if version:
            (tree / ".bazelversion").write_text(f"{version}\n# NOTE: Update Bazel version elsewhere too")
        for name, script in (programs or {}).items():
            program(programs_folder / name, script)
        made = context(tmp_path / "box", tree, build_data(compiler=None), **{"bazel": "", **settings})
        made.environment["PATH"] = str(programs_folder)
        return made

    return make


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def says(version: str) -> str:
    return f'[ "$1" = --version ] && echo "bazel {version}"'


def test_the_trees_own_number_beats_the_plans(box: Make) -> None:
    made = box()
    made.build["bazel"]["version"] = "5.3.0"
    assert find.wanted_version(made) == "6.1.0"
    (made.tree / ".bazelversion").unlink()
    assert find.wanted_version(made) == "5.3.0"


@pytest.mark.parametrize(
    ("text", "version"),
    [("6.1.0\n", "6.1.0"), ("5.3.0\n# NOTE: x", "5.3.0"), ("7.0.0rc2", "7.0.0rc2"), ("latest\n", None), ("", None)],
)
def test_a_bazelversion_is_its_first_line(text: str, version: str | None) -> None:
    assert find.tree_version(text) == version


def test_the_right_one_on_path_is_taken_and_called_bazel(box: Make) -> None:
    made = box({"bazelisk": says("6.1.0"), "bazel": says("4.0.0")})
    found = find.find(made)
    assert (Path(found.program).name, found.version, found.tool) == ("bazelisk", "6.1.0", "bazel 6.1.0")
    assert found.environment["USE_BAZEL_VERSION"] == "6.1.0"
    assert Path(made.values["bazel"]).name == "bazel"
    assert Path(made.values["bazel"]).resolve() == Path(found.program)
    assert made.fill("{bazel} build") == f"{made.values['bazel']} build"
    assert made.notes == []


def test_a_wrong_one_that_is_named_stops_the_build(box: Make, tmp_path: Path) -> None:
    other = str(program(tmp_path / "bazel-5", says("5.3.0")))
    with pytest.raises(Failure) as caught:
        find.find(box(bazel=other))
    assert (caught.value.kind, caught.value.what) == (
        "bazel", f"{other} is Bazel 5.3.0, and demo 1.0 is built with 6.1.0"
    )  # fmt: skip
    assert caught.value.hint == (
        "leave --bazel out (Bazelisk then brings 6.1.0), or give --force to try 5.3.0 all the same"
    )
    made = box(bazel=other, force=True)
    assert find.find(made).version == "5.3.0"
    assert made.notes == [f"the tree asks for Bazel 6.1.0, and {other} is 5.3.0: used because of --force"]


def test_one_without_a_number_is_taken_only_when_it_is_named(box: Make, tmp_path: Path) -> None:
    silent = str(program(tmp_path / "bazel-4", says("no_version")))
    made = box(bazel=silent)
    assert find.find(made).version is None
    assert made.notes == [f"{silent} says no version number; demo 1.0 asks for Bazel 6.1.0"]
    with pytest.raises(Failure) as caught:
        find.find(box({"bazel": says("no_version")}))
    assert "programs/bazel says no version number" in caught.value.why


@pytest.mark.parametrize(
    ("script", "why"),
    [("exit 3", "ended with status 3: it printed nothing"), ("echo hello", "ended with status 0: hello")],
)
def test_a_program_that_is_no_bazel(box: Make, tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(Failure) as caught:
        find.find(box(bazel=str(program(tmp_path / "other", script))))
    assert caught.value.what == f"{tmp_path}/other does not work as Bazel 6.1.0"
    assert caught.value.why.endswith(why)


def test_a_program_that_is_not_there(box: Make) -> None:
    with pytest.raises(Failure) as caught:
        find.find(box(bazel="/nowhere/bazel"))
    assert caught.value.what == "there is no program /nowhere/bazel"


def test_no_bazel_at_all_names_every_way_out(box: Make) -> None:
    made = box({"bazel": says("5.3.0")})
    with pytest.raises(Failure) as caught:
        find.find(made)
    assert caught.value.what == "there is no Bazel 6.1.0 for demo 1.0, and none could be brought"
    assert caught.value.why.splitlines() == [
        f"{made.environment['PATH']}/bazel is Bazel 5.3.0",
        "npm, which could bring Bazelisk, is not here",
    ]
    for way in ("6.1.0/bazel-6.1.0-linux-", str(made.build_folder / "bazelisk"), "--bazel PATH"):
        assert way in caught.value.hint


def test_a_stand_in_only_answers_configure(box: Make) -> None:
    made = box()
    found = find.find(made, stand_in=True)
    assert found.stand_in
    assert find.ask(made, made.values["bazel"], {}).version == "6.1.0"
    assert made.run([made.values["bazel"], "build", "//x"]) == 1
    with pytest.raises(Failure):
        find.find(box())


def test_npm_that_fails_and_a_package_with_another_program(box: Make) -> None:
    with pytest.raises(Failure) as caught:
        find.find(box({"npm": "echo 'npm ERR! code ENOTFOUND' >&2; exit 1"}))
    assert "npm could not bring Bazelisk 1.28.1: npm ERR! code ENOTFOUND" in caught.value.why
    name = find.LAUNCHERS.get(os.uname().machine, ("none", ""))[0]
    packed = f"/bin/mkdir package; echo evil > package/{name}; PATH=/usr/bin:/bin tar czf bazelisk.tgz package"
    with pytest.raises(Failure) as told:
        find.find(box({"npm": packed}))
    assert "what npm brought as Bazelisk 1.28.1 is not Bazelisk 1.28.1" in told.value.why


@pytest.mark.bazel
def test_debians_wrapper_is_told_apart_from_a_bazel(box: Make) -> None:
    needs_bazel()
    made = box(version="7.4.1", bazel="/usr/bin/bazel")
    made.environment["PATH"] = "/usr/bin:/bin"
    with pytest.raises(Failure) as caught:
        find.find(made)
    assert caught.value.what == "/usr/bin/bazel has no Bazel 7.4.1, which demo 1.0 is built with"
    assert caught.value.why == "it only chooses among programs called bazel-VERSION in /usr/bin, and downloads none"
    assert f"as {BAZEL}," in caught.value.hint
    forced = box(version="7.4.1", bazel="/usr/bin/bazel", force=True)
    forced.environment["PATH"] = "/usr/bin:/bin"
    found = find.find(forced)
    assert (found.version, found.environment["USE_BAZEL_VERSION"]) == (None, "latest")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server as BAZELISK_BASE_URL names it: its address, its folder, and what was asked of it."""
    folder, asked = tmp_path / "mirror", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type, misc]

        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()
        thread.join()


@pytest.mark.network
def test_bazelisk_comes_from_npm_and_brings_bazel_from_a_mirror(box: Make, mirror: tuple[str, Path, list[str]]) -> None:
    if shutil.which("npm") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("npm is not installed")
    url, folder, asked = mirror
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    file = f"6.1.0/bazel-6.1.0-linux-{machine}"
    (folder / "6.1.0").mkdir()
    program(folder / file, says("6.1.0"))
    made = box(bazelisk_base_url=url)
    made.environment["PATH"] = os.environ["PATH"]
    hide_own_bazel(made)
    found = find.find(made)
    assert (Path(found.program), found.version) == (made.build_folder / "bin" / "bazelisk-1.28.1", "6.1.0")
    assert asked == [f"/{file}"]
    # a second time nothing is downloaded, neither the launcher nor Bazel
    again = box(bazelisk_base_url=url)
    assert find.find(again).version == "6.1.0"
    assert asked == [f"/{file}"]
    # a closed network: the mirror does not have it
    (made.tree / ".bazelversion").write_text("6.9.9\n")
    with pytest.raises(Failure) as caught:
        find.find(made)
    assert "Bazelisk: " in caught.value.why
    assert "could not download Bazel" in caught.value.why


def hide_own_bazel(made: Context) -> None:
    """PATH without the machine's own Bazel: a folder with npm and node alone."""
    folder = made.scratch / "path"
    folder.mkdir(exist_ok=True)
    for name in ("npm", "node", "sh", "env", "tar"):
        real = shutil.which(name, path=made.environment["PATH"])
        if real and not (folder / name).exists():
            (folder / name).symlink_to(real)
    made.environment["PATH"] = str(folder)
