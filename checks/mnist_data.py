# /// script
# requires-python = ">=3.9"
# dependencies = ["numpy"]
# ///
"""The digits that mnist.py trains on: real MNIST, checked by its sums, or generated ones of the same shape.

A part of mnist.py, which loads it from its own folder: mnist.py and all mnist_*.py travel together.
MNIST is by Y. LeCun, C. Cortes and C. J. C. Burges (CC BY-SA 3.0).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SIDE = 28
IMAGES, LABELS = 2051, 2049  # the first four bytes of an IDX file: uint8 in three dimensions, in one

# name, first four bytes, samples, sha256 of the unpacked content
FILES = (
    ("train-images-idx3-ubyte", IMAGES, 60_000, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ("train-labels-idx1-ubyte", LABELS, 60_000, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ("t10k-images-idx3-ubyte", IMAGES, 10_000, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ("t10k-labels-idx1-ubyte", LABELS, 10_000, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)
MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
DOWNLOAD_TIMEOUT_S = 10
LARGEST_GZ = 20_000_000


@dataclass(frozen=True)
class Digits:
    """Images: uint8, (N, 28, 28), 0 is background. Labels: uint8, (N,), 0 to 9."""

    train_images: Any
    train_labels: Any
    test_images: Any
    test_labels: Any


@dataclass(frozen=True)
class Source:
    """The checked content of the four files, or None for generated digits; where they are from, and why from there."""

    contents: list[bytes] | None
    note: str

    @property
    def dataset(self) -> str:
        return "synthetic" if self.contents is None else "mnist"

    def digits(self) -> Digits:
        return synthetic() if self.contents is None else from_contents(self.contents)


class BadData(Exception):
    """A file that is not what it should be: what, why and a hint."""

    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.hint = what, why, hint


def find(folder: Path | None, download: bool = False, synthetic_only: bool = False) -> Source:
    """From ``folder`` where one is named, and raises BadData where that is not MNIST; else from the cache, a mirror
    (only with ``download``), or generated, with the reason in the note. Needs no NumPy."""
    if folder is not None:
        return real(folder)
    if synthetic_only:
        return Source(None, "synthetic digits, as asked for")
    cache = cache_folder()
    notes = []
    for place in (cache, shipped_folder()):
        if any(place.glob("*ubyte*")):
            try:
                return real(place)
            except BadData as error:
                notes.append(f"the cache is not used: {error.what}")
    if download:
        try:
            return fetched(cache)
        except BadData as error:
            notes.append(f"{error.what}: {error.why}")
    notes.append("synthetic digits instead" if notes else f"synthetic digits: no MNIST in {cache}")
    return Source(None, "; ".join(notes))


def shipped_folder() -> Path:
    """Where `provision --data` put the user's files the last time it verified this host."""
    return home("XDG_DATA_HOME", "~/.local/share") / "provision" / "mnist"


def cache_folder() -> Path:
    return home("XDG_CACHE_HOME", "~/.cache") / "provision" / "mnist"


def home(variable: str, default: str) -> Path:
    """A base folder of the XDG specification, which has relative ones ignored."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path(default).expanduser()


# --- real MNIST ------------------------------------------------------------------------------------------------------


def real(folder: Path) -> Source:
    """The four files, each unpacked or as .gz, checked by their sums. Raises BadData."""
    return Source([content(path_of(folder, row[0]), row) for row in FILES], f"MNIST from {folder}")


def from_contents(contents: list[bytes]) -> Digits:
    import numpy as np

    images, labels, test_images, test_labels = (
        np.frombuffer(data, np.uint8, offset=16).reshape(-1, SIDE, SIDE)
        if row[1] == IMAGES
        else np.frombuffer(data, np.uint8, offset=8)
        for data, row in zip(contents, FILES)
    )
    return Digits(images, labels, test_images, test_labels)


def path_of(folder: Path, name: str) -> Path:
    dotted = name.replace("-idx", ".idx")  # some mirrors write a dot
    try:
        for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
            if (folder / candidate).is_file():
                return folder / candidate
    except OSError as error:
        raise BadData(f"{folder} cannot be read", str(error.strerror), "make it readable: chmod +rx") from error
    why = f"looked for {name}, {name}.gz, {dotted} and {dotted}.gz" if folder.is_dir() else f"{folder} is not a folder"
    hint = "the folder must hold " + ", ".join(row[0] for row in FILES) + ", each as it is or as .gz"
    raise BadData(f"{folder} has no {name}", why, hint)


def content(path: Path, row: tuple[str, int, int, str]) -> bytes:
    """The unpacked content of ``path``, which is certain to be that of ``row``. Raises BadData."""
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise BadData(f"{path} cannot be read", str(error.strerror), "make it readable: chmod +r") from error
    return checked(packed, str(path), row)


def checked(packed: bytes, source: str, row: tuple[str, int, int, str]) -> bytes:
    data = unpacked(packed, source, row) if packed[:2] == b"\x1f\x8b" else packed
    if hashlib.sha256(data).hexdigest() != row[3]:
        raise diagnosis(data, source, row)
    return data


def size_of(row: tuple[str, int, int, str]) -> int:
    return 16 + row[2] * SIDE * SIDE if row[1] == IMAGES else 8 + row[2]


def unpacked(packed: bytes, source: str, row: tuple[str, int, int, str]) -> bytes:
    """At most one byte more than MNIST's largest file, whatever the packed bytes would become."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(packed, size_of(FILES[0]) + 1)
    except zlib.error as error:
        raise BadData(f"{source} is damaged", f"gzip: {error}", "copy or fetch it again") from error
    if not unpacker.eof and len(data) <= size_of(FILES[0]):
        why = f"its gzip stream ends after {len(data)} of {size_of(row)} bytes of content"
        raise BadData(f"{source} is truncated", why, "copy or fetch it again")
    return data


