"""Damage for readings: what a cut connection, a bad disk, a full disk or a strange tool makes of real text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping

GARBAGE = "".join(map(chr, [*range(1, 32), *range(127, 160), 0xFFFD, 0x202E, 0x0660, 0x2028, 0x1F600]))
HUGE = ("9" * 400, "-1", "1e999", "0x" + "f" * 64, "18446744073709551616", "٣٤", "NaN", "")

Mutation = Callable[[random.Random, str], str]


def cut(rng: random.Random, text: str) -> str:
    return text[: rng.randrange(len(text) + 1)]


def cut_front(rng: random.Random, text: str) -> str:
    return text[rng.randrange(len(text) + 1) :]


def double_lines(rng: random.Random, text: str) -> str:
    return "".join(line * rng.choice((1, 1, 2, 5)) for line in text.splitlines(keepends=True))


def drop_lines(rng: random.Random, text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if rng.random() > 0.2)


def shuffle_lines(rng: random.Random, text: str) -> str:
    lines = text.splitlines(keepends=True)
    rng.shuffle(lines)
    return "".join(lines)


def swap_characters(rng: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(min(len(letters), rng.randrange(1, 40))):
        one, other = rng.randrange(len(letters)), rng.randrange(len(letters))
        letters[one], letters[other] = letters[other], letters[one]
    return "".join(letters)


def garbage(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + "".join(rng.choices(GARBAGE, k=rng.randrange(1, 200))) + text[at:]


def wrong_numbers(rng: random.Random, text: str) -> str:
    share = rng.choice((0.02, 0.2, 1.0))
    return re.sub(r"\d+", lambda match: rng.choice(HUGE) if rng.random() < share else match[0], text)


def join_lines(rng: random.Random, text: str) -> str:
    return text.replace("\n", rng.choice((" ", "\r\n", "\r", "\t")))


def repeat(rng: random.Random, text: str) -> str:
    return text[:20_000] * rng.randrange(2, 6)


def unbalance(rng: random.Random, text: str) -> str:
    """Brackets, tags and colons gone: what formats are made of."""
    gone = rng.choice("<>[]():|/,=\"' ")
    return text.replace(gone, rng.choice(("", gone * 3, "\x00")))


MUTATIONS: tuple[Mutation, ...] = (
    cut, cut_front, double_lines, drop_lines, shuffle_lines, swap_characters, garbage, wrong_numbers, join_lines,
    repeat, unbalance,
)  # fmt: skip


def mutated(rng: random.Random, files: Mapping[str, str]) -> dict[str, str]:
    """``files`` with one to three readings damaged, once or twice each; sometimes one under another's name."""
    result = dict(files)
    for name in rng.sample(sorted(result), k=min(len(result), rng.randrange(1, 4))):
        for _ in range(rng.randrange(1, 3)):
            result[name] = rng.choice(MUTATIONS)(rng, result[name])
    if rng.random() < 0.1:
        one, other = rng.choice(sorted(result)), rng.choice(sorted(result))
        result[one], result[other] = result[other], result[one]
    return result
