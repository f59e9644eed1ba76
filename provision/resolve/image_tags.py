"""Image references: read, checked, and worked out for several CPUs in one call.

The grammar is that of github.com/distribution/reference (reference.go, regexp.go), in short
[registry[:port]/]name[:tag][@digest].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from provision.errors import UsageError

_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
TAG_MAX, NAME_MAX = 128, 255
LEVEL = "{level}"
"""Stands in a tag for the CPU's word: "me/tf:2.21-{level}-slim"."""
HINT = "it is written as [registry[:port]/]name[:tag], such as me/tensorflow:2.21"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    registry: str | None
    """"localhost:5000"; None where none is named, which an engine takes for Docker Hub."""
    repository: str
    """"me/tf"."""
    tag: str | None
    digest: str | None
    """"sha256:…"."""

    def __str__(self) -> str:
        return f"{self.name}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"

    @property
    def name(self) -> str:
        """Without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository


def checked_reference(text: str) -> Reference:
    """``text`` in its parts. Raises UsageError that says what is wrong with it."""
    if not text:
        raise UsageError(what="an image reference is empty", why="it must have a name at least", hint=HINT)
    if not text.isprintable() or any(char.isspace() for char in text):
        raise _wrong(text, "it has a blank or a control character in it")
    if "://" in text:
        raise _wrong(text, "it begins with a scheme, and a reference has none", text.partition("://")[2])
    rest, at, digest = text.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise _wrong(text, f"{digest!r} is not a digest: that is sha256: and 64 hexadecimal digits")
    registry, rest = _registry(text, rest)
    path, colon, tag = rest.partition(":")
    _check_path(text, path, registry)
    if colon:
        _check_tag(text, tag)
    return Reference(registry=registry, repository=path, tag=tag or None, digest=digest or None)


def tags_for(tag: str, cpus: Sequence[str]) -> tuple[str, ...]:
    """One tag for each of ``cpus``, in their order: "me/tf:2.21" is "me/tf:2.21-v3" where there are several.

    Raises UsageError for what is no tag, and for two that would be one.
    """
    return tags_of_words(tag, [cpu_word(cpu) for cpu in cpus], [f"--cpu {cpu}" for cpu in cpus])


def tags_of_words(tag: str, words: Sequence[str], whose: Sequence[str]) -> tuple[str, ...]:
    """Likewise with the words that tell the tags apart; ``whose`` names each in a message."""
    if LEVEL in tag:
        found = [tag.replace(LEVEL, word) for word in words]
    elif len(words) == 1:
        found = [tag]
    else:
        asked = _tag_to_build(tag)
        found = [f"{asked.name}:{asked.tag}-{word}" if asked.tag else f"{asked.name}:{word}" for word in words]
    seen: dict[str, str] = {}
    for text, owner in zip(found, whose, strict=True):
        _tag_to_build(text)
        if text in seen:
            raise UsageError(
                what=f"two images would be tagged {text}",
                why=f"{seen[text]} and {owner} both come out as it, and a tag names one image",
                hint="leave one of them out, or build it in a call of its own with another --tag",
            )
        seen[text] = owner
    return tuple(found)


def cpu_word(cpu: str) -> str:
    """What a tag calls a value of ``--cpu``: "v3", "generic", "zen4", "avx2-fma"."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", cpu.removeprefix("x86-64-")).strip("-.")


def _tag_to_build(text: str) -> Reference:
    found = checked_reference(text)
    if found.digest is not None:
        raise UsageError(
            what=f"{text} cannot be the tag of an image that is built",
            why="a digest is worked out from an image's content, so that none can be given to it",
            hint=f"--tag {found.name}{f':{found.tag}' if found.tag else ''}",
        )
    return found


def _registry(text: str, rest: str) -> tuple[str | None, str]:
    """The registry, where the part before the first slash can be one: it has a dot or a port, or is localhost."""
    first, slash, path = rest.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return None, rest
    if not REGISTRY.fullmatch(first):
        raise _wrong(text, f"{first!r} is not a registry's name: that is a host, with a port in digits if need be")
    return first, path


def _check_path(text: str, path: str, registry: str | None) -> None:
    if not path:
        raise _wrong(text, "it has no name" if registry is None else f"it has no name after the registry {registry}")
    if path != path.lower():
        raise _wrong(text, "its name has upper-case letters, and only a tag may", text.replace(path, path.lower()))
    for part in path.split("/"):
        if not COMPONENT.fullmatch(part):
            what = f"the part {part!r} of its name" if part else "an empty part of its name"
            raise _wrong(
                text,
                f"{what} is not lower-case letters and digits, parted by one dot, one or two underscores, or dashes",
            )
    if re.fullmatch(r"[0-9a-f]{64}", path) and registry is None:
        raise _wrong(text, "64 hexadecimal digits are an image's id, and no name")
    length = len(path) + (len(registry) + 1 if registry else 0)
    if length > NAME_MAX:
        raise _wrong(text, f"its name has {length} characters, and at most {NAME_MAX} are allowed")


def _check_tag(text: str, tag: str) -> None:
    if not tag:
        raise _wrong(text, "there is nothing after its colon", text.rstrip(":"))
    if not TAG.fullmatch(tag):
        raise _wrong(
            text,
            f"the tag {tag!r} is not letters, digits, underscores, dots and dashes, beginning with no dot or dash",
        )
    if len(tag) > TAG_MAX:
        raise _wrong(text, f"its tag has {len(tag)} characters, and at most {TAG_MAX} are allowed")


def _wrong(text: str, why: str, better: str = "") -> UsageError:
    shown = text if len(text) <= 100 else f"{text[:97]}…"
    return UsageError(
        what=f"{shown!r} is not an image reference", why=why, hint=f"did you mean {better}?" if better else HINT
    )