def diagnosis(data: bytes, source: str, row: tuple[str, int, int, str]) -> BadData:
    """Why ``data`` has another sum than the content of ``row``."""
    kinds = {IMAGES: "images", LABELS: "labels"}
    name, magic, samples, sha256 = row
    again = "copy or fetch it again"
    if len(data) < 8:
        return BadData(f"{source} is truncated", f"it has {len(data)} bytes of {size_of(row)}", again)
    found, count = struct.unpack(">II", data[:8])
    if found not in kinds:
        return BadData(f"{source} is not an IDX file", f"it starts with {data[:4].hex()}, not {magic:08x}", again)
    if found != magic:
        why = f"it holds {kinds[found]}, and {kinds[magic]} belong there"
        return BadData(f"{source} is swapped with another file", why, f"give {name} its own content back")
    if count != samples:
        why = f"it holds {count} samples, and {samples} belong there"
        return BadData(f"{source} is swapped with another file, or not MNIST", why, f"give {name} its own content back")
    if len(data) < size_of(row):
        return BadData(f"{source} is truncated", f"it has {len(data)} bytes of {size_of(row)}", again)
    why = f"sha256 of its content: {hashlib.sha256(data).hexdigest()}\nMNIST's {name}: {sha256}"
    return BadData(f"{source} has the form of MNIST and another content", why, again)


def fetched(cache: Path, mirrors: tuple[str, ...] = MIRRORS) -> Source:
    """From the first mirror that has all four; kept in ``cache`` where that can be written. Raises BadData."""
    failures = []
    for mirror in mirrors:
        try:
            contents = [checked(download(f"{mirror}{row[0]}.gz"), f"{mirror}{row[0]}.gz", row) for row in FILES]
        except (OSError, BadData) as error:
            failures.append(f"{mirror}: {getattr(error, 'what', None) or getattr(error, 'reason', None) or error}")
            continue
        return Source(contents, f"MNIST from {mirror}{keep(cache, contents)}")
    raise BadData("MNIST cannot be fetched", "; ".join(failures), "put the four files into a folder and name it")


def download(address: str) -> bytes:
    """Honours proxies and SSL_CERT_FILE, as urllib does."""
    with urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_S) as reply:  # noqa: S310 (addresses: MIRRORS)
        data: bytes = reply.read(LARGEST_GZ)
    return data


def keep(cache: Path, contents: list[bytes]) -> str:
    """Write each file whole or not at all; a cache that cannot be written is a remark."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for data, row in zip(contents, FILES):
            with tempfile.NamedTemporaryFile(dir=cache, delete=False) as file:
                file.write(gzip.compress(data, 6, mtime=0))
            Path(file.name).replace(cache / f"{row[0]}.gz")
    except OSError as error:
        return f" (not kept in {cache}: {error.strerror})"
    return ""


# --- generated digits ------------------------------------------------------------------------------------------------

# Strokes of each digit, as points (x, y) in percent of a box, y downward.
STROKES = (
    ("50,5 25,15 15,50 25,85 50,95 75,85 85,50 75,15 50,5",),
    ("30,25 55,5 55,95",),
    ("20,25 35,8 60,5 78,20 75,40 50,62 20,92 82,92",),
    ("20,12 50,5 75,15 75,35 45,47 75,58 80,80 52,95 18,86",),
    ("62,95 62,5 15,65 85,65",),
    ("78,7 28,7 24,45 55,40 80,58 76,82 50,95 18,88",),
    ("70,6 40,25 20,60 28,88 55,95 78,78 70,55 45,52 23,68",),
    ("17,8 82,8 60,45 42,95",),
    ("50,47 24,30 30,10 50,5 70,10 76,30 50,47 22,66 28,90 50,95 72,90 78,66 50,47",),
    ("76,30 55,46 28,38 25,16 48,5 72,12 76,30 72,65 55,95",),
)
VARIANTS = 24
"""Hands: each draws every digit a little differently."""
GRID, MARGIN = 96, 0.3
"""A hand's digit is kept as a field of distances to its strokes, over the box and a margin around it."""
CHUNK = 4096


