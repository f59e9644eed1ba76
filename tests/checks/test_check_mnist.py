"""The digits that checks/mnist.py trains on: what it accepts, refuses, fetches and generates."""

from __future__ import annotations

import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NAMES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
)  # fmt: skip


def idx(name: str, fill: int = 0, samples: int | None = None) -> bytes:
    """A file of the right form for ``name``."""
    count = samples or (60_000 if name.startswith("train") else 10_000)
    if "images" in name:
        return struct.pack(">IIII", 2051, count, 28, 28) + bytes([fill]) * count * 784
    return struct.pack(">II", 2049, count) + bytes([fill]) * count


@pytest.fixture
def data(load: Callable[[str], ModuleType]) -> ModuleType:
    return load("mnist_data")


@pytest.fixture
def stand_in(data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four files of MNIST's form; their sums stand for MNIST's."""
    folder = tmp_path / "digits"
    folder.mkdir()
    rows = []
    for name, magic, samples, _ in data.FILES:
        content = idx(name, fill=1)
        (folder / name).write_bytes(content)
        rows.append((name, magic, samples, hashlib.sha256(content).hexdigest()))
    monkeypatch.setattr(data, "FILES", tuple(rows))
    return folder


# --- files: through the script, as a user gets it ---------------------------------------------------------------------


def refused(check: Any, folder: Path) -> dict[str, Any]:
    answer: dict[str, Any] = check("mnist.py", "--framework", "numpy", "--data", folder).data
    assert answer["status"] == "fail"
    return answer


def test_no_folder(check, tmp_path: Path) -> None:
    answer = refused(check, tmp_path / "none")
    assert answer["what"] == f"{tmp_path / 'none'} has no train-images-idx3-ubyte"
    assert answer["why"] == f"{tmp_path / 'none'} is not a folder"
    assert "each as it is or as .gz" in answer["hint"]


def test_a_file_is_missing(check, tmp_path: Path, mnist_folder: Path) -> None:
    for path in mnist_folder.glob("*images*"):
        (tmp_path / path.name).symlink_to(path)
    assert refused(check, tmp_path)["what"] == f"{tmp_path} has no train-labels-idx1-ubyte"


def test_a_folder_that_cannot_be_read(data: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 300)  # a name too long: root may read everything else
    with pytest.raises(data.BadData) as caught:
        data.path_of(folder, NAMES[0])
    assert caught.value.what == f"{folder} cannot be read"
    assert (caught.value.why, caught.value.hint) == ("File name too long", "make it readable: chmod +rx")


def test_a_truncated_file(check, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(idx(NAMES[0])[:1_000_000])
    answer = refused(check, tmp_path)
    assert answer["what"] == f"{tmp_path / NAMES[0]} is truncated"
    assert answer["why"] == "it has 1000000 bytes of 47040016"
    assert answer["hint"] == "copy or fetch it again"


@pytest.mark.parametrize("content", [b"", b"\0\0\x08"])
def test_almost_nothing(check, tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAMES[0]).write_bytes(content)
    assert refused(check, tmp_path)["why"] == f"it has {len(content)} bytes of 47040016"


def test_a_truncated_gz(check, tmp_path: Path) -> None:
    packed = gzip.compress(idx(NAMES[0]), 1)
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(packed[: len(packed) // 2])
    answer = refused(check, tmp_path)
    assert answer["what"] == f"{tmp_path / NAMES[0]}.gz is truncated"
    assert answer["why"].startswith("its gzip stream ends after ")
    assert answer["why"].endswith(" of 47040016 bytes of content")


def test_a_damaged_gz(check, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(idx(NAMES[0]), 1))
    packed[-6] ^= 1  # the check sum at its end
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(packed)
    assert refused(check, tmp_path)["what"] == f"{tmp_path / NAMES[0]}.gz is damaged"


def test_a_gz_that_would_fill_memory(check, tmp_path: Path) -> None:
    bomb = gzip.compress(struct.pack(">IIII", 2051, 60_000, 28, 28) + bytes(200 << 20), 1)
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(bomb)
    assert refused(check, tmp_path)["what"].endswith("has the form of MNIST and another content")


def test_labels_where_images_belong(check, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(idx(NAMES[1]))
    answer = refused(check, tmp_path)
    assert answer["what"] == f"{tmp_path / NAMES[0]} is swapped with another file"
    assert answer["why"] == "it holds labels, and images belong there"
    assert answer["hint"] == f"give {NAMES[0]} its own content back"


def test_test_digits_where_training_digits_belong(check, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(idx(NAMES[2]))
    assert refused(check, tmp_path)["why"] == "it holds 10000 samples, and 60000 belong there"


def test_something_else(check, tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_bytes(b"<!DOCTYPE html><html>404</html>")
    answer = refused(check, tmp_path)
    assert answer["what"] == f"{tmp_path / NAMES[0]} is not an IDX file"
    assert answer["why"] == "it starts with 3c21444f, not 00000803"


def test_a_wrong_sum(check, tmp_path: Path) -> None:
    content = idx(NAMES[0])
    (tmp_path / NAMES[0]).write_bytes(content)
    answer = refused(check, tmp_path)
    assert answer["what"] == f"{tmp_path / NAMES[0]} has the form of MNIST and another content"
    assert hashlib.sha256(content).hexdigest() in answer["why"]
    assert "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db" in answer["why"]


def test_one_changed_pixel_is_noticed(check, tmp_path: Path, mnist_folder: Path) -> None:
    for path in mnist_folder.glob("*ubyte*"):
        (tmp_path / path.name).symlink_to(path)
    path = next(tmp_path.glob("t10k-images*"))
    content = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    content[5000] ^= 1
    path.unlink()
    path.with_suffix("").write_bytes(content)
    assert "another content" in refused(check, tmp_path)["what"]


# --- where digits are from -------------------------------------------------------------------------------------------


def test_real_mnist_is_accepted(data: ModuleType, mnist_folder: Path) -> None:
    source = data.find(mnist_folder)
    assert source.dataset == "mnist"
    assert [len(content) for content in source.contents] == [47_040_016, 60_008, 7_840_016, 10_008]
    assert source.contents[1][8:16] == bytes([5, 0, 4, 1, 9, 2, 1, 3])


@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dotted"])
def test_unpacked_packed_and_dotted_names(data: ModuleType, stand_in: Path, spelling: str) -> None:
    for path in stand_in.iterdir():
        if spelling == "{}.gz":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
            path.unlink()
        elif spelling == "dotted":
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    assert data.find(stand_in).dataset == "mnist"


def test_a_bad_folder_is_never_replaced_by_generated_digits(data: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(data.BadData):
        data.find(tmp_path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "cache" / "provision" / "mnist"


def test_an_empty_cache(data: ModuleType, cache: Path) -> None:
    source = data.find(None)
    assert source.dataset == "synthetic"
    assert source.note == f"synthetic digits: no MNIST in {cache}"


def test_a_bad_cache(data: ModuleType, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / NAMES[0]).write_bytes(b"")
    source = data.find(None)
    assert source.dataset == "synthetic"
    assert source.note == f"the cache is not used: {cache / NAMES[0]} is truncated; synthetic digits instead"


def test_a_good_cache(data: ModuleType, stand_in: Path, cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    stand_in.rename(cache)
    assert data.find(None).note == f"MNIST from {cache}"


def test_a_relative_xdg_folder_is_ignored(data: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setenv("XDG_DATA_HOME", "./data")
    assert data.cache_folder() == tmp_path / ".cache" / "provision" / "mnist"
    assert data.shipped_folder() == tmp_path / ".local" / "share" / "provision" / "mnist"


def test_files_that_provision_brought_earlier(data: ModuleType, stand_in: Path, cache: Path, tmp_path: Path) -> None:
    shipped = tmp_path / "data" / "provision" / "mnist"
    shipped.parent.mkdir(parents=True)
    stand_in.rename(shipped)
    assert data.find(None).note == f"MNIST from {shipped}"


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(stand_in: Path, tmp_path: Path) -> Iterator[str]:
    """Serves the stand-in's files, packed, over HTTP."""
    served = tmp_path / "served"
    served.mkdir()
    for path in stand_in.iterdir():
        (served / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_mirror_fills_the_cache(data: ModuleType, mirror: str, cache: Path) -> None:
    source = data.fetched(cache, (mirror,))
    assert (source.dataset, source.note) == ("mnist", f"MNIST from {mirror}")
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    assert data.find(None).note == f"MNIST from {cache}"


def test_a_mirror_that_fails_gives_way_to_the_next(data: ModuleType, mirror: str, cache: Path) -> None:
    assert data.fetched(cache, (mirror + "not/there/", mirror)).note == f"MNIST from {mirror}"


def test_a_mirror_with_other_digits_is_not_believed(
    data: ModuleType, mirror: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served" / f"{NAMES[3]}.gz").write_bytes(gzip.compress(idx(NAMES[3], fill=2)))
    monkeypatch.setattr(data.fetched, "__defaults__", ((mirror,),))
    source = data.find(None, download=True)
    assert source.dataset == "synthetic"
    assert f"{NAMES[3]}.gz has the form of MNIST and another content" in source.note
    assert source.note.endswith("synthetic digits instead")
    assert not cache.exists()


def test_no_network(data: ModuleType, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.fetched, "__defaults__", (("http://127.0.0.1:9/",),))
    source = data.find(None, download=True)
    assert source.note.startswith("MNIST cannot be fetched: http://127.0.0.1:9/: ")
    assert "refused" in source.note


def test_a_cache_that_cannot_be_written_is_a_remark(data: ModuleType, mirror: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = data.fetched(tmp_path / "file" / "cache", (mirror,))
    assert source.dataset == "mnist"
    assert "(not kept in" in source.note


def test_every_mirror_is_an_https_address(data: ModuleType) -> None:
    assert all(address.startswith("https://") and address.endswith("/mnist/") for address in data.MIRRORS)
