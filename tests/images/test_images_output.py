"""`--output`: the Dockerfile and its context, both ours or neither, and nothing of others replaced."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from worlds.images import plan

from provision.errors import UsageError
from provision.model.image import Copied
from provision.run.build_settings import BuildSettings
from provision.run.images import output
from provision.run.images.context import ContextFile

FILES = (ContextFile(name="environment/lock.txt", content=b"numpy==2.4.6\n"), ContextFile(name="cpu.tar", content=b""))


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as stop:
        output.check_place(path)
    return stop.value


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_context_lies_beside_the_dockerfile_and_is_the_users_own(tmp_path: Path) -> None:
    output._write(tmp_path / "Dockerfile", "FROM scratch\n", FILES)
    assert names(tmp_path) == [
        "Dockerfile",
        "Dockerfile.context/.provision",
        "Dockerfile.context/cpu.tar",
        "Dockerfile.context/environment/lock.txt",
    ]
    assert (tmp_path / "Dockerfile.context").stat().st_mode & 0o777 == 0o700


def test_what_we_wrote_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    output._write(path, "FROM scratch\n", FILES)
    output.check_place(path)
    output._write(path, "FROM scratch AS two\n", FILES[1:])
    output.check_place(path)
    assert path.read_text() == "FROM scratch AS two\n"
    assert names(tmp_path) == ["Dockerfile", "Dockerfile.context/.provision", "Dockerfile.context/cpu.tar"]


def test_what_others_wrote_or_changed_stays(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text("FROM debian\n")
    error = refused(path)
    assert (error.what, error.why) == (f"{path} is there already", "it was not written by provision")
    assert error.hint == "give another name, or move it away"
    path.unlink()
    output._write(path, "FROM scratch\n", FILES)
    path.write_text("FROM scratch\nUSER root\n")
    assert refused(path).why == "it was changed since provision wrote it"
    other = tmp_path / "Other"
    output.context_of(other).mkdir()
    assert refused(other).what == f"{tmp_path}/Other.context is there already"
    assert refused(tmp_path / "none" / "Dockerfile").what == f"there is no folder {tmp_path}/none"


def test_a_folder_gets_a_file_called_dockerfile(tmp_path: Path) -> None:
    assert output.place(tmp_path) == tmp_path / "Dockerfile"
    assert output.place(tmp_path / "tf.Dockerfile") == tmp_path / "tf.Dockerfile"


def test_a_disk_that_fills_leaves_nothing_half_made(tmp_path: Path) -> None:
    missing = ContextFile(name="copied/0", content=tmp_path / "gone")
    with pytest.raises(UsageError) as stop:
        output._write(tmp_path / "Dockerfile", "FROM scratch\n", (*FILES, missing))
    assert stop.value.what == f"cannot write {tmp_path}/Dockerfile and its context"
    assert stop.value.why == f"{tmp_path}/gone: No such file or directory"
    assert names(tmp_path) == []


@pytest.mark.network
def test_all_stages_and_what_they_read_are_written(tmp_path: Path) -> None:
    app = tmp_path / 'a "b" $(id).py'
    app.write_text("print('hello')\n")
    made = plan("numpy==2.4.6", tag="me/np", copied=(Copied(source=str(app), target="/work/app.py"),))
    (tmp_path / "out").mkdir()
    written = output.write(
        made, tmp_path / "out", mounts=True, settings=BuildSettings(), on_event=lambda _event: None,
        cancel=threading.Event(),
    )  # fmt: skip
    text = written.read_text()
    assert text.count("\nFROM ") >= 3
    assert "--mount=type=cache" in text
    context = names(output.context_of(written))
    assert {"cpu.tar", "copied/0", "environment/lock.txt", "environment/uv"} <= set(context)
    assert "numpy==2.4.6" in (output.context_of(written) / "environment" / "lock.txt").read_text()