def synthetic(train: int = 60_000, test: int = 10_000, seed: int = 0) -> Digits:
    """Digits drawn with strokes by some hands, each moved, turned, scaled, slanted, thinned or thickened, with noise.

    The same bytes for the same seed with every NumPy (RandomState's stream is frozen), up to rounding of sines.
    Training and test digits are by different hands. As many of each digit, give or take one.
    """
    import numpy as np

    random = np.random.RandomState(seed)
    hands = np.stack([fields(random) for _ in range(VARIANTS)])
    train_hands, test_hands = hands[: VARIANTS * 3 // 4], hands[VARIANTS * 3 // 4 :]
    return Digits(*drawn(train, train_hands, random), *drawn(test, test_hands, random))


def fields(random: Any) -> Any:
    """One hand: float32, (10, GRID, GRID), distance to the strokes of each digit, in box widths."""
    import numpy as np

    axis = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID * (1 + 2 * MARGIN) - MARGIN
    x, y = np.meshgrid(axis, axis)
    nearest = np.full((10, GRID, GRID), np.inf, np.float32)
    for digit, strokes in enumerate(STROKES):
        for stroke in strokes:
            points = np.array([point.split(",") for point in stroke.split()], np.float32) / 100
            points += random.normal(0, 0.035, points.shape).astype(np.float32)
            for distance in segment_distances(points, x, y):
                np.minimum(nearest[digit], distance, out=nearest[digit])
    return nearest


def segment_distances(points: Any, x: Any, y: Any) -> Iterator[Any]:
    """From each (x, y) to each segment of the polyline."""
    import numpy as np

    for (ax, ay), (bx, by) in zip(points, points[1:]):
        dx, dy = bx - ax, by - ay
        along = np.clip(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
        yield np.hypot(x - ax - along * dx, y - ay - along * dy)


def drawn(count: int, hands: Any, random: Any) -> tuple[Any, Any]:
    """Images and labels, ``count`` of them."""
    import numpy as np

    labels = random.permutation(np.arange(count) % 10).astype(np.uint8)
    images = np.empty((count, SIDE, SIDE), np.uint8)
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        images[part] = draw(labels[part], hands, random)
    return images, labels


def draw(labels: Any, hands: Any, random: Any) -> Any:
    """One digit for each label: look each pixel up in a hand's field, through a random affine map."""
    import numpy as np

    count = len(labels)

    def uniform(low: float, high: float) -> Any:
        return random.uniform(low, high, (count, 1)).astype(np.float32)

    turn, slant = uniform(-0.35, 0.35), uniform(-0.35, 0.35)
    width, height = uniform(11, 21), uniform(14, 22)  # pixels; MNIST's digits fit a box of 20
    across, down = uniform(11, 17), uniform(11, 17)  # the centre
    thickness, ink = uniform(0.03, 0.09), uniform(130, 255)
    column, row = (axis.reshape(1, -1).astype(np.float32) for axis in np.meshgrid(np.arange(SIDE), np.arange(SIDE)))
    x, y = column - across, row - down
    cosine, sine = np.cos(turn), np.sin(turn)
    u = (x * cosine + y * sine + slant * y) / width + 0.5
    v = (y * cosine - x * sine) / height + 0.5
    scale = GRID / (1 + 2 * MARGIN)
    across_field = np.clip((u + MARGIN) * scale, 0, GRID - 1).astype(np.int32)
    down_field = np.clip((v + MARGIN) * scale, 0, GRID - 1).astype(np.int32)
    hand = random.randint(0, len(hands), (count, 1)) * 10 + labels[:, None]
    distance = hands.reshape(-1)[(hand * GRID + down_field) * GRID + across_field]
    image = np.clip((thickness - distance) * height + 0.5, 0, 1) * ink
    noise = np.frombuffer(random.bytes(image.size), np.uint8).reshape(image.shape)
    image += (noise >> 2) * (noise > 128) - 16.0  # half of the pixels get up to a quarter of full ink
    return np.clip(image, 0, 255).astype(np.uint8).reshape(count, SIDE, SIDE)
