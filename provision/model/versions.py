"""Version-like things, each with the order of its own field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, total_ordering


@lru_cache(maxsize=4096)
def numbers(text: str) -> tuple[int, ...]:
    """The leading dotted numbers of ``text``: "12.5.1" gives (12, 5, 1).

    Raises ValueError where the text does not start with a number.
    """
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise ValueError(f"not a dotted version: {text!r}")
    return tuple(int(part) for part in match[0].split("."))


@total_ordering
@dataclass(frozen=True, slots=True)
class Dotted:
    """A dotted version that keeps the text it was given.

    Driver versions are not PEP 440: ``packaging`` turns 470.82.01 into 470.82.1, which no tool ever said.
    Missing parts count as zero, so 12.5 == 12.5.0 in order (not in text).
    """

    text: str

    def __post_init__(self) -> None:
        numbers(self.text)

    @property
    def key(self) -> tuple[int, ...]:
        found = list(numbers(self.text))
        while found and found[-1] == 0:
            found.pop()
        return tuple(found)

    @property
    def major(self) -> int:
        return numbers(self.text)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dotted) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __lt__(self, other: Dotted) -> bool:
        return self.key < other.key

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class ComputeCapability:
    """Compute capability of a device, such as 8.6. ``sm_86`` is code compiled for it, ``compute_86`` its PTX."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> ComputeCapability:
        """From "8.6", "sm_86", "compute_120" or "86". Raises ValueError for anything else."""
        match = re.fullmatch(r"(?:(\d{1,2})\.(\d)|(?:sm_|compute_)?(\d{1,2})(\d))", text.strip())
        if match is None:
            raise ValueError(f"not a compute capability: {text!r}")
        major, minor = (match[1], match[2]) if match[1] else (match[3], match[4])
        return cls(int(major), int(minor))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def sm(self) -> str:
        return f"sm_{self.major}{self.minor}"


def unfinished(tree: str) -> str | None:
    """ "2.9" of "2.9.0a0", None of other versions.

    PyTorch's release branches stay at the alpha of their series, so every tag of 2.9 says 2.9.0a0, and what is built is
    called what PYTORCH_BUILD_VERSION says (pytorch/pytorch issues 77052 and 109958).
    """
    match = re.fullmatch(r"(\d+\.\d+)\.\d+a0", tree)
    return match[1] if match else None


def is_source_of(tree: str, version: str) -> bool:
    """Whether a tree that says it is ``tree`` is the source of ``version``. 2.15.0.post1 is 2.15.0 packed anew."""
    series = unfinished(tree)
    if series is not None:
        return version == series or version.startswith(f"{series}.")
    return tree == re.sub(r"\.post\d+$", "", version)
