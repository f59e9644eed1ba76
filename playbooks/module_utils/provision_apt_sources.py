"""apt's sources, one-line style and deb822, as text: what is in them, what of them is switched off and on again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

OFF = "# off by provision ({id}): "
OPTIONS = {"arch": "Architectures", "lang": "Languages", "target": "Targets"}
"""Options of one-line entries whose deb822 field has another name; of the others the capitals differ."""


class Source(NamedTuple):
    """One entry or stanza, switched on, of type deb."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    """Its other fields by their deb822 names, texts as they are: Signed-By, Trusted, Architectures …"""
    first: int
    last: int
    """Lines of its file."""


def sources_of(text: str, name: str) -> list[Source]:
    """What the file ``name`` (its ending tells the style) with this text has."""
    return _stanzas(text) if name.endswith(".sources") else _lines(text)


def files_of(root: Path) -> list[Path]:
    """The files that apt reads below ``root``."""
    folder = root / "etc/apt/sources.list.d"
    parts = [*folder.glob("*.list"), *folder.glob("*.sources")] if folder.is_dir() else []
    main = root / "etc/apt/sources.list"
    return [*([main] if main.is_file() else []), *sorted(parts)]


def same_address(one: str, other: str) -> bool:
    """Whether a source's address ``one`` is ``other``. apt fills $(ARCH) itself, and writes file:/ for file:///."""
    words = [re.escape(word) for word in plain_address(one).split("$(ARCH)")]
    return re.match("[a-z0-9]+".join(words) + "$", plain_address(other)) is not None


def plain_address(address: str) -> str:
    return re.sub(r"^(file|copy):/+", r"\1:/", address).rstrip("/")


def switched_off(text: str, name: str, url: str, by: str) -> str:
    """``text`` with every entry for ``url`` commented out, in the name of repository ``by``.

    apt refuses two entries for one address whose Signed-By differ. A stanza with other addresses goes with it.
    """
    lines = text.splitlines()
    for source in sources_of(text, name):
        if any(same_address(uri, url) for uri in source.uris):
            for number in range(source.first, source.last + 1):
                lines[number] = OFF.format(id=by) + lines[number]
    return "\n".join(lines) + "\n" if lines else text


def switched_on(text: str, by: str) -> str:
    """``text`` with what was commented out in the name of ``by`` as it was."""
    mark = OFF.format(id=by)
    return "".join(line[len(mark) :] if line.startswith(mark) else line for line in text.splitlines(keepends=True))


def of_distribution(source: Source, codename: str) -> bool:
    """Whether it is the distribution's own archive (or a mirror of it), as far as its words tell."""
    own = any(suite == codename or suite.startswith(f"{codename}-") for suite in source.suites)
    personal = any(re.search(r"//ppa\.|/ppa/", uri) for uri in source.uris)
    return own and not personal and "main" in source.components


def more_components(texts: dict[str, str], codename: str, components: tuple[str, ...]) -> str:
    """Stanzas that add ``components`` to the distribution's own sources, where they lack them; "" for none needed.

    ``texts``: the files by name. Everything else about each source (Signed-By above all) is as it is there: apt
    refuses sources of one address that differ in it.
    """
    found = [one for name, text in texts.items() for one in sources_of(text, name)]
    has: dict[tuple[str, str], set[str]] = {}
    for one in found:
        for key in _places(one):
            has.setdefault(key, set()).update(one.components)
    made: dict[str, None] = {}
    for one in found:
        if not of_distribution(one, codename):
            continue
        for uri in one.uris:
            for suite in one.suites:
                lacking = [name for name in components if name not in has[uri.rstrip("/"), suite]]
                if lacking:
                    made[stanza(uri, suite, tuple(lacking), one.fields)] = None
    return "\n".join(made)


def stanza(uri: str, suite: str, components: tuple[str, ...], fields: tuple[tuple[str, str], ...]) -> str:
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {suite}"]
    if components:
        lines.append(f"Components: {' '.join(components)}")
    return "\n".join([*lines, *(f"{name}: {value}" for name, value in fields)]) + "\n"


def _places(source: Source) -> list[tuple[str, str]]:
    return [(uri.rstrip("/"), suite) for uri in source.uris for suite in source.suites]


def _lines(text: str) -> list[Source]:
    """deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://deb.example.org/debian bookworm main contrib"""
    found = []
    for number, line in enumerate(text.splitlines()):
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match is None:
            continue
        options = [word.partition("=") for word in (match.group(1) or "").split()]
        fields = [(_field(name), value.replace(",", " ")) for name, _, value in options if value]
        found.append(
            Source((match.group(2),), (match.group(3),), tuple(match.group(4).split()), tuple(fields), number, number)
        )
    return found


def _field(option: str) -> str:
    name = option.rstrip("+-").lower()
    return OPTIONS.get(name) or "-".join(word.capitalize() for word in name.split("-"))


def _stanzas(text: str) -> list[Source]:
    """Types: deb / URIs: … / Suites: … / Components: … / Signed-By: …, a continued value's lines begin with a blank."""
    found = []
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), ""]):
        if line.strip():
            block.append((number, line))
            continue
        source = _stanza(block)
        if source is not None:
            found.append(source)
        block = []
    return found


def _stanza(block: list[tuple[int, str]]) -> Source | None:
    fields: dict[str, str] = {}
    current = ""
    for _, line in block:
        if line.startswith("#"):
            continue
        if line[0] in " \t" and current:
            fields[current] += "\n" + line
        elif ":" in line:
            name, _, value = line.partition(":")
            current = name.strip()
            fields[current] = value.strip()
    lower = {name.lower(): value for name, value in fields.items()}
    on = lower.get("enabled", "yes").lower() not in ("no", "false", "0", "off")
    if not on or "deb" not in lower.get("types", "").split() or "uris" not in lower:
        return None
    known = ("types", "uris", "suites", "components", "enabled")
    return Source(
        tuple(lower["uris"].split()), tuple(lower.get("suites", "").split()),
        tuple(lower.get("components", "").split()),
        tuple((name, value) for name, value in fields.items() if name.lower() not in known),
        block[0][0], block[-1][0],
    )  # fmt: skip
