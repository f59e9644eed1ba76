"""The folder form of readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import UsageError
from provision.model.readings import Readings
from provision.run import dump
from provision.run.dump import read_dump, write_dump

READINGS = Readings({"proc_cpuinfo": "processor : 0\n", "nvidia_smi_q.xml": "no\n", "nvidia_smi_q.xml.status": "127"})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_dump(tmp_path / "box", READINGS)
    assert read_dump(tmp_path / "box") == READINGS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box"]
    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o755


def test_a_dump_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    write_dump(tmp_path / "box", Readings({"lscpu": "old\n"}))
    write_dump(tmp_path / "box", READINGS)
    assert read_dump(tmp_path / "box") == READINGS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    for name in ("proc_cpuinfo", "SOURCE", "facts.json", "nvidia_smi_dmesg"):
        (tmp_path / name).write_text(name)
    (tmp_path / "lspci").mkdir()
    assert dict(read_dump(tmp_path).files) == {"proc_cpuinfo": "proc_cpuinfo"}


def test_every_name_in_shared_is_a_reading(shared: Path) -> None:
    names = {path.name for path in (shared / "hosts").glob("*/*")} - {"SOURCE"}
    assert {name for name in names if not dump.is_reading(name)} == set()


def stop(path: Path) -> UsageError:
    with pytest.raises(UsageError) as stopped:
        read_dump(path)
    return stopped.value


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert stop(tmp_path / "nowhere").what == f"there is no folder {tmp_path / 'nowhere'}"


def test_a_file_is_no_dump(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert stop(tmp_path / "file").what == f"{tmp_path / 'file'} is not a folder"


def test_an_empty_folder(tmp_path: Path) -> None:
    error = stop(tmp_path)
    assert (error.what, error.why) == (f"the folder {tmp_path} holds no readings", "it is empty")
    assert "provision detect --dump DIR" in error.hint


def test_a_folder_with_other_things(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e", "f"):
        (tmp_path / name).write_text("")
    assert stop(tmp_path).why == "it holds a, b, c, d, e …: no reading is called so"


def test_a_binary_file(tmp_path: Path) -> None:
    (tmp_path / "proc_cpuinfo").write_bytes(b"\x7fELF\x00\x01")
    error = stop(tmp_path)
    assert error.what == f"the reading proc_cpuinfo in {tmp_path} is not text"
    assert error.why == "byte 4 is zero: this is a binary file"


def test_a_file_of_the_wrong_size(tmp_path: Path) -> None:
    with (tmp_path / "proc_cpuinfo").open("wb") as file:
        file.truncate(dump.LARGEST_BYTES + 1)
    assert stop(tmp_path).what == f"the reading proc_cpuinfo in {tmp_path} is too large"


def test_a_file_that_was_cut_inside_a_letter_is_read(tmp_path: Path) -> None:
    (tmp_path / "os_release").write_bytes(b'ID=debian\nNAME="D\xc3')
    assert read_dump(tmp_path).files["os_release"] == 'ID=debian\nNAME="D\ufffd'


def test_a_folder_in_use_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError) as stopped:
        write_dump(tmp_path, READINGS)
    assert stopped.value.what == f"the folder {tmp_path} is in use for something else"
    assert stopped.value.why == "it holds thesis.txt, which no dump has"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        write_dump(tmp_path / "file", READINGS)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as stopped:
        write_dump(tmp_path / "file" / "box", READINGS)
    assert stopped.value.what == f"the readings cannot be written to {tmp_path / 'file' / 'box'}"
    assert "Not a directory" in stopped.value.why or "File exists" in stopped.value.why


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_nothing_half_made_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills while the second reading is written."""
    write_dump(tmp_path / "box", Readings({"lscpu": "old\n"}))
    real = Path.write_text

    def full(self: Path, *arguments: str, **more: str) -> int:
        return real(Path("/dev/full") if self.name == "proc_cpuinfo" else self, *arguments, **more)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UsageError) as stopped:
        write_dump(tmp_path / "box", READINGS)
    assert "No space left on device" in stopped.value.why
    assert [path.name for path in tmp_path.iterdir()] == ["box"]
    assert read_dump(tmp_path / "box").files == {"lscpu": "old\n"}
