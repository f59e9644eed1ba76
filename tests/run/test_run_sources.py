"""What --source means, and what is said to what it cannot mean."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_values import FILES, git, repository, tree, write

from provision.errors import UsageError
from provision.run.sources import source_of


def refused(text: object, framework: str = "tensorflow") -> UsageError:
    with pytest.raises(UsageError) as stop:
        source_of(str(text), framework)
    return stop.value


# --- trees ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framework", "version", "bazel"),
    [("tensorflow", "2.15.1", "6.1.0"), ("pytorch", "2.9.0", None), ("numpy", "2.4.6", None)],
)
def test_a_tree_says_its_version(tmp_path, framework, version, bazel):
    source = source_of(str(tree(tmp_path / "t", framework)), framework)
    assert (source.kind, source.location) == ("tree", str(tmp_path / "t"))
    assert (source.version, source.bazel) == (version, bazel)


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("tensorflow/tf_version.bzl", 'TF_VERSION = "2.21.0"\n', "2.21.0"),
        ("tensorflow/tools/pip_package/setup.py.tpl", "_VERSION = '2.19.1'\n", "2.19.1"),
        ("tensorflow/tools/pip_package/setup.py", "_VERSION = '2.13.0-rc1'\n", "2.13.0rc1"),
        ("tensorflow/tensorflow.bzl", 'VERSION = "2.18.0"\n', "2.18.0"),
        ("tensorflow/tensorflow.bzl", "nothing\n", None),
    ],
)
def test_each_era_of_tensorflow_says_its_version_elsewhere(tmp_path, file, text, version):
    folder = tree(tmp_path / "t")
    (folder / "tensorflow/tools/pip_package/setup.py").write_text("_VERSION = '0.0.0'\n")
    write(folder, {file: text})
    assert source_of(str(folder), "tensorflow").version == version


def test_a_tree_that_is_not_tensorflow(tmp_path):
    error = refused(tree(tmp_path / "torch-tree", "pytorch"))
    assert error.what == f"{tmp_path}/torch-tree is not a source tree of TensorFlow"
    assert error.why == (
        "it has no configure.py, no tensorflow, no tensorflow/tools/pip_package, no WORKSPACE (or MODULE.bazel); "
        "it looks like PyTorch"
    )
    assert error.hint == "--framework pytorch builds it"


def test_what_is_missing_is_named(tmp_path):
    folder = tree(tmp_path / "t")
    (folder / "configure.py").unlink()
    assert refused(folder).why == "it has no configure.py"
    (folder / "MODULE.bazel").touch()
    (folder / "WORKSPACE").unlink()
    assert refused(folder).why == "it has no configure.py"


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("tensorflow/include/x.h", "an installed wheel of TensorFlow"),
        ("keras/src/x.py", "it looks like Keras"),
        ("jaxlib/x.py", "it looks like JAX"),
        ("tensorflow_serving/x.cc", "it looks like TensorFlow Serving"),
    ],
)
def test_what_it_is_instead(tmp_path, marker, said):
    write(tmp_path, {marker: ""})
    assert said in refused(tmp_path).why


def test_another_project_is_named(tmp_path):
    write(tmp_path, {"pyproject.toml": '[project]\nname = "Pandas"\n'})
    assert "its pyproject.toml is that of pandas" in refused(tmp_path).why
    assert refused(tmp_path, "numpy").why.startswith('it has no pyproject.toml with name = "numpy"')


def test_the_folder_above(tmp_path):
    tree(tmp_path / "tensorflow")
    assert refused(tmp_path).hint == "give that folder: --source FOLDER/tensorflow"


def test_a_bare_repository_is_no_tree(tmp_path):
    git(tmp_path, "init", "--quiet", "--bare", "bare")
    error = refused(tmp_path / "bare")
    assert "it looks like a bare git repository" in error.why
    assert error.hint == "add the tag that is to be built: --source FOLDER@TAG"


def test_submodules_that_were_not_fetched(tmp_path):
    modules = '[submodule "a"]\n\tpath = third_party/a\n[submodule "b"]\n\tpath = third_party/b\n'
    folder = tree(tmp_path / "t", "pytorch", **{".gitmodules": modules, "third_party/b/x.h": ""})
    (folder / "third_party/a").mkdir()
    error = refused(folder, "pytorch")
    assert error.what == f"{folder} lacks its submodules"
    assert error.why == "it names 2 in .gitmodules, and these are empty: third_party/a"
    write(folder, {"third_party/a/x.h": ""})
    assert source_of(str(folder), "pytorch").version == "2.9.0"


def test_the_hash_is_of_names_kinds_and_contents(tmp_path):
    folder = tree(tmp_path / "t")

    def now() -> str | None:
        return source_of(str(folder), "tensorflow").sha256

    seen = [now()]
    (folder / "WORKSPACE").write_text("x")
    seen.append(now())
    (folder / "WORKSPACE").chmod(0o755)
    seen.append(now())
    (folder / "link").symlink_to("WORKSPACE")
    seen.append(now())
    (folder / "WORKSPACE").rename(folder / "WORKSPACE.bazel")
    (folder / "MODULE.bazel").touch()
    seen.append(now())
    assert len(set(seen)) == 5


def test_the_hash_does_not_know_git_bazel_and_configure(tmp_path):
    folder = tree(tmp_path / "t")
    before = source_of(str(folder), "tensorflow").sha256
    write(folder, {".git/HEAD": "", "tensorflow/__pycache__/x.pyc": "", ".tf_configure.bazelrc": ""})
    write(folder, {"tools/python_bin_path.sh": ""})
    (folder / "bazel-out").symlink_to("/nonexistent")
    os.utime(folder / "WORKSPACE", (0, 0))
    (folder / "WORKSPACE").chmod(0o600)
    assert source_of(str(folder), "tensorflow").sha256 == before


@pytest.mark.parametrize("target", ["/etc/passwd", "../../elsewhere", "a/../../../x"])
def test_a_link_that_leads_out(tmp_path, target):
    folder = tree(tmp_path / "t")
    (folder / "tensorflow/link").symlink_to(target)
    error = refused(folder)
    assert error.what == f"the source tree {folder} holds a link that leads out of it"
    assert error.why == f"tensorflow/link points to {target}, which no other machine has"
    (folder / "tensorflow/link").unlink()
    (folder / "tensorflow/link").symlink_to("../WORKSPACE")
    assert source_of(str(folder), "tensorflow").sha256


def test_a_pipe_is_no_source(tmp_path):
    folder = tree(tmp_path / "t")
    os.mkfifo(folder / "pipe")
    assert refused(folder).why == "pipe is neither a file nor a folder nor a link"


# --- archives ---------------------------------------------------------------------------------------------------


def packed(tmp_path: Path, name: str = "tensorflow-2.15.1.tar.gz") -> Path:
    folder = tree(tmp_path / "tensorflow-2.15.1")
    file = tmp_path / name
    if name.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(tmp_path))
    else:
        with tarfile.open(file, "w:" + name.rpartition(".")[2].replace("tgz", "gz")) as tar:
            tar.add(folder, folder.name)
    return file


@pytest.mark.parametrize("name", ["t.tar.gz", "t.tgz", "t.tar.xz", "t.zip"])
def test_an_archive_is_looked_into(tmp_path, name):
    file = packed(tmp_path, name)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for text in (str(file), f"{file}#sha256={digest}", f"{file}#sha256={digest.upper()}"):
        source = source_of(text, "tensorflow")
        assert (source.kind, source.location, source.sha256) == ("tarball", str(file), digest)
        assert (source.version, source.bazel) == ("2.15.1", "6.1.0")


def test_an_archive_with_another_checksum(tmp_path):
    file = packed(tmp_path)
    error = refused(f"{file}#sha256={'0' * 64}")
    assert error.what == f"{file} is not the file that was asked for"
    assert error.why == f"its SHA-256 is {hashlib.sha256(file.read_bytes()).hexdigest()}, wanted is {'0' * 64}"
    assert "no usable checksum" in refused(f"{file}#sha256=12").what
    assert "no usable checksum" in refused(f"{file}#md5=12").what


def test_an_archive_of_something_else_and_one_that_is_none(tmp_path):
    write(tmp_path / "x", {"a.txt": ""})
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "x", "x")
    assert refused(tmp_path / "x.tar.gz").what == f"{tmp_path}/x.tar.gz is not a source tree of TensorFlow"
    for name in ("cut.tar.gz", "cut.zip", "cut.tar.xz"):
        (tmp_path / name).write_bytes((tmp_path / "x.tar.gz").read_bytes()[:60])
        assert refused(tmp_path / name).what == f"{name} cannot be unpacked"
    (tmp_path / "x.rpm").touch()
    assert refused(tmp_path / "x.rpm").what == f"--source {tmp_path}/x.rpm is no archive"


def test_an_archive_that_would_write_elsewhere(tmp_path):
    for name, link in (("t/../../evil", None), ("t/link", "/etc/passwd"), ("t/link", "../../x"), ("/evil", None)):
        with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = (tarfile.SYMTYPE, link) if link else (tarfile.REGTYPE, "")
            tar.addfile(entry)
            tar.addfile(tarfile.TarInfo("t/x"))
        error = refused(tmp_path / "evil.tar.gz")
        assert error.what == "the archive holds what no source tree does", name
        assert "outside the tree" in error.why


# --- addresses --------------------------------------------------------------------------------------------------


def test_an_address_needs_its_checksum():
    digest = "a" * 64
    source = source_of(f"https://example.org/v2.15.1.tar.gz#sha256={digest}", "tensorflow")
    assert (source.kind, source.location) == ("tarball", "https://example.org/v2.15.1.tar.gz")
    assert (source.sha256, source.version) == (digest, None)
    error = refused("https://example.org/v2.15.1.tar.gz")
    assert error.what == "--source https://example.org/v2.15.1.tar.gz comes without a checksum"
    assert error.hint.startswith("add it: https://example.org/v2.15.1.tar.gz#sha256=HEX")


def test_credentials_are_refused_and_not_repeated():
    for text in (
        f"https://me:hunter2@example.org/x.tar.gz#sha256={'a' * 64}",
        "https://me:hunter2@example.org/x.git@v1",
        "ssh://me:hunter2@example.org/x.git@v1",
    ):
        error = refused(text)
        assert error.what == "--source with a user name or password in it"
        assert "hunter2" not in error.why + error.hint


# --- repositories -----------------------------------------------------------------------------------------------


def test_a_repository_of_this_machine_is_looked_into(tmp_path):
    folder = repository(tmp_path / "r@x", "v2.15.1")
    for text in (f"{folder}@v2.15.1", f"file://{folder}@v2.15.1", f"{folder}@master"):
        source = source_of(text, "tensorflow")
        assert (source.kind, source.location, source.ref) == ("git", str(folder), text.rpartition("@")[2])
        assert (source.version, source.bazel) == ("2.15.1", "6.1.0")
        assert source.size_mib == 1
    commit = git(folder, "rev-parse", "HEAD")
    assert source_of(f"{folder}@{commit}", "tensorflow").version == "2.15.1"
    assert refused(f"{folder}@{'0' * 40}").what == f"{folder} has no commit {'0' * 40}"


def test_a_tag_that_does_not_exist_has_neighbours(tmp_path):
    folder = repository(tmp_path / "r", "v2.15.0", "v2.15.1", "v2.14.0", "docs")
    error = refused(f"{folder}@2.15.1")
    assert error.what == f"{folder} has no tag or branch 2.15.1"
    assert error.why.startswith("it has 4 tags; the nearest are v2.15.1, v2.15.0")
    assert error.hint == f"--source {folder}@v2.15.1"
    other = refused(f"{folder}@qqq")
    assert other.why == "its tags are docs, v2.14.0, v2.15.0, v2.15.1"
    assert other.hint == f"see them all: git ls-remote --tags {folder}"
    assert refused(f"{repository(tmp_path / 'one', 'v2.15.1')}@v9").why == "its only tag is v2.15.1"
    assert refused(f"{repository(tmp_path / 'none')}@v9").why == "it has none"


def test_a_repository_of_something_else(tmp_path):
    folder = repository(tmp_path / "r", "v1", framework="numpy")
    error = refused(f"{folder}@v1")
    assert error.what == f"{folder}@v1 is not a source tree of TensorFlow"
    assert error.why.endswith("it looks like NumPy")


def test_a_repository_without_a_tag(tmp_path):
    for text in ("https://example.org/tensorflow.git", "git@example.org:tensorflow/tensorflow.git"):
        error = refused(text)
        assert error.what == f"--source {text} names a repository without a tag"
        assert error.hint == f"--source {text}@TAG"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("http://example.org/x.git@v1", "--source http://example.org/x.git is not protected on its way"),
        ("ext::sh -c true://x@v1", "--source ext::sh -c true://x is not an address that is taken"),
        ("ftp://example.org/x@v1", "--source ftp://example.org/x is not an address that is taken"),
        ("https://example.org/x@v1;rm", "'v1;rm' is not a tag"),
        ("https://example.org/x@--upload-pack=x", "'--upload-pack=x' is not a tag"),
        ("https://example.org/x@a..b", "'a..b' is not a tag"),
        ("/nonexistent/tensorflow", "there is no source /nonexistent/tensorflow"),
        ("/nonexistent/x.tar.gz", "there is no source /nonexistent/x.tar.gz"),
        ("--help", "--source '--help' names no source"),
        ("", "--source '' names no source"),
        ("v2.15.1@", "--source v2.15.1@ names no source"),
        ("~no-such-user-here/x", "--source '~no-such-user-here/x' names no source"),
        ("x" * 5000, f"--source '{'x' * 200}' names no source"),
        ("https://[x/t.tar.gz", "--source 'https://[x/t.tar.gz' names no source"),
    ],
)
def test_what_cannot_be_meant(text, what):
    assert refused(text).what == what


def test_a_repository_elsewhere_that_cannot_be_asked_now_is_no_error_yet():
    source = source_of("https://127.0.0.1:1/tensorflow.git@v2.15.1", "tensorflow")
    assert (source.kind, source.ref, source.version) == ("git", "v2.15.1", None)


@given(st.text(alphabet="ab/.@#~-:[]=% \x00é", max_size=40))
def test_no_text_breaks_it(text):
    with suppress(UsageError):  # some are folders: "/", "."
        source_of(text, "tensorflow")


def test_a_framework_without_recipe(tmp_path):
    error = refused(tmp_path, "jax")
    assert error.what == "--source is for tensorflow, pytorch, numpy, and jax was asked for"


def test_a_machine_without_git(tmp_path, monkeypatch):
    folder = repository(tmp_path / "r", "v1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match="git is not installed here") as stop:
        source_of(f"{folder}@v1", "tensorflow")
    assert "--source FILE.tar.gz" in stop.value.hint


def test_the_trees_of_these_tests_are_known_by_no_more_than_they_must(tmp_path):
    for framework, files in FILES.items():
        for name in files:
            if name == ".bazelversion":
                continue
            folder = tree(tmp_path / "t", framework)
            (folder / name).unlink()
            top = folder / name.partition("/")[0]
            if top.is_dir():
                shutil.rmtree(top)
            assert "is not a source tree" in refused(folder, framework).what
            shutil.rmtree(folder)


def test_a_trees_size_is_known_so_that_a_small_one_asks_for_little_disk(tmp_path):
    folder = tree(tmp_path / "tree")
    assert source_of(str(folder), "tensorflow").size_mib == 1
    (folder / "large.bin").write_bytes(b"0" * (3 * 1024**2))
    assert source_of(str(folder), "tensorflow").size_mib == 4
